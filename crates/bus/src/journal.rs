//! [`Journal`]: where a bus writes down what it accepts.
//!
//! The bus tells the journal of an event before it accepts it, and once more
//! when all handlers are done with it. What lies between is pending, and can
//! be offered again after a crash. `swarmbus-store` has one that keeps its
//! events in SQLite.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use async_trait::async_trait;
use swarmbus_core::Event;

use crate::{ledger::Outcome, pipeline::dead_letter::DeadLetter};

/// Keeps the events of a bus until their handlers are done with them.
///
/// Set with [`BusBuilder::journal`](crate::BusBuilder::journal). Every event
/// of `publish`, `publish_batch`, `try_publish` and `dispatch` goes through
/// it, except those that are marked as replayed: a replay is no new event.
///
/// # Contract
///
/// - Events come stamped: they have an id and a timestamp.
/// - Each accepted event is settled at most once. One that is never settled
///   was pending when its bus ended, and should be offered again.
/// - [`settle`](Self::settle), [`dead_letter`](Self::dead_letter) and
///   [`letter_gone`](Self::letter_gone) may not block or panic: workers call
///   them between two events.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Writes down events that are about to be accepted: all, or none.
    /// Returns when they are as safe as the journal promises.
    ///
    /// An event that is pending in the journal already, offered again after a
    /// crash, is no error.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]; the bus then refuses the events.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the events may have been written or not:
    /// the bus settles them as [`Settlement::Withdrawn`] in any case.
    async fn accept(&self, events: &[Event]) -> Result<(), JournalError>;

    /// Does the same for one event without waiting: for `try_publish`.
    ///
    /// # Errors
    ///
    /// [`JournalError::WouldWait`] if it cannot; else as
    /// [`accept`](Self::accept).
    fn try_accept(&self, event: &Event) -> Result<(), JournalError>;

    /// Tells what became of an event, once all its handlers are done with it.
    fn settle(&self, event: &Event, settlement: Settlement);

    /// Tells of an event that a handler could not handle, before the event is
    /// settled. It is told again, of the same event and handler, each time
    /// that a retry of the letter fails.
    fn dead_letter(&self, letter: &DeadLetter);

    /// Tells that the program is done with a dead letter. One that only made
    /// room for newer ones in memory is not meant. By default nothing happens.
    fn letter_gone(&self, letter: &DeadLetter, end: LetterEnd) {
        let _ = (letter, end);
    }
}

/// What became of an accepted event.
///
/// An event whose handlers were cut off, by a shutdown that ran out of time or
/// by dropping a `dispatch`, is not settled: it stays pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// Every handler that wanted it has handled it, or there was none.
    Delivered,
    /// At least one handler neither handled it nor kept it as a dead letter:
    /// it was rejected, dropped or expired, it failed, or the handler was
    /// unsubscribed while the event waited for it.
    Failed,
    /// At least one handler has put it into the dead letter queue.
    Dead,
    /// The bus refused it, or its publisher gave up, after the journal had
    /// taken it: as if it had never come.
    Withdrawn,
}

/// How a dead letter came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LetterEnd {
    /// A retry has delivered it.
    Delivered,
    /// It was purged, or taken out of the queue by the program.
    Purged,
}

/// Why a journal did not take events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It has to wait, which `try_publish` may not.
    #[error("the journal has to wait for its disk: use publish, which waits")]
    WouldWait,
    /// It is closed.
    #[error("the journal is closed")]
    Closed,
    /// It could not write.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// Whether the journal is to know of this event.
pub(crate) fn wants(event: &Event) -> bool {
    !event.is_replayed()
}

/// An event that the journal has, or may have, and its handlers have not:
/// withdrawn when dropped, unless it was handed over.
pub(crate) struct Recorded<'a> {
    journal: &'a dyn Journal,
    event: Option<&'a Event>,
}

impl<'a> Recorded<'a> {
    pub(crate) fn new(journal: &'a dyn Journal, event: &'a Event) -> Self {
        Self { journal, event: Some(event) }
    }

    /// Its handlers have it.
    pub(crate) fn handed_over(mut self) {
        self.event = None;
    }
}

impl Drop for Recorded<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event {
            self.journal.settle(event, Settlement::Withdrawn);
        }
    }
}

/// The same for an event on its way into the queue, which takes it out of its
/// slot.
pub(crate) struct RecordedSlot<'a> {
    pub(crate) slot: &'a mut Option<Event>,
    journal: Option<&'a dyn Journal>,
}

impl<'a> RecordedSlot<'a> {
    pub(crate) fn new(journal: &'a dyn Journal, slot: &'a mut Option<Event>) -> Self {
        Self { journal: Some(journal), slot }
    }

    /// The journal has nothing of it.
    pub(crate) fn refused(&mut self) -> &mut Option<Event> {
        self.journal = None;
        self.slot
    }
}

impl Drop for RecordedSlot<'_> {
    fn drop(&mut self) {
        if let (Some(journal), Some(event)) = (self.journal, &*self.slot) {
            journal.settle(event, Settlement::Withdrawn);
        }
    }
}

/// A journaled event among its handlers. When the last of those who hold it
/// lets go, the journal learns the worst that happened.
pub(crate) struct Receipt {
    journal: Arc<dyn Journal>,
    event: Event,
    seen: AtomicU8,
}

const FAILED: u8 = 1;
const DEAD: u8 = 2;
const CUT_OFF: u8 = 4;

impl Receipt {
    pub(crate) fn new(journal: &Arc<dyn Journal>, event: &Event) -> Arc<Self> {
        let journal = Arc::clone(journal);
        Arc::new(Self { journal, event: event.clone(), seen: AtomicU8::new(0) })
    }

    /// One handler is done with the event.
    pub(crate) fn note(&self, outcome: Outcome) {
        let seen = match outcome {
            Outcome::Delivered | Outcome::Filtered | Outcome::SampledOut | Outcome::FellBack => {
                return;
            }
            Outcome::DeadLettered => DEAD,
            Outcome::RejectedByBreaker
            | Outcome::RejectedByBulkhead
            | Outcome::RejectedByRateLimit
            | Outcome::Looped
            | Outcome::DroppedOldest
            | Outcome::DroppedLowest
            | Outcome::Expired
            | Outcome::Cancelled
            | Outcome::Failed => FAILED,
        };
        self.seen.fetch_or(seen, Relaxed);
    }

    /// A handler was cut off, or had no turn: the event stays pending.
    pub(crate) fn cut_off(&self) {
        self.seen.fetch_or(CUT_OFF, Relaxed);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let settlement = match *self.seen.get_mut() {
            seen if seen & CUT_OFF != 0 => return,
            seen if seen & DEAD != 0 => Settlement::Dead,
            seen if seen & FAILED != 0 => Settlement::Failed,
            _ => Settlement::Delivered,
        };
        self.journal.settle(&self.event, settlement);
    }
}
