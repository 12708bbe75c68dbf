//! [`Replay`]: events of a log, once more.

mod count;
mod pace;
mod source;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use swarmbus::{Bus, Delivery, DispatchError, PublishCause};
use swarmbus_core::{Event, Timestamp, router::Pattern};

pub use self::count::TypeCount;
use self::{pace::Pace, source::Source};
use crate::{
    error::{OpenError, ReadError},
    reader::{LogReader, Query},
};

/// A replay in the making: which events, how fast, and then where to.
///
/// Events come in the order of their timestamps, those of one timestamp in
/// the order in which they were accepted. Those that are accepted after the
/// replay began are not part of it. Into a bus they come with id, timestamp
/// and all other fields as recorded, and marked: [`Event::is_replayed`] tells
/// a handler, and with it what [`Event::caused_by`] them. A bus does not write
/// marked events into its journal, so a log that is replayed into its own bus
/// does not grow. A deadline is as recorded too, so events that had one expire.
///
/// Memory is bounded: a thread reads up to seven pages ahead, each of up to
/// 512 events or 2 MiB of payload.
/// Between two pages nothing is locked, so a replay that takes hours holds up
/// neither the program that writes the log nor its checkpoints.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use swarmbus::{Bus, Event};
/// use swarmbus_store::{EventLog, Replay};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.db");
/// let log = EventLog::open(&path)?;
/// let at = "2026-01-31T12:00:00Z".parse()?;
/// log.append(&[Event::of("vote.cast", "yes").with_id("1").with_timestamp(at)]).await?;
///
/// let bus = Bus::builder().build()?;
/// let _handler = bus.subscribe("vote.*").handle(|vote: &Event| assert!(vote.is_replayed()))?;
/// let replayed = Replay::of(&path).into_bus(&bus).await?;
/// assert_eq!((replayed.events, replayed.delivered), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is replayed until one of the last methods is called"]
pub struct Replay {
    path: PathBuf,
    query: Query,
    speed: Option<f64>,
    via: Via,
    progress: Progress,
}

/// How events get into the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// `dispatch`, one after the other: each event's handlers are done before
    /// the next begins, in the recorded order across all sources.
    #[default]
    Dispatch,
    /// `publish_batch`: through the queue, with its order (by source and
    /// priority), its workers and its backpressure. What has been replayed is
    /// queued, not handled: `drain` the bus to wait for that.
    Queue,
}

/// How far a replay has got: a handle to look at from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    events: AtomicU64,
    at: AtomicU64,
}

impl Progress {
    /// Events so far.
    pub fn events(&self) -> u64 {
        self.0.events.load(Relaxed)
    }

    /// The timestamp of the last of them: a replay that was dropped may go on
    /// from here. Events of this very time then come again.
    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::from_micros(self.0.at.load(Relaxed))
    }

    fn passed(&self, at: Option<Timestamp>, events: u64) {
        self.0.at.store(at.map_or(0, Timestamp::as_micros), Relaxed);
        self.0.events.fetch_add(events, Relaxed);
    }
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Replayed {
    /// Events that were replayed.
    pub events: u64,
    /// Handlers that matched; only with [`Via::Dispatch`].
    pub matched: u64,
    /// Handlers that returned success; only with [`Via::Dispatch`].
    pub delivered: u64,
    /// Events that the bus's middleware refused.
    pub refused: u64,
    /// Rows that are no events.
    pub damaged: u64,
}

/// Why a replay ended early. [`Progress`] says how far it got.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log was not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bus did not take an event.
    #[error("the bus did not take an event: {0}")]
    Dispatch(#[from] DispatchError),
    /// The bus did not take an event into its queue.
    #[error("the bus did not take an event: {0}")]
    Publish(#[source] PublishCause),
    /// The operating system gave no thread.
    #[error("no thread to read the log: {0}")]
    Thread(#[source] std::io::Error),
    /// The thread that reads has panicked.
    #[error("the thread that reads the log has panicked")]
    Panicked,
    /// The speed is not a number above zero.
    #[error("a speed is a number above 0 (1 is as recorded), not {0}")]
    Speed(f64),
}

impl Replay {
    /// All events of a log, as fast as possible.
    pub fn of(log: impl AsRef<Path>) -> Self {
        Self {
            path: log.as_ref().to_owned(),
            query: Query::new(),
            speed: None,
            via: Via::default(),
            progress: Progress::default(),
        }
    }

    /// Only events of this time or later.
    pub fn from(mut self, from: Timestamp) -> Self {
        self.query = self.query.from(from);
        self
    }

    /// Only events before this time.
    pub fn to(mut self, to: Timestamp) -> Self {
        self.query = self.query.to(to);
        self
    }

    /// Only events whose type matches.
    pub fn types(mut self, pattern: Pattern) -> Self {
        self.query = self.query.types(pattern);
        self
    }

    /// As recorded, times `factor`: the time between two events is the one
    /// between their timestamps divided by it. Without this, as fast as
    /// possible. What takes longer than it did is caught up with.
    pub fn speed(mut self, factor: f64) -> Self {
        self.speed = Some(factor);
        self
    }

    /// How events get into the bus. Default: [`Via::Dispatch`].
    pub fn via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }

    /// A handle that tells how far the replay has got.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// How many events a replay would find, by type. Nothing is replayed.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Open`] or [`ReplayError::Read`].
    pub fn dry_run(&self) -> Result<Vec<TypeCount>, ReplayError> {
        Ok(count::by_type(&LogReader::open(&self.path)?, &self.query)?)
    }

    /// Replays into a bus.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`]. An event that middleware refuses is no error, but
    /// counted.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the replay ends with the event at hand,
    /// whose handler is cancelled ([`Via::Dispatch`]); the thread that reads
    /// ends by itself.
    pub async fn into_bus(self, bus: &Bus) -> Result<Replayed, ReplayError> {
        let (mut source, mut pace) = self.start()?;
        let mut done = Replayed::default();
        while let Some(mut events) = source.next(&mut done).await? {
            match (self.via, &mut pace) {
                (Via::Queue, None) => {
                    let mut marked = events.drain(..).map(Event::replayed).collect();
                    self.publish(bus, &mut marked, &mut done).await?;
                }
                (Via::Queue, Some(pace)) => {
                    let mut one = Vec::with_capacity(1);
                    for event in events.drain(..) {
                        pace.wait(event.timestamp()).await;
                        one.push(event.replayed());
                        self.publish(bus, &mut one, &mut done).await?;
                    }
                }
                (Via::Dispatch, None) => {
                    // For one page: it may keep handlers that are gone.
                    let mut dispatcher = bus.dispatcher();
                    for event in events.drain(..) {
                        let event = event.replayed();
                        // Plain functions never wait: leave the thread to others.
                        tokio::task::coop::consume_budget().await;
                        let dispatched = dispatcher.dispatch(&event).await;
                        self.note(&event, dispatched, &mut done)?;
                    }
                }
                (Via::Dispatch, Some(pace)) => {
                    for event in events.drain(..) {
                        pace.wait(event.timestamp()).await;
                        let event = event.replayed();
                        let dispatched = bus.dispatch(&event).await;
                        self.note(&event, dispatched, &mut done)?;
                    }
                }
            }
            source.give_back(events);
        }
        Ok(done)
    }

    /// Gives each event to a function, unmarked and as recorded, until it
    /// breaks off.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`].
    ///
    /// # Cancel safety
    ///
    /// As [`into_bus`](Self::into_bus).
    pub async fn for_each(
        self,
        mut f: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Replayed, ReplayError> {
        let (mut source, mut pace) = self.start()?;
        let mut done = Replayed::default();
        while let Some(mut events) = source.next(&mut done).await? {
            for event in events.drain(..) {
                let at = event.timestamp();
                if let Some(pace) = &mut pace {
                    pace.wait(at).await;
                }
                if f(event).is_break() {
                    return Ok(done);
                }
                done.events += 1;
                self.progress.passed(at, 1);
            }
            source.give_back(events);
        }
        Ok(done)
    }

    fn start(&self) -> Result<(Source, Option<Pace>), ReplayError> {
        let pace = self.speed.map(Pace::new).transpose()?;
        let source = Source::start(&self.path, self.query.clone())?;
        Ok((source, pace))
    }

    fn note(
        &self,
        event: &Event,
        dispatched: Result<Delivery, DispatchError>,
        done: &mut Replayed,
    ) -> Result<(), ReplayError> {
        match dispatched {
            Ok(delivery) => {
                done.matched += u64::from(delivery.matched);
                done.delivered += u64::from(delivery.delivered);
                done.events += 1;
            }
            Err(DispatchError::Refused(_)) => done.refused += 1,
            Err(error) => return Err(error.into()),
        }
        self.progress.passed(event.timestamp(), 1);
        Ok(())
    }

    async fn publish(
        &self,
        bus: &Bus,
        events: &mut Vec<Event>,
        done: &mut Replayed,
    ) -> Result<(), ReplayError> {
        let (at, count) = (events.last().and_then(Event::timestamp), events.len());
        loop {
            let before = events.len();
            let published = bus.publish_batch(events).await;
            done.events += (before - events.len()) as u64;
            match published {
                Ok(()) => break,
                Err(error) if matches!(error.cause, PublishCause::Refused(_)) => {
                    events.remove(0);
                    done.refused += 1;
                }
                Err(error) => return Err(ReplayError::Publish(error.cause)),
            }
        }
        self.progress.passed(at, count as u64);
        Ok(())
    }
}
