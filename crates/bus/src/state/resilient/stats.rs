//! What a resilient store has counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use swarmbus_core::breaker;

use super::Shared;
use crate::pipeline::fallback::Degraded;

/// What a [`ResilientStore`](super::ResilientStore) has been through.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResilientStats {
    /// Calls that the primary did not serve, by an error or in time.
    pub failures: u64,
    /// Calls that memory served.
    pub fallbacks: u64,
    /// Calls that memory could not serve, for it did not know.
    pub unknown: u64,
    /// Writes that wait to be written back.
    pub waiting: usize,
    /// Writes that were written back.
    pub written_back: u64,
    /// Writes that were given up because somebody else wrote meanwhile.
    pub conflicts: u64,
    /// Writes that were given up because the primary refused them.
    pub refused: u64,
    /// Since when memory serves, if it does.
    pub degraded: Option<Degraded>,
    /// The breaker before the primary.
    pub breaker: breaker::Stats,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) failures: AtomicU64,
    pub(super) fallbacks: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) written_back: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Shared {
    pub(super) fn stats(&self) -> ResilientStats {
        ResilientStats {
            failures: self.tally.failures.load(Relaxed),
            fallbacks: self.tally.fallbacks.load(Relaxed),
            unknown: self.tally.unknown.load(Relaxed),
            waiting: *self.waiting.borrow(),
            written_back: self.tally.written_back.load(Relaxed),
            conflicts: self.tally.conflicts.load(Relaxed),
            refused: self.tally.refused.load(Relaxed),
            degraded: self.degradation.get(),
            breaker: self.breaker.stats(),
        }
    }
}
