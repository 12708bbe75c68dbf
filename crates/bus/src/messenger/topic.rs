//! [`Topic`]: coordination among those who follow it.

use std::{fmt, sync::Arc};

use swarmbus_core::Event;
use tokio_util::sync::DropGuard;

use super::{
    JoinError, Listen, Messenger,
    handlers::{Handle, Table},
    identity,
    message::Scope,
    receive::Receiver,
};
use crate::transport::{Channel, TransportError, TransportPublishError};

/// A topic that a messenger follows, to elect, to vote, to agree. Dropping it
/// ends that.
///
/// ```
/// use std::sync::Arc;
/// use swarmbus::{Event, messenger::{Message, Messenger}, transport::MemoryTransport};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let transport = Arc::new(MemoryTransport::new());
/// # let a = Messenger::join(transport.clone(), "a", "a-1").await?;
/// # let b = Messenger::join(transport, "b", "b-1").await?;
/// let (cast, mut votes) = tokio::sync::mpsc::unbounded_channel();
/// let election = b.topic("election").await?;
/// let _listening = election.on("vote.*").handle(move |message: &Message| {
///     cast.send(message.agent().map(str::to_owned))
/// })?;
///
/// a.topic("election").await?.send(Event::of("vote.cast", "b-1")).await?;
/// assert_eq!(votes.recv().await.unwrap().as_deref(), Some("a-1"));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it ends it"]
pub struct Topic {
    messenger: Messenger,
    channel: Channel,
    table: Arc<Table<Handle>>,
    _reading: DropGuard,
}

impl Topic {
    pub(super) async fn follow(messenger: &Messenger, name: &str) -> Result<Self, JoinError> {
        let hub = &messenger.hub;
        let channel = identity::channel("topic", name)?.with_mode(hub.mode);
        let table = Arc::<Table<Handle>>::default();
        // Ends with the messenger, or before.
        let ending = hub.closing.child_token();
        let receiver = Receiver {
            hub: Arc::clone(hub),
            channel: channel.clone(),
            scope: Scope::Topic,
            table: Arc::clone(&table),
            options: hub.options(&channel),
        };
        receiver.start(ending.clone()).await?;
        let messenger = messenger.clone();
        Ok(Self { messenger, channel, table, _reading: ending.drop_guard() })
    }

    /// Sends an event to everybody else who follows the topic.
    ///
    /// # Errors
    ///
    /// As [`Messenger::send`].
    pub async fn send(&self, event: Event) -> Result<(), TransportPublishError> {
        let hub = &self.messenger.hub;
        if hub.closing.is_cancelled() {
            return Err(TransportPublishError::new(event, TransportError::Closed));
        }
        hub.send(&self.channel, event).await
    }

    /// Handles what others send whose type a pattern matches.
    pub fn on(&self, pattern: &str) -> Listen<'_> {
        Listen { table: &self.table, pattern: pattern.to_owned(), scopes: vec![Scope::Topic] }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.channel.name())
    }
}
