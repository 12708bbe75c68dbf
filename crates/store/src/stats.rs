//! [`LogStats`]: what a log has done since it was opened.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::Serialize;

/// What a log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogStats {
    /// Events written.
    pub written: u64,
    /// Events that were pending already and were offered again.
    pub offered_again: u64,
    /// Settlements written.
    pub settled: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Whether the last transaction failed.
    pub failing: bool,
    /// Events that went on without being written
    /// ([`OnFailure::GoOn`](crate::OnFailure::GoOn)).
    pub lost: u64,
    /// Settlements that were not written down because too many waited for
    /// the disk: their events will be offered again.
    pub settlements_lost: u64,
    /// Dead letters that were not written down because too many waited for
    /// the disk; their events have the status `dead`.
    pub letters_lost: u64,
    /// Handler calls that a [`Recorder`](crate::Recorder) could not write down:
    /// the disk did not take them, or too many waited for it.
    pub calls_lost: u64,
    /// Pending events that are no longer kept track of in memory
    /// ([`Options::max_pending`](crate::Options::max_pending)).
    pub forgotten: u64,
    /// Events that were older than the log keeps them, and are gone.
    pub aged_out: u64,
    /// Syncs of what commits have written.
    pub syncs: u64,
    /// How long the longest of these syncs took.
    pub longest_sync: Duration,
    /// Events that are accepted and not settled.
    pub pending: usize,
}

/// The same, being counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) written: AtomicU64,
    pub(crate) offered_again: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) failing: AtomicBool,
    pub(crate) lost: AtomicU64,
    pub(crate) settlements_lost: AtomicU64,
    pub(crate) letters_lost: AtomicU64,
    pub(crate) calls_lost: AtomicU64,
    pub(crate) forgotten: AtomicU64,
    pub(crate) aged_out: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) longest_sync_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Relaxed);
    }

    pub(crate) fn read(&self, pending: usize) -> LogStats {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        LogStats {
            written: of(&self.written),
            offered_again: of(&self.offered_again),
            settled: of(&self.settled),
            commits: of(&self.commits),
            failures: of(&self.failures),
            failing: self.failing.load(Relaxed),
            lost: of(&self.lost),
            settlements_lost: of(&self.settlements_lost),
            letters_lost: of(&self.letters_lost),
            calls_lost: of(&self.calls_lost),
            forgotten: of(&self.forgotten),
            aged_out: of(&self.aged_out),
            syncs: of(&self.syncs),
            longest_sync: Duration::from_micros(of(&self.longest_sync_micros)),
            pending,
        }
    }
}
