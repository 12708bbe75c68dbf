//! What comes in: each event once, and none that goes in circles.

use std::{num::NonZeroUsize, sync::Arc};

use ahash::RandomState;
use lru::LruCache;
use parking_lot::Mutex;
use swarmbus_core::{Event, EventId, Str, codec::limits::MAX_HOPS, hops::LoopGuard};

use super::stats::Counts;
use crate::{bus::WeakBus, messenger::Message};

pub(super) struct Incoming {
    pub(super) bus: WeakBus,
    pub(super) seen: Seen,
    pub(super) guard: LoopGuard,
    pub(super) place: Arc<str>,
    pub(super) counts: Arc<Counts>,
}

/// The newest events that came in. An id is its source's: two strangers may
/// choose the same.
pub(super) type Seen = Mutex<LruCache<(Str, EventId), (), RandomState>>;

impl Incoming {
    /// Publishes what is new. Waits while the bus is full, which holds up the
    /// channel.
    ///
    /// Cancelled while it waits, the event was not published.
    pub(super) async fn take(&self, message: Message) {
        let Some(bus) = self.bus.upgrade() else { return };
        let is_full = message.event.hops().len() >= MAX_HOPS;
        if is_full || self.guard.check(&message.event, &self.place).is_err() {
            return self.counts.looped.add(1);
        }
        let key = key(&message.event);
        if !self.is_new(key.as_ref()) {
            return self.counts.duplicates.add(1);
        }
        let mut seen = Forget { seen: &self.seen, key };
        match bus.publish(message.event.with_hop(&*self.place)).await {
            Ok(()) => {
                seen.key = None;
                self.counts.received.add(1);
            }
            Err(error) => {
                self.counts.refused.add(1);
                tracing::debug!(bridge = &*self.place, %error, "the bus did not take an event");
            }
        }
    }

    fn is_new(&self, key: Option<&(Str, EventId)>) -> bool {
        // What has no id cannot be told from another.
        let Some(key) = key else { return true };
        self.seen.lock().put(key.clone(), ()).is_none()
    }
}

fn key(event: &Event) -> Option<(Str, EventId)> {
    Some((event.source().into(), event.id()?))
}

/// Room for this many.
pub(super) fn seen(remember: NonZeroUsize) -> Seen {
    // With a capacity, it would reserve all of that now.
    let mut seen = LruCache::unbounded_with_hasher(RandomState::default());
    seen.resize(remember);
    Mutex::new(seen)
}

/// Forgets an event that was not published: it may come again.
struct Forget<'a> {
    seen: &'a Seen,
    key: Option<(Str, EventId)>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.seen.lock().pop(key);
        }
    }
}
