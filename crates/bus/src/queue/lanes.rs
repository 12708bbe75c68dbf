//! The lanes of a shard, one for each priority, and the rule by which they
//! are emptied.
//!
//! # Fairness
//!
//! The worker takes the highest priority first, but within one round priority
//! p gives at most [`SHARE`]`[p]` events. When every priority that waits has
//! given its share, or only one is left, a new round begins. So of any 264
//! events that are taken while all priorities wait, 8 are of priority 0: a
//! flood of urgent events slows the others and never stops them.

use std::{collections::VecDeque, mem};

use swarmbus_core::{Event, Priority, overflow::Lanes};

/// How many events of each priority one round may take, priority 0 first.
const SHARE: [u16; Priority::COUNT] = [8, 8, 8, 16, 16, 16, 32, 32, 64, 64];

/// The most that one block of a lane holds. As many as a worker takes at once, so
/// that it can take a block as it is.
pub(crate) const BLOCK: usize = 256;

/// An event that waits, and when it came by the clock's cycle counter.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// `None` once a worker is done with it: so it is dropped where it lies.
    pub(crate) event: Option<Event>,
    pub(crate) since: u64,
}

/// What may wait in lanes.
pub(crate) trait Waits {
    /// When it came: later ones have larger numbers.
    fn since(&self) -> u64;
}

impl Waits for Waiting {
    fn since(&self) -> u64 {
        self.since
    }
}

/// What waits in one lane, in order: full blocks, and the one that is being
/// filled. So a worker takes many without one of them being moved.
#[derive(Debug)]
struct Lane<T> {
    full: VecDeque<VecDeque<T>>,
    last: VecDeque<T>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { full: VecDeque::new(), last: VecDeque::new() }
    }
}

impl<T> Lane<T> {
    /// The block in front.
    fn first(&mut self) -> &mut VecDeque<T> {
        self.full.front_mut().unwrap_or(&mut self.last)
    }

    fn front(&self) -> Option<&T> {
        self.full.front().unwrap_or(&self.last).front()
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.last.is_empty()
    }

    /// Moves the next ones, at most `n` and at most to the end of a block. Returns
    /// how many.
    fn move_some(&mut self, into: &mut VecDeque<T>, n: usize) -> usize {
        let first = self.first();
        let n = n.min(first.len());
        into.extend(first.drain(..n));
        n
    }
}

/// A lane for each priority.
#[derive(Debug)]
pub(crate) struct PriorityLanes<T = Waiting> {
    lanes: [Lane<T>; Priority::COUNT],
    /// Empty blocks, to be filled again.
    spare: Vec<VecDeque<T>>,
    /// A bit for each lane that is not empty.
    occupied: u16,
    /// What is left of each lane's share in this round.
    credit: [u16; Priority::COUNT],
    depth: usize,
}

impl<T> Default for PriorityLanes<T> {
    fn default() -> Self {
        let lanes = Default::default();
        Self { lanes, spare: Vec::new(), occupied: 0, credit: SHARE, depth: 0 }
    }
}

impl<T> PriorityLanes<T> {
    /// Events in all lanes together.
    #[inline]
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The end of a lane that one event is about to be added to.
    #[inline]
    pub(crate) fn of(&mut self, priority: Priority) -> &mut VecDeque<T> {
        self.of_some(priority, 1).0
    }

    /// The end of a lane that events are about to be added to, and how many of
    /// the `n` that are to come.
    #[inline]
    pub(crate) fn of_some(&mut self, priority: Priority, n: usize) -> (&mut VecDeque<T>, usize) {
        let lane = priority.index();
        if self.lanes[lane].last.len() >= BLOCK {
            self.begin_block(lane);
        }
        let last = &mut self.lanes[lane].last;
        let n = n.min(BLOCK - last.len());
        self.occupied |= 1 << lane;
        self.depth += n;
        (last, n)
    }

    #[cold]
    fn begin_block(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        lane.full.push_back(mem::replace(&mut lane.last, self.spare.pop().unwrap_or_default()));
    }

    /// Puts one back that was taken, as the next to be taken.
    pub(crate) fn put_back(&mut self, priority: Priority, taken: T) {
        let lane = priority.index();
        self.lanes[lane].first().push_front(taken);
        self.occupied |= 1 << lane;
        self.depth += 1;
    }

    pub(crate) fn evict(&mut self, priority: Priority) -> Option<T> {
        let lane = priority.index();
        let evicted = self.lanes[lane].first().pop_front()?;
        self.removed(lane, 1);
        Some(evicted)
    }

    /// Moves up to `max`, and one at least if there is one.
    pub(crate) fn take(&mut self, into: &mut VecDeque<T>, max: usize) {
        let mut left = max.min(self.depth);
        if self.occupied.is_power_of_two() && into.is_empty() {
            let only = self.occupied.trailing_zeros() as usize;
            let first = self.lanes[only].first();
            if first.len() <= left {
                // The usual case: a block as it is, without touching an event.
                mem::swap(first, into);
                self.credit = SHARE;
                return self.removed(only, into.len());
            }
        }
        while left > 0 {
            let Some(lane) = self.highest_with_credit() else {
                self.credit = SHARE;
                continue;
            };
            let alone = self.occupied.is_power_of_two();
            let share = if alone { left } else { usize::from(self.credit[lane]) };
            let n = self.lanes[lane].move_some(into, left.min(share));
            if alone {
                self.credit = SHARE;
            } else {
                self.credit[lane] -= n as u16;
            }
            self.removed(lane, n);
            left -= n;
        }
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<T> {
        let mut all = VecDeque::new();
        while self.depth > 0 {
            self.take(&mut all, self.depth);
        }
        all
    }

    /// After some were taken off the front of a lane.
    fn removed(&mut self, lane: usize, n: usize) {
        self.depth -= n;
        let lane_of = &mut self.lanes[lane];
        if let Some(empty) = lane_of.full.pop_front_if(|block| block.is_empty()) {
            self.spare.push(empty);
        }
        if lane_of.is_empty() {
            self.occupied &= !(1 << lane);
        }
    }

    fn highest_with_credit(&self) -> Option<usize> {
        (0..Priority::COUNT)
            .rev()
            .find(|&lane| self.occupied & (1 << lane) != 0 && self.credit[lane] > 0)
    }
}

impl<T: Waits> Lanes for PriorityLanes<T> {
    fn len(&self) -> usize {
        self.depth
    }

    fn lowest(&self) -> Option<Priority> {
        Priority::all().find(|priority| self.occupied & (1 << priority.index()) != 0)
    }

    fn oldest(&self) -> Option<Priority> {
        Priority::all()
            .filter_map(|priority| Some((self.lanes[priority.index()].front()?.since(), priority)))
            .min()
            .map(|(_, priority)| priority)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fairness rule, one event at a time, as its documentation says it.
    #[derive(Default)]
    struct Model {
        waiting: Vec<(u8, u64)>,
        taken: Option<[u16; Priority::COUNT]>,
    }

    impl Model {
        fn take_one(&mut self) -> Option<(u8, u64)> {
            let taken = self.taken.get_or_insert_default();
            let mut priorities: Vec<u8> = self.waiting.iter().map(|(p, _)| *p).collect();
            priorities.sort_unstable();
            priorities.dedup();
            let alone = priorities.len() == 1;
            let has_share = |p: &&u8| taken[usize::from(**p)] < SHARE[usize::from(**p)];
            let priority = match priorities.iter().rev().find(has_share) {
                Some(priority) => *priority,
                None => {
                    *taken = Default::default();
                    *priorities.last()?
                }
            };
            if alone {
                *taken = Default::default();
            } else {
                taken[usize::from(priority)] += 1;
            }
            let at = self.waiting.iter().position(|(p, _)| *p == priority)?;
            Some(self.waiting.remove(at))
        }
    }

    fn waiting(priority: u8, since: u64) -> Waiting {
        let priority = Priority::new(priority).unwrap();
        Waiting { event: Some(Event::of("x", ()).with_priority(priority)), since }
    }

    fn add(lanes: &mut PriorityLanes, priority: u8, since: u64) {
        let waiting = waiting(priority, since);
        lanes.of(Priority::new(priority).unwrap()).push_back(waiting);
    }

    fn seen(taken: &VecDeque<Waiting>) -> Vec<(u8, u64)> {
        taken.iter().map(|w| (w.event.as_ref().unwrap().priority().get(), w.since)).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8, u16),
        Take(usize),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..10, 1_u16..400).prop_map(|(p, n)| Step::Add(p, n)),
            3 => (0_usize..400).prop_map(Step::Take),
            1 => Just(Step::Evict),
        ]
    }

    proptest! {
        /// Whatever goes in comes out as the rule says, all of it, in order.
        #[test]
        fn the_lanes_follow_the_fairness_rule(steps in prop::collection::vec(step(), 1..30)) {
            let (mut lanes, mut model, mut clock) = (PriorityLanes::default(), Model::default(), 0);
            for step in steps {
                match step {
                    Step::Add(priority, n) => for _ in 0..n {
                        clock += 1;
                        add(&mut lanes, priority, clock);
                        model.waiting.push((priority, clock));
                    },
                    Step::Take(max) => {
                        let mut taken = VecDeque::new();
                        lanes.take(&mut taken, max);
                        // It may stop early, at the end of a block.
                        prop_assert!(!taken.is_empty() || max.min(model.waiting.len()) == 0);
                        prop_assert!(taken.len() <= max);
                        let expected: Vec<_> =
                            (0..taken.len()).map_while(|_| model.take_one()).collect();
                        prop_assert_eq!(seen(&taken), expected);
                    }
                    Step::Evict => {
                        let oldest = model.waiting.iter().min_by_key(|(_, since)| *since).copied();
                        prop_assert_eq!(lanes.oldest().map(Priority::get), oldest.map(|o| o.0));
                        let lowest = model.waiting.iter().map(|(p, _)| *p).min();
                        prop_assert_eq!(lanes.lowest().map(Priority::get), lowest);
                        if let Some(oldest) = oldest {
                            lanes.evict(Priority::new(oldest.0).unwrap());
                            model.waiting.retain(|waiting| *waiting != oldest);
                        }
                    }
                }
                prop_assert_eq!(lanes.depth(), model.waiting.len());
            }
        }
    }

    #[test]
    fn every_round_has_room_for_the_lowest() {
        let mut lanes = PriorityLanes::default();
        for since in 0..1_000 {
            for priority in 0..10 {
                add(&mut lanes, priority, since);
            }
        }
        let mut taken = VecDeque::new();
        lanes.take(&mut taken, 2 * 264);
        for priority in 0..10_u8 {
            let got = seen(&taken).iter().filter(|(p, _)| *p == priority).count();
            assert_eq!(got, 2 * usize::from(SHARE[usize::from(priority)]), "{priority}");
        }
    }
}
