//! [`RedisTransport`]: a [`Transport`] over a Redis server, or a cluster.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use swarmbus::{
    Event,
    transport::{
        Channel, ConnectionState, DeadTask, Features, Inbox, Mode, Received, SubscribeOptions,
        Transport, TransportError, TransportPublishError, Unsupported,
    },
};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    builder::{ConnectError, RedisBuilder},
    cluster::slots::{TAGS, partition_of},
    dialer::Dialer,
    error::{ConnectionError, both},
    meter,
    partition::{Partition, States},
    publisher::Publisher,
    settings::Settings,
    streams::Streams,
};

/// Joins swarms through a Redis or Valkey server, or a cluster of them.
///
/// Clones share everything. It connects again without end when a connection
/// breaks, with growing delays. When the last clone is dropped, what still
/// waits to be sent is dropped too: [`close`](Transport::close) it, or
/// [`close_within`](Self::close_within) to have that back.
///
/// ```
/// use swarmbus::Event;
/// use swarmbus::transport::{Channel, Incoming, SubscribeOptions, Transport};
/// use swarmbus_redis::RedisTransport;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = swarmbus_redis::local::Server::start()?;
/// # let url = server.url();
/// let transport = RedisTransport::connect(&url).await?; // redis://127.0.0.1:6379
/// let news = Channel::live("swarm-b")?;
/// let mut inbox = transport.subscribe(&news, SubscribeOptions::new()).await?;
/// transport.publish(&news, Event::of("task.created", "resize image 17")).await?;
/// let Some(Incoming::Event(received)) = inbox.next().await else { panic!("closed") };
/// assert_eq!(received.event.text(), Some("resize image 17"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisTransport {
    shared: Arc<Shared>,
}

struct Shared {
    builder: RedisBuilder,
    dialer: Dialer,
    /// One for a server. Of a cluster, each is made when its first channel is
    /// used; `None` after the transport was closed before.
    partitions: Vec<OnceLock<Option<Arc<Partition>>>>,
    states: Arc<States>,
}

impl RedisTransport {
    /// Connects to the server at a URL with the default settings; see
    /// [`Settings::new`] for its form.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder(Settings::new(url)?).connect().await
    }

    /// Settings first.
    pub fn builder(settings: Settings) -> RedisBuilder {
        RedisBuilder::new(settings)
    }

    pub(crate) async fn with(builder: RedisBuilder) -> Result<Self, ConnectError> {
        meter::describe();
        let dialer = Dialer::new(builder.settings.clone())?;
        let (states, first) = (Arc::new(States::new()), Arc::new(dialer.clone()));
        let first = Partition::connect(first, &builder, &states).await?;
        let count = if dialer.is_sharded() { TAGS.len() } else { 1 };
        let mut partitions: Vec<_> = (1..count).map(|_| OnceLock::new()).collect();
        partitions.insert(0, OnceLock::from(Some(Arc::new(first))));
        Ok(Self { shared: Arc::new(Shared { builder, dialer, partitions, states }) })
    }

    /// Publishes on a channel of its own and waits until that comes back: how
    /// long an event takes to the server and from there. For health checks. In a
    /// cluster to every node that is in use, of which the slowest counts.
    ///
    /// ```
    /// # use swarmbus::{Bus, health::{Check, Health}};
    /// # use swarmbus_redis::RedisTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = swarmbus_redis::local::Server::start()?;
    /// # let transport = RedisTransport::connect(&server.url()).await?;
    /// # let bus = Bus::builder().build()?;
    /// let health = Health::builder().start(&bus)?;
    /// let redis = transport.clone();
    /// health.register(Check::readiness("redis", move || {
    ///     let redis = redis.clone();
    ///     async move { redis.ping().await.map(|_| ()) }
    /// }))?;
    /// health.wait_until_passing().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong with the connection, after the response timeout at the
    /// latest.
    pub async fn ping(&self) -> Result<Duration, ConnectionError> {
        let patience = self.shared.builder.settings.response_timeout;
        let mut pings = JoinSet::new();
        for partition in self.shared.started() {
            pings.spawn(async move { partition.probe.ping(patience).await });
        }
        let mut slowest = Ok(Duration::ZERO);
        while let Some(Ok(ping)) = pings.join_next().await {
            slowest = slowest.and_then(|slowest| Ok(ping?.max(slowest)));
        }
        slowest
    }

    /// Closes the transport, sends what waits for as long as `patience`, and
    /// returns what is left: events that the server does not have. Of those that
    /// are on their way at that moment nobody knows: they are counted as lost
    /// (`reason="unknown"`) and not returned.
    ///
    /// Dropped in the middle, the transport takes nothing more, and may be
    /// closed again.
    pub async fn close_within(&self, patience: Duration) -> Vec<(Channel, Event)> {
        let mut closing = JoinSet::new();
        for partition in &self.shared.partitions {
            if let Some(partition) = partition.get_or_init(|| None).clone() {
                closing.spawn(async move { partition.close_within(patience).await });
            }
        }
        let mut left = Vec::new();
        while let Some(closed) = closing.join_next().await {
            left.extend(closed.unwrap_or_default());
        }
        self.shared.states.all.send_replace(ConnectionState::Closed);
        left
    }

    /// Deletes what the server keeps of a durable or group channel; of a live
    /// one it keeps nothing. Subscribers that are there see a
    /// [gap](swarmbus::transport::GapReason::NewEpoch) when it is published to
    /// again. Keys of `publish_once` stay until they are forgotten.
    ///
    /// ```
    /// # use swarmbus::Event;
    /// # use swarmbus::transport::{Channel, Transport};
    /// # use swarmbus_redis::RedisTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = swarmbus_redis::local::Server::start()?;
    /// # let transport = RedisTransport::connect(&server.url()).await?;
    /// let orders = Channel::durable("orders")?;
    /// transport.publish(&orders, Event::of("order.placed", "17")).await?;
    /// transport.flush().await?;
    /// transport.delete(&orders).await?;
    /// assert!(transport.history(&orders, 10).await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`TransportError`]. Some of it may be deleted then; it may be called
    /// again.
    pub async fn delete(&self, channel: &Channel) -> Result<(), TransportError> {
        match channel.mode() {
            Mode::Live => Ok(()),
            Mode::Durable | Mode::Group => self.streams(channel)?.delete(channel).await,
        }
    }

    fn partition(&self, channel: &Channel) -> Result<&Partition, TransportError> {
        let Shared { builder, dialer, partitions, states } = &*self.shared;
        let number = if partitions.len() > 1 { partition_of(channel.name()) } else { 0 };
        let partition = partitions.get(number).and_then(|partition| {
            let start = || {
                let dialer = Arc::new(dialer.partition(number)?);
                Some(Arc::new(Partition::start(dialer, builder, states)))
            };
            partition.get_or_init(start).as_deref()
        });
        partition.ok_or(TransportError::Closed)
    }

    fn streams(&self, channel: &Channel) -> Result<&Streams, TransportError> {
        self.partition(channel)?.streams()
    }

    fn publisher(&self, channel: &Channel) -> Result<&Publisher, TransportError> {
        self.partition(channel)?.publisher(channel.mode())
    }
}

#[async_trait]
impl Transport for RedisTransport {
    fn features(&self) -> Features {
        Features {
            live: true,
            durable: true,
            group: true,
            reports_gaps: true,
            crosses_processes: true,
        }
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.states.all.subscribe()
    }

    async fn publish(&self, channel: &Channel, event: Event) -> Result<(), TransportPublishError> {
        match self.publisher(channel) {
            Ok(publisher) => publisher.publish(channel, event).await,
            Err(cause) => Err(TransportPublishError::new(event, cause)),
        }
    }

    async fn publish_batch(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.publisher(channel)?.publish_batch(channel, batch).await
    }

    async fn publish_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.publisher(channel)?.publish_confirmed(channel, batch).await
    }

    async fn publish_once(
        &self,
        channel: &Channel,
        key: &str,
        event: Event,
    ) -> Result<bool, TransportPublishError> {
        let mode = channel.mode();
        let ready = async {
            if mode == Mode::Live {
                return Err(TransportError::Unsupported(Unsupported::Once(mode)));
            }
            let streams = self.streams(channel)?;
            if let Some(publisher) = streams.publisher(mode) {
                // What was published before comes before.
                publisher.drained().await?;
            }
            Ok(streams)
        };
        match ready.await {
            Err(cause) => Err(TransportPublishError::new(event, cause)),
            Ok(streams) if mode == Mode::Group => {
                streams.groups.publish_once(channel, key, event).await
            }
            Ok(streams) => streams.durable.publish_once(channel, key, event).await,
        }
    }

    async fn flush(&self) -> Result<(), TransportError> {
        let mut flushing = JoinSet::new();
        for partition in self.shared.started() {
            flushing.spawn(async move { partition.flush().await });
        }
        // Each is waited for, also when another failed: what was lost is told once.
        let mut flushed = Ok(());
        while let Some(each) = flushing.join_next().await {
            flushed = both(flushed, each.unwrap_or(Err(TransportError::Closed)));
        }
        flushed
    }

    async fn subscribe(
        &self,
        channel: &Channel,
        options: SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        options.check(channel.mode())?;
        match channel.mode() {
            Mode::Live => self.partition(channel)?.live.subscribe(channel, &options).await,
            Mode::Durable => self.streams(channel)?.durable.subscribe(channel, &options).await,
            Mode::Group => self.streams(channel)?.groups.subscribe(channel, &options).await,
        }
    }

    async fn history(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<Received>, TransportError> {
        match channel.mode() {
            Mode::Durable => self.streams(channel)?.durable.history(channel, count).await,
            mode => Err(TransportError::Unsupported(Unsupported::History(mode))),
        }
    }

    async fn dead_letters(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<DeadTask>, TransportError> {
        match channel.mode() {
            Mode::Group => self.streams(channel)?.groups.dead_letters(channel, count).await,
            mode => Err(TransportError::Unsupported(Unsupported::DeadLetters(mode))),
        }
    }

    async fn close(&self) {
        // As far as that is possible at once: without a connection, not at all.
        let connected = self.shared.started().all(|partition| partition.error().is_none());
        let patience = self.shared.builder.settings.response_timeout;
        drop(self.close_within(if connected { patience } else { Duration::ZERO }).await);
    }
}

impl Shared {
    fn started(&self) -> impl Iterator<Item = Arc<Partition>> {
        self.partitions.iter().filter_map(|partition| partition.get()?.clone())
    }
}

impl fmt::Debug for RedisTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTransport")
            .field("settings", &self.shared.builder.settings)
            .field("state", &*self.shared.states.all.borrow())
            .field("partitions", &self.shared.started().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
