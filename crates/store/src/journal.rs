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
};

#[async_trait]
impl Journal for EventLog {
    async fn accept(&self, events: &[Event]) -> Result<(), JournalError> {
        Ok(self.append(events).await?)
    }

    /// [`JournalError::WouldWait`], as nothing is written without waiting for
    /// the disk, unless the log is best effort ([`OnFailure::GoOn`]) and there
    /// is room.
    fn try_accept(&self, event: &Event) -> Result<(), JournalError> {
        let later = match self.on_failure() {
            OnFailure::Refuse => false,
            OnFailure::GoOn => self.append_later(event)?,
        };
        if later { Ok(()) } else { Err(JournalError::WouldWait) }
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
