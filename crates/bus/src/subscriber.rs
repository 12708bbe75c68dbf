//! A handler with everything that belongs to it, and its match with one type.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use swarmbus_core::{Event, EventType};

use crate::{
    handler::{FutureSlots, Handler, discard},
    ledger::{Books, HandlerCounts},
    pipeline::Pipeline,
};

/// One subscribed handler.
///
/// In the order in which they stand here, so that what every event needs is in
/// one cache line: a bus with many handlers has few of them at hand.
#[repr(C, align(64))]
pub(crate) struct Subscriber {
    active: AtomicBool,
    /// Order of subscription, among equals.
    pub(crate) serial: u64,
    pub(crate) handler: Handler,
    pub(crate) counts: HandlerCounts,
    pub(crate) pipeline: Pipeline,
    /// For async handlers.
    pub(crate) slots: FutureSlots,
    pub(crate) name: Arc<str>,
    /// Higher is called earlier.
    pub(crate) priority: i32,
    pub(crate) books: Arc<Books>,
}

impl Subscriber {
    #[expect(clippy::too_many_arguments, reason = "one caller; a builder would repeat the fields")]
    pub(crate) fn new(
        name: Arc<str>,
        priority: i32,
        serial: u64,
        handler: Handler,
        slots: FutureSlots,
        pipeline: Pipeline,
        counts: HandlerCounts,
        books: Arc<Books>,
    ) -> Self {
        let active = AtomicBool::new(true);
        Self { name, priority, serial, handler, slots, pipeline, counts, books, active }
    }

    /// No call starts after this.
    pub(crate) fn deactivate(&self) {
        self.active.store(false, Ordering::Release);
    }

    /// Whether it neither waits nor has layers that do.
    fn is_plain(&self) -> bool {
        !self.handler.is_async() && self.pipeline.layers.is_none()
    }

    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.books.close(&self.counts);
        // What the program's closures captured may panic when dropped, and
        // that must not end the worker that happens to be last to let go.
        let handler = mem::replace(&mut self.handler, Handler::sync(|_: &Event| ()));
        let filter = mem::take(&mut self.pipeline.filter);
        let layers = self.pipeline.layers.take();
        discard((handler, filter, layers));
    }
}

/// A subscriber that wants events of one type, with what its pipeline keeps
/// for that type.
#[derive(Clone)]
pub(crate) struct Match {
    pub(crate) subscriber: Arc<Subscriber>,
    pub(crate) breaker: Option<Arc<crate::pipeline::breaker::NamedBreaker>>,
}

/// The handlers of one event type, in the order they are called.
///
/// Small, so that it shares one cache line with its type in a route cache.
pub(crate) struct Route {
    matches: Matches,
    /// All of them are plain functions without layers that wait: none can make
    /// the event wait.
    pub(crate) plain: bool,
}

/// The usual single handler is in place: one cache line less to wait for.
enum Matches {
    One(Match),
    Others(Box<[Match]>),
}

impl Route {
    pub(crate) fn new(mut matches: Vec<Match>) -> Self {
        let plain = matches.iter().all(|matched| matched.subscriber.is_plain());
        let matches = match (matches.pop(), matches.is_empty()) {
            (Some(only), true) => Matches::One(only),
            (last, _) => {
                matches.extend(last);
                Matches::Others(matches.into())
            }
        };
        Self { matches, plain }
    }

    #[inline]
    pub(crate) fn matches(&self) -> &[Match] {
        match &self.matches {
            Matches::One(only) => std::slice::from_ref(only),
            Matches::Others(matches) => matches,
        }
    }
}

impl Match {
    pub(crate) fn new(subscriber: Arc<Subscriber>, ty: &EventType) -> Self {
        let breaker = subscriber.pipeline.breaker_for(ty);
        Self { subscriber, breaker }
    }
}
