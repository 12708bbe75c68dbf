//! [`MemoryTransport`]: buses of one process.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ahash::RandomState;
use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus_core::Event;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{Features, Inbox, Incoming, Transport, TransportError, TransportPublishError};

/// Joins the buses of one process, for tests and for swarms that need no
/// server.
///
/// Clones share their channels. It never makes a publisher wait: a subscriber
/// whose inbox is full misses events, and is told how many by a gap.
#[derive(Clone, Debug, Default)]
pub struct MemoryTransport {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    channels: HashMap<String, Vec<Subscriber>, RandomState>,
    subscriptions: usize,
    closed: bool,
}

#[derive(Debug)]
struct Subscriber {
    inbox: Sender<Incoming>,
    /// Since the last event that fit.
    missed: AtomicU64,
}

impl MemoryTransport {
    /// Events and gaps that wait in one inbox.
    pub const INBOX: usize = 1_024;
    /// Subscriptions of all channels together.
    pub const MAX_SUBSCRIPTIONS: usize = 100_000;

    /// A transport of its own.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn features(&self) -> Features {
        Features {
            reports_gaps: true,
            waits_for_slow: false,
            durable: false,
            crosses_processes: false,
        }
    }

    async fn publish(&self, channel: &str, event: Event) -> Result<(), TransportPublishError> {
        let mut shared = self.shared.lock();
        if shared.closed {
            let event = Box::new(event);
            return Err(TransportPublishError { event, cause: TransportError::Closed });
        }
        let Some(subscribers) = shared.channels.get_mut(channel) else { return Ok(()) };
        let before = subscribers.len();
        // One lock for all of them: each sees the same order.
        subscribers.retain(|subscriber| subscriber.offer(&event));
        let gone = before - subscribers.len();
        if subscribers.is_empty() {
            shared.channels.remove(channel);
        }
        shared.subscriptions -= gone;
        Ok(())
    }

    async fn subscribe(&self, channel: &str) -> Result<Inbox, TransportError> {
        let mut shared = self.shared.lock();
        if shared.closed {
            return Err(TransportError::Closed);
        }
        if shared.subscriptions >= Self::MAX_SUBSCRIPTIONS {
            shared.forget_gone();
        }
        if shared.subscriptions >= Self::MAX_SUBSCRIPTIONS {
            return Err(TransportError::TooMany { limit: Self::MAX_SUBSCRIPTIONS });
        }
        // One place more, for the gap that an end may leave.
        let (sender, inbox) = Inbox::channel(Self::INBOX + 1);
        let subscriber = Subscriber { inbox: sender, missed: AtomicU64::new(0) };
        shared.channels.entry(channel.to_owned()).or_default().push(subscriber);
        shared.subscriptions += 1;
        Ok(inbox)
    }

    async fn close(&self) {
        let mut shared = self.shared.lock();
        shared.closed = true;
        shared.channels.values().flatten().for_each(Subscriber::end);
        shared.channels.clear();
        shared.subscriptions = 0;
    }
}

impl Shared {
    /// Inboxes that were dropped are noticed at the next publish; a channel
    /// that nobody publishes to needs this.
    fn forget_gone(&mut self) {
        self.channels.retain(|_, subscribers| {
            subscribers.retain(|subscriber| !subscriber.inbox.is_closed());
            !subscribers.is_empty()
        });
        self.subscriptions = self.channels.values().map(Vec::len).sum();
    }
}

impl Subscriber {
    /// Says what is missing at the end.
    fn end(&self) {
        let missed = self.missed.load(Relaxed);
        if missed > 0 {
            // Fails if nobody listens any more, which is as well.
            let _ = self.inbox.try_send(Incoming::Gap { missed });
        }
    }

    /// Puts the event in the inbox, after the gap if there is one; `false` if
    /// nobody reads it any more.
    fn offer(&self, event: &Event) -> bool {
        let missed = self.missed.load(Relaxed);
        // A gap and its event go in together or not at all, and a place is
        // left for the gap at the end.
        let needed = if missed > 0 { 3 } else { 2 };
        if !self.inbox.is_closed() && self.inbox.capacity() < needed {
            self.missed.store(missed + 1, Relaxed);
            return true;
        }
        if missed > 0 {
            self.missed.store(0, Relaxed);
            if self.inbox.try_send(Incoming::Gap { missed }).is_err() {
                return false;
            }
        }
        !matches!(self.inbox.try_send(Incoming::Event(event.clone())), Err(TrySendError::Closed(_)))
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        super::super::conformance::check(|| async { MemoryTransport::new() }).await;
    }

    #[tokio::test]
    async fn dropped_inboxes_make_room_for_new_ones() {
        let transport = MemoryTransport::new();
        for _ in 0..=MemoryTransport::MAX_SUBSCRIPTIONS {
            drop(transport.subscribe("quiet").await.unwrap());
        }
    }
}
