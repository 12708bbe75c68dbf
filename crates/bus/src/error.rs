//! What can go wrong: one enum for each operation.

use std::time::Duration;

use swarmbus_core::{
    Event, EventType, Timestamp, event::EventTypeError, overflow::Reason, router::PatternError,
};

use crate::{handler::HandlerError, journal::JournalError, pipeline::policy::PolicyError};

/// Why an event was not published. It is handed back in
/// [`PublishError::event`].
#[derive(Debug, thiserror::Error)]
#[error("{} was not published: {cause}", event.ty())]
pub struct PublishError {
    /// The event, as it was given (middleware may have changed it).
    pub event: Box<Event>,
    /// What stood in the way.
    pub cause: PublishCause,
}

/// What stood in the way of a publish.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishCause {
    /// The queue is full. From `publish` this comes only to a handler of the
    /// same bus, which may not wait and has used up the reserve.
    #[error("the queue is full")]
    Full,
    /// Everything that waits is at least as urgent as this event, and the
    /// queue is full ([`Overflow::DropLowestPriority`](crate::Overflow)).
    #[error("the queue is full of events that are at least as urgent")]
    Outranked,
    /// The rate is limited because of an overload
    /// ([`Overflow::AdaptiveRate`](crate::Overflow)). `publish` waits instead,
    /// except in a handler.
    #[error("the rate is limited while the overload lasts, try again in {retry_after:?}")]
    RateLimited {
        /// When the event would be taken if nobody else asked before.
        retry_after: Duration,
    },
    /// The bus is shutting down.
    #[error("the bus is closed")]
    Closed,
    /// Middleware refused it.
    #[error("refused by middleware: {0}")]
    Refused(String),
    /// The journal has to wait for its disk, and `try_publish` may not: use
    /// `publish`.
    #[error("the journal has to wait for its disk: use publish, which waits")]
    JournalWouldWait,
    /// The journal could not write it down, and says why.
    #[error("the journal did not take it: {0}")]
    Journal(String),
}

impl PublishCause {
    /// Whether the same event may be taken later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Full
            | Self::Outranked
            | Self::RateLimited { .. }
            | Self::JournalWouldWait
            | Self::Journal(_) => true,
            Self::Closed | Self::Refused(_) => false,
        }
    }
}

impl From<JournalError> for PublishCause {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::WouldWait => Self::JournalWouldWait,
            error => Self::Journal(error.to_string()),
        }
    }
}

impl From<Reason> for PublishCause {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Outranked => Self::Outranked,
            Reason::RateLimited { retry_after } => Self::RateLimited { retry_after },
            // `Full`, and what a later version may add.
            _ => Self::Full,
        }
    }
}

/// Why a batch was not published whole. What was not accepted is still in the
/// vector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{accepted} events were published, then: {cause}")]
pub struct BatchError {
    /// How many events from the front were accepted.
    pub accepted: usize,
    /// What stood in the way of the next one.
    pub cause: PublishCause,
}

/// Why an event was not dispatched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// The bus is shutting down.
    #[error("the bus is closed")]
    Closed,
    /// Middleware refused it.
    #[error("refused by middleware: {0}")]
    Refused(String),
    /// The journal could not write it down, and says why.
    #[error("the journal did not take it: {0}")]
    Journal(String),
    /// Handlers dispatch to each other without end.
    #[error("handlers dispatch inside each other more than {limit} deep")]
    TooDeep {
        /// How deep they may: [`MAX_NESTING`](crate::MAX_NESTING), or less where
        /// they need much of the stack.
        limit: u32,
    },
}

/// Why a subscription was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The pattern is not one.
    #[error("{pattern:?}: {source}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// The bus has as many handlers as it may.
    #[error("the bus has {limit} handlers, which is its limit")]
    TooMany {
        /// [`BusBuilder::max_handlers`](crate::BusBuilder::max_handlers).
        limit: usize,
    },
    /// The bus has as many named services as it may.
    #[error("the bus has breakers for {limit} services, which is its limit")]
    TooManyServices {
        /// [`BusBuilder::max_handlers`](crate::BusBuilder::max_handlers).
        limit: usize,
    },
    /// The command has a handler in this scope already.
    #[error("the command {command:?} has a handler in this scope already")]
    Taken {
        /// The command's type.
        command: EventType,
    },
    /// The command's type is not one.
    #[error("{command:?}: {source}")]
    Command {
        /// What was given.
        command: String,
        /// What is wrong with it.
        source: EventTypeError,
    },
    /// The settings of its layers contradict each other, or themselves.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The session has ended, or the bus is shutting down.
    #[error("the session or the bus has ended")]
    Ended,
}

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Neither the session nor the bus handles this command.
    #[error("nobody handles the command {command:?}")]
    NoHandler {
        /// The command's type.
        command: EventType,
    },
    /// The handler's breaker is open.
    #[error("the breaker of {command:?} is open, try again in {retry_after:?}")]
    Rejected {
        /// The command's type.
        command: EventType,
        /// When the breaker lets the next call through.
        retry_after: Duration,
    },
    /// The handler failed or panicked.
    #[error("the command {command:?} failed: {source}")]
    Failed {
        /// The command's type.
        command: EventType,
        /// How.
        source: HandlerError,
    },
    /// Middleware refused it.
    #[error("refused by middleware: {0}")]
    Refused(String),
    /// Its deadline has passed.
    #[error("the deadline of the command has passed")]
    Expired,
    /// It needs an approval, and somebody said no.
    #[error("the command {command:?} was denied by {by}: {reason}")]
    Denied {
        /// The command's type.
        command: EventType,
        /// Who.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
    /// It needs an approval, and nobody answered in time.
    #[error("nobody approved the command {command:?} until {at}")]
    Unanswered {
        /// The command's type.
        command: EventType,
        /// When the time was over.
        at: Timestamp,
    },
    /// It needs an approval, and too many wait for one.
    #[error("{limit} commands wait for an approval, or for their changes to be told")]
    TooManyApprovals {
        /// [`ApprovalConfig::capacity`](crate::approval::ApprovalConfig::capacity).
        limit: usize,
    },
    /// The bus is shutting down.
    #[error("the bus is closed")]
    Closed,
    /// It waits for the turn of a handler that cannot have done before this
    /// command is answered, as the chain of those who wait for each other leads
    /// back to it: see [`Bus::on_command_in_turn`](crate::Bus::on_command_in_turn).
    #[error("a command waits for itself: {}", chain.join(" → "))]
    Cycle {
        /// Who waits for this command, outermost first, and its own name.
        chain: Vec<String>,
    },
    /// Handlers execute commands inside each other without end.
    #[error("handlers call each other more than {limit} deep")]
    TooDeep {
        /// How deep they may: [`MAX_NESTING`](crate::MAX_NESTING), or less where
        /// they need much of the stack.
        limit: u32,
    },
}

/// Why a bus could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The workers are tokio tasks.
    #[error("a bus is built inside a tokio runtime: call build() from an async function")]
    NoRuntime,
    /// A service whose settings make no sense.
    #[error("the service {name:?}: {source}")]
    Service {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// A number that makes no sense.
    #[error("{setting} must be {must}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it must be.
        must: &'static str,
    },
}
