//! What can go wrong with a transport, and how its connection is.

use std::{error::Error, sync::Arc};

use swarmbus_core::{Event, Timestamp};

use super::Mode;

/// What an implementation knows about a failure: its own error type, to be had
/// back by `downcast_ref`.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a transport did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It was closed.
    #[error("the transport is closed")]
    Closed,
    /// There is no connection, and waiting for one is over.
    #[error("not connected: {0}")]
    Disconnected(#[source] Cause),
    /// The other side is there and does not do it.
    #[error("refused: {0}")]
    Refused(#[source] Cause),
    /// What has to wait to be sent is as much as may wait, or a channel is
    /// full of tasks that nobody has done.
    #[error("too much is waiting already")]
    Full,
    /// It took too long; what became of it is not known.
    #[error("there was no answer in time")]
    TimedOut,
    /// The event cannot be carried, by size for example.
    #[error("the event cannot be carried: {0}")]
    Unfit(#[source] Cause),
    /// This transport, or this mode, does not do such things: see
    /// [`Features`](super::Features).
    #[error("{0}")]
    Unsupported(Unsupported),
    /// The name of a group or consumer is empty, too long, or has white space
    /// or control characters.
    #[error("a group or consumer cannot be called {0:?}")]
    Name(String),
    /// Too many subscriptions, channels or groups.
    #[error("there are {limit} already, which is the limit")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// Events that were taken to be sent were lost on the way: the answer of
    /// [`flush`](super::Transport::flush).
    #[error("{events} events were not sent: {cause}")]
    Lost {
        /// How many since the last flush.
        events: u64,
        /// What happened to the last of them.
        #[source]
        cause: Box<Self>,
    },
}

impl TransportError {
    /// Whether the same call may succeed later without anybody changing it.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Disconnected(_)
            | Self::Full
            | Self::TimedOut
            | Self::TooMany { .. }
            | Self::Lost { .. } => true,
            Self::Closed
            | Self::Refused(_)
            | Self::Unfit(_)
            | Self::Unsupported(_)
            | Self::Name(_) => false,
        }
    }
}

/// What a transport, or a mode, does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// Channels of this mode.
    #[error("this transport has no {0} channels")]
    Mode(Mode),
    /// Beginning to read there.
    #[error("a {0} channel cannot be read from there")]
    Start(Mode),
    /// Looking at what was published before.
    #[error("a {0} channel keeps no history")]
    History(Mode),
    /// Publishing with a key.
    #[error("a {0} channel cannot tell whether an event was published before")]
    Once(Mode),
    /// Dead letters.
    #[error("a {0} channel has no dead letters")]
    DeadLetters(Mode),
}

/// Why an event was not sent, with the event.
#[derive(Debug, thiserror::Error)]
#[error("{} was not sent: {cause}", event.ty())]
pub struct TransportPublishError {
    /// The event, unchanged.
    pub event: Box<Event>,
    /// What stood in the way.
    #[source]
    pub cause: TransportError,
}

impl TransportPublishError {
    /// An event and what stood in its way.
    pub fn new(event: Event, cause: TransportError) -> Self {
        Self { event: Box::new(event), cause }
    }
}

/// How a transport's connection is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It has not been there yet.
    Connecting,
    /// All is well.
    Connected,
    /// It is gone and being made again.
    Disconnected {
        /// Since when.
        since: Timestamp,
        /// Why the last try failed.
        error: Cause,
    },
    /// The transport was closed.
    Closed,
}

impl ConnectionState {
    /// Whether all is well.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}
