//! [`Parcel`]: one event on its way out, and who learns what became of it.

use swarmbus_core::{Event, Priority};
use tokio::sync::oneshot;

use super::BridgeSendError;
use crate::{
    handler::HandlerError,
    ledger::Outcome,
    pipeline::{detached::Detached, layered::Failure},
    queue::lanes::Waits,
};

/// One event on its way out, for one rule.
pub(super) struct Parcel {
    /// The number of the rule.
    pub(super) rule: usize,
    pub(super) owner: Owner,
    /// A number that grows from one parcel to the next.
    pub(super) since: u64,
}

/// Who learns what became of it.
pub(super) enum Owner {
    /// A match of the bus, and how it went before.
    Match(Detached, Option<Failure>),
    /// A caller that waits.
    Caller(Event, oneshot::Sender<Result<(), BridgeSendError>>),
}

impl Parcel {
    pub(super) fn new(rule: usize, owner: Owner) -> Self {
        Self { rule, owner, since: 0 }
    }

    pub(super) fn event(&self) -> &Event {
        match &self.owner {
            Owner::Match(call, _) => call.event(),
            Owner::Caller(event, _) => event,
        }
    }

    pub(super) fn priority(&self) -> Priority {
        self.event().priority()
    }

    /// Ends it unsent, for good.
    pub(super) fn refuse(self, error: BridgeSendError) {
        match self.owner {
            Owner::Match(call, before) => {
                let tries = before.map_or(0, |before| before.tries());
                call.give_up(Box::new(HandlerError::Failed(Box::new(error))), tries);
            }
            // A caller that is gone does not mind.
            Owner::Caller(_, told) => drop(told.send(Err(error))),
        }
    }

    /// Ends it as something that no handler did.
    pub(super) fn end_as(self, outcome: Outcome, otherwise: BridgeSendError) {
        match self.owner {
            Owner::Match(call, before) => call.end_as(outcome, before),
            Owner::Caller(_, told) => drop(told.send(Err(otherwise))),
        }
    }

    /// Ends it with the bus.
    pub(super) fn cut_off(self) {
        match self.owner {
            Owner::Match(call, _) => call.cut_off(),
            Owner::Caller(_, told) => drop(told.send(Err(BridgeSendError::Closed))),
        }
    }
}

impl Waits for Option<Parcel> {
    fn since(&self) -> u64 {
        self.as_ref().map_or(0, |parcel| parcel.since)
    }
}
