//! The bounded priority queue between publishers and one worker.
//!
//! A bus has one [`Shard`] for each worker. A publisher always uses the same
//! one, so its events keep their order within a priority, and a worker shares
//! a lock with its own publishers only.

pub(crate) mod lanes;

use std::{mem, num::NonZeroUsize, pin::pin};

use parking_lot::Mutex;
use swarmbus_core::{
    Event, Priority,
    overflow::{Decision, Gate, Overflow, Reason},
};
use tokio::sync::Notify;

use self::lanes::{BLOCK, PriorityLanes};
pub(crate) use self::lanes::{Block, Waiting};
use crate::{
    clock::{BusClock, Stamper},
    error::PublishCause,
    ledger::Outcome,
};

/// Sizes of one shard, in events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) capacity: NonZeroUsize,
    /// Room beyond the capacity for handlers, which may not wait.
    pub(crate) reserve: usize,
    /// Depth at which backpressure begins.
    pub(crate) high: usize,
    /// Depth at which it ends.
    pub(crate) low: usize,
}

/// Who pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pusher {
    /// Anybody.
    Other,
    /// A handler of this bus: may use the reserve.
    Handler,
}

/// What a push did besides.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// An event that had to go, and how that counts.
    pub(crate) evicted: Option<(Event, Outcome)>,
    /// The depth rose to the high-water mark.
    pub(crate) rose: bool,
}

/// What became of a part of a batch.
#[derive(Debug, Default)]
pub(crate) struct PushedBatch {
    pub(crate) accepted: usize,
    pub(crate) evicted: Vec<(Event, Outcome)>,
    pub(crate) rose: bool,
    /// What stopped it. The event that was refused is still there.
    pub(crate) cause: Option<PublishCause>,
}

/// What a worker found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Some events.
    Some {
        /// The depth fell to the low-water mark.
        fell: bool,
    },
    /// None: the worker is now marked asleep and should wait for
    /// [`Shard::work`].
    Nothing,
    /// None, and none will come.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Shard {
    state: Mutex<State>,
    sizes: Sizes,
    overflow: Overflow,
    /// Whether the gate must see every event, not only those that find the
    /// queue full.
    gate_always: bool,
    /// Wakes the worker.
    pub(crate) work: Notify,
    /// Wakes publishers that wait for room.
    room: Notify,
}

/// A publisher that waits for room.
struct Waiter<'a>(&'a Shard);

impl<'a> Waiter<'a> {
    fn new(shard: &'a Shard) -> Self {
        shard.state.lock().waiting += 1;
        Self(shard)
    }
}

impl Drop for Waiter<'_> {
    /// Passes the baton: there may be room for more than one.
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.waiting -= 1;
        let wake = state.waiting > 0 && self.0.has_room_in(&state);
        drop(state);
        if wake {
            self.0.room.notify_one();
        }
    }
}

#[derive(Debug)]
struct State {
    lanes: PriorityLanes,
    peak: usize,
    accepted: u64,
    /// Publishers that wait for room.
    waiting: usize,
    /// The worker waits for an event.
    asleep: bool,
    pressed: bool,
    closed: bool,
    gate: Gate,
    stamper: Stamper,
}

impl Shard {
    pub(crate) fn new(sizes: Sizes, overflow: Overflow, clock: &BusClock, seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                lanes: PriorityLanes::default(),
                peak: 0,
                accepted: 0,
                waiting: 0,
                asleep: false,
                pressed: false,
                closed: false,
                gate: overflow.gate(sizes.capacity),
                stamper: Stamper::new(clock, seed),
            }),
            sizes,
            overflow,
            gate_always: matches!(overflow, Overflow::AdaptiveRate(_)),
            work: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Stamps and queues the event in `slot` if there is room for it without
    /// asking anybody. Says whether the depth rose to the high-water mark.
    #[inline]
    pub(crate) fn push_at_once(&self, slot: &mut Option<Event>, clock: &BusClock) -> Option<bool> {
        let (priority, since) = (slot.as_ref()?.priority(), clock.cycles());
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if self.room_without_asking(state) == 0 {
            return None;
        }
        state.add(slot, priority, since, clock);
        let rose = self.rises(state);
        let wake = mem::take(&mut state.asleep);
        drop(guard);
        if wake {
            self.work.notify_one();
        }
        Some(rose)
    }

    /// Stamps and queues the event in `slot`; refused, it stays there.
    ///
    /// A slot, because an event is large: it is copied once, into its lane.
    #[inline]
    pub(crate) fn push(
        &self,
        slot: &mut Option<Event>,
        pusher: Pusher,
        clock: &BusClock,
    ) -> Result<Pushed, PublishCause> {
        let Some(event) = slot else { return Ok(Pushed::default()) };
        let (priority, since) = (event.priority(), clock.cycles());
        let mut pushed = Pushed::default();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if self.room_without_asking(state) == 0 {
            pushed.evicted = self.make_room(state, priority, pusher, clock)?;
        }
        state.add(slot, priority, since, clock);
        pushed.rose = self.rises(state);
        let wake = mem::take(&mut state.asleep);
        drop(guard);
        if wake {
            self.work.notify_one();
        }
        Ok(pushed)
    }

    /// Stamps and queues all of `batch` if there is room for all, else none.
    /// Says whether the depth rose to the high-water mark.
    pub(crate) fn push_all(&self, batch: &mut Vec<Event>, clock: &BusClock) -> Option<bool> {
        let since = clock.cycles();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if self.room_without_asking(state) < batch.len() {
            return None;
        }
        state.add_all(batch, since, clock);
        let rose = self.rises(state);
        let wake = mem::take(&mut state.asleep);
        drop(guard);
        if wake {
            self.work.notify_one();
        }
        Some(rose)
    }

    /// Stamps and queues `count` events from the end of `backwards`, or as
    /// many as are taken.
    pub(crate) fn push_some(
        &self,
        backwards: &mut Vec<Event>,
        count: usize,
        pusher: Pusher,
        clock: &BusClock,
    ) -> PushedBatch {
        let since = clock.cycles();
        let mut done = PushedBatch::default();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        while done.accepted < count
            && let Some(priority) = backwards.last().map(Event::priority)
        {
            if self.room_without_asking(state) == 0 {
                match self.make_room(state, priority, pusher, clock) {
                    Ok(evicted) => done.evicted.extend(evicted),
                    Err(cause) => {
                        done.cause = Some(cause);
                        break;
                    }
                }
            }
            state.add(&mut backwards.pop(), priority, since, clock);
            done.accepted += 1;
            done.rose |= self.rises(state);
        }
        let wake = done.accepted > 0 && mem::take(&mut state.asleep);
        drop(guard);
        if wake {
            self.work.notify_one();
        }
        done
    }

    /// How many events may simply be added.
    #[inline]
    fn room_without_asking(&self, state: &State) -> usize {
        if self.gate_always || state.closed {
            0
        } else {
            self.sizes.capacity.get().saturating_sub(state.lanes.depth())
        }
    }

    /// Asks the overflow policy for room for one event, and makes it.
    #[cold]
    fn make_room(
        &self,
        state: &mut State,
        priority: Priority,
        pusher: Pusher,
        clock: &BusClock,
    ) -> Result<Option<(Event, Outcome)>, PublishCause> {
        if state.closed {
            return Err(PublishCause::Closed);
        }
        match state.gate.decide(priority, &state.lanes, clock) {
            Decision::Accept => Ok(None),
            Decision::Evict { lane } => {
                let evicted = state.lanes.evict(lane).and_then(|waiting| waiting.event);
                let lowest = matches!(self.overflow, Overflow::DropLowestPriority);
                let outcome = if lowest { Outcome::DroppedLowest } else { Outcome::DroppedOldest };
                Ok(evicted.map(|event| (event, outcome)))
            }
            // A handler must not wait: it has a reserve.
            Decision::Reject(Reason::Full | Reason::RateLimited { .. })
                if pusher == Pusher::Handler
                    && state.lanes.depth() < self.sizes.capacity.get() + self.sizes.reserve =>
            {
                Ok(None)
            }
            Decision::Reject(reason) => Err(reason.into()),
        }
    }

    /// Whether the depth has just reached the high-water mark.
    #[inline]
    fn rises(&self, state: &mut State) -> bool {
        let rises = !state.pressed && state.lanes.depth() >= self.sizes.high;
        state.pressed |= rises;
        rises
    }

    /// Moves up to `max` events, most urgent first by the fairness rule.
    pub(crate) fn take(&self, into: &mut Block<Waiting>, max: usize) -> Taken {
        let mut state = self.state.lock();
        if state.lanes.depth() == 0 {
            state.asleep = true;
            return if state.closed { Taken::Closed } else { Taken::Nothing };
        }
        state.lanes.take(into, max);
        let fell = state.pressed && state.lanes.depth() <= self.sizes.low;
        state.pressed &= !fell;
        let wake = state.waiting > 0 && self.has_room_in(&state);
        drop(state);
        if wake {
            // One is enough: whoever gets room wakes the next.
            self.room.notify_one();
        }
        Taken::Some { fell }
    }

    /// Waits until an event may be taken, or the shard is closed. Somebody
    /// else may be faster: then wait again.
    ///
    /// Cancel safe.
    pub(crate) async fn wait_for_room(&self) {
        let waiter = Waiter::new(self);
        loop {
            let mut room = pin!(self.room.notified());
            // Listen before looking, or a wake-up between the two is missed.
            room.as_mut().enable();
            if self.has_room_in(&self.state.lock()) {
                break;
            }
            room.await;
        }
        drop(waiter);
    }

    fn has_room_in(&self, state: &State) -> bool {
        state.closed || state.lanes.depth() < self.sizes.capacity.get()
    }

    /// Takes no more events. The worker empties what is there.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
        self.room.notify_one();
    }

    /// Takes everything out, for a worker that has stopped; and says whether
    /// the depth fell to the low-water mark with it.
    pub(crate) fn clear(&self) -> (Vec<Event>, bool) {
        let mut state = self.state.lock();
        let waiting = state.lanes.take_all();
        state.asleep = true;
        let fell = mem::take(&mut state.pressed);
        drop(state);
        (waiting.filter_map(|waiting| waiting.event).collect(), fell)
    }

    /// How many events were accepted so far, if nothing waits and the worker
    /// has nothing either.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.lanes.depth() == 0 && state.asleep).then_some(state.accepted)
    }

    /// Events that wait now.
    pub(crate) fn depth(&self) -> usize {
        self.state.lock().lanes.depth()
    }

    /// The most that ever waited.
    pub(crate) fn peak(&self) -> usize {
        self.state.lock().peak
    }

    /// Events accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.state.lock().accepted
    }
}

impl State {
    /// Takes the event out of `slot`, which is not empty: it is moved only once.
    #[inline]
    fn add(&mut self, slot: &mut Option<Event>, priority: Priority, since: u64, clock: &BusClock) {
        if let Some(place) = self.lanes.next(priority) {
            mem::swap(&mut place.event, slot);
            place.since = since;
            if let Some(event) = &mut place.event {
                self.stamper.stamp(clock, since, event);
            }
        }
        self.added(1);
    }

    fn add_all(&mut self, batch: &mut Vec<Event>, since: u64, clock: &BusClock) {
        let at = self.stamper.time(clock, since);
        let mut events = batch.drain(..);
        while let Some(priority) = events.as_slice().first().map(Event::priority) {
            let next = events.as_slice().iter().take(BLOCK);
            let alike = next.take_while(|event| event.priority() == priority).count();
            let places = self.lanes.add(priority, alike);
            let n = places.len();
            for (place, event) in places.iter_mut().zip(events.by_ref()) {
                let event = place.event.insert(event);
                if !event.is_stamped() {
                    self.stamper.stamp_at(at, event);
                }
                place.since = since;
            }
            self.added(n);
        }
    }

    #[inline]
    fn added(&mut self, n: usize) {
        self.peak = self.peak.max(self.lanes.depth());
        self.accepted += n as u64;
    }
}
