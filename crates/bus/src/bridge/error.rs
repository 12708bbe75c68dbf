//! What can go wrong with a bridge.

use swarmbus_core::codec::limits::MAX_HOP_LEN;

use crate::{error::SubscribeError, messenger::ListenError, transport::TransportError};

/// Why there is no bridge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The bridge's name is a place in the path of events.
    #[error("the name of a bridge is 1 to {MAX_HOP_LEN} bytes long, not {0}")]
    Name(usize),
    /// The bus did not take a rule.
    #[error(transparent)]
    Send(#[from] SubscribeError),
    /// The messenger did not take a rule.
    #[error(transparent)]
    Receive(#[from] ListenError),
}

/// Why an event was not sent: the source of the
/// [`HandlerError`](crate::HandlerError) of its dead letter.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeSendError {
    /// The transport did not take it.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The transport did not take it in time.
    #[error("sending took too long")]
    TimedOut,
    /// As much waits as may.
    #[error("the bridge's queue is full")]
    Full,
    /// It came in through this bridge.
    #[error("the event came in through this bridge")]
    Looped,
    /// Its deadline passed while it waited.
    #[error("the event's deadline has passed")]
    Expired,
    /// The bridge was closed.
    #[error("the bridge is closed")]
    Closed,
}
