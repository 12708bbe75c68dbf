//! [`Live`]: the live channels of one transport.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus::transport::{Channel, Inbox, Mode, SubscribeOptions, TransportError};

use super::topic::Topic;
use crate::{
    channel::{key, main_purpose},
    error::{disconnected, failed},
    meter::ReceiveMeter,
    subscriber::Subscriber,
};

/// Live channels that one transport listens to.
pub(crate) const MAX_CHANNELS: usize = 100_000;

/// Live channels that are listened to.
pub(crate) struct Live {
    subscriber: Arc<Subscriber>,
    prefix: String,
    patience: Duration,
    topics: Mutex<Topics>,
    meter: ReceiveMeter,
}

#[derive(Default)]
struct Topics {
    by_channel: HashMap<Channel, Arc<Topic>, RandomState>,
    closed: bool,
}

impl Live {
    pub(crate) fn new(subscriber: Arc<Subscriber>) -> Self {
        let settings = &subscriber.link().dialer().settings;
        let (prefix, patience) = (settings.prefix.clone(), settings.response_timeout);
        let meter = ReceiveMeter::new(Mode::Live.name());
        Self { subscriber, prefix, patience, topics: Mutex::default(), meter }
    }

    /// Cancel safe: dropped, it leaves nothing behind.
    pub(crate) async fn subscribe(
        &self,
        channel: &Channel,
        options: &SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        let (feed, inbox) = Inbox::new(options.get_capacity(Mode::Live));
        let acknowledged = {
            let mut topics = self.topics.lock();
            if topics.closed {
                return Err(TransportError::Closed);
            }
            if topics.by_channel.len() >= MAX_CHANNELS && !topics.by_channel.contains_key(channel) {
                return Err(TransportError::TooMany { limit: MAX_CHANNELS });
            }
            let topic = topics.by_channel.entry(channel.clone());
            let topic = topic.or_insert_with(|| Arc::new(Topic::new(self.meter.clone())));
            if !topic.add(feed) {
                return Err(TransportError::TooMany { limit: Topic::MAX_INBOXES });
            }
            // Under the lock, so that it does not cross with a `forget`.
            self.subscriber.listen(&self.key(channel), Arc::clone(topic) as _)
        };
        if let Err(error) = acknowledged.within(self.patience).await {
            drop(inbox);
            self.sweep();
            // Why there was no answer says more than that there was none.
            let known = self.subscriber.link().error();
            return Err(known.map_or_else(|| failed(error), disconnected));
        }
        Ok(inbox)
    }

    /// Leaves channels that nobody reads any more.
    pub(crate) fn sweep(&self) {
        self.topics.lock().by_channel.retain(|channel, topic| {
            let is_read = topic.is_read();
            if !is_read {
                self.subscriber.forget(&self.key(channel));
            }
            is_read
        });
    }

    /// Ends all inboxes.
    pub(crate) fn close(&self) {
        let mut topics = self.topics.lock();
        topics.closed = true;
        for (_, topic) in topics.by_channel.drain() {
            topic.end();
        }
    }

    fn key(&self, channel: &Channel) -> String {
        key(&self.prefix, channel, main_purpose(Mode::Live))
    }
}
