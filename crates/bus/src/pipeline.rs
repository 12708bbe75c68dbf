//! The pipeline: what stands between a match and its handler.
//!
//! The layers and their order, the same for every handler and, from the rate
//! limit on, for every [`Guard`](crate::Guard):
//!
//! ```text
//! filter → loop guard → sampling → rate limit
//!   → fallback( retry( breaker( bulkhead( timeout( handler )))))
//!     → dead letter
//! ```
//!
//! - [`filter`] first: what a handler does not want must not count for or
//!   against it.
//! - the loop guard next: an event that goes in circles uses up no rate.
//! - [`rate_limit`] before all that costs something. What it leaves out is gone:
//!   a fallback that took it would be under the storm itself.
//! - [`fallback`] around all tries: it is for when none of them helped.
//! - [`retry`] around the breaker: every try is judged, and an open breaker
//!   ends the tries.
//! - [`breaker`] around the bulkhead: an open one lets nobody queue.
//! - [`bulkhead`] around the time-out: time in its queue is no time in the
//!   handler, and a delay between tries holds no place.
//! - [`timeout`] next to the handler: it limits one try.
//! - [`dead_letter`] last: it keeps what nothing before it could save.
//!
//! A layer is a small file that knows nothing of the others. Those on the way
//! in let the event pass or name the [`Outcome`]; `attempt.rs` puts those
//! around one try together, `layered.rs` those around all of them, and
//! `at_once.rs` does all of it for calls that do not wait. Results
//! return as values; no layer calls another.
//!
//! A handler with a filter and a breaker only does not come near the rest. One
//! with a bulkhead, or that is tried again, leaves its worker:
//! [`detached`]. One that is a queue to somewhere else is asked for by that:
//! [`outlet`]; so is one that gets events several at a time: [`batch`].

mod at_once;
pub(crate) mod attempt;
pub(crate) mod batch;
pub(crate) mod breaker;
pub(crate) mod bulkhead;
pub(crate) mod dead_letter;
pub(crate) mod detached;
pub(crate) mod fallback;
pub(crate) mod filter;
pub(crate) mod layered;
pub(crate) mod living;
mod loop_guard;
pub(crate) mod outlet;
pub(crate) mod policy;
pub(crate) mod rate_limit;
pub(crate) mod retry;
pub(crate) mod service;
pub(crate) mod timeout;

use std::{future::Future, pin::Pin, sync::Arc};

use swarmbus_core::{Event, EventType, breaker::Permit, hops::LoopGuard};
use tracing::Instrument;

use self::{
    breaker::{BreakerLayer, NamedBreaker},
    dead_letter::Retried,
    filter::FilterLayer,
    layered::{Layers, Rest, Step},
};
use crate::{
    handler::{Handler, HandlerError, HandlerResult, SyncHandler, in_handler},
    inner::Inner,
    ledger::Outcome,
    subscriber::Match,
};

/// The layers of one handler. The first is the one that every event needs.
#[repr(C)]
pub(crate) struct Pipeline {
    pub(crate) filter: FilterLayer,
    pub(crate) loop_guard: Option<LoopGuard>,
    pub(crate) breaker: BreakerLayer,
    /// What else there is, if anything.
    pub(crate) layers: Option<Box<Layers>>,
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
        let breaker = self.matched.breaker.as_deref();
        let filtered = self.matched.subscriber.pipeline.filter.is_some();
        let quiet = breaker::enter_if_quiet(breaker, self.event.priority());
        let (Some(ticket), false, false) = (quiet, filtered, self.sampled) else {
            return self.run_now_slowly(handler);
        };
        let result = in_handler(self.inner.id, || handler(self.event));
        breaker::leave_if_quiet(ticket, breaker, result.is_ok(), &self.inner.clock);
        self.outcome(result)
    }

    /// The same for a call that is watched, or has a filter, or no breaker, or
    /// one that counts.
    #[inline(never)]
    fn run_now_slowly(self, handler: &SyncHandler) -> Outcome {
        match self.is_wanted().and_then(|()| self.ask_breaker()) {
            Ok(permit) => {
                let started = self.sampled.then(|| self.inner.clock.cycles());
                let result = in_handler(self.inner.id, || handler(self.event));
                if let Some(started) = started {
                    self.observed(started, result.as_ref().err().map(|error| &**error));
                }
                self.leave(permit, result)
            }
            Err(outcome) => outcome,
        }
    }

    /// Goes through all layers and the handler, waiting for whatever it must.
    ///
    /// Cancelled in the middle, the handler's future is dropped and the
    /// breaker's permit is released without counting.
    pub(crate) async fn run(self) -> Outcome {
        match self.run_briefly(false).await {
            Step::Done(outcome) => outcome,
            Step::Left(rest) => self.go_on(rest).await,
        }
    }

    /// Does the same, but may leave what would keep others waiting: a retry, or a
    /// handler in a bulkhead.
    pub(crate) async fn run_briefly(self, may_leave: bool) -> Step {
        let wanted = self.is_wanted().and_then(|()| self.is_no_loop());
        if let Err(outcome) = wanted.and_then(|()| self.in_rate()) {
            return Step::Done(outcome);
        }
        if let Some(layers) = &self.matched.subscriber.pipeline.layers {
            return self.through_layers(layers, may_leave).await;
        }
        Step::Done(match self.ask_breaker() {
            Ok(permit) => {
                let result = self.observe().await;
                self.leave(permit, result)
            }
            Err(outcome) => outcome,
        })
    }

    /// Does what was left.
    pub(crate) async fn go_on(self, rest: Rest) -> Outcome {
        match &self.matched.subscriber.pipeline.layers {
            Some(layers) => self.run_layers(layers, rest).await,
            // Only layers leave anything.
            None => Outcome::Cancelled,
        }
    }

    #[inline(always)]
    fn is_wanted(self) -> Result<(), Outcome> {
        match self.matched.subscriber.pipeline.filter.wants(self.event, self.inner.id) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Outcome::Filtered),
            Err(error) => Err(dead_letter::keep(self, error, 1)),
        }
    }

    #[inline(always)]
    fn ask_breaker(self) -> Result<Option<Permit<'a>>, Outcome> {
        let breaker = self.matched.breaker.as_deref();
        breaker::enter(breaker, self.event.priority(), &self.inner.clock)
            .map_err(|_| Outcome::RejectedByBreaker)
    }

    /// The layers on the way out.
    #[inline(always)]
    fn leave(self, permit: Option<Permit<'a>>, result: HandlerResult) -> Outcome {
        let breaker = self.matched.breaker.as_deref();
        breaker::leave(permit, breaker, result.is_ok(), &self.inner.clock);
        self.outcome(result)
    }

    #[inline(always)]
    fn outcome(self, result: HandlerResult) -> Outcome {
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
        self.observed(started, result.as_ref().err().map(|error| &**error));
        result
    }

    /// Tells of the end of a call.
    fn observed(self, started: u64, error: Option<&HandlerError>) {
        let inner = self.inner;
        let took = inner.clock.between(started, inner.clock.cycles());
        if self.sampled {
            inner.meter.handled(took);
        }
        inner.middleware.handled(self.event, &self.matched.subscriber.name, error, took);
    }

    async fn call(self) -> HandlerResult {
        if self.runner == self.inner.pool.spare().index {
            return self.call_noted().await;
        }
        let subscriber = &*self.matched.subscriber;
        match &subscriber.handler {
            Handler::Sync(handler) => in_handler(self.inner.id, || handler(self.event)),
            Handler::Async(handler) => {
                let event = self.event.clone();
                subscriber.slots.call(self.runner, &**handler, event, self.inner.id).await
            }
        }
    }

    /// The call by a runner that is nobody's in particular: noted where stalls
    /// are looked for. Boxed, as handlers may dispatch inside each other deeply.
    fn call_noted(self) -> Pin<Box<dyn Future<Output = HandlerResult> + Send + 'a>> {
        Box::pin(async move {
            let (inner, subscriber) = (self.inner, &*self.matched.subscriber);
            let ongoing = inner.stalls.handler(&subscriber.name, &inner.books);
            match &subscriber.handler {
                Handler::Sync(handler) => in_handler(inner.id, || handler(self.event)),
                Handler::Async(handler) => {
                    let event = self.event.clone();
                    let call = subscriber.slots.call(self.runner, &**handler, event, inner.id);
                    ongoing.framed(call).await
                }
            }
        })
    }
}
