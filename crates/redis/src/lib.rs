//! swarmbus-redis joins swarms of several processes through Redis.
//!
//! ```
//! use swarmbus::Event;
//! use swarmbus::transport::{Channel, SubscribeOptions, Transport};
//! use swarmbus_redis::RedisTransport;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = swarmbus_redis::local::Server::start()?;
//! # let url = server.url();
//! let here = RedisTransport::connect(&url).await?; // redis://127.0.0.1:6379
//! let there = RedisTransport::connect(&url).await?; // in another process
//!
//! let news = Channel::live("news")?;
//! let mut inbox = there.subscribe(&news, SubscribeOptions::new()).await?;
//! here.publish(&news, Event::of("task.created", "resize image 17")).await?;
//! let received = inbox.next().await.and_then(|incoming| incoming.event()).expect("an event");
//! assert_eq!(received.event.text(), Some("resize image 17"));
//!
//! here.flush().await?; // the server has everything
//! here.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! - [`RedisTransport`] is a [`Transport`](swarmbus::transport::Transport).
//! - [`Settings`] say where the server is and who asks: Redis or Valkey, 7.0 or
//!   newer, over TCP, TLS or a Unix socket, by its address or by its sentinels, or a
//!   cluster by some of its nodes. [`RedisBuilder`] has the rest.
//! - In a cluster, channels are divided among 64 partitions, evenly over the nodes.
//!   Slots that move and masters that fail are followed; messages stay on their node
//!   (SPUBLISH).
//! - Events that are published while others are on their way travel together:
//!   a lone event leaves at once, a busy connection carries hundreds in one
//!   message.
//! - Publisher and subscriber have connections of their own, which are made
//!   again without end. A connection that looks well and carries nothing is
//!   found by a probe that goes the way of every event.
//! - Everything that waits is bounded: see [`RedisBuilder::overflow`].
//! - What a live subscriber missed is a [`Gap`](swarmbus::transport::Gap): each
//!   publisher numbers the events of each channel. What got lost at the end
//!   shows within some seconds, by the number that the publisher sends when it
//!   falls silent. What a publisher sent before a subscriber first heard of it
//!   cannot be seen.
//! - A durable channel is a stream. What is published is appended and published
//!   by one script, so that subscribers see by offset and epoch whether they have
//!   all, and read the stream if not. Publishers send again what was not
//!   confirmed, and the script appends nothing twice.
//! - A group channel is a stream with consumer groups: Redis keeps who has which
//!   task and how often it was delivered.
//! - [`RedisState`] keeps state that all processes share, [`RedisLeases`] lets
//!   one of them do something.
//! - [`doctor::examine`] says whether a server is fit for all that.
//! - [`METRICS`] lists what is measured.

mod builder;
mod carrier;
mod channel;
mod cluster;
mod connection;
mod dialer;
pub mod doctor;
mod durable;
mod duties;
mod envelope;
mod error;
mod group;
mod lease;
mod live;
#[cfg(feature = "local")]
pub mod local;
mod meter;
mod outbox;
mod partition;
mod probe;
mod publisher;
mod reached;
mod script;
mod sentinel;
mod server;
mod settings;
mod state;
mod streams;
mod subscriber;
mod transport;
mod wire;

pub use builder::{ConnectError, RedisBuilder};
pub use error::ConnectionError;
pub use lease::RedisLeases;
pub use meter::METRICS;
pub use settings::{Settings, SettingsError};
pub use state::{OpenError, RedisState};
pub use transport::RedisTransport;

/// For the fuzz target: reads bytes as a connection does. The first says in pieces
/// of how many bytes they come.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn fuzz_wire(input: &[u8]) {
    if let Some((piece, bytes)) = input.split_first() {
        wire::check(bytes, || usize::from(*piece));
    }
}
