//! The layers that a subscription asks for.

use std::{future::Future, sync::Arc};

use swarmbus_core::{Event, Str, backoff::Backoff, hops::LoopGuard, timeout::Tier};

use super::{Subscribe, Subscription};
use crate::{
    error::SubscribeError,
    handler::{FutureSlots, Handler, HandlerError, IntoHandlerResult},
    inner::Inner,
    pipeline::{
        batch::{BatchFn, BatchOutlet, Batching},
        breaker::{BreakerLayer, BreakerScope},
        bulkhead::{Bulkhead, BulkheadLayer},
        detached::Outlet,
        fallback::{Degradation, Fallback, FallbackLayer},
        layered::{Layers, RetryIf},
        policy::{Policy, PolicyError},
        rate_limit::{Limiter, RateLimit, Sampler, Sampling},
        retry::RetryLayer,
        service::Service,
    },
};

/// What was asked for so far.
pub(super) struct Settings {
    pub(super) policy: Policy,
    service: Option<Str>,
    loop_guard: Option<LoopGuard>,
    retry_if: Option<RetryIf>,
    fallbacks: Vec<(Arc<str>, Handler)>,
    in_order: bool,
    outlet: Option<Arc<dyn Outlet>>,
    /// The outlet gathers events.
    batching: Option<Batching>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::new(),
            service: None,
            loop_guard: Some(LoopGuard::DEFAULT),
            retry_if: None,
            fallbacks: Vec::new(),
            in_order: false,
            outlet: None,
            batching: None,
        }
    }
}

/// Layers around the handler; their order is that of the pipeline, not that of
/// these calls.
///
/// ```
/// use std::time::Duration;
/// use swarmbus::{Bulkhead, Bus, Event, core::backoff::Backoff};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().build()?;
/// let _index = bus
///     .subscribe("document.changed")
///     .timeout(Duration::from_secs(5))
///     .bulkhead(Bulkhead::new().concurrent(4))
///     .retry(Backoff::RETRY)
///     .fallback("index later", |_: &Event| println!("on the list for tonight"))
///     .handle_async(|_| async { Err("the index is down") })?;
/// bus.publish(Event::of("document.changed", "17")).await?;
/// bus.drain(Duration::from_secs(60)).await;
/// assert_eq!(bus.ledger().outcomes.fell_back, 1);
/// assert_eq!(&*bus.degraded()[0].serving, "index later");
/// # Ok(())
/// # }
/// ```
impl Subscribe<'_> {
    /// The service that the handler calls: it gets the layers that were
    /// declared for it ([`BusBuilder::service`](crate::BusBuilder::service)) and
    /// that it does not set itself. Breaker, bulkhead, rate limit, sample and
    /// retry budget are shared with all handlers of the service.
    pub fn service(mut self, name: impl Into<Str>) -> Self {
        self.layers.service = Some(name.into());
        self
    }

    /// How often, and after which delays, an event is tried again that the
    /// handler failed on or timed out on. Default: never.
    ///
    /// The event gives up its place in the order: what its source published
    /// after it is handled meanwhile. [`in_order`](Self::in_order) keeps it. A
    /// payload that does not fit the handler's type is not tried again, and no
    /// retry begins after the event's deadline.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    /// use swarmbus::{Bus, Event, core::backoff::Backoff};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::builder().build()?;
    /// let tries = AtomicU32::new(0);
    /// let _flaky = bus.subscribe("x").retry(Backoff::RETRY).handle(move |_: &Event| {
    ///     if tries.fetch_add(1, SeqCst) < 2 { Err("not yet") } else { Ok(()) }
    /// })?;
    /// bus.publish(Event::of("x", ())).await?;
    /// bus.drain(std::time::Duration::from_secs(1)).await;
    /// assert_eq!(bus.ledger().outcomes.delivered, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.layers.policy = self.layers.policy.retry(backoff);
        self
    }

    /// Which failures are worth another try. Default: all. If it panics, none.
    pub fn retry_if(
        mut self,
        worth: impl Fn(&HandlerError) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.layers.retry_if = Some(Box::new(worth));
        self
    }

    /// A retry budget of the handler's own. Default: that of its service, or
    /// else 20 percent of the calls and 10 a second. See
    /// [`Policy::retry_budget`].
    pub fn retry_budget(mut self, percent: u8, per_second: u32) -> Self {
        self.layers.policy = self.layers.policy.retry_budget(percent, per_second);
        self
    }

    /// How long one try may take: a [`Tier`], or a
    /// [`Duration`](std::time::Duration). Default: as long as it likes.
    ///
    /// At the limit the handler is asked to stop
    /// ([`cancelled`](crate::cancelled)); a tenth later it is dropped. Until
    /// then it keeps its worker, unless it has a bulkhead. The event
    /// that it gets has a deadline no later than the limit, so that what it
    /// causes ([`Event::caused_by`]) does not outlive it.
    pub fn timeout(mut self, limit: impl Into<Tier>) -> Self {
        self.layers.policy = self.layers.policy.timeout(limit);
        self
    }

    /// How many calls of the handler run at once, and how many wait. Default:
    /// one for each worker.
    ///
    /// The handler then runs in tasks of its own, so that a slow one does not
    /// hold up the workers, and events are not handled in order. Those beyond
    /// its queue are rejected, and nobody waits in it beyond its deadline. With [`in_order`](Self::in_order) they wait in
    /// the bus's queue instead, and hold back their publishers.
    pub fn bulkhead(mut self, bulkhead: Bulkhead) -> Self {
        self.layers.policy = self.layers.policy.bulkhead(bulkhead);
        self
    }

    /// How many events are handled in a time. Those beyond are rejected.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.layers.policy = self.layers.policy.rate_limit(limit);
        self
    }

    /// Which part of the events is handled under an event storm. Default: all.
    pub fn sample(mut self, sampling: Sampling) -> Self {
        self.layers.policy = self.layers.policy.sample(sampling);
        self
    }

    /// Handles an event when the handler did not, with all its tries: because
    /// it failed, timed out, or was not called as its breaker is open or its
    /// bulkhead full. Several are tried in their order, until one succeeds.
    ///
    /// The name is for [`Degraded::serving`](crate::Degraded::serving).
    pub fn fallback<F, R>(mut self, name: impl AsRef<str>, f: F) -> Self
    where
        F: Fn(&Event) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        self.layers.fallbacks.push((name.as_ref().into(), Handler::sync(f)));
        self
    }

    /// Like [`fallback`](Self::fallback) with a future, which has the time of
    /// the handler's own [`timeout`](Self::timeout).
    pub fn fallback_async<F, Fut>(mut self, name: impl AsRef<str>, f: F) -> Self
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        self.layers.fallbacks.push((name.as_ref().into(), Handler::future(f)));
        self
    }

    /// Keeps the order of a source's events through retries and the bulkhead:
    /// the worker waits for both, and with it every source that shares it.
    pub fn in_order(mut self) -> Self {
        self.layers.in_order = true;
        self
    }

    /// Hands calls over in place of calling the handler, which is for callers
    /// that wait for the outcome: a `dispatch`, or the retry of a dead letter.
    pub(crate) fn outlet(mut self, outlet: Arc<dyn Outlet>) -> Self {
        self.layers.outlet = Some(outlet);
        self
    }

    /// How often one path of events may lead through this handler; `None` for
    /// as often as it likes. Default: once, and 64 hops.
    ///
    /// It asks only about events that say what caused them
    /// ([`Event::caused_by`] with this handler's name).
    ///
    /// ```
    /// use swarmbus::{Bus, Event};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::builder().build()?;
    /// let weak = bus.downgrade();
    /// // Answers its own answers: without the guard, for ever.
    /// let _echo = bus.subscribe("said").name("echo").handle(move |event: &Event| {
    ///     let answer = Event::of("said", "echo").caused_by(event, "echo")?;
    ///     if let Some(bus) = weak.upgrade() {
    ///         bus.try_publish(answer)?;
    ///     }
    ///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    /// })?;
    /// bus.publish(Event::of("said", "hello")).await?;
    /// bus.drain(std::time::Duration::from_secs(1)).await;
    /// let outcomes = bus.ledger().outcomes;
    /// assert_eq!((outcomes.delivered, outcomes.looped), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn loop_guard(mut self, guard: impl Into<Option<LoopGuard>>) -> Self {
        self.layers.loop_guard = guard.into();
        self
    }
}

impl Subscribe<'_> {
    /// Handles events several at a time, with one result for all of them: for
    /// what costs much each time and little more for each event, such as a
    /// write to a database.
    ///
    /// The handler is called when there are [`Batching::size`] events, or when
    /// the first has waited for [`Batching::wait`]: one call at a time, in the
    /// order of the events. While it is at work and the next batch is full,
    /// workers wait, and with them publishers. A `dispatch` and the retry of a
    /// dead letter, which wait for the result, make a batch of one.
    ///
    /// Filter, loop guard, sampling, rate limit and breaker ask about each event
    /// before it is in a batch. A batch that fails, panics or times out is one
    /// failure to the breaker, and each of its events becomes a dead letter.
    ///
    /// ```
    /// use std::time::Duration;
    /// use swarmbus::{Batching, Bus, Event};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::builder().build()?;
    /// let batching = Batching::new().size(100).wait(Duration::from_millis(5));
    /// let _rows = bus.subscribe("reading").handle_batch(batching, |readings| async move {
    ///     println!("{} rows in one transaction", readings.len()); // 100, then 20
    /// })?;
    /// for _ in 0..120 {
    ///     bus.publish(Event::of("reading", "21 °C")).await?;
    /// }
    /// bus.drain(Duration::from_secs(1)).await;
    /// assert_eq!(bus.ledger().outcomes.delivered, 120);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]. Retry, bulkhead and fallback are for one event at
    /// a time: [`PolicyError::Batched`].
    pub fn handle_batch<F, Fut>(
        mut self,
        batching: Batching,
        f: F,
    ) -> Result<Subscription, SubscribeError>
    where
        F: Fn(Vec<Event>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        let (f, settings) = (Arc::new(f), &mut self.layers);
        let all = Arc::clone(&f);
        let handler: BatchFn = Box::new(move |events| {
            let future = all(events);
            Box::pin(async move { future.await.into_handler_result() })
        });
        settings.batching = Some(batching);
        settings.outlet = Some(Arc::new(BatchOutlet::new(batching, handler)));
        // As it is by itself.
        settings.in_order = false;
        self.finish(Handler::future(move |event| f(vec![event])))
    }
}

/// What the settings come to.
pub(super) struct Assembled {
    pub(super) breaker: BreakerLayer,
    pub(super) loop_guard: Option<LoopGuard>,
    pub(super) layers: Option<Box<Layers>>,
}

impl Settings {
    /// Checks the settings and makes the layers.
    pub(super) fn assemble(
        self,
        inner: &Inner,
        name: &Arc<str>,
        scope: Option<BreakerScope>,
        can_stop: bool,
    ) -> Result<Assembled, SubscribeError> {
        let service = match &self.service {
            Some(service) => Some(inner.services.find(service)?),
            None => None,
        };
        let policy = match service {
            Some(service) => self.policy.clone().or(&service.policy),
            None => self.policy.clone(),
        };
        policy.check()?;
        if policy.timeout.is_some() && !can_stop {
            return Err(PolicyError::TimeoutOfPlainFunction.into());
        }
        if self.retry_if.is_some() && policy.retry.is_none() {
            return Err(PolicyError::WithoutRetry { setting: "retry_if" }.into());
        }
        if let Some(batching) = self.batching {
            batching.check()?;
            self.check_batched(&policy)?;
        }
        let breaker = self.breaker(inner, name, scope)?;
        let loop_guard = self.loop_guard;
        let layers = self.layers(inner, name, service, &policy)?;
        Ok(Assembled { breaker, loop_guard, layers })
    }

    /// Refuses what stands around each try of one event.
    fn check_batched(&self, policy: &Policy) -> Result<(), PolicyError> {
        let layers = [
            ("retry", policy.retry.is_some()),
            ("bulkhead", policy.bulkhead.is_some()),
            ("fallback", !self.fallbacks.is_empty()),
        ];
        match layers.into_iter().find(|(_, is_set)| *is_set) {
            Some((setting, _)) => Err(PolicyError::Batched { setting }),
            None => Ok(()),
        }
    }

    fn breaker(
        &self,
        inner: &Inner,
        name: &Arc<str>,
        scope: Option<BreakerScope>,
    ) -> Result<BreakerLayer, SubscribeError> {
        let own = self.policy.breaker.clone();
        let declared = |service: &Str| inner.services.get(service)?.policy.breaker.clone();
        let scope = match (scope, &self.service) {
            (Some(BreakerScope::Off), _) if own.is_some() => {
                return Err(PolicyError::BreakerOff.into());
            }
            (Some(scope), _) => scope,
            (None, Some(service)) if own.is_none() && declared(service).is_some() => {
                BreakerScope::Service(service.clone())
            }
            (None, _) => BreakerScope::PerType,
        };
        let of_service = match &scope {
            BreakerScope::Service(service) => declared(service),
            BreakerScope::PerType | BreakerScope::PerHandler | BreakerScope::Off => None,
        };
        let config = own.or(of_service).unwrap_or_else(|| inner.limits.breaker.clone());
        inner.breakers.layer(name, scope, config)
    }

    fn layers(
        self,
        inner: &Inner,
        name: &Arc<str>,
        service: Option<&Service>,
        policy: &Policy,
    ) -> Result<Option<Box<Layers>>, SubscribeError> {
        let own = &self.policy;
        let budget = match service {
            Some(service) if own.budget.is_none() => Arc::clone(&service.budget),
            _ => policy.new_budget(),
        };
        let slots = |handler: &Handler| match handler {
            Handler::Sync(_) => FutureSlots::default(),
            Handler::Async(_) => FutureSlots::new(inner.books.runners()),
        };
        let chain: Vec<_> = self
            .fallbacks
            .into_iter()
            .map(|(name, handler)| Fallback { name, slots: slots(&handler), handler })
            .collect();
        let layers = Layers {
            sampler: match own.sampling {
                Some(sampling) => Some(Arc::new(Sampler::new(sampling)?)),
                None => service.and_then(|service| service.sampler.clone()),
            },
            limiter: match own.rate_limit {
                Some(limit) => Some(Arc::new(Limiter::new(limit)?)),
                None => service.and_then(|service| service.limiter.clone()),
            },
            fallback: (!chain.is_empty()).then(|| FallbackLayer {
                chain,
                degradation: inner.degradations.add(Degradation::new(name)),
            }),
            retry: policy.retry.map(|backoff| RetryLayer::new(backoff, budget)),
            retry_if: self.retry_if,
            bulkhead: match own.bulkhead {
                Some(settings) => Some(inner.bulkheads.add(BulkheadLayer::new(name, settings))),
                None => service.and_then(|service| service.bulkhead.clone()),
            },
            limit: policy.timeout,
            in_order: self.in_order,
            outlet: self.outlet,
        };
        Ok((!layers.is_empty()).then(|| Box::new(layers)))
    }
}
