//! A durable channel: its newest events, and the task that reads them for a
//! subscriber.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use swarmbus_core::Event;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{MemoryTransport, Settings, Shared};
use crate::transport::{
    Channel, Feed, Gap, GapReason, Inbox, Incoming, Mode, Position, Received, Start,
    SubscribeOptions, TransportError,
};

/// Events that a reader takes under one lock.
const AT_ONCE: usize = 256;

#[derive(Debug)]
pub(super) struct Log {
    epoch: u64,
    /// Of the newest event; 0 before the first.
    offset: u64,
    events: VecDeque<Event>,
    retention: usize,
    readers: usize,
    changed: Arc<Notify>,
}

impl Log {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            epoch: fastrand::u64(..),
            offset: 0,
            events: VecDeque::new(),
            retention: settings.retention,
            readers: 0,
            changed: Arc::default(),
        }
    }

    pub(super) fn put(&mut self, events: &mut Vec<Event>) {
        self.offset += events.len() as u64;
        self.events.extend(events.drain(..));
        let surplus = self.events.len().saturating_sub(self.retention);
        self.events.drain(..surplus);
        self.changed.notify_waiters();
    }

    pub(super) fn last(&self, count: usize) -> Vec<Received> {
        let count = count.min(self.events.len());
        let mut events = Vec::with_capacity(count);
        let mut from = self.offset - count as u64;
        self.read(&mut from, count, |incoming| events.extend(incoming.event()));
        events
    }

    /// Where a subscriber begins: after this offset. What it asks for of
    /// another epoch, or of the future, is gone.
    fn start(&self, start: Option<Start>) -> (u64, Option<Gap>) {
        match start {
            None | Some(Start::New) => (self.offset, None),
            Some(Start::Beginning) => (self.oldest(), None),
            Some(Start::After(place)) if self.has_had(place) => (place.offset, None),
            Some(Start::After(_)) => {
                let oldest = self.oldest();
                let gap = Gap::new(None, GapReason::NewEpoch).up_to(self.position(oldest));
                (oldest, Some(gap))
            }
        }
    }

    /// Hands out at most `limit` events after `offset`, which follows.
    fn read(&self, offset: &mut u64, limit: usize, mut out: impl FnMut(Incoming)) {
        let oldest = self.oldest();
        if *offset < oldest {
            let gap = Gap::new(oldest - *offset, GapReason::Trimmed);
            out(Incoming::Gap(gap.up_to(self.position(oldest))));
            *offset = oldest;
        }
        let skip = (*offset - oldest) as usize;
        for event in self.events.iter().skip(skip).take(limit) {
            *offset += 1;
            out(Incoming::Event(Received::durable(event.clone(), self.position(*offset))));
        }
    }

    fn has_had(&self, place: Position) -> bool {
        place.epoch == self.epoch && place.offset <= self.offset
    }

    /// The offset before the first event that is kept.
    fn oldest(&self) -> u64 {
        self.offset - self.events.len() as u64
    }

    fn position(&self, offset: u64) -> Position {
        Position { epoch: self.epoch, term: 0, offset }
    }
}

pub(super) fn subscribe(
    shared: &Arc<Shared>,
    channel: &Channel,
    options: &SubscribeOptions,
) -> Result<Inbox, TransportError> {
    const LIMIT: usize = MemoryTransport::MAX_CHANNELS;
    let mut channels = shared.channels.lock();
    channels.open()?;
    let log = channels.log(channel, &shared.settings)?;
    if log.readers >= LIMIT {
        return Err(TransportError::TooMany { limit: LIMIT });
    }
    log.readers += 1;
    let (feed, inbox) = Inbox::new(options.get_capacity(Mode::Durable));
    let (offset, gap) = log.start(options.get_start());
    if let Some(gap) = gap {
        feed.gap(gap);
    }
    let reader = Reader {
        offset,
        changed: Arc::clone(&log.changed),
        closed: shared.closed.clone(),
        shared: Arc::downgrade(shared),
        channel: channel.clone(),
    };
    tokio::spawn(reader.run(feed));
    Ok(inbox)
}

/// Brings one subscriber what is new, as fast as it reads.
struct Reader {
    shared: Weak<Shared>,
    channel: Channel,
    /// Of the last event that was read.
    offset: u64,
    changed: Arc<Notify>,
    closed: CancellationToken,
}

impl Reader {
    async fn run(mut self, feed: Feed) {
        let changed = Arc::clone(&self.changed);
        let mut batch = Vec::new();
        while feed.room().await {
            // Listens before it looks, so that it misses nothing.
            let changed = changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let closed = self.closed.is_cancelled();
            if !self.read(feed.free().min(AT_ONCE), &mut batch) {
                break;
            }
            if !batch.is_empty() {
                feed.deliver(&mut batch);
            } else if closed {
                break;
            } else {
                tokio::select! {
                    () = changed => {}
                    () = feed.gone() => {}
                    () = self.closed.cancelled() => {}
                }
            }
        }
    }

    /// `false` if the transport is gone.
    fn read(&mut self, limit: usize, batch: &mut Vec<Incoming>) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let channels = shared.channels.lock();
        if let Some(log) = channels.logs.get(&self.channel) {
            log.read(&mut self.offset, limit, |incoming| batch.push(incoming));
        }
        true
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(log) = shared.channels.lock().logs.get_mut(&self.channel) {
            log.readers -= 1;
        }
    }
}
