//! [`Fans`]: one name on the live connection for all subscriptions of a
//! channel.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    header::{Entry, is_header},
    tap::Tap,
};
use crate::{
    error::ConnectionError,
    subscriber::{Listener, Subscriber},
    wire::Messages,
};

/// Who listens to what.
pub(super) struct Fans {
    shared: Arc<Shared>,
}

struct Shared {
    subscriber: Arc<Subscriber>,
    fans: Mutex<HashMap<String, Arc<Fan>, RandomState>>,
}

/// The taps of one name.
#[derive(Default)]
struct Fan {
    taps: Mutex<Vec<Arc<Tap>>>,
    /// Its frame comes next.
    header: Mutex<Option<Bytes>>,
}

/// Stops listening when it is dropped.
pub(super) struct Tapped {
    shared: Weak<Shared>,
    name: String,
    tap: Arc<Tap>,
}

impl Fans {
    pub(super) fn new(subscriber: Arc<Subscriber>) -> Self {
        Self { shared: Arc::new(Shared { subscriber, fans: Mutex::default() }) }
    }

    /// Returns when the server sends what is published under the name.
    pub(super) async fn join(
        &self,
        name: &str,
        tap: &Arc<Tap>,
        patience: Duration,
    ) -> Result<Tapped, ConnectionError> {
        // Made first: dropped while it waits, it leaves nothing behind.
        let tapped = Tapped {
            shared: Arc::downgrade(&self.shared),
            name: name.to_owned(),
            tap: Arc::clone(tap),
        };
        let listening = {
            let mut fans = self.shared.fans.lock();
            let fan = fans.entry(name.to_owned()).or_default();
            fan.taps.lock().push(Arc::clone(tap));
            self.shared.subscriber.listen(name, Arc::clone(fan) as Arc<dyn Listener>)
        };
        listening.within(patience).await?;
        Ok(tapped)
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut fans = shared.fans.lock();
        let Some(fan) = fans.get(&self.name) else { return };
        let empty = {
            let mut taps = fan.taps.lock();
            taps.retain(|tap| !Arc::ptr_eq(tap, &self.tap));
            taps.is_empty()
        };
        if empty {
            fans.remove(&self.name);
            shared.subscriber.forget(&self.name);
        }
    }
}

impl Listener for Fan {
    fn messages(&self, messages: Messages<'_>) {
        let mut header = self.header.lock();
        for message in messages.payloads() {
            let before = header.take();
            if is_header(&message) {
                *header = Some(message);
                continue;
            }
            // What comes without a header is a stranger's.
            let Some(before) = before else { continue };
            let entry = Entry { header: before, frame: message, lost: None };
            for tap in &*self.taps.lock() {
                tap.push(entry.clone());
            }
        }
    }

    fn resumed(&self) {
        *self.header.lock() = None;
        self.taps.lock().iter().for_each(|tap| tap.missed());
    }
}
