//! The ledger: every event that the bus accepted, and what became of it.
//!
//! Three counts are kept by three different places and must agree once the
//! bus is idle: events accepted (by the queue, or by `dispatch`), events
//! resolved and matches made (by whoever ran them), and outcomes (by each
//! handler). An event that is lost between them is a difference, not a
//! silence.
//!
//! Every counter has a cell per runner and each cell is written by one thread
//! at a time, so that counting costs a plain add and shares no cache line.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crossbeam_utils::{CachePadded, atomic::AtomicCell};
use parking_lot::Mutex;
use serde::Serialize;

use crate::stall::Frame;

/// What became of one event for one handler that it matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler returned success.
    Delivered,
    /// A filter of the handler did not want it.
    Filtered,
    /// The handler's circuit breaker is open.
    RejectedByBreaker,
    /// The handler's bulkhead was full, or no place in it became free in time.
    RejectedByBulkhead,
    /// More events came than the handler's rate limit allows.
    RejectedByRateLimit,
    /// It was left out of the sample that the handler takes of an event storm.
    SampledOut,
    /// The event has been at this handler before: its path is a loop, or too
    /// long.
    Looped,
    /// The handler did not handle it, and a fallback did.
    FellBack,
    /// It was the oldest in a full queue ([`Overflow::DropOldest`](crate::Overflow)).
    DroppedOldest,
    /// It was the least urgent in a full queue
    /// ([`Overflow::DropLowestPriority`](crate::Overflow)).
    DroppedLowest,
    /// Its deadline passed before the handler's turn came, or it waited in the
    /// queue for longer than it may
    /// ([`BusBuilder::queue_ttl`](crate::BusBuilder::queue_ttl)).
    Expired,
    /// The handler failed and the event is, or was, in the dead letter queue.
    DeadLettered,
    /// The handler failed and keeps no dead letters.
    Failed,
    /// The call was cancelled: by a shutdown that ran out of time, by dropping
    /// a `dispatch`, or by unsubscribing the handler while the event waited in
    /// its bulkhead.
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 14] = [
        Self::Delivered,
        Self::Filtered,
        Self::RejectedByBreaker,
        Self::RejectedByBulkhead,
        Self::RejectedByRateLimit,
        Self::SampledOut,
        Self::Looped,
        Self::FellBack,
        Self::DroppedOldest,
        Self::DroppedLowest,
        Self::Expired,
        Self::DeadLettered,
        Self::Failed,
        Self::Cancelled,
    ];
}

/// How often each [`Outcome`] came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// [`Outcome::Delivered`]
    pub delivered: u64,
    /// [`Outcome::Filtered`]
    pub filtered: u64,
    /// [`Outcome::RejectedByBreaker`]
    pub rejected_by_breaker: u64,
    /// [`Outcome::RejectedByBulkhead`]
    pub rejected_by_bulkhead: u64,
    /// [`Outcome::RejectedByRateLimit`]
    pub rejected_by_rate_limit: u64,
    /// [`Outcome::SampledOut`]
    pub sampled_out: u64,
    /// [`Outcome::Looped`]
    pub looped: u64,
    /// [`Outcome::FellBack`]
    pub fell_back: u64,
    /// [`Outcome::DroppedOldest`]
    pub dropped_oldest: u64,
    /// [`Outcome::DroppedLowest`]
    pub dropped_lowest: u64,
    /// [`Outcome::Expired`]
    pub expired: u64,
    /// [`Outcome::DeadLettered`]
    pub dead_lettered: u64,
    /// [`Outcome::Failed`]
    pub failed: u64,
    /// [`Outcome::Cancelled`]
    pub cancelled: u64,
}

impl Outcomes {
    /// All outcomes together.
    pub fn total(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.get(*outcome)).sum()
    }

    /// How often `outcome` came about.
    pub fn get(&self, outcome: Outcome) -> u64 {
        let mut copy = *self;
        *copy.slot(outcome)
    }

    fn slot(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Filtered => &mut self.filtered,
            Outcome::RejectedByBreaker => &mut self.rejected_by_breaker,
            Outcome::RejectedByBulkhead => &mut self.rejected_by_bulkhead,
            Outcome::RejectedByRateLimit => &mut self.rejected_by_rate_limit,
            Outcome::SampledOut => &mut self.sampled_out,
            Outcome::Looped => &mut self.looped,
            Outcome::FellBack => &mut self.fell_back,
            Outcome::DroppedOldest => &mut self.dropped_oldest,
            Outcome::DroppedLowest => &mut self.dropped_lowest,
            Outcome::Expired => &mut self.expired,
            Outcome::DeadLettered => &mut self.dead_lettered,
            Outcome::Failed => &mut self.failed,
            Outcome::Cancelled => &mut self.cancelled,
        }
    }

    fn add(&mut self, cells: &Cells) {
        for outcome in Outcome::ALL {
            *self.slot(outcome) += cells.outcomes[outcome as usize].load(Relaxed);
        }
    }
}

/// Everything the bus accepted, and what became of it.
///
/// Read while events move, the numbers are from slightly different moments;
/// after a [`drain`](crate::Bus::drain) they are exact.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ledger {
    /// Events accepted by `publish` and its kin, or by `dispatch`, and
    /// retries of dead letters.
    pub published: u64,
    /// Events handed back to the publisher with an error. Not part of
    /// `published`.
    pub refused: u64,
    /// Events that reached routing, an overflow policy or their deadline.
    pub resolved: u64,
    /// Resolved events that no handler matched.
    pub unmatched: u64,
    /// Pairs of a resolved event and a handler that it matched.
    pub matches: u64,
    /// Matches that go on in tasks of their own: they wait for a retry or in a
    /// bulkhead. They have no outcome yet, though their event is resolved.
    pub detached: u64,
    /// What became of the matches.
    pub outcomes: Outcomes,
    /// The same per handler, living handlers only.
    pub handlers: Vec<HandlerLedger>,
}

/// One handler's share of a [`Ledger`].
#[derive(Clone, Debug, Serialize)]
pub struct HandlerLedger {
    /// The handler's name.
    pub name: String,
    /// The pattern it subscribed to.
    pub pattern: String,
    /// What became of its matches.
    pub outcomes: Outcomes,
}

impl Ledger {
    /// Accepted events that are still queued or being handled.
    pub fn pending(&self) -> u64 {
        self.published.saturating_sub(self.resolved)
    }

    /// Whether every accepted event is resolved and every match has exactly
    /// one outcome.
    pub fn balances(&self) -> bool {
        self.published == self.resolved && self.matches == self.outcomes.total()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "published {} = resolved {} + pending {}; matches {} = outcomes {}",
            self.published,
            self.resolved,
            self.pending(),
            self.matches,
            self.outcomes.total()
        )?;
        if self.detached > 0 {
            write!(f, " + detached {}", self.detached)?;
        }
        for outcome in Outcome::ALL {
            let count = self.outcomes.get(outcome);
            if count > 0 {
                write!(f, ", {outcome:?} {count}")?;
            }
        }
        Ok(())
    }
}

/// Whose cell to count in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellIndex {
    pub(crate) index: usize,
    /// Others may count in this cell at the same time.
    pub(crate) shared: bool,
}

impl CellIndex {
    #[inline(always)]
    fn add(self, cell: &AtomicU64, n: u64) {
        if self.shared {
            cell.fetch_add(n, Relaxed);
        } else {
            // One writer: no locked instruction is needed.
            cell.store(cell.load(Relaxed) + n, Relaxed);
        }
    }
}

/// One runner's counts for one handler: two cache lines at most.
#[derive(Debug, Default)]
struct Cells {
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

/// One handler's counts. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct HandlerCounts {
    cells: Arc<[CachePadded<Cells>]>,
    whose: Arc<Whose>,
}

/// The handler that counts belong to.
#[derive(Debug)]
struct Whose {
    serial: u64,
    name: String,
    pattern: String,
}

impl HandlerCounts {
    #[inline]
    pub(crate) fn count(&self, at: CellIndex, outcome: Outcome) {
        at.add(&self.cells[at.index].outcomes[outcome as usize], 1);
    }

    fn report(&self) -> HandlerLedger {
        HandlerLedger {
            name: self.whose.name.clone(),
            pattern: self.whose.pattern.clone(),
            outcomes: self.outcomes(),
        }
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        let mut sum = Outcomes::default();
        for cells in &*self.cells {
            sum.add(cells);
        }
        sum
    }
}

/// One runner's counts of events, whoever handles them.
#[derive(Debug, Default)]
pub(crate) struct RunnerCounts {
    dispatched: AtomicU64,
    resolved: AtomicU64,
    unmatched: AtomicU64,
    matches: AtomicU64,
    /// The serial of the handler that the runner has, and 1; 0 for none.
    at_work: AtomicU64,
    /// Who has dispatched what the runner has.
    caller: AtomicCell<Frame>,
}

impl RunnerCounts {
    #[inline(always)]
    pub(crate) fn dispatched(&self, at: CellIndex) {
        at.add(&self.dispatched, 1);
    }

    /// The bus is done with an event.
    #[inline(always)]
    pub(crate) fn resolved(&self, at: CellIndex, unmatched: bool) {
        if !at.shared {
            self.at_work.store(0, Relaxed);
        }
        at.add(&self.resolved, 1);
        if unmatched {
            at.add(&self.unmatched, 1);
        }
    }

    /// A runner is about to give an event to a handler.
    #[inline(always)]
    pub(crate) fn matched(&self, at: CellIndex, handler: u64) {
        at.add(&self.matches, 1);
        if !at.shared {
            self.at_work.store(handler + 1, Relaxed);
        }
    }
}

/// A runner that works for somebody.
pub(crate) struct Called<'a>(Option<&'a AtomicCell<Frame>>);

impl Drop for Called<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.0 {
            cell.store(Frame::Nobody);
        }
    }
}

/// Where the counts of one bus live.
#[derive(Debug)]
pub(crate) struct Books {
    runners: Box<[CachePadded<RunnerCounts>]>,
    refused: CachePadded<AtomicU64>,
    handlers: Mutex<Handlers>,
}

#[derive(Debug, Default)]
struct Handlers {
    /// By order of subscription.
    living: BTreeMap<u64, HandlerCounts>,
    /// The sum of those that ended.
    ended: Outcomes,
}

impl Books {
    pub(crate) fn new(runners: usize) -> Self {
        Self {
            runners: (0..runners).map(|_| CachePadded::default()).collect(),
            refused: CachePadded::default(),
            handlers: Mutex::default(),
        }
    }

    /// How many cells each handler counts in.
    pub(crate) fn runners(&self) -> usize {
        self.runners.len()
    }

    pub(crate) fn open(&self, serial: u64, name: String, pattern: String) -> HandlerCounts {
        let cells = self.runners.iter().map(|_| CachePadded::default()).collect();
        let counts = HandlerCounts { cells, whose: Arc::new(Whose { serial, name, pattern }) };
        self.handlers.lock().living.insert(serial, counts.clone());
        counts
    }

    /// Moves a handler's counts to the sum of those that ended. Only when
    /// nobody can count in it any more.
    pub(crate) fn close(&self, counts: &HandlerCounts) {
        let mut handlers = self.handlers.lock();
        if handlers.living.remove(&counts.whose.serial).is_some() {
            for cells in &*counts.cells {
                handlers.ended.add(cells);
            }
        }
    }

    /// What a runner counts of its events.
    #[inline(always)]
    pub(crate) fn of(&self, runner: CellIndex) -> &RunnerCounts {
        &self.runners[runner.index]
    }

    /// The handler that a runner has, 0 for none, and which call it is.
    pub(crate) fn at_work(&self, runner: usize) -> (u64, u64) {
        let counts = &self.runners[runner];
        (counts.at_work.load(Relaxed), counts.matches.load(Relaxed))
    }

    /// The name of the handler that a runner has.
    pub(crate) fn handler_in(&self, runner: usize) -> Option<String> {
        let serial = self.at_work(runner).0.checked_sub(1)?;
        self.handlers.lock().living.get(&serial).map(|counts| counts.whose.name.clone())
    }

    /// Who has dispatched what a runner has.
    pub(crate) fn caller(&self, runner: usize) -> Frame {
        self.runners[runner].caller.load()
    }

    /// Says so, until the guard is dropped.
    pub(crate) fn called_by(&self, at: CellIndex, caller: Frame) -> Called<'_> {
        let cell = (!at.shared && caller != Frame::Nobody).then(|| {
            let cell = &self.runners[at.index].caller;
            cell.store(caller);
            cell
        });
        Called(cell)
    }

    pub(crate) fn refused(&self, n: u64) {
        self.refused.fetch_add(n, Relaxed);
    }

    pub(crate) fn dispatched_total(&self) -> u64 {
        self.runners.iter().map(|counts| counts.dispatched.load(Relaxed)).sum()
    }

    /// The ledger, given how many events the queues accepted.
    pub(crate) fn ledger(&self, queued: impl FnOnce() -> u64) -> Ledger {
        let mut ledger = self.totals(queued);
        let handlers = self.handlers.lock();
        ledger.handlers = handlers.living.values().map(HandlerCounts::report).collect();
        ledger
    }

    /// The same without a line for each handler.
    pub(crate) fn totals(&self, queued: impl FnOnce() -> u64) -> Ledger {
        // Outcomes are read before what causes them, so that a reading in
        // mid-flight shows events as pending, never as made up.
        let mut ledger = Ledger::default();
        {
            let handlers = self.handlers.lock();
            ledger.outcomes = handlers.ended;
            for cells in handlers.living.values().flat_map(|counts| &*counts.cells) {
                ledger.outcomes.add(cells);
            }
        }
        for counts in &self.runners {
            ledger.unmatched += counts.unmatched.load(Relaxed);
            ledger.resolved += counts.resolved.load(Relaxed);
            ledger.matches += counts.matches.load(Relaxed);
        }
        ledger.published = self.dispatched_total() + queued();
        ledger.refused = self.refused.load(Relaxed);
        ledger
    }
}
