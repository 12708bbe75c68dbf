//! Trip rule: so many failures in a row.

use super::{rules::Outcome, state::Cause};

#[derive(Debug)]
pub(super) struct Consecutive {
    limit: u32,
    streak: u32,
}

impl Consecutive {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, streak: 0 }
    }

    pub(super) fn record(&mut self, outcome: Outcome) -> Option<Cause> {
        self.streak = if outcome.failed { self.streak.saturating_add(1) } else { 0 };
        (self.streak >= self.limit).then_some(Cause::ConsecutiveFailures)
    }

    pub(super) fn reset(&mut self) {
        self.streak = 0;
    }

    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    /// From a snapshot, whose limit may have been another.
    pub(super) fn set_streak(&mut self, streak: u32) {
        self.streak = streak.min(self.limit - 1);
    }
}
