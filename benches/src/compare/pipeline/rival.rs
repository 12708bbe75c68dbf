//! The same five layers from `tower-resilience`, in the same order, with the
//! same settings.

use std::future::{Ready, ready};

use tower::{Service, ServiceBuilder, util::ServiceFn};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_fallback::FallbackLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{CONCURRENT, FIRST_DELAY, LIMIT, OPEN_FOR, TRIES, WAIT};

/// What is called in the end: it adds one.
fn handler(n: u64) -> Ready<Result<u64, Failed>> {
    ready(Ok(n + 1))
}

#[derive(Clone, Debug)]
pub(super) struct Failed;

type Handler = ServiceFn<fn(u64) -> Ready<Result<u64, Failed>>>;

/// Fallback, retry, breaker, bulkhead and time limit around [`handler`].
pub(super) fn tower() -> impl Service<u64, Response = u64, Error: std::fmt::Debug, Future: Send> {
    let handler: Handler = tower::service_fn(handler);
    ServiceBuilder::new()
        .layer(FallbackLayer::value(0))
        .layer(RetryLayer::builder().max_attempts(TRIES).exponential_backoff(FIRST_DELAY).build())
        .layer_fn(|inner| {
            let breaker = CircuitBreakerLayer::builder().consecutive_failures(5);
            breaker
                .name("")
                .wait_duration_in_open(OPEN_FOR)
                .build()
                .expect("settings")
                .layer_fn(inner)
        })
        .layer(
            BulkheadLayer::builder()
                .max_concurrent_calls(CONCURRENT)
                .max_wait_duration(WAIT)
                .build()
                .expect("settings"),
        )
        .layer(
            TimeLimiterLayer::builder().timeout_duration(LIMIT).cancel_running_future(true).build(),
        )
        .service(handler)
}
