//! The end of a bus: waiting until it is idle, and stopping what is not.

use std::{pin::pin, sync::atomic::Ordering::Relaxed, time::Duration};

use swarmbus_core::Event;
use tokio::task::JoinHandle;

use crate::{inner::Inner, ledger::Outcome, queue::Shard};

/// How long stopped workers may take to come to their next await.
const STOP_LIMIT: Duration = Duration::from_millis(200);

/// What a [`Bus::shutdown`](crate::Bus::shutdown) left undone.
#[derive(Debug, Default)]
#[must_use = "it says what was not done"]
pub struct Shutdown {
    /// Events that were accepted and never reached a handler; and, each once,
    /// those that waited for a retry or in a bulkhead.
    pub undelivered: Vec<Event>,
    /// Workers that are still inside a handler which does not yield. The
    /// event it has, and up to 255 more that its worker had taken, are pending
    /// in the ledger until it returns; then those count as cancelled.
    pub stuck_workers: usize,
    /// Detached calls that are still inside a handler which does not yield.
    /// They count as cancelled when it returns.
    pub stuck_calls: usize,
}

impl Shutdown {
    /// Whether everything was done.
    pub fn is_clean(&self) -> bool {
        self.undelivered.is_empty() && self.stuck_workers == 0 && self.stuck_calls == 0
    }
}

impl Inner {
    pub(crate) async fn shutdown(&self, limit: Duration) -> Shutdown {
        // A store of schedules that hangs must not cost handlers their time.
        let idle = tokio::time::timeout(limit, self.wait_until_idle());
        let stored = tokio::time::timeout(limit, self.scheduler.ended());
        let (idle, stored) = tokio::join!(idle, stored);
        if stored.is_err() {
            tracing::error!("the store of schedules did not finish before the shutdown's limit");
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        if idle.is_err() {
            self.stopped.store(true, Relaxed);
            self.detached.cut();
            tasks.iter().for_each(JoinHandle::abort);
        }
        let mut stuck = 0;
        let limit = tokio::time::Instant::now() + STOP_LIMIT;
        for task in tasks {
            // A handler that never yields cannot be stopped from outside.
            stuck += usize::from(tokio::time::timeout_at(limit, task).await.is_err());
        }
        // Workers are gone or stuck: what they had handed over is cut, too.
        let _ = tokio::time::timeout_at(limit, self.wait_for_detached()).await;
        let stuck_calls = self.detached.running();
        let mut undelivered = std::mem::take(&mut *self.left_over.lock());
        undelivered.extend(self.detached.take_cut_off());
        for shard in &self.shards {
            let (events, fell) = shard.clear();
            for event in &events {
                self.account(event, Outcome::Cancelled);
            }
            undelivered.extend(events);
            if fell {
                self.pressure.fell();
            }
        }
        self.idle.notify_waiters();
        self.meter.report(self);
        if stuck == 0 {
            self.routes.clear();
        }
        drop(self.commands.remove_all(None));
        self.forget_stale();
        Shutdown { undelivered, stuck_workers: stuck, stuck_calls }
    }

    pub(crate) async fn wait_until_idle(&self) {
        self.wait_until(|| self.is_idle()).await;
    }

    async fn wait_for_detached(&self) {
        self.wait_until(|| self.detached.running() == 0).await;
    }

    async fn wait_until(&self, reached: impl Fn() -> bool) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if reached() {
                return;
            }
            idle.await;
        }
    }

    /// Whether all shards were idle at one moment, and no call detached.
    ///
    /// They are looked at one after the other, so a handler may have put an
    /// event into one that was seen before. The count of accepted events only
    /// grows: the same sum before and after means that nobody did. Only a
    /// shard that is not idle detaches a call, so one look between the two is
    /// enough for those.
    fn is_idle(&self) -> bool {
        let look = || self.shards.iter().map(Shard::idle_since).sum::<Option<u64>>();
        let (before, detached, after) = (look(), self.detached.running(), look());
        detached == 0 && before.is_some() && before == after
    }
}
