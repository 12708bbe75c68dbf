//! [`Transport`]: how events get from one bus to another.
//!
//! A transport carries events between swarms over named [`Channel`]s, each of
//! one of three [`Mode`]s. The bus does not know how: this trait is all it
//! sees, and the `conformance` module (feature `test-util`) is what every
//! implementation must pass. [`MemoryTransport`] joins buses of one process.
//!
//! ```
//! use swarmbus::Event;
//! use swarmbus::transport::{Channel, Incoming, MemoryTransport, SubscribeOptions, Transport};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let transport = MemoryTransport::new();
//! let news = Channel::live("swarm-b")?;
//! let mut inbox = transport.subscribe(&news, SubscribeOptions::new()).await?;
//! transport.publish(&news, Event::of("task.created", "resize image 17")).await?;
//! let Some(Incoming::Event(received)) = inbox.next().await else { panic!("closed") };
//! assert_eq!(received.event.text(), Some("resize image 17"));
//! # Ok(())
//! # }
//! ```
//!
//! A subscriber of a durable channel goes on where it was:
//!
//! ```
//! # use swarmbus::Event;
//! # use swarmbus::transport::{Channel, Incoming, MemoryTransport, SubscribeOptions, Transport};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let transport = MemoryTransport::new();
//! let orders = Channel::durable("orders")?;
//! for n in 1..=3 {
//!     transport.publish(&orders, Event::of("order.placed", n.to_string())).await?;
//! }
//! let mut inbox = transport.subscribe(&orders, SubscribeOptions::new().from_beginning()).await?;
//! let first = inbox.next().await.and_then(Incoming::event).expect("the first");
//! let saved = first.position().expect("durable events have one").to_string();
//! drop(inbox); // the program ends, and is started again
//!
//! let mut inbox = transport.subscribe(&orders, SubscribeOptions::new().after(saved.parse()?)).await?;
//! let second = inbox.next().await.and_then(Incoming::event).expect("the second");
//! assert_eq!(second.event.text(), Some("2"));
//! # Ok(())
//! # }
//! ```
//!
//! A task goes to one worker of a group, and comes again until it is done:
//!
//! ```
//! # use std::time::Duration;
//! # use swarmbus::Event;
//! # use swarmbus::transport::{Channel, Incoming, MemoryTransport, SubscribeOptions, Transport};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let transport = MemoryTransport::new();
//! let images = Channel::group("images")?;
//! transport.publish(&images, Event::of("image.resize", "17")).await?;
//!
//! let mut worker = transport.subscribe(&images, SubscribeOptions::new().group("resizers")).await?;
//! let task = worker.next().await.and_then(Incoming::event).expect("a task");
//! assert!(!task.redelivered());
//! task.nack(Duration::ZERO); // it went wrong
//!
//! let task = worker.next().await.and_then(Incoming::event).expect("the task again");
//! assert_eq!((task.event.text(), task.deliveries()), (Some("17"), 2));
//! task.ack();
//! # Ok(())
//! # }
//! ```

mod channel;
#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod inbox;
mod incoming;
mod memory;
mod options;
mod position;

use async_trait::async_trait;
use swarmbus_core::{Event, Timestamp};
use tokio::sync::watch;

pub use channel::{Channel, ChannelError, Mode};
pub use error::{Cause, ConnectionState, TransportError, TransportPublishError, Unsupported};
pub use inbox::{Feed, Inbox};
pub use incoming::{Ack, EntryId, Gap, GapReason, Incoming, Received, Settle, Verdict};
pub use memory::{MemoryBuilder, MemoryTransport};
pub use options::{Start, SubscribeOptions};
pub use position::{ParsePositionError, Position};

/// Carries events over channels.
///
/// # The contract
///
/// - **Who gets it.** *Live* and *durable*: every subscriber of the channel,
///   once each. *Group*: one subscriber of each group, and again until it is
///   acknowledged. Subscribers of other channels never. An event is carried
///   whole, with its id, and unchanged.
/// - **From when.** A subscriber gets what is published after `subscribe` has
///   returned, and before that what [`SubscribeOptions::start`] asks for.
/// - **Order.** Events that one task publishes to one channel, one after the
///   other, arrive in that order at each subscriber. All subscribers of a
///   durable channel see one order. A task that comes again comes out of order.
/// - **How often.** *Live*: at most once. *Durable*: once, as long as the
///   channel keeps it. *Group*: at least once, and marked as
///   [redelivered](Received::redelivered) if more; a task that was delivered
///   [`max_deliveries`](SubscribeOptions::max_deliveries) times without being
///   acknowledged is a [dead letter](Self::dead_letters).
/// - **Losses show.** What a subscriber missed comes as one
///   [`Incoming::Gap`] in the place where it is missing. In a durable channel
///   always; in a live one if [`Features::reports_gaps`] says so.
/// - **Slow subscribers.** An inbox is bounded, and a full one makes nobody else
///   wait, neither subscribers nor publishers. A live one misses events, a
///   durable one reads them later, a group gives them to others.
/// - **Accepted is not sent.** `publish` returns when the transport has the
///   event: it may wait with others in a bounded buffer. `flush` returns when
///   the other side has it, and says if that failed.
/// - **Errors.** A failed publish hands the event back and has reached
///   nobody, or is counted as published: never half of it.
/// - **Close.** After `close` has returned, everything fails with
///   [`TransportError::Closed`]; inboxes give what they hold and then end. A
///   second `close` does nothing. Dropping an inbox unsubscribes.
/// - **Cancel safety.** A `publish` that is dropped has published the event
///   or has not. `Inbox::next` may be dropped and called again and loses
///   nothing.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// What this one promises.
    fn features(&self) -> Features;

    /// How the connection is, and when that changes.
    fn state(&self) -> watch::Receiver<ConnectionState>;

    /// Publishes an event. Waits while as much waits to be sent as may.
    ///
    /// # Errors
    ///
    /// The event and the cause.
    async fn publish(&self, channel: &Channel, event: Event) -> Result<(), TransportPublishError>;

    /// Publishes all events of a vector, in order and as few packets as
    /// possible. Events are moved out of the front of `batch` as they are
    /// accepted.
    ///
    /// # Errors
    ///
    /// The cause that stopped it. What was not accepted is still in `batch`.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, what was not accepted is still in `batch`.
    async fn publish_batch(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError>;

    /// Publishes events and waits until the other side has them: less than
    /// [`flush`](Self::flush), which waits for what others published, too.
    ///
    /// This default asks `flush`, and may not see a loss that somebody else is
    /// told of at the same time: a transport where that can be has one of its own.
    ///
    /// # Errors
    ///
    /// The cause. The events of which it is not certain that they got there are
    /// still in `batch`: some or all, the last ones. Some of them may have got
    /// there.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, they may or may not have been published.
    async fn publish_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        let copies = batch.clone();
        let confirmed = match self.publish_batch(channel, batch).await {
            Ok(()) => self.flush().await,
            refused => refused,
        };
        if confirmed.is_err() {
            *batch = copies;
        }
        confirmed
    }

    /// Publishes an event to a durable or group channel unless it was published
    /// with this key before; `false` if it was. Returns when the other side has
    /// it, so that one who got no answer may ask again with the same key. How
    /// long keys are remembered is a setting of the transport.
    ///
    /// # Errors
    ///
    /// The event and the cause, [`TransportError::Unsupported`] for live
    /// channels.
    async fn publish_once(
        &self,
        channel: &Channel,
        key: &str,
        event: Event,
    ) -> Result<bool, TransportPublishError>;

    /// Waits until the other side has everything that was accepted before, and
    /// every answer to a task.
    ///
    /// # Errors
    ///
    /// [`TransportError::Lost`] if events did not get there since the last
    /// flush, or what keeps them from it.
    async fn flush(&self) -> Result<(), TransportError>;

    /// Begins to listen to a channel.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    async fn subscribe(
        &self,
        channel: &Channel,
        options: SubscribeOptions,
    ) -> Result<Inbox, TransportError>;

    /// The last `count` events of a durable channel, oldest first, fewer if it
    /// keeps fewer.
    ///
    /// # Errors
    ///
    /// [`TransportError::Unsupported`] for other channels, and see there.
    async fn history(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<Received>, TransportError>;

    /// The last `count` tasks of a group channel that were given up, oldest
    /// first. How many are kept is a setting of the transport.
    ///
    /// # Errors
    ///
    /// [`TransportError::Unsupported`] for other channels, and see there.
    async fn dead_letters(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<DeadTask>, TransportError>;

    /// Sends what waits, as far as that is possible at once, and ends all
    /// subscriptions.
    async fn close(&self);
}

/// In what transports differ, as data that tests can ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// It has live channels.
    pub live: bool,
    /// It has durable channels.
    pub durable: bool,
    /// It has group channels.
    pub group: bool,
    /// Events that a live subscriber missed are told as [`Incoming::Gap`].
    pub reports_gaps: bool,
    /// Subscribers may be in other processes.
    pub crosses_processes: bool,
}

impl Features {
    /// Whether there are channels of this mode.
    pub fn has(&self, mode: Mode) -> bool {
        match mode {
            Mode::Live => self.live,
            Mode::Durable => self.durable,
            Mode::Group => self.group,
        }
    }
}

/// A task that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadTask {
    /// The task, as it was published.
    pub event: Event,
    /// The group that did not manage it.
    pub group: String,
    /// How often it was delivered.
    pub deliveries: u32,
    /// When it was given up.
    pub at: Timestamp,
}
