//! Trip rule: more failures than usual.

use super::rules::{Outcome, Tally, share};

/// All calls of the past, to know which share of them fails as a rule. Those
/// that the window holds are among them, and are taken off to judge the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Learned {
    factor: f64,
    calls: u64,
    failures: u64,
}

/// Before so many calls nothing is known.
const ENOUGH: u64 = 1_000;

/// Half is forgotten when there are so many, and so many times what the window
/// holds.
const MOST: u64 = 16;

/// Where nearly nothing fails, this share is no accident yet.
const FLOOR: f64 = 0.05;

impl Learned {
    pub(super) fn new(factor: f64) -> Self {
        Self { factor, calls: 0, failures: 0 }
    }

    pub(super) fn record(&mut self, outcome: Outcome) {
        self.calls += 1;
        self.failures += u64::from(outcome.failed);
    }

    pub(super) fn add_successes(&mut self, count: u64) {
        self.calls = self.calls.saturating_add(count);
    }

    /// The share of failures in the window that opens the breaker: `most`, or
    /// less if that is known to be unusual.
    pub(super) fn threshold(&mut self, window: Tally, most: f64) -> f64 {
        while self.calls >= MOST * window.calls.max(ENOUGH) {
            (self.calls, self.failures) = (self.calls / 2, self.failures / 2);
        }
        let calls = self.calls.saturating_sub(window.calls);
        if calls < ENOUGH {
            return most;
        }
        let usual = share(self.failures.saturating_sub(window.failures), calls);
        (usual * self.factor).max(FLOOR).min(most)
    }

    /// Forgets what the window holds: what opened the breaker is not usual.
    pub(super) fn unlearn(&mut self, window: Tally) {
        self.calls = self.calls.saturating_sub(window.calls);
        self.failures = self.failures.saturating_sub(window.failures);
    }
}
