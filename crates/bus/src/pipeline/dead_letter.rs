//! Layer: dead letters. Keeps the events that a handler could not handle.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use swarmbus_core::{Event, Timestamp};

use super::Call;
use crate::{clock::BusClock, handler::HandlerError, ledger::Outcome};

/// An event that a handler could not handle.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event as the handler got it.
    pub event: Event,
    /// The handler's name.
    pub handler: Arc<str>,
    /// What the handler said.
    pub error: Arc<HandlerError>,
    /// When the handler gave up.
    pub at: Timestamp,
}

/// The dead letter queue of a bus: bounded, newest last.
///
/// It never blocks: when it is full, the oldest letter makes room and is
/// counted in [`evicted`](Self::evicted).
#[derive(Debug)]
pub struct DeadLetters {
    letters: Mutex<VecDeque<DeadLetter>>,
    capacity: usize,
    evicted: AtomicU64,
}

impl DeadLetters {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { letters: Mutex::default(), capacity, evicted: AtomicU64::new(0) }
    }

    /// How many letters wait.
    pub fn len(&self) -> usize {
        self.letters.lock().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many letters had to make room for newer ones.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Copies of all letters, oldest first.
    pub fn list(&self) -> Vec<DeadLetter> {
        self.letters.lock().iter().cloned().collect()
    }

    /// Takes all letters out, oldest first.
    pub fn take_all(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut *self.letters.lock()).into()
    }

    fn push(&self, letter: DeadLetter) {
        let mut letters = self.letters.lock();
        let oldest = if letters.len() >= self.capacity { letters.pop_front() } else { None };
        if self.capacity > 0 {
            letters.push_back(letter);
        }
        drop(letters);
        if oldest.is_some() || self.capacity == 0 {
            self.evicted.fetch_add(1, Relaxed);
        }
        // The evicted letter is dropped here, outside the lock.
        drop(oldest);
    }
}

/// On the way out of a call that failed.
#[cold]
pub(crate) fn keep(call: Call<'_>, error: Box<HandlerError>) -> Outcome {
    let subscriber = &call.matched.subscriber;
    tracing::debug!(handler = &*subscriber.name, event = %call.event.ty(), %error, "handler failed");
    if !subscriber.pipeline.dead_letters {
        return Outcome::Failed;
    }
    let at = BusClock::wall();
    let mut event = call.event.clone();
    // A dispatched event has no stamp yet; a letter needs its id and time.
    call.inner.stamp(&mut event);
    let handler = Arc::clone(&subscriber.name);
    let letter = DeadLetter { event, handler, error: error.into(), at };
    if let Some(journal) = call.inner.journal_for(&letter.event) {
        journal.dead_letter(&letter);
    }
    call.inner.dead_letters.push(letter);
    Outcome::DeadLettered
}
