//! [`MemoryTransport`]: buses of one process.

mod live;
mod log;
mod queue;
mod settings;

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc};

use ahash::RandomState;
use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;
use swarmbus_core::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{log::Log, queue::Queue, settings::Settings};
use super::{
    Channel, ConnectionState, DeadTask, Features, Feed, Inbox, Mode, Received, SubscribeOptions,
    Transport, TransportError, TransportPublishError, Unsupported,
};

pub use settings::MemoryBuilder;

/// Joins the buses of one process, for tests and for swarms that need no
/// server.
///
/// Clones share their channels. A durable channel keeps its newest events, and
/// a group channel refuses tasks when one of its groups is behind by as many:
/// see [`MemoryBuilder`]. Nothing survives the process.
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    channels: Mutex<Channels>,
    settings: Settings,
    state: watch::Sender<ConnectionState>,
    /// Ends the tasks that feed subscribers.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Channels {
    live: HashMap<Channel, Vec<Feed>, RandomState>,
    logs: HashMap<Channel, Log, RandomState>,
    queues: HashMap<Channel, Queue, RandomState>,
    /// What was published with a key.
    keys: LruCache<(Channel, String), (), RandomState>,
    /// Live subscriptions, those that are gone and not noticed yet included.
    live_subscriptions: usize,
    closed: bool,
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTransport {
    /// Live subscriptions of all channels together.
    pub const MAX_SUBSCRIPTIONS: usize = 100_000;
    /// Durable and group channels, and subscriptions or groups of one of them.
    pub const MAX_CHANNELS: usize = 10_000;
    /// Keys that [`publish_once`](Transport::publish_once) remembers.
    pub const MAX_KEYS: usize = 10_000;

    /// A transport of its own, with the defaults.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets how much is kept.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    fn with(settings: Settings) -> Self {
        // With a capacity, it would reserve all of that now.
        let mut keys = LruCache::unbounded_with_hasher(RandomState::default());
        keys.resize(NonZeroUsize::new(Self::MAX_KEYS).unwrap_or(NonZeroUsize::MIN));
        let channels = Channels {
            live: HashMap::default(),
            logs: HashMap::default(),
            queues: HashMap::default(),
            keys,
            live_subscriptions: 0,
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                channels: Mutex::new(channels),
                settings,
                state: watch::Sender::new(ConnectionState::Connected),
                closed: CancellationToken::new(),
            }),
        }
    }

    /// What cannot be accepted stays in the vector.
    fn put(&self, channel: &Channel, events: &mut Vec<Event>) -> Result<(), TransportError> {
        let mut channels = self.shared.channels.lock();
        channels.open()?;
        channels.put(channel, events, &self.shared.settings)
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn features(&self) -> Features {
        Features {
            live: true,
            durable: true,
            group: true,
            reports_gaps: true,
            crosses_processes: false,
        }
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.subscribe()
    }

    async fn publish(&self, channel: &Channel, event: Event) -> Result<(), TransportPublishError> {
        let mut one = vec![event];
        self.put(channel, &mut one).map_err(|cause| refused(one, cause))
    }

    async fn publish_batch(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.put(channel, batch)
    }

    async fn publish_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.put(channel, batch)
    }

    async fn publish_once(
        &self,
        channel: &Channel,
        key: &str,
        event: Event,
    ) -> Result<bool, TransportPublishError> {
        if channel.mode() == Mode::Live {
            let cause = TransportError::Unsupported(Unsupported::Once(Mode::Live));
            return Err(TransportPublishError::new(event, cause));
        }
        let mut one = vec![event];
        let mut channels = self.shared.channels.lock();
        let key = (channel.clone(), key.to_owned());
        let put = channels.open().and_then(|()| {
            if channels.keys.get(&key).is_some() {
                return Ok(false);
            }
            channels.put(channel, &mut one, &self.shared.settings)?;
            channels.keys.put(key, ());
            Ok(true)
        });
        put.map_err(|cause| refused(one, cause))
    }

    async fn flush(&self) -> Result<(), TransportError> {
        let mut channels = self.shared.channels.lock();
        channels.open()?;
        channels.queues.values_mut().for_each(Queue::settle);
        Ok(())
    }

    async fn subscribe(
        &self,
        channel: &Channel,
        options: SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        options.check(channel.mode())?;
        match channel.mode() {
            Mode::Live => self.shared.subscribe_live(channel, &options),
            Mode::Durable => log::subscribe(&self.shared, channel, &options),
            Mode::Group => queue::subscribe(&self.shared, channel, &options),
        }
    }

    async fn history(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<Received>, TransportError> {
        if channel.mode() != Mode::Durable {
            return Err(TransportError::Unsupported(Unsupported::History(channel.mode())));
        }
        let channels = self.shared.channels.lock();
        channels.open()?;
        Ok(channels.logs.get(channel).map_or_else(Vec::new, |log| log.last(count)))
    }

    async fn dead_letters(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<DeadTask>, TransportError> {
        if channel.mode() != Mode::Group {
            return Err(TransportError::Unsupported(Unsupported::DeadLetters(channel.mode())));
        }
        let channels = self.shared.channels.lock();
        channels.open()?;
        Ok(channels.queues.get(channel).map_or_else(Vec::new, |queue| queue.dead(count)))
    }

    async fn close(&self) {
        let mut channels = self.shared.channels.lock();
        channels.closed = true;
        channels.live.clear();
        channels.live_subscriptions = 0;
        drop(channels);
        self.shared.closed.cancel();
        self.shared.state.send_replace(ConnectionState::Closed);
    }
}

fn refused(mut one: Vec<Event>, cause: TransportError) -> TransportPublishError {
    let event = one.pop().unwrap_or_else(|| unreachable!("an event that was refused is there"));
    TransportPublishError::new(event, cause)
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Channels {
    fn open(&self) -> Result<(), TransportError> {
        if self.closed { Err(TransportError::Closed) } else { Ok(()) }
    }

    fn put(
        &mut self,
        channel: &Channel,
        events: &mut Vec<Event>,
        settings: &Settings,
    ) -> Result<(), TransportError> {
        match channel.mode() {
            Mode::Live => self.put_live(channel, events),
            Mode::Durable => self.log(channel, settings)?.put(events),
            Mode::Group => return self.queue(channel, settings)?.put(events),
        }
        Ok(())
    }

    /// The log of a durable channel, made if there is none.
    fn log(&mut self, channel: &Channel, settings: &Settings) -> Result<&mut Log, TransportError> {
        room_for_one(&self.logs, channel)?;
        Ok(self.logs.entry(channel.clone()).or_insert_with(|| Log::new(settings)))
    }

    /// The queue of a group channel, made if there is none.
    fn queue(
        &mut self,
        channel: &Channel,
        settings: &Settings,
    ) -> Result<&mut Queue, TransportError> {
        room_for_one(&self.queues, channel)?;
        Ok(self.queues.entry(channel.clone()).or_insert_with(|| Queue::new(settings)))
    }
}

fn room_for_one<T>(
    map: &HashMap<Channel, T, RandomState>,
    channel: &Channel,
) -> Result<(), TransportError> {
    let limit = MemoryTransport::MAX_CHANNELS;
    if map.len() >= limit && !map.contains_key(channel) {
        return Err(TransportError::TooMany { limit });
    }
    Ok(())
}

#[cfg(all(test, feature = "test-util"))]
mod tests;
