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
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// `None` before it is there and once a worker is done with it: so events are
    /// filled in and dropped where they lie.
    pub(crate) event: Option<Event>,
    pub(crate) since: u64,
}

/// Places for what waits, filled and emptied from the front. A place without
/// anything in it holds the default value.
#[derive(Debug, Default)]
pub(crate) struct Block<T> {
    places: Vec<T>,
    /// What is before is gone.
    first: usize,
    /// What comes then is still to be filled in.
    end: usize,
}

impl<T: Default> Block<T> {
    fn len(&self) -> usize {
        self.end - self.first
    }

    fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// What waits, in order. Who empties it calls [`clear`](Self::clear).
    #[inline]
    pub(crate) fn waiting(&mut self) -> &mut [T] {
        &mut self.places[self.first..self.end]
    }

    /// All places are empty: the first to be filled is the first of all.
    pub(crate) fn clear(&mut self) {
        (self.first, self.end) = (0, 0);
    }

    /// The next `n` places, which count as filled.
    #[inline]
    fn add(&mut self, n: usize) -> &mut [T] {
        let (from, end) = (self.end, self.end + n);
        if end > self.places.len() {
            self.grow(end);
        }
        self.end = end;
        &mut self.places[from..end]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        self.places.resize_with(len, T::default);
    }

    fn pop(&mut self) -> Option<T> {
        let popped = self.waiting().first_mut().map(std::mem::take)?;
        self.first += 1;
        Some(popped)
    }

    fn put_back(&mut self, taken: T) {
        if self.first > 0 {
            self.first -= 1;
            self.places[self.first] = taken;
        } else {
            self.places.insert(0, taken);
            self.end += 1;
        }
    }
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
#[derive(Debug, Default)]
struct Lane<T> {
    full: VecDeque<Block<T>>,
    last: Block<T>,
}

impl<T: Default> Lane<T> {
    /// The block in front.
    fn first(&mut self) -> &mut Block<T> {
        self.full.front_mut().unwrap_or(&mut self.last)
    }

    fn front(&self) -> Option<&T> {
        let Block { places, first, end } = self.full.front().unwrap_or(&self.last);
        places[*first..*end].first()
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.last.is_empty()
    }

    /// Moves the next ones, at most `n` and at most to the end of a block. Returns
    /// how many.
    fn move_some(&mut self, into: &mut Block<T>, n: usize) -> usize {
        let first = self.first();
        let n = n.min(first.len());
        let places = into.add(n).iter_mut();
        places.zip(first.waiting()).for_each(|(to, from)| mem::swap(to, from));
        first.first += n;
        n
    }
}

/// A lane for each priority.
#[derive(Debug)]
pub(crate) struct PriorityLanes<T = Waiting> {
    lanes: [Lane<T>; Priority::COUNT],
    /// Empty blocks, to be filled again.
    spare: Vec<Block<T>>,
    /// A bit for each lane that is not empty.
    occupied: u16,
    /// What is left of each lane's share in this round.
    credit: [u16; Priority::COUNT],
    depth: usize,
}

impl<T: Default> Default for PriorityLanes<T> {
    fn default() -> Self {
        let lanes = Default::default();
        Self { lanes, spare: Vec::new(), occupied: 0, credit: SHARE, depth: 0 }
    }
}

impl<T: Default> PriorityLanes<T> {
    /// Events in all lanes together.
    #[inline]
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn push(&mut self, priority: Priority, waiting: T) {
        if let Some(place) = self.next(priority) {
            *place = waiting;
        }
    }

    /// The place at the end of a lane that is about to be filled. There is one.
    #[inline]
    pub(crate) fn next(&mut self, priority: Priority) -> Option<&mut T> {
        let lane = priority.index();
        if self.lanes[lane].last.end >= BLOCK {
            self.begin_block(lane);
        }
        let last = &mut self.lanes[lane].last;
        if last.end == last.places.len() {
            last.grow(last.end + 1);
        }
        let place = last.places.get_mut(last.end)?;
        last.end += 1;
        self.occupied |= 1 << lane;
        self.depth += 1;
        Some(place)
    }

    /// Places at the end of a lane that are about to be filled: `n`, or one at
    /// least.
    #[inline]
    pub(crate) fn add(&mut self, priority: Priority, n: usize) -> &mut [T] {
        let lane = priority.index();
        if self.lanes[lane].last.end >= BLOCK {
            self.begin_block(lane);
        }
        let last = &mut self.lanes[lane].last;
        let n = n.min(BLOCK - last.end);
        self.occupied |= 1 << lane;
        self.depth += n;
        last.add(n)
    }

    #[cold]
    fn begin_block(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        if lane.last.is_empty() {
            // Emptied one by one.
            lane.last.clear();
        } else {
            lane.full.push_back(mem::replace(&mut lane.last, self.spare.pop().unwrap_or_default()));
        }
    }

    /// Puts one back that was taken, as the next to be taken.
    pub(crate) fn put_back(&mut self, priority: Priority, taken: T) {
        let lane = priority.index();
        self.lanes[lane].first().put_back(taken);
        self.occupied |= 1 << lane;
        self.depth += 1;
    }

    pub(crate) fn evict(&mut self, priority: Priority) -> Option<T> {
        let lane = priority.index();
        let evicted = self.lanes[lane].first().pop()?;
        self.removed(lane, 1);
        Some(evicted)
    }

    /// Moves up to `max`, and one at least if there is one.
    pub(crate) fn take(&mut self, into: &mut Block<T>, max: usize) {
        let mut left = max.min(self.depth);
        if self.occupied.is_power_of_two() && into.is_empty() {
            let only = self.occupied.trailing_zeros() as usize;
            let first = self.lanes[only].first();
            if first.len() <= left {
                // The usual case: a block as it is, without touching an event.
                into.clear();
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

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let mut all = Block::default();
        while self.depth > 0 {
            self.take(&mut all, self.depth);
        }
        let Block { places, first, end } = all;
        places.into_iter().take(end).skip(first)
    }

    /// After some were taken off the front of a lane.
    fn removed(&mut self, lane: usize, n: usize) {
        self.depth -= n;
        let lane_of = &mut self.lanes[lane];
        if let Some(mut empty) = lane_of.full.pop_front_if(|block| block.is_empty()) {
            empty.clear();
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

impl<T: Default + Waits> Lanes for PriorityLanes<T> {
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
        lanes: [VecDeque<u64>; Priority::COUNT],
        taken: [u16; Priority::COUNT],
    }

    impl Model {
        fn len(&self) -> usize {
            self.lanes.iter().map(VecDeque::len).sum()
        }

        fn take_one(&mut self) -> Option<(u8, u64)> {
            let waiting = (0..Priority::COUNT).rev().filter(|p| !self.lanes[*p].is_empty());
            let priorities: Vec<usize> = waiting.collect();
            let has_share = |p: &&usize| self.taken[**p] < SHARE[**p];
            let priority = match priorities.iter().find(has_share) {
                Some(priority) => *priority,
                None => {
                    self.taken = Default::default();
                    *priorities.first()?
                }
            };
            if priorities.len() == 1 {
                self.taken = Default::default();
            } else {
                self.taken[priority] += 1;
            }
            Some((priority as u8, self.lanes[priority].pop_front()?))
        }
    }

    fn waiting(priority: u8, since: u64) -> Waiting {
        let priority = Priority::new(priority).unwrap();
        Waiting { event: Some(Event::of("x", ()).with_priority(priority)), since }
    }

    fn add(lanes: &mut PriorityLanes, priority: u8, since: u64) {
        let waiting = waiting(priority, since);
        lanes.push(Priority::new(priority).unwrap(), waiting);
    }

    fn seen(taken: &mut Block<Waiting>) -> Vec<(u8, u64)> {
        taken
            .waiting()
            .iter()
            .map(|w| (w.event.as_ref().unwrap().priority().get(), w.since))
            .collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8, u16),
        Take(usize),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (prop_oneof![0_u8..10, Just(5)], 1_u16..200).prop_map(|(p, n)| Step::Add(p, n)),
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
                        model.lanes[usize::from(priority)].push_back(clock);
                    },
                    Step::Take(max) => {
                        let mut taken = Block::default();
                        lanes.take(&mut taken, max);
                        // It may stop early, at the end of a block.
                        prop_assert!(!taken.is_empty() || max.min(model.len()) == 0);
                        prop_assert!(taken.len() <= max);
                        let expected: Vec<_> =
                            (0..taken.len()).map_while(|_| model.take_one()).collect();
                        prop_assert_eq!(seen(&mut taken), expected);
                    }
                    Step::Evict => {
                        let fronts = (0_u8..).zip(&model.lanes).filter_map(|(p, lane)| {
                            Some((*lane.front()?, p))
                        });
                        let oldest = fronts.clone().min().map(|(_, p)| p);
                        prop_assert_eq!(lanes.oldest().map(Priority::get), oldest);
                        let lowest = fronts.map(|(_, p)| p).min();
                        prop_assert_eq!(lanes.lowest().map(Priority::get), lowest);
                        if let Some(oldest) = oldest {
                            let evicted = lanes.evict(Priority::new(oldest).unwrap());
                            let expected = model.lanes[usize::from(oldest)].pop_front();
                            prop_assert_eq!(evicted.map(|evicted| evicted.since), expected);
                        }
                    }
                }
                prop_assert_eq!(lanes.depth(), model.len());
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
        let mut taken = Block::default();
        lanes.take(&mut taken, 2 * 264);
        for priority in 0..10_u8 {
            let got = seen(&mut taken).iter().filter(|(p, _)| *p == priority).count();
            assert_eq!(got, 2 * usize::from(SHARE[usize::from(priority)]), "{priority}");
        }
    }
}
