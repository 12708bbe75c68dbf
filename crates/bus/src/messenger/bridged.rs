//! What a bridge asks of its messenger.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use swarmbus_core::Event;

use super::{
    ListenError, Listening, Message, Messenger, To,
    handlers::Handle,
    hub::{Hub, OnGap},
    listen::DIRECT,
};
use crate::{handler::IntoHandlerResult, transport::TransportError};

impl Messenger {
    /// Sends events and waits until the other side has them. What is left in
    /// `batch` may not have got there.
    pub(crate) async fn send_confirmed(
        &self,
        to: &To,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        if self.hub.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        for event in &mut *batch {
            *event = to.address(event.clone());
        }
        self.hub.send_confirmed(&to.channel(self.hub.mode), batch).await
    }

    /// Handles what one of these patterns matches, once.
    pub(crate) fn on_any<F, Fut>(&self, patterns: &[&str], f: F) -> Result<Listening, ListenError>
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        self.hub.handlers.insert_all(patterns, &DIRECT, Handle::future(f))
    }

    /// Has somebody told of gaps, until what this returns is dropped.
    pub(crate) fn tell_gaps(&self, told: OnGap) -> GapsTold {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Relaxed) + 1;
        self.hub.on_gap.write().insert(number, told);
        GapsTold { hub: Arc::downgrade(&self.hub), number }
    }
}

/// See [`Messenger::tell_gaps`].
pub(crate) struct GapsTold {
    hub: Weak<Hub>,
    number: u64,
}

impl Drop for GapsTold {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let told = hub.on_gap.write().remove(&self.number);
            drop(told);
        }
    }
}
