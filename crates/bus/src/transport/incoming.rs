//! [`Incoming`]: what a subscriber gets, and how it says that it is done.

use std::{fmt, sync::Arc, time::Duration};

use swarmbus_core::Event;

use super::Position;

/// What comes out of an [`Inbox`](super::Inbox).
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// An event.
    Event(Received),
    /// Events are missing here.
    Gap(Gap),
}

impl Incoming {
    /// The event, if it is one.
    pub fn event(self) -> Option<Received> {
        match self {
            Self::Event(received) => Some(received),
            Self::Gap(_) => None,
        }
    }
}

/// Events that a subscriber missed, in the place where they are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many; `None` when that cannot be known.
    pub missed: Option<u64>,
    /// What happened to them.
    pub reason: GapReason,
    /// Where a durable channel goes on: what comes next follows this position.
    /// Save it as that of an event.
    pub position: Option<Position>,
}

impl Gap {
    /// A gap of a channel without positions.
    pub fn new(missed: impl Into<Option<u64>>, reason: GapReason) -> Self {
        Self { missed: missed.into(), reason, position: None }
    }

    /// A gap of a durable channel.
    #[must_use]
    pub fn up_to(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }

    /// Takes in a gap that follows immediately.
    pub(super) fn extend(&mut self, next: Self) {
        self.missed = self.missed.zip(next.missed).map(|(a, b)| a.saturating_add(b));
        self.position = next.position.or(self.position);
    }
}

/// Why events are missing. Where several reasons fall together, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The subscriber did not read its inbox fast enough.
    Slow,
    /// There was no connection when they were published.
    Disconnected,
    /// They got lost between their publisher and here: its numbering jumps.
    Lost,
    /// The channel no longer kept them when they were to be read.
    Trimmed,
    /// The server lost the channel, which has begun anew: a new epoch.
    NewEpoch,
    /// What came is no frame that this version can read.
    Unreadable,
}

impl GapReason {
    /// The reason in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Disconnected => "disconnected",
            Self::Lost => "lost",
            Self::Trimmed => "trimmed",
            Self::NewEpoch => "new_epoch",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missed {
            Some(missed) => write!(f, "{missed} events are missing ({})", self.reason.name()),
            None => write!(f, "events are missing ({})", self.reason.name()),
        }
    }
}

/// An event as it came in.
#[derive(Debug)]
pub struct Received {
    /// The event, as it was published.
    pub event: Event,
    came: Came,
}

/// What the modes say about an event.
#[derive(Debug)]
enum Came {
    Live,
    Durable(Position),
    Task { deliveries: u32, ack: Ack },
}

impl Received {
    /// For transports: an event of a live channel.
    pub fn live(event: Event) -> Self {
        Self { event, came: Came::Live }
    }

    /// For transports: an event of a durable channel, and its place there.
    pub fn durable(event: Event, position: Position) -> Self {
        Self { event, came: Came::Durable(position) }
    }

    /// For transports: an event of a group channel that is delivered for the
    /// `deliveries`th time.
    pub fn task(event: Event, deliveries: u32, ack: Ack) -> Self {
        Self { event, came: Came::Task { deliveries, ack } }
    }

    /// Its place in a durable channel; `None` in the other modes.
    pub fn position(&self) -> Option<Position> {
        match self.came {
            Came::Durable(position) => Some(position),
            Came::Live | Came::Task { .. } => None,
        }
    }

    /// Whether it is a task, which comes again until it is acknowledged.
    pub fn is_task(&self) -> bool {
        matches!(self.came, Came::Task { .. })
    }

    /// How often a group has been given this event, this time included; 1 in
    /// the other modes. Where that cannot be known, as when a server is replaced
    /// by another, one more than is known.
    pub fn deliveries(&self) -> u32 {
        match self.came {
            Came::Task { deliveries, .. } => deliveries,
            Came::Live | Came::Durable(_) => 1,
        }
    }

    /// Whether it was given to the group before, or may have been: an effect
    /// outside may have been done already.
    pub fn redelivered(&self) -> bool {
        self.deliveries() > 1
    }

    /// Says that a task is done: the group does not get it again. Does nothing
    /// in other modes.
    ///
    /// Never waits: acknowledgements are sent together, and
    /// [`flush`](super::Transport::flush) waits for them. One that is lost, with
    /// the connection for example, means that the task comes again, marked as
    /// [`redelivered`](Self::redelivered).
    pub fn ack(self) {
        self.into_parts().1.ack();
    }

    /// Says that a task was not done: the group gets it again after `delay`, or
    /// it becomes a dead letter if this was the last try. Does nothing in other
    /// modes.
    ///
    /// A task that is dropped without an answer comes again after
    /// [`SubscribeOptions::redeliver_after`](super::SubscribeOptions::redeliver_after).
    pub fn nack(self, delay: Duration) {
        self.into_parts().1.nack(delay);
    }

    /// The event, and the answer for later.
    pub fn into_parts(self) -> (Event, Ack) {
        match self.came {
            Came::Task { ack, .. } => (self.event, ack),
            Came::Live | Came::Durable(_) => (self.event, Ack(None)),
        }
    }
}

/// The answer to one delivery of a task. Dropping it is none: the task comes
/// again after [`SubscribeOptions::redeliver_after`](super::SubscribeOptions::redeliver_after).
#[derive(Debug)]
#[must_use = "a task without an answer is delivered again"]
pub struct Ack(Option<(Arc<dyn Settle>, EntryId)>);

impl Ack {
    /// For transports: an answer that goes to `settle`.
    pub fn new(settle: Arc<dyn Settle>, entry: EntryId) -> Self {
        Self(Some((settle, entry)))
    }

    /// See [`Received::ack`].
    pub fn ack(self) {
        self.settle(Verdict::Done);
    }

    /// See [`Received::nack`].
    pub fn nack(self, delay: Duration) {
        self.settle(Verdict::Again { after: delay });
    }

    fn settle(mut self, verdict: Verdict) {
        if let Some((settle, entry)) = self.0.take() {
            settle.settle(entry, verdict);
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some((settle, entry)) = self.0.take() {
            settle.settle(entry, Verdict::None);
        }
    }
}

/// For transports: takes the answers to tasks of one subscription.
pub trait Settle: fmt::Debug + Send + Sync + 'static {
    /// Notes an answer. Never blocks, and is called exactly once for each
    /// delivery, also from the drop of an inbox. So a transport knows how many
    /// tasks a subscriber holds, and what waits here is bounded by them.
    fn settle(&self, entry: EntryId, verdict: Verdict);
}

/// For transports: names a task within its channel, as the two numbers of a
/// stream's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64, pub u64);

/// What a subscriber answered to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It must be delivered again.
    Again {
        /// Not before this time has passed.
        after: Duration,
    },
    /// It was dropped without an answer: it stays with this subscriber until
    /// the time for answers is over.
    None,
}
