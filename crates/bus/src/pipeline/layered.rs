//! A call of a handler that has more layers than a filter and a breaker.
//!
//! Between two tries nothing is held: what the next one needs is a value,
//! [`Rest`], that may be taken up here or in a task of its own.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use swarmbus_core::{Event, Timestamp, timeout::Tier};

use super::{
    Call,
    at_once::{Begun, Layered},
    attempt::Try,
    bulkhead::BulkheadLayer,
    dead_letter,
    detached::Outlet,
    fallback::{Fallback, FallbackLayer},
    rate_limit::{Limiter, Sampler},
    retry::RetryLayer,
    timeout::{self, Frame, Timed, within},
};
use crate::{
    clock::BusClock,
    guard::CallError,
    handler::{Careful, Handler, HandlerError, HandlerResult, contain, discard, in_handler},
    ledger::Outcome,
};

/// Which failures are worth another try.
pub(crate) type RetryIf = Box<dyn Fn(&HandlerError) -> bool + Send + Sync>;

/// The layers that most handlers do not have.
#[derive(Default)]
pub(crate) struct Layers {
    pub(crate) sampler: Option<Arc<Sampler>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) fallback: Option<FallbackLayer>,
    pub(crate) retry: Option<RetryLayer>,
    pub(crate) retry_if: Option<RetryIf>,
    pub(crate) bulkhead: Option<Arc<BulkheadLayer>>,
    pub(crate) limit: Option<Duration>,
    /// Whether whoever runs the event waits for all of this.
    pub(crate) in_order: bool,
    /// What takes calls over, in place of a handler.
    pub(crate) outlet: Option<Arc<dyn Outlet>>,
}

impl Layers {
    /// Whether there is no need for them.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { sampler, limiter, fallback, retry, bulkhead, limit, outlet, .. } = self;
        let rates = sampler.is_none() && limiter.is_none();
        let around = fallback.is_none() && retry.is_none() && bulkhead.is_none();
        rates && around && limit.is_none() && outlet.is_none()
    }
}

/// What is left to do for a call.
pub(crate) enum Rest {
    /// All of it.
    Everything,
    /// To try again after this long.
    Again(Duration, Failure),
}

/// How the tries so far ended.
pub(crate) struct Failure {
    pub(super) error: Careful<Box<HandlerError>>,
    pub(super) tries: u32,
}

impl Failure {
    /// How often the handler was called.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }
}

/// What became of a try.
pub(crate) enum Step {
    Done(Outcome),
    Left(Rest),
}

/// Why there will be no other try.
enum End {
    Failed(Failure),
    /// The handler was not called at all.
    Refused(Outcome),
}

impl<'a> Call<'a> {
    /// Sampling and the rate limit.
    pub(super) fn in_rate(self) -> Result<(), Outcome> {
        let Some(layers) = &self.matched.subscriber.pipeline.layers else { return Ok(()) };
        if layers.sampler.as_ref().is_some_and(|sampler| !sampler.keeps()) {
            return Err(Outcome::SampledOut);
        }
        match layers.limiter.as_ref().map_or(Ok(()), |limiter| limiter.check()) {
            Ok(()) => Ok(()),
            Err(_) => Err(Outcome::RejectedByRateLimit),
        }
    }

    /// All of a call, or, if it may leave things and order does not matter, as
    /// much as is done without waiting for others: the first try, if it needs no
    /// place in a bulkhead.
    #[inline]
    pub(super) fn through_layers(self, layers: &'a Layers, may_leave: bool) -> Layered<'a> {
        Layered::Fresh { call: self, layers, may_leave }
    }

    /// All that is left of a call, to its end.
    ///
    /// Cancelled in the middle, the handler's future is dropped, its place in
    /// the bulkhead is free and the breaker's permit counts as nothing.
    pub(super) fn run_layers(
        self,
        layers: &'a Layers,
        rest: Rest,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let mut step = Step::Left(rest);
            loop {
                step = match step {
                    Step::Done(outcome) => return outcome,
                    Step::Left(Rest::Everything) => self.first_try(layers).await,
                    Step::Left(Rest::Again(delay, failure)) => {
                        tokio::time::sleep(delay).await;
                        self.attempt(layers, Some(failure)).await
                    }
                };
            }
        })
    }

    pub(super) async fn first_try(self, layers: &'a Layers) -> Step {
        if let Some(retry) = &layers.retry {
            retry.begin();
        }
        self.attempt(layers, None).await
    }

    /// One try, and what its end leads to.
    async fn attempt(self, layers: &'a Layers, before: Option<Failure>) -> Step {
        let result = self.call_within(layers).await;
        self.after_try(layers, before, result).await
    }

    #[inline]
    pub(super) fn succeeded(self, layers: &Layers) -> Outcome {
        if let Some(fallback) = &layers.fallback {
            fallback.degradation.recovered();
        }
        Outcome::Delivered
    }

    /// What the end of a try leads to.
    pub(super) async fn after_try(
        self,
        layers: &Layers,
        before: Option<Failure>,
        result: Result<(), Stopped>,
    ) -> Step {
        let tries = before.as_ref().map_or(0, |failure| failure.tries) + 1;
        let error = match result {
            Ok(()) => return Step::Done(self.succeeded(layers)),
            Err(error) => error,
        };
        let failure = match error {
            Stopped::Failed(error) => Failure { error: Careful(Some(error)), tries },
            // A retry that is refused leaves what it was to mend.
            Stopped::Refused(outcome) => {
                let end = before.map_or(End::Refused(outcome), End::Failed);
                return Step::Done(self.give_up(layers, end).await);
            }
            Stopped::Over(outcome) => {
                return Step::Done(before.map_or(outcome, |failure| self.failed(failure)));
            }
        };
        match self.again(layers, &failure) {
            Some(delay) => Step::Left(Rest::Again(delay, failure)),
            None => Step::Done(self.give_up(layers, End::Failed(failure)).await),
        }
    }

    /// The handler, inside of breaker, bulkhead and time-out.
    async fn call_within(self, layers: &'a Layers) -> Result<(), Stopped> {
        let around = self.around_try(layers);
        self.is_still_due()?;
        let admitted = match self.time_left() {
            None => around.admit().await?,
            // Who is too late keeps no place from others.
            Some(left) => tokio::time::timeout(left, around.admit())
                .await
                .map_err(|_| Stopped::Over(Outcome::Expired))??,
        };
        self.is_still_due()?;
        let limited;
        let mut call = self;
        if let Some(limit) = layers.limit {
            limited = with_limit(self.event, limit).ok_or(Stopped::Over(Outcome::Expired))?;
            call.event = &limited;
        }
        let since = self.inner.clock.cycles();
        let frame = layers.limit.map(Frame::new);
        let performed = around.perform(admitted, frame, || call.observe()).await;
        performed.map_err(|error| call.stopped(error, since))
    }

    /// The rest of a try whose handler waits.
    pub(super) async fn go_on_with(self, begun: Begun<'a>) -> Result<(), Stopped> {
        let Begun { around, admitted, frame, mut handler, since } = begun;
        // It has just been polled, in this very poll of its task: a handler that
        // yields is not asked again at once.
        let mut fresh = true;
        let later = poll_fn(|cx| {
            if mem::take(&mut fresh) { Poll::Pending } else { Pin::new(&mut handler).poll(cx) }
        });
        let performed = around.perform(admitted, frame, || later).await;
        performed.map_err(|error| self.stopped(error, since))
    }

    /// Counts what no ledger does of a try that began at `since`.
    fn stopped(self, error: CallError<Box<HandlerError>>, since: u64) -> Stopped {
        if let CallError::TimedOut { aborted } = error {
            let tally = &self.inner.tally;
            tally.timed_out.fetch_add(1, Relaxed);
            tally.aborted.fetch_add(u64::from(aborted), Relaxed);
            if aborted {
                // Dropped, it could not say so itself.
                self.observed(since, Some(&HandlerError::TimedOut { aborted }));
            }
        }
        Stopped::from(error)
    }

    /// The layers around one try.
    #[inline]
    pub(super) fn around_try(self, layers: &'a Layers) -> Try<'a> {
        Try {
            breaker: self.matched.breaker.as_deref(),
            bulkhead: layers.bulkhead.as_deref(),
            priority: self.event.priority(),
            clock: &self.inner.clock,
        }
    }

    /// However long a call has waited: none starts after the handler was
    /// unsubscribed, or after the event's deadline.
    #[inline]
    pub(super) fn is_still_due(self) -> Result<(), Stopped> {
        if !self.matched.subscriber.is_active() {
            return Err(Stopped::Over(Outcome::Cancelled));
        }
        if self.event.deadline().is_some_and(|deadline| deadline <= BusClock::wall()) {
            return Err(Stopped::Over(Outcome::Expired));
        }
        Ok(())
    }

    /// Until the event's deadline, if it has one.
    fn time_left(self) -> Option<Duration> {
        self.event.deadline().map(|end| end.saturating_since(BusClock::wall()))
    }

    /// Whether to try again, and when.
    pub(super) fn again(self, layers: &Layers, failure: &Failure) -> Option<Duration> {
        let retry = layers.retry.as_ref()?;
        let worth = match (failure.error.0.as_deref()?, &layers.retry_if) {
            // The payload will fit no better the next time.
            (HandlerError::Payload(_), _) => false,
            (_, None) => true,
            // One that panics has not asked for another try.
            (error, Some(worth)) => contain(|| worth(error)).unwrap_or(false),
        };
        let delay =
            worth.then(|| retry.after(failure.tries, self.time_left(), &self.inner.clock))??;
        self.inner.tally.retries.fetch_add(1, Relaxed);
        Some(delay)
    }

    /// Fallbacks, then the dead letter queue.
    async fn give_up(self, layers: &Layers, end: End) -> Outcome {
        if let Some(FallbackLayer { chain, degradation }) = &layers.fallback {
            for fallback in chain {
                if self.stand_in(fallback, layers.limit).await {
                    degradation.served(&fallback.name);
                    return Outcome::FellBack;
                }
            }
        }
        match end {
            End::Failed(failure) => self.failed(failure),
            End::Refused(outcome) => outcome,
        }
    }

    /// The end of a call that nothing helped.
    pub(super) fn failed(self, Failure { mut error, tries }: Failure) -> Outcome {
        error.0.take().map_or(Outcome::Failed, |error| dead_letter::keep(self, error, tries))
    }

    /// Whether a fallback handled the event, under the handler's time-out.
    async fn stand_in(self, fallback: &Fallback, limit: Option<Duration>) -> bool {
        let bus = self.inner.id;
        match &fallback.handler {
            Handler::Sync(handler) => succeeded(in_handler(bus, || handler(self.event))),
            Handler::Async(handler) => {
                let slots = &fallback.slots;
                let call = pin!(slots.call(self.runner, &**handler, self.event.clone(), bus));
                let result: HandlerResult = match limit {
                    None => call.await,
                    Some(limit) => match within(limit, call).await {
                        Timed::InTime(result) => result,
                        Timed::Late(result) => {
                            self.inner.tally.timed_out.fetch_add(1, Relaxed);
                            result
                        }
                        Timed::Aborted => {
                            self.inner.tally.timed_out.fetch_add(1, Relaxed);
                            self.inner.tally.aborted.fetch_add(1, Relaxed);
                            return false;
                        }
                    },
                };
                succeeded(result)
            }
        }
    }
}

fn succeeded(result: HandlerResult) -> bool {
    result.map_err(discard).is_ok()
}

/// Why a try did not succeed.
pub(super) enum Stopped {
    Failed(Box<HandlerError>),
    Refused(Outcome),
    /// Nobody wants it any more, from a fallback neither.
    Over(Outcome),
}

impl From<CallError<Box<HandlerError>>> for Stopped {
    fn from(error: CallError<Box<HandlerError>>) -> Self {
        match error {
            CallError::Failed(error) => Self::Failed(error),
            CallError::Panicked(text) => Self::Failed(Box::new(HandlerError::Panicked(text))),
            CallError::TimedOut { aborted } => {
                Self::Failed(Box::new(HandlerError::TimedOut { aborted }))
            }
            CallError::Rejected { .. } => Self::Refused(Outcome::RejectedByBreaker),
            CallError::BulkheadFull | CallError::BulkheadTimeout { .. } => {
                Self::Refused(Outcome::RejectedByBulkhead)
            }
            CallError::RateLimited { .. } => Self::Refused(Outcome::RejectedByRateLimit),
        }
    }
}

/// The event as a handler with a time-out gets it: what it causes is to be over
/// before the handler is. `None` if there is no time left.
#[inline]
pub(super) fn with_limit(event: &Event, limit: Duration) -> Option<Event> {
    let now = BusClock::wall();
    let own = event.deadline().map(|deadline| deadline.saturating_since(now));
    let left = own.into_iter().chain(timeout::left()).min();
    let soft = Tier::Custom(limit).within(left)?.soft();
    let deadline: Timestamp = now.saturating_add(soft);
    Some(event.clone().with_deadline(deadline))
}
