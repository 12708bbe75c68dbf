//! [`MessengerBuilder`]: every setting of a messenger.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};

use compact_str::format_compact;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    JoinError, ListenError, Messenger,
    history::History,
    hub::{Hub, OnGap},
    identity::{self, Identity, To},
    message::Scope,
    receive::{self, Receiver},
    request::Pending,
    stats::Counts,
};
use crate::transport::{
    Channel, Gap, Mode, Position, SubscribeOptions, Transport, TransportError, Unsupported,
};

/// Where a messenger is in its durable channels, to be saved.
///
/// ```
/// use swarmbus::messenger::Positions;
///
/// let saved = r#"{"durable:swarm:b": "0000000000005eed-1042"}"#;
/// let positions: Positions = serde_json::from_str(saved)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions(pub(super) BTreeMap<String, Position>);

impl Positions {
    pub(super) fn of(&self, channel: &Channel) -> Option<Position> {
        self.0.get(&channel.to_string()).copied()
    }
}

/// Makes a [`Messenger`].
///
/// | setting | default |
/// | --- | --- |
/// | [`durable`](Self::durable) | messages are live |
/// | [`resume`](Self::resume) | from now on |
/// | [`request_timeout`](Self::request_timeout) | 30 s |
/// | [`max_requests`](Self::max_requests) | 1,024 |
/// | [`max_answers`](Self::max_answers) | 64 |
/// | [`history`](Self::history) | 100 messages |
/// | [`capacity`](Self::capacity) | 8,192 events |
/// | [`on_gap`](Self::on_gap) | counted only |
#[must_use = "nobody has joined until join() is called"]
pub struct MessengerBuilder {
    transport: Arc<dyn Transport>,
    identity: Identity,
    mode: Mode,
    resume: Positions,
    request_timeout: Duration,
    max_requests: usize,
    max_answers: usize,
    history: usize,
    capacity: NonZeroUsize,
    on_gap: Option<OnGap>,
}

impl MessengerBuilder {
    /// The most requests that are answered at once.
    pub const MAX_ANSWERS: usize = 1_000_000;

    /// The most messages that a history keeps.
    pub const MAX_HISTORY: usize = 100_000;

    pub(super) fn new(transport: Arc<dyn Transport>, identity: Identity) -> Self {
        Self {
            transport,
            identity,
            mode: Mode::Live,
            resume: Positions::default(),
            request_timeout: Duration::from_secs(30),
            max_requests: 1_024,
            max_answers: 64,
            history: 100,
            capacity: SubscribeOptions::DEFAULT_CAPACITY,
            on_gap: None,
        }
    }

    /// Sends messages through durable channels, and reads such: none is missed
    /// while there is no connection. All messengers that talk to each other
    /// must agree on this. Answers stay live: one that is late is of no use.
    pub fn durable(mut self) -> Self {
        self.mode = Mode::Durable;
        self
    }

    /// Goes on in the durable channels where an earlier messenger was
    /// ([`Messenger::positions`]), topics included.
    pub fn resume(mut self, positions: Positions) -> Self {
        self.resume = positions;
        self
    }

    /// How long a request without a deadline waits for its answer; also how
    /// long answering one without a deadline may take.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How many requests may wait for their answers at once.
    pub fn max_requests(mut self, requests: usize) -> Self {
        self.max_requests = requests;
        self
    }

    /// How many requests of others are answered at once. Those beyond are
    /// refused as [`Busy`](super::Refusal::Busy). At most
    /// [`MAX_ANSWERS`](Self::MAX_ANSWERS).
    pub fn max_answers(mut self, answers: usize) -> Self {
        self.max_answers = answers;
        self
    }

    /// How many of the last messages are kept; 0 for none, at most
    /// [`MAX_HISTORY`](Self::MAX_HISTORY).
    pub fn history(mut self, messages: usize) -> Self {
        self.history = messages.min(Self::MAX_HISTORY);
        self
    }

    /// How many events wait in each inbox while handlers are at work.
    pub fn capacity(mut self, events: NonZeroUsize) -> Self {
        self.capacity = events;
        self
    }

    /// Told of each gap in what is received, by the task that reads the
    /// channel: it must not take long. If it panics, that is logged.
    pub fn on_gap(mut self, on_gap: impl Fn(&Channel, &Gap) + Send + Sync + 'static) -> Self {
        self.on_gap = Some(Arc::new(on_gap));
        self
    }

    /// Subscribes to the messenger's channels. Messages that others send after
    /// this has returned are received; add handlers soon, as what nobody wants
    /// is gone. See [`join_with`](Self::join_with).
    ///
    /// # Errors
    ///
    /// What keeps the transport from subscribing.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, nobody has joined.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn join(self) -> Result<Messenger, JoinError> {
        self.join_with(|_| Ok(())).await
    }

    /// Adds handlers first, so that they miss nothing, and then joins. For one
    /// that [resumes](Self::resume).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use swarmbus::{messenger::{Identity, Listening, Message, Messenger}, transport::MemoryTransport};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let transport = Arc::new(MemoryTransport::new());
    /// # let saved = Default::default();
    /// let messenger = Messenger::builder(transport, Identity::new("builders", "builder-1")?)
    ///     .durable()
    ///     .resume(saved)
    ///     .join_with(|messenger| {
    ///         messenger.on("site.*").handle(|_: &Message| println!("a site!"))?.detach();
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `prepare` returns, or what keeps the transport from subscribing.
    ///
    /// # Cancel safety
    ///
    /// As [`join`](Self::join).
    ///
    /// # Panics
    ///
    /// As [`join`](Self::join).
    pub async fn join_with(
        self,
        prepare: impl FnOnce(&Messenger) -> Result<(), ListenError>,
    ) -> Result<Messenger, JoinError> {
        if !self.transport.features().has(self.mode) {
            return Err(TransportError::Unsupported(Unsupported::Mode(self.mode)).into());
        }
        let node = format_compact!("{:016x}", fastrand::u64(..));
        let answers = identity::channel("reply", &node)?;
        let channels = [
            (To::swarm(self.identity.swarm())?, Scope::Swarm),
            (To::agent(self.identity.agent())?, Scope::Agent),
            (To::broadcast(), Scope::Broadcast),
        ];
        let hub = Arc::new(Hub {
            sender: format_compact!("{}/{node}", self.identity),
            transport: self.transport,
            identity: self.identity,
            node,
            mode: self.mode,
            resume: self.resume,
            capacity: self.capacity,
            request_timeout: self.request_timeout,
            handlers: Arc::default(),
            responders: Arc::default(),
            pending: Arc::new(Pending::new(self.max_requests)),
            answers: Arc::new(Semaphore::new(self.max_answers.min(Self::MAX_ANSWERS))),
            refusals: Arc::new(Semaphore::new(Hub::REFUSALS)),
            history: History::new(self.history),
            counts: Counts::default(),
            on_gap: RwLock::new(self.on_gap.into_iter().map(|told| (0, told)).collect()),
            positions: Mutex::default(),
            tasks: Mutex::default(),
            closing: CancellationToken::new(),
        });
        // Ends what was begun if one of them fails.
        let messenger = Messenger::of(&hub);
        prepare(&messenger)?;
        receive::start_answers(&hub, &answers).await?;
        for (to, scope) in channels {
            let channel = to.channel(hub.mode);
            let options = hub.options(&channel);
            let (hub, table) = (Arc::clone(&hub), Arc::clone(&hub.handlers));
            let closing = hub.closing.clone();
            Receiver { hub, channel, scope, table, options }.start(closing).await?;
        }
        Ok(messenger)
    }
}
