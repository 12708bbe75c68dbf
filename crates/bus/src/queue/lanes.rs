//! The lanes of a shard, one for each priority, and the rule by which they
//! are emptied.
//!
//! # Fairness
//!
//! The worker takes the highest priority first, but within one round priority
//! p gives at most [`SHARE`]`[p]` events. When every priority that waits has
//! given its share, a new round begins. So of any 264 events that are taken
//! while all priorities wait, 8 are of priority 0: a flood of urgent events
//! slows the others and never stops them.

use std::{collections::VecDeque, mem};

use swarmbus_core::{Event, Priority, overflow::Lanes};

/// How many events of each priority one round may take, priority 0 first.
const SHARE: [u16; Priority::COUNT] = [8, 8, 8, 16, 16, 16, 32, 32, 64, 64];

/// An event that waits, and when it came by the clock's cycle counter.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) event: Event,
    pub(crate) since: u64,
}

/// A lane for each priority.
#[derive(Debug)]
pub(super) struct PriorityLanes {
    lanes: [VecDeque<Waiting>; Priority::COUNT],
    /// A bit for each lane that is not empty.
    occupied: u16,
    /// What is left of each lane's share in this round.
    credit: [u16; Priority::COUNT],
    depth: usize,
}

impl Default for PriorityLanes {
    fn default() -> Self {
        Self { lanes: Default::default(), occupied: 0, credit: SHARE, depth: 0 }
    }
}

impl PriorityLanes {
    /// Events in all lanes together.
    #[inline]
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The lane that one event is about to be added to.
    #[inline]
    pub(super) fn of(&mut self, priority: Priority) -> &mut VecDeque<Waiting> {
        let lane = priority.index();
        self.occupied |= 1 << lane;
        self.depth += 1;
        &mut self.lanes[lane]
    }

    pub(super) fn evict(&mut self, priority: Priority) -> Option<Event> {
        let lane = priority.index();
        let evicted = self.lanes[lane].pop_front()?;
        self.removed(lane, 1);
        Some(evicted.event)
    }

    pub(super) fn take(&mut self, into: &mut VecDeque<Waiting>, max: usize) {
        let mut left = max.min(self.depth);
        if self.occupied.is_power_of_two() && left == self.depth && into.is_empty() {
            // The usual case: everything there is, without touching an event.
            let only = self.occupied.trailing_zeros() as usize;
            mem::swap(&mut self.lanes[only], into);
            return self.removed(only, left);
        }
        while left > 0 {
            let Some(lane) = self.highest_with_credit() else {
                self.credit = SHARE;
                continue;
            };
            // Alone, a lane needs no share.
            let alone = self.occupied == 1 << lane;
            let share = if alone { left } else { usize::from(self.credit[lane]) };
            let n = left.min(share).min(self.lanes[lane].len());
            into.extend(self.lanes[lane].drain(..n));
            if !alone {
                self.credit[lane] -= n as u16;
            }
            self.removed(lane, n);
            left -= n;
        }
    }

    fn removed(&mut self, lane: usize, n: usize) {
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
        }
        self.depth -= n;
    }

    fn highest_with_credit(&self) -> Option<usize> {
        (0..Priority::COUNT)
            .rev()
            .find(|&lane| self.occupied & (1 << lane) != 0 && self.credit[lane] > 0)
    }
}

impl Lanes for PriorityLanes {
    fn len(&self) -> usize {
        self.depth
    }

    fn lowest(&self) -> Option<Priority> {
        Priority::all().find(|priority| self.occupied & (1 << priority.index()) != 0)
    }

    fn oldest(&self) -> Option<Priority> {
        Priority::all()
            .filter_map(|priority| Some((self.lanes[priority.index()].front()?.since, priority)))
            .min()
            .map(|(_, priority)| priority)
    }
}
