//! The pipeline: what stands between a match and its handler.
//!
//! The layers and their order, the same for every handler:
//!
//! ```text
//! filter → breaker → handler → dead letter
//! ```
//!
//! - [`filter`] first: what a handler does not want must not count for or
//!   against it.
//! - [`breaker`] next to the handler: it judges calls, not wishes.
//! - [`dead_letter`] last: it keeps what nothing before it could save.
//!
//! A layer is a small file with two moments: on the way in it lets the event
//! pass or names the [`Outcome`]; on the way out it sees the handler's result.
//! Results return as values; no layer calls another.

pub(crate) mod breaker;
pub(crate) mod dead_letter;
pub(crate) mod filter;

use std::sync::Arc;

use swarmbus_core::{Event, EventType, breaker::Permit};
use tracing::Instrument;

use self::{
    breaker::{BreakerLayer, NamedBreaker},
    dead_letter::Retried,
    filter::FilterLayer,
};
use crate::{
    handler::{Handler, HandlerResult, in_handler},
    inner::Inner,
    ledger::Outcome,
    subscriber::Match,
};

/// The layers of one handler.
pub(crate) struct Pipeline {
    pub(crate) filter: FilterLayer,
    pub(crate) breaker: BreakerLayer,
    /// Whether failed events go to the dead letter queue.
    pub(crate) dead_letters: bool,
}

impl Pipeline {
    /// The breaker that guards the handler against events of this type.
    pub(crate) fn breaker_for(&self, ty: &EventType) -> Option<Arc<NamedBreaker>> {
        self.breaker.of_type(ty)
    }
}

/// One event on its way to one handler.
///
/// The short steps are inlined by force: a permit that is returned through
/// memory costs more than the closed breaker that gives it (40 to 37 ns for an
/// inline dispatch, 57 to 54 for a single publish).
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) runner: usize,
    pub(crate) event: &'a Event,
    pub(crate) matched: &'a Match,
    /// Whether this call's time is measured.
    pub(crate) sampled: bool,
    /// The dead letter that this call retries.
    pub(crate) retried: Option<Retried>,
}

impl<'a> Call<'a> {
    /// Goes through all layers to a plain function, with nobody watching:
    /// apart because that is the usual case, and a future would be half of
    /// its cost.
    #[inline(always)]
    pub(crate) fn run_now(self) -> Outcome {
        let Handler::Sync(handler) = &self.matched.subscriber.handler else {
            return Outcome::Cancelled;
        };
        match self.enter() {
            Ok(permit) => {
                let result = in_handler(self.inner.id, || handler(self.event));
                self.leave(permit, result)
            }
            Err(outcome) => outcome,
        }
    }

    /// Goes through all layers and the handler.
    ///
    /// Cancelled in the middle, the handler's future is dropped and the
    /// breaker's permit is released without counting.
    pub(crate) async fn run(self) -> Outcome {
        match self.enter() {
            Ok(permit) => {
                let result = self.observe().await;
                self.leave(permit, result)
            }
            Err(outcome) => outcome,
        }
    }

    /// The layers on the way in.
    #[inline(always)]
    fn enter(self) -> Result<Option<Permit<'a>>, Outcome> {
        match self.matched.subscriber.pipeline.filter.wants(self.event, self.inner.id) {
            Ok(true) => {}
            Ok(false) => return Err(Outcome::Filtered),
            Err(error) => return Err(dead_letter::keep(self, error, 1)),
        }
        let breaker = self.matched.breaker.as_deref();
        breaker::enter(breaker, self.event.priority(), &self.inner.clock)
            .map_err(|_| Outcome::RejectedByBreaker)
    }

    /// The layers on the way out.
    #[inline(always)]
    fn leave(self, permit: Option<Permit<'a>>, result: HandlerResult) -> Outcome {
        let breaker = self.matched.breaker.as_deref();
        breaker::leave(permit, breaker, result.is_ok(), &self.inner.clock);
        match result {
            Ok(()) => Outcome::Delivered,
            Err(error) => dead_letter::keep(self, error, 1),
        }
    }

    /// The call, with a clock, a span and the middleware around it if they
    /// are wanted.
    async fn observe(self) -> HandlerResult {
        let inner = self.inner;
        if !(self.sampled || inner.watched) {
            return self.call().await;
        }
        let name = &*self.matched.subscriber.name;
        let started = inner.clock.cycles();
        let result = if inner.tracing {
            let ty = self.event.ty().as_str();
            self.call().instrument(tracing::debug_span!("handle", handler = name, ty)).await
        } else {
            self.call().await
        };
        let took = inner.clock.between(started, inner.clock.cycles());
        if self.sampled {
            inner.meter.handled(took);
        }
        inner.middleware.handled(self.event, name, result.as_ref().err().map(|e| &**e), took);
        result
    }

    async fn call(self) -> HandlerResult {
        let subscriber = &*self.matched.subscriber;
        match &subscriber.handler {
            Handler::Sync(handler) => in_handler(self.inner.id, || handler(self.event)),
            Handler::Async(handler) => {
                let event = self.event.clone();
                subscriber.slots.call(self.runner, &**handler, event, self.inner.id).await
            }
        }
    }
}
