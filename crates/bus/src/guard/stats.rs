//! What a guard has counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use swarmbus_core::{Timestamp, breaker::StateKind};

use crate::{clock::BusClock, pipeline::fallback::Degraded};

/// What a [`Guard`](crate::Guard) has seen so far.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GuardStats {
    /// The guard's name.
    pub name: Arc<str>,
    /// The breaker's state; `None` without one.
    pub state: Option<StateKind>,
    /// Calls.
    pub calls: u64,
    /// Tries that failed, timed out or panicked.
    pub failures: u64,
    /// When the last of them did.
    pub last_failure: Option<Timestamp>,
    /// How often the breaker opened.
    pub trips: u64,
    /// Tries that the open breaker turned away.
    pub rejected: u64,
    /// Tries that found the bulkhead and its queue full.
    pub bulkhead_rejected: u64,
    /// Tries that waited too long for a place in the bulkhead.
    pub bulkhead_timed_out: u64,
    /// Calls beyond the rate limit.
    pub rate_limited: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Tries, or whole calls, that took too long.
    pub timed_out: u64,
    /// Those of them that did not stop by themselves.
    pub aborted: u64,
    /// Calls that a fallback answered.
    pub fallbacks: u64,
    /// Whether a fallback serves at the moment.
    pub degraded: Option<Degraded>,
}

/// Counts that nobody else keeps.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: AtomicU64,
    pub(super) failures: AtomicU64,
    /// Microseconds since 1970; 0 for never.
    last_failure: AtomicU64,
    pub(super) rate_limited: AtomicU64,
    pub(super) retries: AtomicU64,
    timed_out: AtomicU64,
    aborted: AtomicU64,
    pub(super) fallbacks: AtomicU64,
}

impl Tally {
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.last_failure.store(BusClock::wall().as_micros(), Relaxed);
    }

    pub(super) fn timed_out(&self, aborted: bool) {
        self.timed_out.fetch_add(1, Relaxed);
        self.aborted.fetch_add(u64::from(aborted), Relaxed);
    }

    /// What it knows; the rest is zero.
    pub(super) fn stats(&self, name: &Arc<str>) -> GuardStats {
        let last_failure = Some(self.last_failure.load(Relaxed)).filter(|micros| *micros > 0);
        GuardStats {
            name: Arc::clone(name),
            state: None,
            calls: self.calls.load(Relaxed),
            failures: self.failures.load(Relaxed),
            last_failure: last_failure.and_then(Timestamp::from_micros),
            trips: 0,
            rejected: 0,
            bulkhead_rejected: 0,
            bulkhead_timed_out: 0,
            rate_limited: self.rate_limited.load(Relaxed),
            retries: self.retries.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            fallbacks: self.fallbacks.load(Relaxed),
            degraded: None,
        }
    }
}
