//! A call whose handler is a queue to somewhere else: what the owner of the
//! queue asks the layers, in place of the call itself.
//!
//! The layers are the same and in the same order: breaker, retry, dead letter.
//! There is no task for each call, and calls stay in the order of their events.

use std::time::Duration;

use swarmbus_core::{Event, Timestamp, breaker::Permit};

use super::{breaker, dead_letter, detached::Detached, layered::Failure};
use crate::{
    handler::{Careful, HandlerError},
    ledger::Outcome,
};

/// What the layers say after a try that failed.
pub(crate) enum After {
    /// The call has ended.
    Ended,
    /// It is to be tried again after this long.
    Again(Duration, Detached, Failure),
}

/// Why a call may not be tried.
pub(crate) enum NotNow {
    /// Nobody wants it any more.
    Expired,
    /// The breaker is open.
    Open { retry_after: Duration },
}

impl Detached {
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// A call begins: the budget for retries is a share of them.
    pub(crate) fn begun(&self) {
        if let Some(retry) = self.layers().and_then(|layers| layers.retry.as_ref()) {
            retry.begin();
        }
    }

    /// Leave for one try, to be resolved with [`leave`](Self::leave).
    ///
    /// # Errors
    ///
    /// See [`NotNow`].
    pub(crate) fn enter(&self, now: Timestamp) -> Result<Option<Permit<'_>>, NotNow> {
        if self.event.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(NotNow::Expired);
        }
        let named = self.matched.breaker.as_deref();
        breaker::enter(named, self.event.priority(), &self.host.clock)
            .map_err(|rejected| NotNow::Open { retry_after: rejected.retry_after })
    }

    pub(crate) fn leave(&self, permit: Option<Permit<'_>>, success: bool) {
        breaker::leave(permit, self.matched.breaker.as_deref(), success, &self.host.clock);
    }

    /// Ends it as this. What failed before and may not be tried again is a
    /// failure all the same.
    pub(crate) fn end_as(mut self, outcome: Outcome, before: Option<Failure>) {
        let outcome = match (outcome, before) {
            (Outcome::Expired, Some(failure)) => self.call().failed(failure),
            (outcome, _) => outcome,
        };
        self.end(outcome);
    }

    /// One try failed: asks for another.
    pub(crate) fn fail(mut self, error: Box<HandlerError>, before: Option<&Failure>) -> After {
        let tries = before.map_or(0, |before| before.tries) + 1;
        let failure = Failure { error: Careful(Some(error)), tries };
        let again = self.layers().and_then(|layers| self.call().again(layers, &failure));
        match again {
            Some(delay) => After::Again(delay, self, failure),
            None => {
                let outcome = self.call().failed(failure);
                self.end(outcome);
                After::Ended
            }
        }
    }

    /// Ends it as a failure, after that many tries.
    pub(crate) fn give_up(mut self, error: Box<HandlerError>, tries: u32) {
        let outcome = dead_letter::keep(self.call(), error, tries);
        self.end(outcome);
    }

    /// Ends it because the bus is being shut down and time is up: its event is
    /// in the report.
    pub(crate) fn cut_off(self) {
        self.host.detached.cut_off.lock().push(self.event.clone());
    }
}
