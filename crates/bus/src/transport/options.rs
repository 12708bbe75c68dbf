//! [`SubscribeOptions`]: from where, as whom, and how much at a time.

use std::{num::NonZeroUsize, time::Duration};

use super::{Mode, Position, TransportError, Unsupported};

/// Where a subscription begins to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// With what is published after [`subscribe`](super::Transport::subscribe)
    /// has returned.
    New,
    /// With the oldest event that the channel keeps.
    Beginning,
    /// With the event after this one. What is no longer there is a
    /// [`Gap`](super::Gap).
    After(Position),
}

/// How to subscribe. The default is right for most.
///
/// | setting | default | for |
/// | --- | --- | --- |
/// | [`start`](Self::start) | [`New`](Start::New); of a group that is made: [`Beginning`](Start::Beginning) | durable, group |
/// | [`group`](Self::group) | `workers` | group |
/// | [`consumer`](Self::consumer) | a name that nobody else has | group |
/// | [`capacity`](Self::capacity) | 8,192 events; in a group 256 tasks | all |
/// | [`max_deliveries`](Self::max_deliveries) | 5 | group |
/// | [`redeliver_after`](Self::redeliver_after) | 30 s | group |
///
/// ```
/// use swarmbus::transport::{Position, SubscribeOptions};
///
/// # let saved = Position { epoch: 1, term: 0, offset: 2 };
/// let resumed = SubscribeOptions::new().after(saved);
/// let worker = SubscribeOptions::new().group("resizers").consumer("host-1").max_deliveries(3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    start: Option<Start>,
    group: String,
    consumer: Option<String>,
    capacity: Option<NonZeroUsize>,
    max_deliveries: u32,
    redeliver_after: Duration,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            start: None,
            group: "workers".to_owned(),
            consumer: None,
            capacity: None,
            max_deliveries: 5,
            redeliver_after: Duration::from_secs(30),
        }
    }
}

impl SubscribeOptions {
    /// 8,192 events, for live and durable channels.
    pub const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(8_192).expect("not 0");

    /// 256 tasks, for group channels.
    pub const DEFAULT_TASKS: NonZeroUsize = NonZeroUsize::new(256).expect("not 0");

    /// Longest name of a group or consumer in bytes.
    pub const MAX_NAME_LEN: usize = 200;

    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to begin. A live channel has no past: anything but
    /// [`New`](Start::New) is refused. A group that exists goes on where it is.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Begins with the oldest event that is kept.
    #[must_use]
    pub fn from_beginning(self) -> Self {
        self.start(Start::Beginning)
    }

    /// Goes on after an event of which the position was saved.
    #[must_use]
    pub fn after(self, position: Position) -> Self {
        self.start(Start::After(position))
    }

    /// The group that shares the work. Each group gets every event.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = name.into();
        self
    }

    /// The name of this member of the group, for those who look at the server.
    /// No two members at work may have the same.
    #[must_use]
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = Some(name.into());
        self
    }

    /// The most events that wait in the inbox; in a group also the most tasks
    /// that this member has and has not answered.
    #[must_use]
    pub fn capacity(mut self, events: NonZeroUsize) -> Self {
        self.capacity = Some(events);
        self
    }

    /// A task that was delivered this often without success becomes a dead
    /// letter: see [`dead_letters`](super::Transport::dead_letters). 0 counts
    /// as 1.
    #[must_use]
    pub fn max_deliveries(mut self, times: u32) -> Self {
        self.max_deliveries = times.max(1);
        self
    }

    /// A task that its member has not answered for this long is given to
    /// another: longer than a task takes. At least 1 ms.
    #[must_use]
    pub fn redeliver_after(mut self, time: Duration) -> Self {
        self.redeliver_after = time.max(Duration::from_millis(1));
        self
    }

    /// For transports: checks what a channel of this mode cannot do, and names
    /// that nobody could write down.
    ///
    /// # Errors
    ///
    /// [`TransportError::Unsupported`] or [`TransportError::Name`].
    pub fn check(&self, mode: Mode) -> Result<(), TransportError> {
        let possible = match (mode, self.start) {
            (_, None | Some(Start::New)) | (Mode::Durable, _) => true,
            (Mode::Group, Some(Start::Beginning)) => true,
            (Mode::Live, Some(Start::Beginning | Start::After(_)))
            | (Mode::Group, Some(Start::After(_))) => false,
        };
        if !possible {
            return Err(TransportError::Unsupported(Unsupported::Start(mode)));
        }
        let name_is_good = |name: &str| {
            (1..=Self::MAX_NAME_LEN).contains(&name.len())
                && !name.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        let names = [Some(self.group.as_str()), self.consumer.as_deref()];
        match names.into_iter().flatten().find(|name| !name_is_good(name)) {
            Some(name) => Err(TransportError::Name(name.chars().take(64).collect())),
            None => Ok(()),
        }
    }

    /// For transports: where to begin, or `None` for what the mode does by
    /// itself.
    pub fn get_start(&self) -> Option<Start> {
        self.start
    }

    /// For transports: see [`group`](Self::group).
    pub fn get_group(&self) -> &str {
        &self.group
    }

    /// For transports: see [`consumer`](Self::consumer).
    pub fn get_consumer(&self) -> Option<&str> {
        self.consumer.as_deref()
    }

    /// For transports: see [`capacity`](Self::capacity).
    pub fn get_capacity(&self, mode: Mode) -> NonZeroUsize {
        self.capacity.unwrap_or(match mode {
            Mode::Live | Mode::Durable => Self::DEFAULT_CAPACITY,
            Mode::Group => Self::DEFAULT_TASKS,
        })
    }

    /// For transports: see [`max_deliveries`](Self::max_deliveries).
    pub fn get_max_deliveries(&self) -> u32 {
        self.max_deliveries
    }

    /// For transports: see [`redeliver_after`](Self::redeliver_after).
    pub fn get_redeliver_after(&self) -> Duration {
        self.redeliver_after
    }
}
