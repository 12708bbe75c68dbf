//! [`Publisher`]: takes events, and sends them in batches that form by
//! themselves.
//!
//! A lone event leaves at once, written by whoever publishes it. While batches are on
//! their way, what comes in collects, and the next batch takes all of it: the busier
//! the connection, the larger the batches.

mod desk;
mod pack;
mod send;
mod state;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use parking_lot::Mutex;
use swarmbus::transport::{Channel, TransportError, TransportPublishError};
use swarmbus_core::{
    Event, Moment,
    codec::{
        self,
        limits::{MAX_EVENTS, MAX_FRAME_LEN},
    },
    overflow::Overflow,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    desk::{Desk, Ticketed},
    send::Sender,
    state::{Refusal, State},
};
use crate::{
    carrier::Carrier,
    connection::Link,
    error::{disconnected, refused},
    meter::PublishMeter,
};

/// How events are joined, and how many may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batching {
    /// Events of one frame.
    pub(crate) events: NonZeroUsize,
    /// Bytes of one frame that has more than one event.
    pub(crate) bytes: NonZeroUsize,
    /// How long a frame that is not full waits for more; zero: not at all.
    pub(crate) delay: Duration,
    /// Events that wait to be sent.
    pub(crate) buffer_events: NonZeroUsize,
    /// Bytes that wait to be sent.
    pub(crate) buffer_bytes: NonZeroUsize,
    /// What happens to events that find no room.
    pub(crate) overflow: Overflow,
    /// How long a publisher waits for room.
    pub(crate) patience: Duration,
}

/// Sends events of one mode over one connection.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    link: Link,
    /// Ends the task.
    _alive: DropGuard,
}

struct Shared {
    /// Locked before the state, if both are.
    desk: Mutex<Desk>,
    state: Mutex<State>,
    prefix: String,
    batching: Batching,
    /// There is something to send, or an answer to what a publisher sent: for the task.
    ///
    /// Who adds the first event to an empty outbox sees to it that all are sent, by
    /// sending them or by this. It remembers one notice, so that none is lost between
    /// the task's look and its wait.
    work: Arc<Notify>,
    /// Something was taken to be sent, so that there is room.
    ///
    /// Whoever waits for it asks to be notified, then looks under the lock of the state,
    /// then waits. Whoever makes room does so under that lock and notifies afterwards.
    /// So either the one who looks sees the room, or the notice comes after it was asked
    /// for, and [`Notify::notify_waiters`] reaches also those who do not wait yet.
    room: Notify,
    /// Every event with a lower ticket has arrived or is lost.
    settled: watch::Sender<u64>,
    meter: PublishMeter,
    born: Instant,
    end: CancellationToken,
    /// The task has ended, and what it had is in the state.
    gone: CancellationToken,
}

/// How long publishers wait for a server that takes what it is sent. What takes
/// longer is no flow.
const PAUSE: Duration = Duration::from_millis(50);

impl Publisher {
    pub(crate) fn start(link: Link, carrier: Arc<dyn Carrier>, mut batching: Batching) -> Self {
        // A parcel is one frame, whatever was asked for.
        batching.events =
            batching.events.min(const { NonZeroUsize::new(MAX_EVENTS).expect("not 0") });
        batching.bytes =
            batching.bytes.min(const { NonZeroUsize::new(MAX_FRAME_LEN).expect("not 0") });
        let Batching { overflow, buffer_events, buffer_bytes, .. } = batching;
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk::new(link.clone(), Arc::clone(&carrier), &batching)),
            state: Mutex::new(State::new(overflow, buffer_events, buffer_bytes)),
            prefix: link.dialer().settings.prefix.clone(),
            batching,
            work: Arc::default(),
            room: Notify::new(),
            settled: watch::Sender::new(0),
            meter: PublishMeter::new(carrier.name()),
            born: Instant::now(),
            end: end.clone(),
            gone: CancellationToken::new(),
        });
        tokio::spawn(Sender::new(Arc::clone(&shared), link.clone(), carrier).run());
        Self { shared, link, _alive: end.drop_guard() }
    }

    /// See [`Transport::publish`](swarmbus::transport::Transport::publish).
    pub(crate) async fn publish(
        &self,
        channel: &Channel,
        event: Event,
    ) -> Result<(), TransportPublishError> {
        let mut event = match self.shared.offer(channel, event) {
            Ok(()) => return Ok(()),
            Err(refused) => match *refused {
                (event, Refusal::Final(cause)) => {
                    return Err(TransportPublishError::new(event, cause));
                }
                (event, _) => event,
            },
        };
        let deadline = Instant::now() + self.shared.batching.patience;
        loop {
            // Made before the look, so that nothing happens between the two.
            let room = self.shared.room.notified();
            let refusal;
            (event, refusal) = match self.shared.offer(channel, event) {
                Ok(()) => return Ok(()),
                Err(refused) => *refused,
            };
            if let Err(cause) = self.wait(refusal, room, deadline).await {
                return Err(TransportPublishError::new(event, cause));
            }
        }
    }

    /// See [`Transport::publish_batch`](swarmbus::transport::Transport::publish_batch).
    pub(crate) async fn publish_batch(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        let deadline = Instant::now() + self.shared.batching.patience;
        while !batch.is_empty() {
            let room = self.shared.room.notified();
            if let Some(refusal) = self.shared.offer_many(channel, batch) {
                self.wait(refusal, room, deadline).await?;
            }
        }
        Ok(())
    }

    /// See [`Transport::publish_confirmed`](swarmbus::transport::Transport::publish_confirmed).
    ///
    /// What is lost meanwhile may be of these events, whoever published it: then
    /// they are all handed back. Whoever flushes is told of it all the same.
    pub(crate) async fn publish_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        let copies = batch.clone();
        let before = self.shared.state.lock().ever_lost;
        let confirmed = async {
            self.publish_batch(channel, batch).await?;
            self.drained().await?;
            let state = self.shared.state.lock();
            match state.ever_lost - before {
                0 => Ok(()),
                events => {
                    let cause = state.cause.clone().unwrap_or(TransportError::TimedOut);
                    Err(TransportError::Lost { events, cause: Box::new(cause) })
                }
            }
        };
        let confirmed = confirmed.await;
        if confirmed.is_err() {
            *batch = copies;
        }
        confirmed
    }

    /// Waits until it is worth to try again.
    async fn wait(
        &self,
        refusal: Refusal,
        room: impl Future<Output = ()>,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        let retry_after = match refusal {
            Refusal::Final(cause) => return Err(cause),
            Refusal::Flow => {
                if timeout(PAUSE, room).await.is_err() {
                    self.shared.state.lock().flowing = false;
                }
                return Ok(());
            }
            Refusal::Full => None,
            Refusal::RateLimited(retry_after) => Some(retry_after),
        };
        let end = self.shared.end.cancelled();
        let limited = async {
            match retry_after {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let waited = timeout_at(deadline, async {
            tokio::select! {
                () = room => {}
                () = limited => {}
                () = end => {}
            }
        });
        waited.await.map_err(|_| self.why_not().unwrap_or(TransportError::Full))
    }

    /// What keeps events from being sent, as far as is known.
    pub(crate) fn why_not(&self) -> Option<TransportError> {
        let trouble = self.shared.state.lock().trouble.clone();
        trouble.map(refused).or_else(|| self.link.error().map(disconnected))
    }

    /// See [`Transport::flush`](swarmbus::transport::Transport::flush).
    pub(crate) async fn flush(&self) -> Result<(), TransportError> {
        self.drained().await?;
        let mut state = self.shared.state.lock();
        match (std::mem::take(&mut state.lost), state.cause.take()) {
            (0, _) => Ok(()),
            (events, cause) => {
                let cause = Box::new(cause.unwrap_or(TransportError::TimedOut));
                Err(TransportError::Lost { events, cause })
            }
        }
    }

    /// Waits until everything that was accepted before is settled, well or not.
    pub(crate) async fn drained(&self) -> Result<(), TransportError> {
        let target = {
            let state = self.shared.state.lock();
            if state.closed {
                return Err(TransportError::Closed);
            }
            state.outbox.next_ticket()
        };
        let mut settled = self.shared.settled.subscribe();
        loop {
            let before = *settled.borrow_and_update();
            if before >= target {
                break;
            }
            // As long as it goes on, it may take its time.
            let moves = timeout(self.shared.batching.patience, settled.changed());
            let ended = self.shared.end.cancelled();
            let moved = tokio::select! {
                moved = moves => moved,
                () = ended => return Err(TransportError::Closed),
            };
            if moved.is_err() {
                return Err(self.why_not().unwrap_or(TransportError::TimedOut));
            }
        }
        Ok(())
    }

    /// Takes nothing more, sends what waits as far as that is possible within
    /// `patience`, and returns what is left. What is on its way then is counted
    /// (`reason="unknown"`) and not returned: it may have arrived.
    pub(crate) async fn close(&self, patience: Duration) -> Vec<(Channel, Event)> {
        let target = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.outbox.next_ticket()
        };
        self.shared.room.notify_waiters();
        let mut settled = self.shared.settled.subscribe();
        let _ = timeout(patience, settled.wait_for(|settled| *settled >= target)).await;
        self.shared.end.cancel();
        self.shared.gone.cancelled().await;
        let (packed, mut waiting) = {
            let mut state = self.shared.state.lock();
            let mut waiting = Vec::new();
            state.outbox.take(usize::MAX, usize::MAX, &mut waiting);
            (std::mem::take(&mut state.packed), waiting)
        };
        let mut left: Vec<_> = packed.iter().flat_map(|packed| packed.1.unpack()).collect();
        left.extend(waiting.drain(..).map(|entry| (entry.lane.channel.clone(), entry.event)));
        self.shared.meter.lost("closed", left.len());
        left
    }

    /// Tells subscribers where channels are, so that they notice what they
    /// missed at the end.
    pub(crate) fn positions(&self) -> Positions {
        Positions(Arc::clone(&self.shared))
    }

    /// Events and bytes that wait to be sent.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        let (mut events, mut bytes) = (state.outbox.len(), state.outbox.bytes());
        for Ticketed(_, parcel) in &state.packed {
            events += parcel.count as usize;
            bytes += parcel.frame.len();
        }
        (events, bytes)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// See [`Publisher::positions`].
pub(crate) struct Positions(Arc<Shared>);

impl Positions {
    /// Sends them as soon as nothing waits to be sent.
    pub(crate) fn send(&self) {
        self.0.state.lock().positions_due = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn offer(&self, channel: &Channel, event: Event) -> Result<(), Box<(Event, Refusal)>> {
        let len = match codec::record_len(&event) {
            Ok(len) => len,
            Err(error) => return Err(unfit(event, error)),
        };
        let mut state = self.state.lock();
        if state.flows() {
            return Err(Box::new((event, Refusal::Flow)));
        }
        let was_empty = state.outbox.is_empty();
        let offered = state.offer(self, channel, event, len);
        drop(state);
        if was_empty && offered.is_ok() {
            // Whoever has the desk may have looked before this came.
            let sent = len <= Desk::LONG
                && self.desk.try_lock().is_some_and(|mut desk| desk.send_directly(self));
            if !sent {
                self.work.notify_one();
            }
        }
        offered
    }

    /// Takes events from the front until one is refused.
    fn offer_many(&self, channel: &Channel, batch: &mut Vec<Event>) -> Option<Refusal> {
        let mut state = self.state.lock();
        if state.flows() {
            return Some(Refusal::Flow);
        }
        let was_empty = state.outbox.is_empty();
        let mut events = batch.drain(..);
        let refused = events.by_ref().find_map(|event| {
            let offered = match codec::record_len(&event) {
                Ok(len) => state.offer(self, channel, event, len),
                Err(error) => Err(unfit(event, error)),
            };
            offered.err()
        });
        let news = was_empty && !state.outbox.is_empty();
        drop(state);
        if news {
            self.work.notify_one();
        }
        let (event, refusal) = *refused?;
        let rest: Vec<_> = std::iter::once(event).chain(events).collect();
        *batch = rest;
        Some(refusal)
    }

    fn now(&self) -> Moment {
        Moment::ORIGIN + self.born.elapsed()
    }
}

fn unfit(event: Event, error: codec::EncodeError) -> Box<(Event, Refusal)> {
    Box::new((event, Refusal::Final(TransportError::Unfit(Arc::new(error)))))
}
