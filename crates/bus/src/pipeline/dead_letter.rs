//! Layer: dead letters. Keeps the events that a handler could not handle.

pub(crate) mod filter;
pub(crate) mod queue;
pub(crate) mod retry;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use swarmbus_core::{Event, Timestamp};

use super::Call;
use crate::{
    clock::BusClock,
    handler::{HandlerError, discard},
    ledger::Outcome,
    subscriber::Subscriber,
};

/// An event that a handler could not handle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number in this bus, counted from 1. It stays the same however
    /// often the letter is retried.
    pub id: u64,
    /// The event as the handler got it.
    pub event: Event,
    /// The handler's name.
    pub handler: Arc<str>,
    /// The kind of failure, for filters and labels.
    pub reason: DeadReason,
    /// What the handler said the last time.
    pub error: Arc<HandlerError>,
    /// How often the handler was called with the event, retries included.
    pub attempts: u32,
    /// When the handler gave up the last time.
    pub at: Timestamp,
    /// Who failed: a retry goes there and nowhere else.
    subscriber: Weak<Subscriber>,
}

impl DeadLetter {
    /// A letter that was kept elsewhere, such as in the file of an event log,
    /// for [`DeadLetters::offer`](retry::DeadLetters::offer). It has no number
    /// until the queue gives it one.
    pub fn restored(
        event: Event,
        handler: impl AsRef<str>,
        reason: DeadReason,
        error: impl Into<String>,
        attempts: u32,
        at: Timestamp,
    ) -> Self {
        let error = HandlerError::Failed(error.into().into());
        Self {
            id: 0,
            event,
            handler: handler.as_ref().into(),
            reason,
            error: Arc::new(error),
            attempts,
            at,
            subscriber: Weak::new(),
        }
    }
}

/// Why an event became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadReason {
    /// The handler returned an error.
    Failed,
    /// The handler, or a filter of it, panicked.
    Panicked,
    /// The payload does not fit the type that the handler asks for.
    PayloadMismatch,
    /// The handler took longer than its time-out.
    TimedOut,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 4] =
        [Self::Failed, Self::Panicked, Self::PayloadMismatch, Self::TimedOut];

    /// `failed`, `panicked`, `payload_mismatch` or `timed_out`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::PayloadMismatch => "payload_mismatch",
            Self::TimedOut => "timed_out",
        }
    }

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    fn of(error: &HandlerError) -> Self {
        match error {
            HandlerError::Failed(_) => Self::Failed,
            HandlerError::Panicked(_) => Self::Panicked,
            HandlerError::Payload(_) => Self::PayloadMismatch,
            HandlerError::TimedOut { .. } => Self::TimedOut,
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The letter that a call retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retried {
    id: u64,
    /// Calls before this one.
    attempts: u32,
}

/// On the way out of a call that failed, after `attempts` calls of the
/// handler.
#[cold]
pub(crate) fn keep(call: Call<'_>, error: Box<HandlerError>, attempts: u32) -> Outcome {
    let subscriber = &call.matched.subscriber;
    tracing::debug!(handler = &*subscriber.name, event = %call.event.ty(), %error, "handler failed");
    if !subscriber.pipeline.dead_letters {
        discard(error);
        return Outcome::Failed;
    }
    let letters = &call.inner.dead_letters;
    let mut event = call.event.clone();
    // A dispatched event has no stamp yet; a letter needs its id and time.
    call.inner.stamp(&mut event);
    let (id, before) = match call.retried {
        Some(retried) => (retried.id, retried.attempts),
        None => (letters.next_id(), 0),
    };
    let letter = DeadLetter {
        id,
        event,
        handler: Arc::clone(&subscriber.name),
        reason: DeadReason::of(&error),
        error: error.into(),
        attempts: before.saturating_add(attempts),
        at: BusClock::wall(),
        subscriber: Arc::downgrade(subscriber),
    };
    if let Some(journal) = call.inner.journal_for(&letter.event) {
        journal.dead_letter(&letter);
    }
    letters.push(letter);
    Outcome::DeadLettered
}
