//! [`Messenger`]: agents of several processes talk to each other, over any
//! [`Transport`].
//!
//! ```
//! use std::sync::Arc;
//! use swarmbus::{Event, messenger::{Message, Messenger, To}, transport::MemoryTransport};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let transport = Arc::new(MemoryTransport::new()); // or the one of swarmbus-redis
//! let scout = Messenger::join(transport.clone(), "scouts", "scout-1").await?;
//! let builder = Messenger::join(transport, "builders", "builder-1").await?;
//!
//! let (found, mut finds) = tokio::sync::mpsc::unbounded_channel();
//! let _listening = builder.on("site.*").handle(move |message: &Message| {
//!     let from = message.agent().unwrap_or("somebody").to_owned();
//!     found.send(format!("{from} says {}", message.event.text().unwrap_or("nothing")))
//! })?;
//!
//! scout.send(&To::swarm("builders")?, Event::of("site.found", "behind the hill")).await?;
//! assert_eq!(finds.recv().await.unwrap(), "scout-1 says behind the hill");
//! # Ok(())
//! # }
//! ```
//!
//! A request is answered, or ends in an error that says why not:
//!
//! ```
//! # use std::sync::Arc;
//! # use swarmbus::{Event, messenger::{Message, Messenger, To}, transport::MemoryTransport};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let transport = Arc::new(MemoryTransport::new());
//! # let scout = Messenger::join(transport.clone(), "scouts", "scout-1").await?;
//! # let builder = Messenger::join(transport, "builders", "builder-1").await?;
//! let _answering = builder.respond("stock.asked", async |_: Message| Ok::<_, String>("12 planks"))?;
//! let answer = scout.request(&To::agent("builder-1")?, Event::of("stock.asked", ())).await?;
//! assert_eq!(answer.text(), Some("12 planks"));
//! # Ok(())
//! # }
//! ```
//!
//! # Who gets what
//!
//! | to | who gets it | channel |
//! | --- | --- | --- |
//! | [`To::swarm`] | every agent of that swarm | `swarm:NAME` |
//! | [`To::agent`] | that agent | `agent:NAME` |
//! | [`To::broadcast`] | every agent of every other swarm | `broadcast` |
//! | [`To::tasks`] | one of those who [`work`](Messenger::work) on the queue | `tasks:NAME`, a group channel |
//! | [`Messenger::topic`] | everybody else who follows the topic | `topic:NAME` |
//! | an answer | the messenger that asked | `reply:NODE`, always live |
//!
//! A messenger never gets what it sent itself. Messages are live, or, if
//! [asked for](MessengerBuilder::durable), durable. On a server, each channel's
//! keys have its name in braces (`swarmbus:{swarm:NAME}:live`), so that a
//! cluster keeps them together.
//!
//! # Order
//!
//! One task reads each channel, and calls the handlers one after the other: a
//! handler that takes long holds up its channel, and fills the inbox. For work
//! that takes long, use a queue of tasks or [bridge](crate::Bus::bridge) to a
//! bus. Answers are made in tasks of their own.
//!
//! # Metrics
//!
//! | metric | kind | what it says |
//! | --- | --- | --- |
//! | `transport_gaps_total` | counter | gaps in what was received, by `reason` |
//! | `transport_missed_events_total` | counter | events missing in them, as far as known, by `reason` |

mod bridged;
mod builder;
mod handlers;
mod history;
mod hub;
mod identity;
mod listen;
mod message;
mod receive;
mod request;
mod respond;
mod stats;
mod topic;
mod work;

use std::{fmt, sync::Arc, time::Duration};

use swarmbus_core::Event;
use tokio::sync::watch;

use self::hub::Hub;
use crate::transport::{ConnectionState, Transport, TransportError, TransportPublishError};

pub(crate) use self::{bridged::GapsTold, hub::OnGap};
pub use builder::{MessengerBuilder, Positions};
pub use handlers::{ListenError, Listening};
pub use history::Passed;
pub use identity::{Identity, MAX_NAME_LEN, NameError, To};
pub use listen::Listen;
pub use message::{Message, Scope};
pub use request::{Refusal, RequestError};
pub use stats::MessengerStats;
pub use topic::Topic;
pub use work::{WorkOptions, Worker};

/// An agent of a swarm on a transport. Clones are handles to the same one; it
/// ends with the last, or with [`close`](Self::close).
#[derive(Clone)]
pub struct Messenger {
    hub: Arc<Hub>,
    _alive: Arc<CloseOnDrop>,
}

/// Why nobody has joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A handler was not taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The transport could not subscribe.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

struct CloseOnDrop(Arc<Hub>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.closing.cancel();
    }
}

impl Messenger {
    /// Joins as an agent of a swarm, with the defaults: see
    /// [`MessengerBuilder::join`].
    ///
    /// # Errors
    ///
    /// See [`JoinError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn join(
        transport: Arc<dyn Transport>,
        swarm: &str,
        agent: &str,
    ) -> Result<Self, JoinError> {
        let identity = Identity::new(swarm, agent)?;
        Self::builder(transport, identity).join().await
    }

    /// Settings first, then [`join`](MessengerBuilder::join).
    pub fn builder(transport: Arc<dyn Transport>, identity: Identity) -> MessengerBuilder {
        MessengerBuilder::new(transport, identity)
    }

    fn of(hub: &Arc<Hub>) -> Self {
        Self { hub: Arc::clone(hub), _alive: Arc::new(CloseOnDrop(Arc::clone(hub))) }
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.hub.identity
    }

    /// Sends an event. It returns when the transport has it: see
    /// [`Transport::publish`].
    ///
    /// An event without an id and a timestamp gets them.
    ///
    /// # Errors
    ///
    /// The event, with the sender's mark, and the cause.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the event was sent or not.
    pub async fn send(&self, to: &To, event: Event) -> Result<(), TransportPublishError> {
        if self.hub.closing.is_cancelled() {
            return Err(TransportPublishError::new(event, TransportError::Closed));
        }
        self.hub.send(&to.channel(self.hub.mode), to.address(event)).await
    }

    /// Sends an event to every agent of every other swarm.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn broadcast(&self, event: Event) -> Result<(), TransportPublishError> {
        self.send(&To::broadcast(), event).await
    }

    /// Follows a topic: a channel on which those who care coordinate, of
    /// whichever swarm.
    ///
    /// # Errors
    ///
    /// See [`JoinError`].
    pub async fn topic(&self, name: &str) -> Result<Topic, JoinError> {
        if self.hub.closing.is_cancelled() {
            return Err(TransportError::Closed.into());
        }
        Topic::follow(self, name).await
    }

    /// Waits until the other side has everything that was sent: see
    /// [`Transport::flush`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn flush(&self) -> Result<(), TransportError> {
        self.hub.transport.flush().await
    }

    /// The last messages, sent and received, oldest first: 100 unless
    /// [`history`](MessengerBuilder::history) says otherwise.
    pub fn history(&self) -> Vec<Passed> {
        self.hub.history.all()
    }

    /// What was done so far.
    pub fn stats(&self) -> MessengerStats {
        self.hub.counts.read()
    }

    /// Where this messenger is in its durable channels: after the last message
    /// whose handlers have returned. To be saved, and given to
    /// [`resume`](MessengerBuilder::resume) after a restart.
    pub fn positions(&self) -> Positions {
        self.hub.positions()
    }

    /// How the transport's connection is.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.hub.transport.state()
    }

    /// Ends the messenger, for all its handles: nothing is received or sent any
    /// more, and requests that wait end as [`RequestError::Closed`]. Waits at
    /// most for `limit` until handlers, answers and tasks at work are done, which
    /// are then dropped, and until the transport has sent everything; `false` if
    /// that was not enough. The transport stays open. A handler that closes its
    /// own messenger waits for itself.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, what is at work is dropped.
    pub async fn close(&self, limit: Duration) -> bool {
        self.hub.closing.cancel();
        self.hub.pending.close();
        let mut tasks = std::mem::take(&mut *self.hub.tasks.lock());
        let end = async {
            while tasks.join_next().await.is_some() {}
            self.hub.transport.flush().await
        };
        matches!(tokio::time::timeout(limit, end).await, Ok(Ok(())))
    }
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Messenger({})", self.hub.identity)
    }
}

#[cfg(test)]
mod tests;
