//! A log as the [`Journal`] of a bus.

use async_trait::async_trait;
use swarmbus::{DeadLetter, Journal, JournalError, LetterEnd, Settlement};
use swarmbus_core::Event;

use crate::{
    error::WriteError,
    event_row::{id_of, micros},
    letters::LetterNews,
    log::EventLog,
    options::OnFailure,
    stats::Counters,
};

#[async_trait]
impl Journal for EventLog {
    async fn accept(&self, events: &[Event]) -> Result<(), JournalError> {
        self.best_effort(self.append(events).await, events.len())
    }

    /// [`JournalError::WouldWait`], as nothing is written without waiting for
    /// the disk, unless the log is best effort ([`OnFailure::GoOn`]) and there
    /// is room.
    fn try_accept(&self, event: &Event) -> Result<(), JournalError> {
        match self.on_failure() {
            OnFailure::Refuse => Err(JournalError::WouldWait),
            OnFailure::GoOn => match self.append_later(event) {
                Ok(false) => Err(JournalError::WouldWait),
                later => self.best_effort(later.map(drop), 1),
            },
        }
    }

    fn settle(&self, event: &Event, settlement: Settlement) {
        self.intake().settle(id_of(event), micros(event), settlement);
    }

    fn dead_letter(&self, letter: &DeadLetter) {
        self.intake().letter(LetterNews::died(letter));
    }

    fn letter_gone(&self, letter: &DeadLetter, end: LetterEnd) {
        self.intake().letter(LetterNews::gone(letter, end));
    }
}

impl EventLog {
    /// The bus goes on with events that are not written, if it is to.
    fn best_effort(
        &self,
        result: Result<(), WriteError>,
        events: usize,
    ) -> Result<(), JournalError> {
        match (result, self.on_failure()) {
            (Ok(()), _) => Ok(()),
            (Err(_), OnFailure::GoOn) => {
                Counters::add(&self.intake().counters.lost, events);
                Ok(())
            }
            (Err(error), OnFailure::Refuse) => Err(error.into()),
        }
    }
}

impl From<WriteError> for JournalError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Closed => Self::Closed,
            WriteError::Fault(_)
            | WriteError::Panicked
            | WriteError::Unstamped { .. }
            | WriteError::Event { .. } => Self::Failed(Box::new(error)),
        }
    }
}
