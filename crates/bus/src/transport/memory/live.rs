//! Live channels: whoever is there gets it, as far as there is room.

use swarmbus_core::Event;

use super::{Channels, MemoryTransport, Shared};
use crate::transport::{Channel, Inbox, Mode, Received, SubscribeOptions, TransportError};

impl Shared {
    pub(super) fn subscribe_live(
        &self,
        channel: &Channel,
        options: &SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        const LIMIT: usize = MemoryTransport::MAX_SUBSCRIPTIONS;
        let mut channels = self.channels.lock();
        channels.open()?;
        if channels.live_subscriptions >= LIMIT {
            channels.forget_gone();
        }
        if channels.live_subscriptions >= LIMIT {
            return Err(TransportError::TooMany { limit: LIMIT });
        }
        let (feed, inbox) = Inbox::new(options.get_capacity(Mode::Live));
        channels.live.entry(channel.clone()).or_default().push(feed);
        channels.live_subscriptions += 1;
        Ok(inbox)
    }
}

impl Channels {
    /// One lock for all subscribers: each sees the same order.
    pub(super) fn put_live(&mut self, channel: &Channel, events: &mut Vec<Event>) {
        let Some(feeds) = self.live.get_mut(channel) else { return events.clear() };
        let before = feeds.len();
        feeds.retain(|feed| !feed.is_gone());
        for event in events.drain(..) {
            for feed in &*feeds {
                feed.offer(Received::live(event.clone()));
            }
        }
        self.live_subscriptions -= before - feeds.len();
        if feeds.is_empty() {
            self.live.remove(channel);
        }
    }

    /// Inboxes that were dropped are noticed at the next publish; a channel
    /// that nobody publishes to needs this.
    fn forget_gone(&mut self) {
        self.live.retain(|_, feeds| {
            feeds.retain(|feed| !feed.is_gone());
            !feeds.is_empty()
        });
        self.live_subscriptions = self.live.values().map(Vec::len).sum();
    }
}
