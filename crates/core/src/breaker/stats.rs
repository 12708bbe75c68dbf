//! [`Stats`]: what a breaker has been through.

use super::{
    Breaker,
    state::{Cause, StateKind},
};
use crate::Moment;

/// A breaker's counters. They only grow, over [`reset`](super::Breaker::reset)
/// too, and survive a restart in a [`Snapshot`](super::Snapshot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The state.
    pub state: StateKind,
    /// Times it opened: from closed, and again from half-open. Opening by
    /// force is not counted.
    pub opens: u64,
    /// Times it would have opened, had it not been
    /// [metrics-only](super::State::MetricsOnly).
    pub would_open: u64,
    /// Times it went half-open.
    pub recovery_attempts: u64,
    /// Times enough probes succeeded to close it.
    pub recoveries: u64,
    /// Calls turned away.
    pub rejected: u64,
    /// Calls let through by [`bypass`](super::Breaker::bypass).
    pub bypassed: u64,
    /// Successes taken in. `None` unless the breaker counts them: with a
    /// window, or by [`count_successes`](super::Builder::count_successes).
    pub successes: Option<u64>,
    /// Failures taken in, probes included. Late results are not.
    pub failures: u64,
    /// Slow calls taken in, failed or not.
    pub slow: u64,
    /// Failures since the last success, as far as the consecutive rule counts.
    pub streak: u32,
    /// Calls, failures and slow calls in the window; zero without one.
    pub window: WindowStats,
    /// When the state last changed.
    pub last_change: Option<Moment>,
    /// When it last opened.
    pub opened_at: Option<Moment>,
    /// Why it last opened. Not known of an opening before a restart.
    pub opened_by: Option<Cause>,
    /// When the last failure was taken in.
    pub last_failure: Option<Moment>,
}

/// What the sliding window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowStats {
    /// All calls.
    pub calls: u64,
    /// Failed calls.
    pub failures: u64,
    /// Slow calls, failed or not.
    pub slow: u64,
}

impl Breaker {
    /// The counters.
    pub fn stats(&self) -> Stats {
        let [rejected, bypassed] = self.tallies();
        self.with(|machine| {
            let totals = machine.totals;
            let window = machine.rules.tally().unwrap_or_default();
            Stats {
                state: machine.kind(),
                opens: totals.opens,
                would_open: totals.would_open,
                recovery_attempts: totals.recovery_attempts,
                recoveries: totals.recoveries,
                rejected,
                bypassed,
                successes: machine.counts_successes().then_some(totals.successes),
                failures: totals.failures,
                slow: totals.slow,
                streak: machine.rules.streak(),
                window: WindowStats {
                    calls: window.calls,
                    failures: window.failures,
                    slow: window.slow,
                },
                last_change: totals.last_change,
                opened_at: totals.opened_at,
                opened_by: totals.opened_by,
                last_failure: totals.last_failure,
            }
        })
    }
}

/// The counters the state machine keeps; they saturate, because a snapshot
/// may bring any number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) opens: u64,
    pub(super) would_open: u64,
    pub(super) recovery_attempts: u64,
    pub(super) recoveries: u64,
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
    pub(super) last_change: Option<Moment>,
    pub(super) opened_at: Option<Moment>,
    pub(super) opened_by: Option<Cause>,
    pub(super) last_failure: Option<Moment>,
}

/// One more, for counters.
pub(super) fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
