//! [`Partition`]: everything that a transport has for one server, or for one of
//! the partitions of a cluster.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{
    Event,
    transport::{Channel, ConnectionState, Mode, TransportError},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    builder::RedisBuilder,
    connection::{Link, LinkState},
    dialer::Dialer,
    duties::PublisherDuty,
    error::{ConnectionError, both},
    live::{LiveCarrier, mode::Live},
    probe::Probe,
    publisher::Publisher,
    streams::Streams,
    subscriber::Subscriber,
};

pub(crate) struct Partition {
    publishing: Link,
    subscriber: Arc<Subscriber>,
    publisher: Publisher,
    pub(crate) live: Arc<Live>,
    /// Made when the first channel of such a mode is used, because its
    /// connections are its own; `None` after the transport was closed before.
    streams: OnceLock<Option<Streams>>,
    dialer: Arc<Dialer>,
    builder: RedisBuilder,
    pub(crate) probe: Arc<Probe>,
    states: Arc<States>,
    /// Ends the tasks.
    _alive: DropGuard,
}

impl Partition {
    /// Connects, and fails if the first try fails.
    pub(crate) async fn connect(
        dialer: Arc<Dialer>,
        builder: &RedisBuilder,
        states: &Arc<States>,
    ) -> Result<Self, ConnectionError> {
        // One after the other, so that a wrong password is tried once.
        let duty = Arc::new(PublisherDuty::new(Arc::clone(&dialer)));
        let publishing = Link::connect(Arc::clone(&dialer), duty).await?;
        let subscriber = Arc::new(Subscriber::connect(Arc::clone(&dialer)).await?);
        let (probe, acknowledged) = Probe::start(publishing.clone(), &subscriber);
        acknowledged.within(dialer.settings.response_timeout).await?;
        Ok(Self::with(dialer, builder, states, publishing, subscriber, probe))
    }

    /// Connects in the background.
    pub(crate) fn start(dialer: Arc<Dialer>, builder: &RedisBuilder, states: &Arc<States>) -> Self {
        let duty = Arc::new(PublisherDuty::new(Arc::clone(&dialer)));
        let publishing = Link::start(Arc::clone(&dialer), duty);
        let subscriber = Arc::new(Subscriber::start(Arc::clone(&dialer)));
        let (probe, _) = Probe::start(publishing.clone(), &subscriber);
        Self::with(dialer, builder, states, publishing, subscriber, probe)
    }

    fn with(
        dialer: Arc<Dialer>,
        builder: &RedisBuilder,
        states: &Arc<States>,
        publishing: Link,
        subscriber: Arc<Subscriber>,
        probe: Probe,
    ) -> Self {
        let carrier = Arc::new(LiveCarrier::new(&dialer));
        let publisher = Publisher::start(publishing.clone(), carrier, builder.batching);
        let live = Arc::new(Live::new(Arc::clone(&subscriber)));
        let end = CancellationToken::new();
        let partition = Self {
            publishing,
            subscriber,
            publisher,
            live,
            streams: OnceLock::new(),
            dialer,
            builder: builder.clone(),
            probe: Arc::new(probe),
            states: Arc::clone(states),
            _alive: end.clone().drop_guard(),
        };
        states.watch(&partition.publishing);
        states.watch(partition.subscriber.link());
        tokio::spawn(end.run_until_cancelled_owned(partition.look_after()));
        partition
    }

    pub(crate) fn streams(&self) -> Result<&Streams, TransportError> {
        let Self { streams, dialer, subscriber, builder, states, .. } = self;
        let start = || {
            let RedisBuilder { batching, retention, limits, .. } = *builder;
            let streams = Streams::start(dialer, subscriber, batching, retention, limits);
            streams.links().into_iter().for_each(|link| states.watch(link));
            Some(streams)
        };
        streams.get_or_init(start).as_ref().ok_or(TransportError::Closed)
    }

    pub(crate) fn publisher(&self, mode: Mode) -> Result<&Publisher, TransportError> {
        match mode {
            Mode::Live => Ok(&self.publisher),
            mode => Ok(self.streams()?.publisher(mode).unwrap_or(&self.publisher)),
        }
    }

    /// See [`Transport::flush`](swarmbus::transport::Transport::flush).
    pub(crate) async fn flush(&self) -> Result<(), TransportError> {
        let live = self.publisher.flush().await;
        let Some(streams) = self.streams.get().and_then(Option::as_ref) else { return live };
        // Each is asked, also when another failed: what was lost is told once.
        let [durable, group] = streams.publishers();
        let (durable, group) = (durable.flush().await, group.flush().await);
        both(both(both(live, durable), group), streams.groups.flush().await)
    }

    /// What keeps it from publishing, as far as is known.
    pub(crate) fn error(&self) -> Option<ConnectionError> {
        self.publishing.error()
    }

    /// See [`RedisTransport::close_within`](crate::RedisTransport::close_within).
    pub(crate) async fn close_within(&self, patience: Duration) -> Vec<(Channel, Event)> {
        let mut left = self.publisher.close(patience).await;
        if let Some(streams) = self.streams.get_or_init(|| None) {
            for publisher in streams.publishers() {
                left.extend(publisher.close(patience).await);
            }
            // Answers to tasks, as far as they can be sent.
            let _ = timeout(patience, streams.groups.flush()).await;
            streams.close();
        }
        self.live.close();
        self.subscriber.close();
        self.publishing.close();
        left
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

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

/// The states of connections, and what the program sees of them: those that bring
/// live events, and those of durable and group channels as soon as there are any.
/// Workers have one more each, which is not looked at.
#[derive(Debug)]
pub(crate) struct States {
    each: Mutex<Vec<ConnectionState>>,
    pub(crate) all: watch::Sender<ConnectionState>,
}

impl States {
    pub(crate) fn new() -> Self {
        Self { each: Mutex::default(), all: watch::Sender::new(ConnectionState::Connected) }
    }

    /// Takes part in the state from now on, until it is closed.
    fn watch(self: &Arc<Self>, link: &Link) {
        let (mut state, states, place) = (link.state(), Arc::clone(self), self.place());
        tokio::spawn(async move {
            loop {
                states.report(place, public(state.borrow_and_update().clone()));
                if state.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn place(&self) -> usize {
        let mut each = self.each.lock();
        each.push(ConnectionState::Connecting);
        each.len() - 1
    }

    fn report(&self, place: usize, state: ConnectionState) {
        // Under the lock, so that the last word is the last.
        let mut each = self.each.lock();
        if let Some(known) = each.get_mut(place) {
            *known = state;
        }
        let down = |state: &&ConnectionState| matches!(state, ConnectionState::Disconnected { .. });
        let worst = each
            .iter()
            .find(down)
            // One that is made while others are at work is no bad news.
            .or_else(|| each.iter().find(|state| state.is_connected()))
            .or_else(|| each.first());
        if let Some(worst) = worst.cloned() {
            self.all.send_if_modified(|all| {
                let news = !matches!(all, ConnectionState::Closed);
                if news {
                    *all = worst;
                }
                news
            });
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
