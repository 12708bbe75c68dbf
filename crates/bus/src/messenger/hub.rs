//! What a messenger, its inboxes and its answers in progress share.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ahash::RandomState;
use parking_lot::{Mutex, RwLock};
use swarmbus_core::{Event, Str};
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    Positions,
    handlers::{Handle, Table, caught},
    history::History,
    identity::Identity,
    message::{mark, marked},
    request::Pending,
    respond::Respond,
    stats::{Counts, count},
};
use crate::{
    clock::BusClock,
    transport::{
        Channel, Gap, Mode, Position, SubscribeOptions, Transport, TransportError,
        TransportPublishError,
    },
};

/// Told of each gap.
pub(crate) type OnGap = Arc<dyn Fn(&Channel, &Gap) + Send + Sync>;

pub(super) struct Hub {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) identity: Identity,
    /// This messenger among those of the same identity.
    pub(super) node: Str,
    /// The mark of what it sends.
    pub(super) sender: Str,
    /// How messages are delivered; tasks and answers have a mode of their own.
    pub(super) mode: Mode,
    /// Where an earlier messenger was.
    pub(super) resume: Positions,
    /// Of each inbox.
    pub(super) capacity: NonZeroUsize,
    pub(super) request_timeout: Duration,
    pub(super) handlers: Arc<Table<Handle>>,
    pub(super) responders: Arc<Table<Respond>>,
    pub(super) pending: Arc<Pending>,
    /// A permit for each answer in progress.
    pub(super) answers: Arc<Semaphore>,
    /// A permit for each refusal that is being sent.
    pub(super) refusals: Arc<Semaphore>,
    pub(super) history: History,
    pub(super) counts: Counts,
    /// By the number of whoever wants to be told.
    pub(super) on_gap: RwLock<BTreeMap<u64, OnGap>>,
    /// Of the last event of each durable channel that its handlers are done
    /// with.
    pub(super) positions: Mutex<HashMap<Channel, Position, RandomState>>,
    /// Inboxes, workers and answers.
    pub(super) tasks: Mutex<JoinSet<()>>,
    /// Ends the tasks, each when it is done with what it has.
    pub(super) closing: CancellationToken,
}

impl Hub {
    /// Refusals that are being sent at once; those beyond are not sent.
    pub(super) const REFUSALS: usize = 256;

    /// How to subscribe to a channel.
    pub(super) fn options(&self, channel: &Channel) -> SubscribeOptions {
        let options = SubscribeOptions::new().capacity(self.capacity);
        match self.resume.of(channel) {
            Some(position) => options.after(position),
            None => options,
        }
    }

    /// Does something in a task that the messenger waits for when it is closed.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// Sends an event with the sender's mark, and what else is marked on it.
    pub(super) async fn send(
        &self,
        channel: &Channel,
        event: Event,
    ) -> Result<(), TransportPublishError> {
        let event = self.sealed(event);
        self.history.note(true, channel, &event);
        let sent = self.transport.publish(channel, event).await;
        count(if sent.is_ok() { &self.counts.sent } else { &self.counts.not_sent });
        sent
    }

    /// Sends many and waits until the other side has them. What is left in
    /// `batch` may not have got there.
    pub(super) async fn send_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        for event in &mut *batch {
            *event = self.sealed(event.clone());
            self.history.note(true, channel, event);
        }
        let before = batch.len();
        let sent = self.transport.publish_confirmed(channel, batch).await;
        self.counts.sent.fetch_add((before - batch.len()) as u64, Relaxed);
        self.counts.not_sent.fetch_add(batch.len() as u64, Relaxed);
        sent
    }

    /// With an id, a time and the sender's mark.
    fn sealed(&self, mut event: Event) -> Event {
        if !event.is_stamped() {
            // As many bits of chance as an id has room for.
            event.stamp(BusClock::wall(), (fastrand::u64(..) >> 2).max(1));
        }
        marked(event, mark::SENDER, self.sender.clone())
    }

    pub(super) fn gap(&self, channel: &Channel, gap: &Gap) {
        count(&self.counts.gaps);
        self.counts.missed.fetch_add(gap.missed.unwrap_or(0), Relaxed);
        let reason = gap.reason.name();
        metrics::counter!("transport_gaps_total", "reason" => reason).increment(1);
        metrics::counter!("transport_missed_events_total", "reason" => reason)
            .increment(gap.missed.unwrap_or(0));
        let told: Vec<_> = self.on_gap.read().values().cloned().collect();
        for on_gap in told {
            if let Err(error) = caught(|| on_gap(channel, gap)) {
                tracing::error!(%channel, %error, "the callback for gaps failed");
            }
        }
    }

    pub(super) fn arrived_at(&self, channel: &Channel, position: Option<Position>) {
        let Some(position) = position else { return };
        let mut positions = self.positions.lock();
        match positions.get_mut(channel) {
            Some(last) => *last = position,
            None => drop(positions.insert(channel.clone(), position)),
        }
    }

    pub(super) fn positions(&self) -> Positions {
        let positions = self.positions.lock();
        Positions(positions.iter().map(|(channel, at)| (channel.to_string(), *at)).collect())
    }
}
