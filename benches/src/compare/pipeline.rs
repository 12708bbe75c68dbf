//! What five layers cost around a call while nothing fails: time-out,
//! bulkhead, breaker, retry and fallback.
//!
//! - Ours: a [`Guard`], and a handler of a bus with the same layers, called by
//!   `dispatch`.
//! - tower-resilience: the same five as a stack of its services, in the same
//!   order with the same settings. It is called in its cheapest way: one clone
//!   that is ready, no names, no listeners.
//!
//! All run on a runtime with a clock, as the time-outs need one. The operation
//! is the same: it is ready at once and adds one to its number. Every result is
//! checked.

mod rival;

use std::{
    convert::Infallible,
    future::poll_fn,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use swarmbus::{Bulkhead, Bus, Event, Guard, breaker::Config, core::backoff::Backoff};
use tokio::runtime::Runtime;
use tower::Service;

use crate::harness::Case;

const LIMIT: Duration = Duration::from_secs(5);
const CONCURRENT: usize = 10;
const WAIT: Duration = Duration::from_secs(30);
const TRIES: usize = 3;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const OPEN_FOR: Duration = Duration::from_secs(30);

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    vec![
        Case::nanoseconds("five layers, Guard::call", guarded).against(
            "tower-resilience",
            3.0,
            tower,
        ),
        Case::nanoseconds("five layers, handler of a bus", handled).against(
            "tower-resilience",
            3.0,
            tower,
        ),
    ]
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn guarded(n: u64) -> Duration {
    let guard: Guard<u64, Infallible> = Guard::builder("bench")
        .timeout(LIMIT)
        .bulkhead(Bulkhead::new().concurrent(CONCURRENT).wait(WAIT))
        .breaker(Config::default())
        .retry(Backoff::exponential(FIRST_DELAY))
        .fallback_value(0)
        .build()
        .expect("settings");
    runtime().block_on(async {
        let mut sum = 0;
        let started = Instant::now();
        for i in 0..n {
            let called = guard.call(|| async move { Ok(black_box(i) + 1) }).await;
            sum += called.expect("nothing fails");
        }
        let took = started.elapsed();
        assert_eq!(sum, n * (n + 1) / 2);
        took
    })
}

fn handled(n: u64) -> Duration {
    runtime().block_on(async {
        let bus = Bus::builder().build().expect("a bus");
        let sum = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&sum);
        let _handler = bus
            .subscribe("x")
            .timeout(LIMIT)
            .bulkhead(Bulkhead::new().concurrent(CONCURRENT).wait(WAIT))
            .retry(Backoff::exponential(FIRST_DELAY))
            .fallback("nothing", |_: &Event| ())
            .handle_async(move |_: Event| {
                counts.fetch_add(1, Relaxed);
                async {}
            })
            .expect("settings");
        let event = Event::of("x", "payload");
        let started = Instant::now();
        for _ in 0..n {
            black_box(bus.dispatch(black_box(&event)).await.expect("handled"));
        }
        let took = started.elapsed();
        assert_eq!(sum.load(Relaxed), n);
        assert!(bus.ledger().balances() && bus.ledger().outcomes.delivered == n);
        took
    })
}

fn tower(n: u64) -> Duration {
    let mut service = rival::tower();
    runtime().block_on(async {
        let mut sum = 0;
        let started = Instant::now();
        for i in 0..n {
            poll_fn(|cx| service.poll_ready(cx)).await.expect("always ready");
            sum += service.call(black_box(i)).await.expect("nothing fails");
        }
        let took = started.elapsed();
        assert_eq!(sum, n * (n + 1) / 2);
        took
    })
}
