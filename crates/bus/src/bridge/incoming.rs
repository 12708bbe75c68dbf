//! What comes in: each event once, and none that goes in circles.

use std::{num::NonZeroUsize, sync::Arc};

use ahash::RandomState;
use lru::LruCache;
use parking_lot::Mutex;
use swarmbus_core::{Event, EventId, Str, codec::limits::MAX_HOPS, hops::LoopGuard};

use super::{BridgeRules, stats::Counts};
use crate::{
    bus::{Bus, WeakBus},
    messenger::{GapsTold, ListenError, Listening, Message, Messenger},
    transport::{Channel, Gap},
};

/// Counts the gaps in what the messenger receives.
pub(super) fn told_of_gaps(
    messenger: &Messenger,
    counts: &Arc<Counts>,
    rules: &BridgeRules,
) -> GapsTold {
    let (counts, on_gap) = (Arc::clone(counts), rules.on_gap.clone());
    messenger.tell_gaps(Arc::new(move |channel: &Channel, gap: &Gap| {
        counts.gaps.add(1);
        counts.missed.add(gap.missed.unwrap_or(0));
        if let Some(on_gap) = &on_gap {
            on_gap(channel, gap);
        }
    }))
}

/// Begins to publish what comes in, if anything is to.
pub(super) fn receive(
    bus: &Bus,
    messenger: &Messenger,
    rules: &BridgeRules,
    place: Arc<str>,
    counts: Arc<Counts>,
) -> Result<Option<Listening>, ListenError> {
    if rules.receive.is_empty() {
        return Ok(None);
    }
    let incoming = Arc::new(Incoming {
        bus: bus.downgrade(),
        seen: seen(rules.remember),
        guard: rules.loop_guard,
        place,
        counts,
    });
    let patterns: Vec<&str> = rules.receive.iter().map(String::as_str).collect();
    let listening = messenger.on_any(&patterns, move |message| {
        let incoming = Arc::clone(&incoming);
        async move { incoming.take(message).await }
    })?;
    Ok(Some(listening))
}

struct Incoming {
    bus: WeakBus,
    seen: Seen,
    guard: LoopGuard,
    place: Arc<str>,
    counts: Arc<Counts>,
}

/// The newest events that came in. An id is its source's: two strangers may
/// choose the same.
type Seen = Mutex<LruCache<(Str, EventId), (), RandomState>>;

impl Incoming {
    /// Publishes what is new. Waits while the bus is full, which holds up the
    /// channel.
    ///
    /// Cancelled while it waits, the event was not published.
    async fn take(&self, message: Message) {
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
fn seen(remember: NonZeroUsize) -> Seen {
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
