//! Trip rule data: the last so many calls.

use super::rules::{Outcome, Tally};

#[derive(Debug)]
pub(super) struct CallWindow {
    ring: Box<[Outcome]>,
    next: usize,
    tally: Tally,
}

const SUCCESS: Outcome = Outcome { failed: false, slow: false };

impl CallWindow {
    pub(super) fn new(calls: u32) -> Self {
        let calls = usize::try_from(calls).unwrap_or(usize::MAX);
        Self { ring: vec![SUCCESS; calls].into(), next: 0, tally: Tally::default() }
    }

    pub(super) fn record(&mut self, outcome: Outcome) {
        if self.tally.calls == self.ring.len() as u64 {
            let mut oldest = Tally::default();
            oldest.add(self.ring[self.next]);
            self.tally.subtract(oldest);
        }
        self.ring[self.next] = outcome;
        self.tally.add(outcome);
        self.next = (self.next + 1) % self.ring.len();
    }

    pub(super) fn add_successes(&mut self, count: u64) {
        // More than the window holds is the same as filling it.
        for _ in 0..count.min(self.ring.len() as u64) {
            self.record(SUCCESS);
        }
    }

    pub(super) fn reset(&mut self) {
        self.tally = Tally::default();
        self.next = 0;
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }
}
