//! [`RedisBuilder`]: the settings of a transport.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use swarmbus::Overflow;

use crate::{
    durable::Retention,
    error::ConnectionError,
    group::Limits,
    publisher::Batching,
    settings::{Settings, SettingsError},
    transport::RedisTransport,
};

/// Settings of a [`RedisTransport`], beside those of its connections. In a cluster
/// the limits of what waits hold for each of its partitions, which are 64, in so far
/// as it has channels in use.
///
/// | setting | default |
/// | --- | --- |
/// | [`batch_events`](Self::batch_events) | 512 |
/// | [`batch_bytes`](Self::batch_bytes) | 128 KiB |
/// | [`batch_delay`](Self::batch_delay) | none |
/// | [`buffer_events`](Self::buffer_events) | 65,536 in each mode |
/// | [`buffer_bytes`](Self::buffer_bytes) | 64 MiB in each mode |
/// | [`overflow`](Self::overflow) | [`Overflow::Reject`]: publishers wait |
/// | [`patience`](Self::patience) | 30 s |
/// | [`retention`](Self::retention) | 1,000,000 events of each durable channel |
/// | [`retention_time`](Self::retention_time) | a day after the last event |
/// | [`max_tasks`](Self::max_tasks) | 1,000,000 in each group channel |
/// | [`dead_letters`](Self::dead_letters) | 1,000 of each group channel |
/// | [`group_ttl`](Self::group_ttl) | 7 days |
/// | [`remember`](Self::remember) | a day |
#[derive(Clone, Debug)]
pub struct RedisBuilder {
    pub(crate) settings: Settings,
    pub(crate) batching: Batching,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
}

/// Why there is no transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The first connection could not be made. Later ones are tried without
    /// end.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl RedisBuilder {
    pub(crate) fn new(settings: Settings) -> Self {
        const fn size(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("not 0")
        }
        let batching = Batching {
            events: const { size(512) },
            bytes: const { size(128 << 10) },
            delay: Duration::ZERO,
            buffer_events: const { size(65_536) },
            buffer_bytes: const { size(64 << 20) },
            overflow: Overflow::Reject,
            patience: Duration::from_secs(30),
        };
        let (retention, limits) = (Retention::default(), Limits::default());
        Self { settings, batching, retention, limits }
    }

    /// The most events in one message on the way. 1 sends each by itself.
    #[must_use]
    pub fn batch_events(mut self, events: NonZeroUsize) -> Self {
        self.batching.events = events;
        self
    }

    /// The most bytes in one message that has more than one event.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.batching.bytes = bytes;
        self
    }

    /// How long a message that is not full waits for more events when nothing
    /// else is on its way. Without, a lone event leaves at once, and batches
    /// form while the connection is busy.
    #[must_use]
    pub fn batch_delay(mut self, delay: Duration) -> Self {
        self.batching.delay = delay;
        self
    }

    /// The most events that wait to be sent in each mode, while Redis is slow
    /// or away; in a cluster, for each of its 64 partitions that is used.
    #[must_use]
    pub fn buffer_events(mut self, events: NonZeroUsize) -> Self {
        self.batching.buffer_events = events;
        self
    }

    /// The most bytes that wait to be sent in each mode; in a cluster, for each of
    /// its 64 partitions that is used. An event that is larger waits alone.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.batching.buffer_bytes = bytes;
        self
    }

    /// What happens to events that find the buffer full. Those that a policy
    /// drops are counted, reported by `flush`, and in live channels a gap for
    /// subscribers.
    #[must_use]
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.batching.overflow = policy;
        self
    }

    /// How long `publish` waits for room in the buffer, and `flush` for a sign
    /// of progress, before they fail.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.batching.patience = patience;
        self
    }

    /// How many events a durable channel keeps: the newest, and some more,
    /// because the server forgets whole blocks of them.
    #[must_use]
    pub fn retention(mut self, events: NonZeroU64) -> Self {
        self.retention.events = events.get();
        self
    }

    /// How long a durable channel to which nothing is published keeps its
    /// events. What it had is remembered thirty times as long, so that a
    /// subscriber that comes back is told what it missed.
    #[must_use]
    pub fn retention_time(mut self, time: Duration) -> Self {
        self.retention.log = time;
        self.retention.meta = time.saturating_mul(30);
        self
    }

    /// How many tasks a group channel holds that some group has yet to do. When
    /// it is full, publishers to group channels wait.
    #[must_use]
    pub fn max_tasks(mut self, tasks: NonZeroU64) -> Self {
        self.limits.tasks = tasks.get();
        self
    }

    /// How many dead letters of each group channel are kept: the newest.
    #[must_use]
    pub fn dead_letters(mut self, tasks: NonZeroU64) -> Self {
        self.limits.dead_letters = tasks.get();
        self
    }

    /// A group that nobody worked for this long holds no tasks back any more.
    /// If it returns, what it missed is a gap.
    #[must_use]
    pub fn group_ttl(mut self, time: Duration) -> Self {
        self.limits.group = time;
        self
    }

    /// How long the server remembers what was published, to know it when it is
    /// sent again: keys of `publish_once`, and the last frame of each publisher.
    #[must_use]
    pub fn remember(mut self, time: Duration) -> Self {
        self.retention.known = time;
        self.limits.known = time;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(self) -> Result<RedisTransport, ConnectError> {
        RedisTransport::with(self).await
    }
}
