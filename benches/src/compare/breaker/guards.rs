//! Three circuit breakers behind one trait, each called in its own way.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::spin_loop,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use failsafe::{FailurePolicy, StateMachine};
use swarmbus_core::{
    Moment,
    breaker::{Breaker, Config},
};
use tower::{Service, util::ServiceFn};
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerConfigBuilder, DefaultClassifier,
};

use super::HOUR;

/// A breaker around a call that does nothing and succeeds. Clones share it.
pub(super) trait Guard: Clone + Send + Sync + 'static {
    /// Makes the call. Says whether it was permitted.
    fn call(&mut self) -> bool;
    /// Opens the breaker for as long as it was told to stay open.
    fn open(&mut self);
}

#[derive(Clone)]
pub(super) struct Swarmbus {
    breaker: Arc<Breaker>,
    origin: Instant,
}

pub(super) fn swarmbus(config: Config) -> Swarmbus {
    Swarmbus { breaker: Arc::new(Breaker::new(config)), origin: Instant::now() }
}

impl Guard for Swarmbus {
    #[inline]
    fn call(&mut self) -> bool {
        let clock = || Moment::ORIGIN + self.origin.elapsed();
        match self.breaker.acquire(clock) {
            Ok(permit) => {
                permit.success(clock);
                true
            }
            Err(_) => false,
        }
    }

    fn open(&mut self) {
        self.breaker.trip(Moment::ORIGIN + self.origin.elapsed());
    }
}

pub(super) struct Failsafe<P>(StateMachine<P, ()>);

impl<P: FailurePolicy> Failsafe<P> {
    pub(super) fn new(policy: P) -> Self {
        Self(failsafe::Config::new().failure_policy(policy).build())
    }
}

impl<P> Clone for Failsafe<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: FailurePolicy + Send + 'static> Guard for Failsafe<P> {
    #[inline]
    fn call(&mut self) -> bool {
        let permitted = self.0.is_call_permitted();
        if permitted {
            self.0.on_success();
        }
        permitted
    }

    fn open(&mut self) {
        while self.0.is_call_permitted() {
            self.0.on_error();
        }
    }
}

type Inner = ServiceFn<fn(()) -> Ready<Result<(), Infallible>>>;

#[derive(Clone)]
pub(super) struct Tower(CircuitBreaker<Inner, DefaultClassifier>);

pub(super) fn tower(builder: CircuitBreakerConfigBuilder) -> Tower {
    let builder = builder.name("").wait_duration_in_open(HOUR);
    let inner: Inner = tower::service_fn(|()| ready(Ok(())));
    Tower(builder.build().expect("settings").layer_fn(inner))
}

impl Guard for Tower {
    #[inline]
    fn call(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let ready = self.0.poll_ready(&mut context);
        assert!(matches!(ready, Poll::Ready(Ok(()))), "the inner service is always ready");
        now(self.0.call(())).is_ok()
    }

    fn open(&mut self) {
        now(self.0.force_open());
    }
}

/// Polls until ready: what is waited for is a lock held for a moment.
#[inline]
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => spin_loop(),
        }
    }
}
