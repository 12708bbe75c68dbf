//! [`DeadLetters`]: what the program does with dead letters. List, retry,
//! purge.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{DeadLetter, Retried, filter::LetterFilter, queue::NotLent};
use crate::{
    handler::too_deep,
    inner::Inner,
    journal::LetterEnd,
    ledger::Outcome,
    subscriber::{Match, Subscriber},
};

/// The dead letter queue of a bus, in the order in which letters first
/// failed: see [`Bus::dead_letters`](crate::Bus::dead_letters).
///
/// It is bounded and never blocks the bus: when it is full, the oldest letter
/// makes room and is counted in [`evicted`](Self::evicted).
///
/// # Retrying
///
/// A retry takes the event to the handler that failed and to no other,
/// through its whole pipeline, in the caller's task. If that handler is no
/// longer subscribed, one of the same name that is and that wants the event's
/// type takes its place: a handler may be mended, subscribed anew and given
/// its letters.
///
/// In the ledger a retry is one more event published, and resolved, with one
/// match and that match's outcome. So the ledger balances, and counts an
/// event once for each time that the bus took it on. The letter stays where it
/// is until the retry has delivered it: a retry that is refused, fails or is
/// dropped in the middle loses nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::atomic::{AtomicBool, Ordering::SeqCst}, time::Duration};
/// use swarmbus::{Bus, Event, LetterFilter};
///
/// static MENDED: AtomicBool = AtomicBool::new(false);
/// let bus = Bus::builder().build()?;
/// let _handler = bus.subscribe("vote.cast").handle(|_: &Event| {
///     if MENDED.load(SeqCst) { Ok(()) } else { Err("no quorum") }
/// })?;
/// bus.publish(Event::of("vote.cast", "yes")).await?;
/// bus.drain(Duration::from_secs(1)).await;
/// assert_eq!(bus.dead_letters().list()[0].error.to_string(), "no quorum");
///
/// MENDED.store(true, SeqCst);
/// let report = bus.dead_letters().retry_all(&LetterFilter::all()).await;
/// assert_eq!((report.delivered, bus.dead_letters().len()), (1, 0));
/// assert!(bus.ledger().balances());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct DeadLetters<'a> {
    inner: &'a Inner,
}

/// Why a dead letter was not delivered by a retry. It is still in the queue,
/// except when there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// There is no letter of this number: it was purged, retried or evicted.
    #[error("there is no dead letter {id}")]
    NotFound {
        /// The number.
        id: u64,
    },
    /// Somebody else retries it at this moment.
    #[error("dead letter {id} is being retried already")]
    Busy {
        /// The number.
        id: u64,
    },
    /// The handler is not subscribed any more, and none of its name is.
    #[error("dead letter {id}: the handler {handler:?} is not subscribed")]
    HandlerGone {
        /// The number.
        id: u64,
        /// The handler's name.
        handler: Arc<str>,
    },
    /// The handler's pipeline had it, and it was not delivered.
    #[error("dead letter {id} was retried, and came back: {outcome:?}")]
    NotDelivered {
        /// The number.
        id: u64,
        /// What became of it: [`Outcome::DeadLettered`] if the handler failed
        /// again, [`Outcome::RejectedByBreaker`] if it was not called.
        outcome: Outcome,
    },
    /// The bus is shutting down.
    #[error("the bus is closed")]
    Closed,
    /// Handlers retry letters inside each other without end.
    #[error("handlers call each other more than {limit} deep")]
    TooDeep {
        /// How deep they may: [`MAX_NESTING`](crate::MAX_NESTING), or less where
        /// they need much of the stack.
        limit: u32,
    },
}

/// What [`DeadLetters::retry_all`] came to.
#[derive(Debug, Default)]
pub struct RetryReport {
    /// Letters that were delivered, and are gone.
    pub delivered: usize,
    /// Why each of the others is still in the queue, oldest first.
    pub left: Vec<RetryError>,
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        Self { inner }
    }

    /// How many letters wait.
    pub fn len(self) -> usize {
        self.inner.dead_letters.len()
    }

    /// Whether none waits.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// How many letters had to make room for newer ones.
    pub fn evicted(self) -> u64 {
        self.inner.dead_letters.evicted()
    }

    /// Copies of all letters, oldest first.
    pub fn list(self) -> Vec<DeadLetter> {
        self.inner.dead_letters.list()
    }

    /// A copy of the letter of this number.
    pub fn get(self, id: u64) -> Option<DeadLetter> {
        self.inner.dead_letters.get(id)
    }

    /// Takes all letters out, oldest first.
    pub fn take_all(self) -> Vec<DeadLetter> {
        let letters = self.inner.dead_letters.take_all();
        letters.iter().for_each(|letter| self.tell(letter, LetterEnd::Purged));
        letters
    }

    /// Throws letters away. Returns how many. One that is being retried comes
    /// back if the retry fails.
    pub fn purge(self, which: &LetterFilter) -> usize {
        let mut purged = 0;
        for id in self.wanted(which) {
            if let Some(letter) = self.inner.dead_letters.remove(id) {
                self.tell(&letter, LetterEnd::Purged);
                purged += 1;
            }
        }
        purged
    }

    /// Retries one letter: see [`DeadLetters`].
    ///
    /// # Errors
    ///
    /// See [`RetryError`]. The letter is still in the queue then, with one
    /// attempt more if the handler was called.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, the handler is cancelled, its match counts as
    /// cancelled, and the letter is still in the queue.
    pub async fn retry(self, id: u64) -> Result<(), RetryError> {
        self.check()?;
        let inner = self.inner;
        let loan = inner.dead_letters.lend(id).map_err(|why| match why {
            NotLent::Missing => RetryError::NotFound { id },
            NotLent::OnLoan => RetryError::Busy { id },
        })?;
        self.run(&loan.letter).await
    }

    /// Retries a letter that is kept elsewhere: the event log offers those of
    /// earlier runs. If the queue has the letter too, of the same event and
    /// for a handler of the same name, then that one is retried.
    ///
    /// # Errors
    ///
    /// See [`RetryError`]. The queue has the letter only if it had it before,
    /// or if the handler failed again.
    ///
    /// # Cancel safety
    ///
    /// As [`retry`](Self::retry).
    pub async fn offer(self, mut letter: DeadLetter) -> Result<(), RetryError> {
        if let Some(id) = self.inner.dead_letters.find(&letter.event, &letter.handler) {
            return self.retry(id).await;
        }
        self.check()?;
        letter.id = self.inner.dead_letters.next_id();
        self.run(&letter).await
    }

    /// Retries letters, one after the other, oldest first. Those that arrive
    /// meanwhile are left for the next time.
    ///
    /// # Cancel safety
    ///
    /// As [`retry`](Self::retry); what was delivered before stays delivered.
    pub async fn retry_all(self, which: &LetterFilter) -> RetryReport {
        let mut report = RetryReport::default();
        for id in self.wanted(which) {
            // Plain functions never wait: leave the thread to others.
            tokio::task::coop::consume_budget().await;
            match self.retry(id).await {
                Ok(()) => report.delivered += 1,
                // Somebody else was done with it first.
                Err(RetryError::NotFound { .. }) => {}
                Err(error) => report.left.push(error),
            }
        }
        report
    }

    /// The numbers of some letters, oldest first. The patterns are matched
    /// outside of the lock, which the bus's failures need.
    fn wanted(self, which: &LetterFilter) -> Vec<u64> {
        self.list().iter().filter(|letter| which.wants(letter)).map(|letter| letter.id).collect()
    }

    fn tell(self, letter: &DeadLetter, end: LetterEnd) {
        if let Some(journal) = self.inner.journal_for(&letter.event) {
            journal.letter_gone(letter, end);
        }
    }

    fn check(self) -> Result<(), RetryError> {
        if self.inner.closed.load(Relaxed) {
            return Err(RetryError::Closed);
        }
        if let Some(limit) = too_deep() {
            return Err(RetryError::TooDeep { limit });
        }
        Ok(())
    }

    async fn run(self, letter: &DeadLetter) -> Result<(), RetryError> {
        let inner = self.inner;
        let DeadLetter { id, event, handler, attempts, .. } = letter;
        let gone = || RetryError::HandlerGone { id: *id, handler: Arc::clone(handler) };
        let matched = Match::new(self.handler_of(letter).ok_or_else(gone)?, event.ty());
        let mut borrowed = inner.pool.borrow(inner);
        let runner = borrowed.get().ok_or_else(gone)?;
        let retried = Retried { id: *id, attempts: *attempts };
        match runner.retry(inner, event, &matched, retried).await.ok_or_else(gone)? {
            Outcome::Delivered | Outcome::FellBack => {
                inner.dead_letters.remove(*id);
                // To the journal, those of handlers of one name are one letter.
                if inner.dead_letters.find(event, handler).is_none() {
                    self.tell(letter, LetterEnd::Delivered);
                }
                Ok(())
            }
            outcome => Err(RetryError::NotDelivered { id: *id, outcome }),
        }
    }

    fn handler_of(self, letter: &DeadLetter) -> Option<Arc<Subscriber>> {
        let same = letter.subscriber.upgrade().filter(|subscriber| subscriber.is_active());
        same.or_else(|| {
            let (routes, event) = (&self.inner.routes, &letter.event);
            let session = routes.of_session(event);
            let bus = routes.of_type(event.ty());
            let named = |matched: &&Match| *matched.subscriber.name == *letter.handler;
            let found = session.iter().chain(bus.matches()).find(named);
            found.map(|matched| Arc::clone(&matched.subscriber))
        })
    }
}

impl std::fmt::Debug for DeadLetters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters")
            .field("len", &self.len())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}
