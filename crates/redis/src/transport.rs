//! [`RedisTransport`]: a [`Transport`] over one Redis server.

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
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    builder::{ConnectError, RedisBuilder},
    connection::{Link, LinkState},
    dialer::Dialer,
    duties::PublisherDuty,
    error::ConnectionError,
    live::{LiveCarrier, mode::Live},
    meter,
    probe::Probe,
    publisher::Publisher,
    settings::Settings,
    streams::Streams,
    subscriber::Subscriber,
};

/// Joins swarms through a Redis or Valkey server.
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
    settings: Settings,
    publishing: Link,
    subscriber: Arc<Subscriber>,
    publisher: Publisher,
    live: Arc<Live>,
    /// Made when the first channel of such a mode is used, because its
    /// connections are its own; `None` after the transport was closed before.
    streams: OnceLock<Option<Streams>>,
    dialer: Arc<Dialer>,
    builder: RedisBuilder,
    probe: Arc<Probe>,
    state: watch::Sender<ConnectionState>,
    /// Ends the tasks.
    _alive: DropGuard,
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
        let (settings, batching) = (builder.settings.clone(), builder.batching);
        meter::describe();
        let dialer = Arc::new(Dialer::new(settings.clone())?);
        // One after the other, so that a wrong password is tried once.
        let duty = Arc::new(PublisherDuty::new(Arc::clone(&dialer)));
        let publishing = Link::connect(Arc::clone(&dialer), duty).await?;
        let subscriber = Arc::new(Subscriber::connect(Arc::clone(&dialer)).await?);
        let probe = Arc::new(Probe::start(publishing.clone(), &subscriber).await?);
        let publisher = Publisher::start(publishing.clone(), Arc::new(LiveCarrier), batching);
        let live = Arc::new(Live::new(Arc::clone(&subscriber)));
        let state = watch::Sender::new(ConnectionState::Connected);
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            settings,
            publishing,
            subscriber,
            publisher,
            live,
            streams: OnceLock::new(),
            dialer,
            builder,
            probe,
            state,
            _alive: end.clone().drop_guard(),
        });
        tokio::spawn(end.clone().run_until_cancelled_owned(shared.watch_states()));
        tokio::spawn(end.run_until_cancelled_owned(shared.look_after()));
        Ok(Self { shared })
    }

    /// Publishes on a channel of its own and waits until that comes back: how
    /// long an event takes to the server and from there. For health checks.
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
        self.shared.probe.ping(self.shared.settings.response_timeout).await
    }

    /// Closes the transport, sends what waits for as long as `patience`, and
    /// returns what is left: events that the server does not have.
    ///
    /// Dropped in the middle, the transport takes nothing more, and may be
    /// closed again.
    pub async fn close_within(&self, patience: Duration) -> Vec<(Channel, Event)> {
        let shared = &self.shared;
        let mut left = shared.publisher.close(patience).await;
        if let Some(streams) = shared.streams.get_or_init(|| None) {
            for publisher in streams.publishers() {
                left.extend(publisher.close(patience).await);
            }
            // Answers to tasks, as far as they can be sent.
            let _ = timeout(patience, streams.groups.flush()).await;
            streams.close();
        }
        shared.live.close();
        shared.subscriber.close();
        shared.publishing.close();
        shared.state.send_replace(ConnectionState::Closed);
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
            Mode::Durable | Mode::Group => self.streams()?.delete(channel).await,
        }
    }

    fn streams(&self) -> Result<&Streams, TransportError> {
        let Shared { streams, dialer, subscriber, builder, .. } = &*self.shared;
        let start = || {
            let RedisBuilder { batching, retention, limits, .. } = *builder;
            Some(Streams::start(dialer, subscriber, batching, retention, limits))
        };
        streams.get_or_init(start).as_ref().ok_or(TransportError::Closed)
    }

    fn publisher(&self, mode: Mode) -> Result<&Publisher, TransportError> {
        match mode {
            Mode::Live => Ok(&self.shared.publisher),
            mode => Ok(self.streams()?.publisher(mode).unwrap_or(&self.shared.publisher)),
        }
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
        self.shared.state.subscribe()
    }

    async fn publish(&self, channel: &Channel, event: Event) -> Result<(), TransportPublishError> {
        match self.publisher(channel.mode()) {
            Ok(publisher) => publisher.publish(channel, event).await,
            Err(cause) => Err(TransportPublishError::new(event, cause)),
        }
    }

    async fn publish_batch(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.publisher(channel.mode())?.publish_batch(channel, batch).await
    }

    async fn publish_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.publisher(channel.mode())?.publish_confirmed(channel, batch).await
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
            let streams = self.streams()?;
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
        let live = self.shared.publisher.flush().await;
        let Some(streams) = self.shared.streams.get().and_then(Option::as_ref) else {
            return live;
        };
        // Each is asked, also when another failed: what was lost is told once.
        let [durable, group] = streams.publishers();
        let (durable, group) = (durable.flush().await, group.flush().await);
        live.and(durable).and(group).and(streams.groups.flush().await)
    }

    async fn subscribe(
        &self,
        channel: &Channel,
        options: SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        options.check(channel.mode())?;
        match channel.mode() {
            Mode::Live => self.shared.live.subscribe(channel, &options).await,
            Mode::Durable => self.streams()?.durable.subscribe(channel, &options).await,
            Mode::Group => self.streams()?.groups.subscribe(channel, &options).await,
        }
    }

    async fn history(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<Received>, TransportError> {
        match channel.mode() {
            Mode::Durable => self.streams()?.durable.history(channel, count).await,
            mode => Err(TransportError::Unsupported(Unsupported::History(mode))),
        }
    }

    async fn dead_letters(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<DeadTask>, TransportError> {
        match channel.mode() {
            Mode::Group => self.streams()?.groups.dead_letters(channel, count).await,
            mode => Err(TransportError::Unsupported(Unsupported::DeadLetters(mode))),
        }
    }

    async fn close(&self) {
        // As far as that is possible at once: without a connection, not at all.
        let connected = self.shared.publishing.error().is_none();
        let patience =
            if connected { self.shared.settings.response_timeout } else { Duration::ZERO };
        drop(self.close_within(patience).await);
    }
}

impl Shared {
    /// Makes one state of those of all connections.
    fn watch_states(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut publishing, mut subscribing) =
            (self.publishing.state(), self.subscriber.link().state());
        let state = self.state.clone();
        async move {
            loop {
                let worst = {
                    let (a, b) = (publishing.borrow_and_update(), subscribing.borrow_and_update());
                    if a.is_connected() { b.clone() } else { a.clone() }
                };
                state.send_if_modified(|state| {
                    let news = !matches!(state, ConnectionState::Closed);
                    if news {
                        *state = public(worst);
                    }
                    news
                });
                tokio::select! {
                    Ok(()) = publishing.changed() => {}
                    Ok(()) = subscribing.changed() => {}
                    else => return,
                }
            }
        }
    }

    /// What has to be done every few seconds.
    fn look_after(&self) -> impl Future<Output = ()> + Send + use<> {
        let (probe, live) = (Arc::clone(&self.probe), Arc::clone(&self.live));
        let positions = self.publisher.positions();
        async move {
            let each_time = || {
                live.sweep();
                positions.send();
            };
            probe.run(each_time).await;
        }
    }
}

/// What the program sees of a connection's state.
fn public(state: LinkState) -> ConnectionState {
    match state {
        LinkState::Connecting => ConnectionState::Connecting,
        LinkState::Connected => ConnectionState::Connected,
        LinkState::Disconnected { since, error } => {
            ConnectionState::Disconnected { since, error: Arc::new(error) }
        }
        LinkState::Closed => ConnectionState::Closed,
    }
}

impl fmt::Debug for RedisTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTransport")
            .field("settings", &self.shared.settings)
            .field("state", &*self.shared.state.borrow())
            .field("publisher", &self.shared.publisher)
            .finish_non_exhaustive()
    }
}
