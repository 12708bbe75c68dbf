//! [`Publisher`]: one agent's own way into the bus.

use std::future::Future;

use swarmbus_core::{Event, Str};

use crate::{
    bus::Bus,
    error::{BatchError, PublishError},
    runner::thread_number,
};

/// After this many events without a wait, a publisher yields its thread.
const YIELD_AFTER: u32 = 128;

/// Publishes for one agent, faster than the [`Bus`] itself.
///
/// Events published through one publisher keep their order within each
/// priority. It remembers where they wait, so nothing is looked up, and it
/// moves to the worker of its own thread when that cannot change the order;
/// so in steady state no two processors write to the same queue.
///
/// Between two publishers there is no order, nor between a publisher and
/// [`Bus::publish`] for the same source. It keeps the bus alive as every
/// handle does.
#[derive(Debug)]
pub struct Publisher {
    bus: Bus,
    source: Str,
    /// The shard in which its last event waited.
    shard: Option<usize>,
    since_yield: u32,
}

impl Publisher {
    pub(crate) fn new(bus: Bus, source: Str) -> Self {
        Self { bus, source, shard: None, since_yield: 0 }
    }

    /// The name that its events carry.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The bus it publishes to.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// [`Bus::publish`], with this publisher's name on an event that has
    /// none.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the event was not published.
    pub fn publish(
        &mut self,
        event: Event,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + '_ {
        let mut slot = Some(event);
        async move {
            self.since_yield += 1;
            if self.since_yield > YIELD_AFTER {
                self.since_yield = 0;
                tokio::task::yield_now().await;
            }
            self.sign(&mut slot);
            let shard = self.shard();
            self.bus.inner().publish_to(shard, slot).await
        }
    }

    /// [`Bus::try_publish`], with this publisher's name on an event that has
    /// none.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn try_publish(&mut self, event: Event) -> Result<(), PublishError> {
        let mut slot = Some(event);
        self.sign(&mut slot);
        let shard = self.shard();
        self.bus.inner().try_publish_to(shard, slot)
    }

    /// [`Bus::publish_batch`], with this publisher's name on events that have
    /// none.
    ///
    /// # Errors
    ///
    /// See [`BatchError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, what was not accepted is still in `batch`.
    pub async fn publish_batch(&mut self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        for event in batch.iter_mut() {
            if event.source().is_empty() {
                event.set_source(&self.source);
            }
        }
        let shard = self.shard();
        self.bus.inner().publish_batch_to(Some(shard), batch).await
    }

    #[inline]
    fn sign(&self, slot: &mut Option<Event>) {
        if let Some(event) = slot
            && event.source().is_empty()
        {
            event.set_source(&self.source);
        }
    }

    /// The shard of the worker that shares this thread, or the last one while
    /// events may still be waiting there.
    #[inline]
    fn shard(&mut self) -> usize {
        let shards = &self.bus.inner().shards;
        let home = thread_number() % shards.len();
        let shard = match self.shard {
            Some(last) if last != home && !shards[last].is_idle() => last,
            _ => home,
        };
        self.shard = Some(shard);
        shard
    }
}
