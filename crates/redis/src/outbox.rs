//! [`Outbox`]: events that wait to be sent, bounded in number and bytes.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc};

use swarmbus::transport::Channel;
use swarmbus_core::{
    Clock, Event, Priority,
    overflow::{Decision, Gate, Lanes, Overflow, Reason},
};
use tokio::time::Instant;

/// One channel of one publisher.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) channel: Channel,
    /// What the channel is called on the server.
    pub(crate) key: String,
    /// Who numbers its events: no other lane of anybody has this number.
    pub(crate) publisher: u64,
    /// When it began to number.
    pub(crate) born: Instant,
}

/// An event that waits.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) lane: Arc<Lane>,
    pub(crate) event: Event,
    /// Its number in its lane, from 1.
    pub(crate) number: u64,
    /// Bytes it takes in a frame.
    pub(crate) len: usize,
    /// How many events the outbox took before this one.
    pub(crate) ticket: u64,
}

/// Events in the order in which they came. Which one goes when there is no
/// room is the policy's decision; everything else leaves in order.
#[derive(Debug)]
pub(crate) struct Outbox {
    gate: Gate,
    max_bytes: usize,
    queue: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each with its ticket, by which it is found. `None` is the hole that an
    /// evicted event has left.
    entries: VecDeque<(u64, Option<Entry>)>,
    /// For the policy that asks for the lowest priority.
    lowest: Option<Box<ByPriority>>,
    len: usize,
    bytes: usize,
    next_ticket: u64,
}

/// Tickets and bytes of the events of each priority.
type ByPriority = [(VecDeque<u64>, usize); Priority::COUNT];

/// What became of an event that was offered.
#[derive(Debug)]
pub(crate) enum Offered {
    /// It waits; these were dropped for it by the policy, mostly none.
    Taken { dropped: Vec<Entry> },
    /// There is no room. Nothing has changed.
    Refused(Entry, Reason),
}

impl Outbox {
    pub(crate) fn new(policy: Overflow, max_events: NonZeroUsize, max_bytes: NonZeroUsize) -> Self {
        let by_priority = matches!(policy, Overflow::DropLowestPriority);
        let queue = Queue { lowest: by_priority.then(Box::default), ..Queue::default() };
        Self { gate: policy.gate(max_events), max_bytes: max_bytes.get(), queue }
    }

    /// Events that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.len == 0
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.bytes
    }

    /// How many it has taken in so far: the ticket of the next.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.queue.next_ticket
    }

    /// The ticket of the oldest event that waits, or of the next.
    pub(crate) fn oldest_ticket(&self) -> u64 {
        let oldest = self.queue.entries.iter().find(|(_, entry)| entry.is_some());
        oldest.map_or(self.queue.next_ticket, |(ticket, _)| *ticket)
    }

    /// Takes an event in, at the cost of others if the policy says so. One that
    /// is larger than the whole outbox is taken when nothing else waits.
    #[inline]
    pub(crate) fn offer(&mut self, entry: Entry, now: impl Clock + Copy) -> Offered {
        let mut decision = None;
        if self.fits(entry.len) {
            let waiting = Waiting { queue: &self.queue, full: None };
            match self.gate.decide(entry.event.priority(), &waiting, now) {
                Decision::Accept => {
                    self.queue.push(entry);
                    return Offered::Taken { dropped: Vec::new() };
                }
                other => decision = Some(other),
            }
        }
        self.offer_at_a_cost(entry, decision, now)
    }

    /// `decision`: what the gate has said already.
    #[cold]
    fn offer_at_a_cost(
        &mut self,
        entry: Entry,
        mut decision: Option<Decision>,
        now: impl Clock + Copy,
    ) -> Offered {
        let priority = entry.event.priority();
        if !self.fits(entry.len) {
            let stays = self.queue.bytes - self.queue.bytes_that_yield_to(priority);
            if stays > 0 && stays + entry.len > self.max_bytes {
                // Whatever went for it, it would not be enough.
                return Offered::Refused(entry, Reason::Outranked);
            }
        }
        let mut dropped = Vec::new();
        loop {
            let full = (!self.fits(entry.len)).then_some(self.gate.capacity());
            let waiting = Waiting { queue: &self.queue, full };
            let decision = decision.take();
            match decision.unwrap_or_else(|| self.gate.decide(priority, &waiting, now)) {
                Decision::Accept => break,
                Decision::Evict { lane } => match self.queue.evict(lane) {
                    Some(evicted) => dropped.push(evicted),
                    None => return Offered::Refused(entry, Reason::Full),
                },
                Decision::Reject(reason) => return Offered::Refused(entry, reason),
            }
            if self.fits(entry.len) && self.queue.len < self.gate.capacity() {
                break;
            }
        }
        self.queue.push(entry);
        Offered::Taken { dropped }
    }

    /// Moves events out, oldest first: at most so many, and so many bytes unless
    /// the first alone has more.
    pub(crate) fn take(&mut self, max_events: usize, max_bytes: usize, into: &mut Vec<Entry>) {
        let (mut places, mut events, mut bytes) = (0, 0, 0_usize);
        for (_, entry) in &self.queue.entries {
            if let Some(entry) = entry {
                bytes = bytes.saturating_add(entry.len);
                if events >= max_events || (events > 0 && bytes > max_bytes) {
                    break;
                }
                events += 1;
            }
            places += 1;
        }
        self.queue.take(places, into);
    }

    fn fits(&self, len: usize) -> bool {
        self.queue.len == 0 || self.queue.bytes.saturating_add(len) <= self.max_bytes
    }
}

impl Queue {
    #[inline]
    fn push(&mut self, mut entry: Entry) {
        let ticket = self.next_ticket;
        entry.ticket = ticket;
        self.next_ticket += 1;
        self.len += 1;
        self.bytes += entry.len;
        if let Some(lowest) = &mut self.lowest {
            let (tickets, bytes) = &mut lowest[entry.event.priority().index()];
            tickets.push_back(ticket);
            *bytes += entry.len;
        }
        self.entries.push_back((ticket, Some(entry)));
    }

    /// Moves the first so many places out, holes included.
    fn take(&mut self, places: usize, into: &mut Vec<Entry>) {
        let (before, lowest) = (into.len(), self.lowest.is_some());
        into.extend(self.entries.drain(..places).filter_map(|(_, entry)| entry));
        let taken = into.get(before..).unwrap_or_default();
        self.len -= taken.len();
        self.bytes -= taken.iter().map(|entry| entry.len).sum::<usize>();
        if lowest {
            taken.iter().for_each(|entry| self.leave_lowest(entry));
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        loop {
            let (_, entry) = self.entries.pop_front()?;
            let Some(entry) = entry else { continue };
            self.removed(&entry);
            return Some(entry);
        }
    }

    /// Takes the oldest event of a priority out.
    fn evict(&mut self, priority: Priority) -> Option<Entry> {
        let Some(lowest) = &self.lowest else { return self.pop() };
        let ticket = *lowest[priority.index()].0.front()?;
        let at = self.entries.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let entry = self.entries.get_mut(at)?.1.take()?;
        self.removed(&entry);
        // Each hole is paid for by an event that came and is cleared once.
        if self.entries.len() > 2 * self.len + 16 {
            self.entries.retain(|(_, entry)| entry.is_some());
        }
        Some(entry)
    }

    fn removed(&mut self, entry: &Entry) {
        self.len -= 1;
        self.bytes -= entry.len;
        self.leave_lowest(entry);
    }

    fn leave_lowest(&mut self, entry: &Entry) {
        if let Some(lowest) = &mut self.lowest {
            let (tickets, bytes) = &mut lowest[entry.event.priority().index()];
            // It is the oldest of all, or of its priority: the first either way.
            tickets.pop_front();
            *bytes -= entry.len;
        }
    }

    /// Bytes that the policy would drop for an event of this priority.
    fn bytes_that_yield_to(&self, priority: Priority) -> usize {
        match &self.lowest {
            Some(lowest) => lowest[..priority.index()].iter().map(|(_, bytes)| bytes).sum(),
            None => self.bytes,
        }
    }
}

/// The queue as the gate sees it: full by bytes looks like full by number.
struct Waiting<'a> {
    queue: &'a Queue,
    full: Option<usize>,
}

impl Lanes for Waiting<'_> {
    fn len(&self) -> usize {
        self.full.unwrap_or(self.queue.len)
    }

    fn lowest(&self) -> Option<Priority> {
        let lowest = self.queue.lowest.as_ref()?;
        Priority::all().find(|priority| !lowest[priority.index()].0.is_empty())
    }

    fn oldest(&self) -> Option<Priority> {
        // Only `DropLowestPriority` leaves holes, and it does not ask for this.
        self.queue.entries.front()?.1.as_ref().map(|entry| entry.event.priority())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use swarmbus_core::Moment;

    use super::*;

    const EVENTS: usize = 8;
    const BYTES: usize = 60;

    fn outbox(policy: Overflow) -> Outbox {
        let nonzero = |n| NonZeroUsize::new(n).unwrap();
        Outbox::new(policy, nonzero(EVENTS), nonzero(BYTES))
    }

    fn entry(number: u64, priority: u8, len: usize) -> Entry {
        let channel = Channel::live("a").unwrap();
        let lane =
            Arc::new(Lane { channel, key: String::new(), publisher: 1, born: Instant::now() });
        let event = Event::of("x", "").with_priority(Priority::new(priority).unwrap());
        Entry { lane, event, number, len, ticket: 0 }
    }

    /// The same, as a list that is searched.
    fn offer_to_model(
        model: &mut Vec<(u64, u8, usize)>,
        policy: Overflow,
        (number, priority, len): (u64, u8, usize),
    ) -> Option<Vec<u64>> {
        let before = model.clone();
        let mut dropped = Vec::new();
        while model.len() >= EVENTS
            || !model.is_empty() && model.iter().map(|e| e.2).sum::<usize>() + len > BYTES
        {
            let victim = match policy {
                Overflow::DropOldest => Some(0),
                Overflow::DropLowestPriority => {
                    let lowest = model.iter().map(|e| e.1).min().filter(|p| *p < priority);
                    lowest.and_then(|lowest| model.iter().position(|e| e.1 == lowest))
                }
                Overflow::Reject | Overflow::AdaptiveRate(_) => None,
            };
            let Some(victim) = victim else {
                *model = before;
                return None;
            };
            dropped.push(model.remove(victim).0);
        }
        model.push((number, priority, len));
        Some(dropped)
    }

    fn any_policy() -> impl Strategy<Value = Overflow> {
        prop::sample::select(vec![
            Overflow::Reject,
            Overflow::DropOldest,
            Overflow::DropLowestPriority,
        ])
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_does(
            policy in any_policy(),
            steps in prop::collection::vec((any::<bool>(), 0_u8..10, 1_usize..80), 0..80),
        ) {
            let mut outbox = outbox(policy);
            let mut model: Vec<(u64, u8, usize)> = Vec::new();
            for (number, (take, priority, len)) in (0..).zip(steps) {
                if take && len % 3 == 0 {
                    let (mut taken, count, most) = (Vec::new(), len % 5, 5 * usize::from(priority));
                    outbox.take(count, most, &mut taken);
                    let mut expected: Vec<(u64, u8, usize)> = Vec::new();
                    while let Some(first) = model.first()
                        && expected.len() < count
                        && (expected.is_empty()
                            || expected.iter().map(|e| e.2).sum::<usize>() + first.2 <= most)
                    {
                        expected.push(model.remove(0));
                    }
                    let taken: Vec<_> = taken.iter().map(|entry| entry.number).collect();
                    prop_assert_eq!(taken, expected.iter().map(|e| e.0).collect::<Vec<_>>());
                } else {
                    let expected = offer_to_model(&mut model, policy, (number, priority, len));
                    let offered = outbox.offer(entry(number, priority, len), Moment::ORIGIN);
                    let dropped = match offered {
                        Offered::Taken { dropped } => {
                            Some(dropped.iter().map(|entry| entry.number).collect::<Vec<_>>())
                        }
                        Offered::Refused(refused, _) => {
                            prop_assert_eq!(refused.number, number);
                            None
                        }
                    };
                    // An event that only part of the room would be made for
                    // must not cost anything.
                    prop_assert_eq!(dropped, expected);
                }
                prop_assert_eq!(outbox.len(), model.len());
                prop_assert_eq!(outbox.bytes(), model.iter().map(|e| e.2).sum::<usize>());
            }
        }
    }

    #[test]
    fn holes_do_not_pile_up() {
        let mut outbox = outbox(Overflow::DropLowestPriority);
        assert!(matches!(outbox.offer(entry(0, 9, 1), Moment::ORIGIN), Offered::Taken { .. }));
        for number in 1..10_000 {
            let priority = (number % 2 * 3) as u8;
            let _ = outbox.offer(entry(number, priority, 1), Moment::ORIGIN);
            assert!(outbox.queue.entries.len() <= 2 * EVENTS + 17);
        }
        assert_eq!(outbox.len(), EVENTS);
    }
}
