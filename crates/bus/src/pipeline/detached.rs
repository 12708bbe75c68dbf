//! Calls that go on in tasks of their own, so that a worker, which serves many
//! sources, does not wait for a retry or for a place in a bulkhead.
//!
//! The event is resolved when its worker is done with it; the match gets its
//! outcome here, whatever happens to the task.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus_core::Event;
use tokio_util::sync::CancellationToken;

use super::{
    Call,
    layered::{Layers, Rest},
};
use crate::{inner::Inner, journal::Receipt, ledger::Outcome, subscriber::Match};

/// The detached calls of one bus.
pub(crate) struct DetachedCalls {
    limit: usize,
    running: AtomicUsize,
    /// Those that wait in a queue of their own, which bounds them.
    queued: AtomicUsize,
    /// Ends them all.
    pub(crate) cut: CancellationToken,
    /// Events of those that were ended.
    pub(super) cut_off: Mutex<Vec<Event>>,
}

/// What no ledger counts, because it is no outcome.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) retries: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) aborted: AtomicU64,
}

impl DetachedCalls {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            running: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            cut: CancellationToken::new(),
            cut_off: Mutex::default(),
        }
    }

    /// How many go on. Whoever sees 0 sees their outcomes, too.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire) + self.queued.load(Ordering::Acquire)
    }

    /// Ends all that go on, and all that would begin.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// The events of those that were ended, each once however many handlers
    /// it had.
    pub(crate) fn take_cut_off(&self) -> Vec<Event> {
        let mut events = std::mem::take(&mut *self.cut_off.lock());
        let mut seen = HashSet::new();
        events.retain(|event| event.id().is_none_or(|id| seen.insert(id)));
        events
    }
}

/// A match that goes on in a task of its own. Dropped, whatever the reason, it
/// has an outcome.
pub(crate) struct Detached {
    pub(super) host: Arc<Inner>,
    pub(super) event: Event,
    pub(super) matched: Match,
    sampled: bool,
    /// `None` once the match has its outcome, or without a journal.
    receipt: Option<Arc<Receipt>>,
    queued: bool,
    ended: bool,
}

/// Takes calls over in place of a handler that is called, and ends each.
#[async_trait]
pub(crate) trait Outlet: Send + Sync {
    /// Waits as long as the events behind should wait, too.
    async fn ready(&self);

    /// Never waits, and is called in the order of the events.
    fn take(&self, call: Detached);
}

impl Detached {
    pub(super) fn layers(&self) -> Option<&Layers> {
        self.matched.subscriber.pipeline.layers.as_deref()
    }

    /// Takes a match over; `None` if as many are detached as may be.
    pub(crate) fn begin(
        host: &Arc<Inner>,
        call: Call<'_>,
        receipt: Option<&Arc<Receipt>>,
    ) -> Option<Self> {
        let calls = &host.detached;
        let layers = call.matched.subscriber.pipeline.layers.as_deref();
        let queued = layers.is_some_and(|layers| layers.outlet.is_some());
        if queued {
            calls.queued.fetch_add(1, Ordering::Relaxed);
        } else {
            let room = |running| (running < calls.limit).then_some(running + 1);
            calls.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        }
        Some(Self {
            host: Arc::clone(host),
            event: call.event.clone(),
            matched: call.matched.clone(),
            sampled: call.sampled,
            receipt: receipt.cloned(),
            queued,
            ended: false,
        })
    }

    /// Goes on with it, in a task of the current runtime or in its outlet.
    pub(crate) fn go(self, rest: Rest) {
        match self.layers().and_then(|layers| layers.outlet.clone()) {
            Some(outlet) => outlet.take(self),
            None => drop(tokio::spawn(self.run(rest))),
        }
    }

    async fn run(mut self, rest: Rest) {
        let (inner, call) = (&*self.host, self.call());
        let outcome = tokio::select! {
            biased;
            () = inner.detached.cut.cancelled() => None,
            outcome = call.go_on(rest) => Some(outcome),
        };
        match outcome {
            Some(outcome) => self.end(outcome),
            None => inner.detached.cut_off.lock().push(self.event.clone()),
        }
    }

    pub(super) fn call(&self) -> Call<'_> {
        let inner = &*self.host;
        Call {
            inner,
            runner: inner.pool.spare().index,
            event: &self.event,
            matched: &self.matched,
            sampled: self.sampled,
            retried: None,
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        let (inner, subscriber) = (&*self.host, &*self.matched.subscriber);
        if let Some(receipt) = self.receipt.take() {
            receipt.note(outcome);
        }
        subscriber.counts.count(inner.pool.spare(), outcome);
        inner.middleware.resolved(&self.event, &subscriber.name, outcome);
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if !self.ended {
            if let Some(receipt) = &self.receipt {
                receipt.cut_off();
            }
            self.end(Outcome::Cancelled);
        }
        // Last, as a drain waits for it.
        let calls = &self.host.detached;
        let counter = if self.queued { &calls.queued } else { &calls.running };
        if counter.fetch_sub(1, Ordering::Release) == 1 {
            self.host.idle.notify_waiters();
        }
    }
}
