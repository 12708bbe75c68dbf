//! [`Transport`]: how events get from one bus to another.
//!
//! A transport carries events between swarms over named channels. The bus
//! does not know how: this trait is all it sees, and the `conformance` module
//! (feature `test-util`) is what
//! every implementation must pass. [`MemoryTransport`] joins buses of one
//! process.
//!
//! ```
//! use swarmbus::{Event, transport::{Incoming, MemoryTransport, Transport}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let transport = MemoryTransport::new();
//! let mut inbox = transport.subscribe("swarm-b").await?;
//! transport.publish("swarm-b", Event::of("task.created", "resize image 17")).await?;
//! let Some(Incoming::Event(event)) = inbox.next().await else { panic!("closed") };
//! assert_eq!(event.text(), Some("resize image 17"));
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "test-util")]
pub mod conformance;
mod memory;

use async_trait::async_trait;
use swarmbus_core::Event;
use tokio::sync::mpsc;

pub use memory::MemoryTransport;

/// Carries events over named channels.
///
/// # The contract
///
/// - **Who gets it.** Every subscriber that a channel has when `publish` is
///   called, once each; subscribers of other channels never. An event is
///   carried whole, with its id, and unchanged.
/// - **From when.** A subscriber gets what is published after `subscribe` has
///   returned.
/// - **Order.** Events that one task publishes to one channel, one after the
///   other, arrive in that order at each subscriber. Between tasks and
///   between channels there is no order.
/// - **Losses show.** What a subscriber missed comes as one
///   [`Incoming::Gap`] in the place where it is missing, if
///   [`Features::reports_gaps`] says so.
/// - **Slow subscribers.** An inbox is bounded. A full one never makes
///   another subscriber wait; whether it makes the publisher wait or loses
///   events is told by [`Features::waits_for_slow`].
/// - **Errors.** A failed publish hands the event back and has reached
///   nobody, or is counted as published: never half of it.
/// - **Close.** After `close` has returned, `publish` and `subscribe` fail
///   with [`TransportError::Closed`]; inboxes give what they hold and then
///   end. A second `close` does nothing. Dropping an inbox unsubscribes.
/// - **Cancel safety.** A `publish` that is dropped has published the event
///   or has not. `Inbox::next` may be dropped and called again and loses
///   nothing.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// What this one promises beyond the contract.
    fn features(&self) -> Features;

    /// Sends an event to all subscribers of a channel.
    ///
    /// # Errors
    ///
    /// The event and the cause.
    async fn publish(&self, channel: &str, event: Event) -> Result<(), TransportPublishError>;

    /// Begins to listen to a channel.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    async fn subscribe(&self, channel: &str) -> Result<Inbox, TransportError>;

    /// Ends all subscriptions.
    async fn close(&self);
}

/// In what transports differ, as data that tests can ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Lost events are told as [`Incoming::Gap`].
    pub reports_gaps: bool,
    /// A full inbox makes the publisher wait; if not, it loses events.
    pub waits_for_slow: bool,
    /// Events of a subscriber that is away are kept for its return.
    pub durable: bool,
    /// Subscribers may be in other processes.
    pub crosses_processes: bool,
}

/// What comes out of an [`Inbox`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Incoming {
    /// An event.
    Event(Event),
    /// Events are missing here.
    Gap {
        /// How many, at least.
        missed: u64,
    },
}

/// One subscription of a transport. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Inbox {
    incoming: mpsc::Receiver<Incoming>,
}

impl Inbox {
    /// An inbox and its other end, for those who implement a transport.
    pub fn channel(capacity: usize) -> (mpsc::Sender<Incoming>, Self) {
        let (sender, incoming) = mpsc::channel(capacity);
        (sender, Self { incoming })
    }

    /// What comes next; `None` after the transport was closed.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}

/// Why a transport did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It was closed.
    #[error("the transport is closed")]
    Closed,
    /// There is no connection, and waiting for one is over.
    #[error("not connected: {0}")]
    Disconnected(String),
    /// The event cannot be carried, by size for example.
    #[error("the event cannot be carried: {0}")]
    Unfit(String),
    /// Too many subscriptions.
    #[error("there are {limit} subscriptions, which is the limit")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
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
