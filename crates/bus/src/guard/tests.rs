//! Guards, on the paused clock.

use std::{cell::Cell, future::pending, time::Duration};

use swarmbus_core::{
    backoff::{Backoff, Jitter},
    breaker::{Config, StateKind, Window},
    timeout::Tier,
};
use tokio::time::{Instant, sleep}; // sleep: on the paused clock

use super::*;
use crate::pipeline::{
    bulkhead::Bulkhead,
    policy::{Policy, PolicyError},
    rate_limit::{RateLimit, Sampling},
};

const SECOND: Duration = Duration::from_secs(1);

type Numbers = Guard<u32, &'static str>;

fn steady() -> Backoff {
    Backoff::exponential(SECOND).jitter(Jitter::None)
}

#[tokio::test(start_paused = true)]
async fn tries_follow_the_backoff_and_then_the_error_comes_back() {
    let guard = Numbers::builder("g").retry(steady().max_tries(3)).build().unwrap();
    let (began, tries) = (Instant::now(), Cell::new(0));
    let call = guard.call(|| {
        tries.set(tries.get() + 1);
        async { Err("down") }
    });
    assert_eq!(call.await, Err(CallError::Failed("down")));
    assert_eq!((tries.get(), began.elapsed().as_secs()), (4, 1 + 2 + 4));
    let stats = guard.stats();
    assert_eq!((stats.calls, stats.failures, stats.retries), (1, 4, 3));
    assert!(stats.last_failure.is_some());
}

#[tokio::test(start_paused = true)]
async fn only_errors_worth_it_are_tried_again() {
    let guard =
        Numbers::builder("g").retry(steady()).retry_if(|error| *error == "busy").build().unwrap();
    let tries = Cell::new(0);
    let fail = async |error| {
        tries.set(0);
        let call = guard.call(|| {
            tries.set(tries.get() + 1);
            async move { Err(error) }
        });
        (call.await.unwrap_err(), tries.get())
    };
    assert_eq!(fail("wrong").await, (CallError::Failed("wrong"), 1));
    assert_eq!(fail("busy").await, (CallError::Failed("busy"), 4));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_all_tries() {
    let guard =
        Numbers::builder("g").retry(steady().max_tries(100)).deadline(SECOND * 5).build().unwrap();
    // 1 s and 2 s fit; the next delay would not.
    let began = Instant::now();
    assert_eq!(guard.call(|| async { Err("down") }).await, Err(CallError::Failed("down")));
    assert_eq!(began.elapsed().as_secs(), 3);
    let began = Instant::now();
    let hung = guard.call(pending).await;
    assert_eq!(hung, Err(CallError::TimedOut { aborted: true }));
    assert_eq!(began.elapsed().as_millis() / 10, 495);
    assert_eq!((guard.stats().timed_out, guard.stats().aborted), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_time_out_is_a_failure_that_is_tried_again() {
    let guard = Numbers::builder("g")
        .timeout(SECOND)
        .retry(Backoff::fixed(SECOND).jitter(Jitter::None))
        .breaker(Config::builder().consecutive_failures(4).build().unwrap())
        .build()
        .unwrap();
    let began = Instant::now();
    let hung = guard.call(pending).await;
    assert_eq!(hung, Err(CallError::TimedOut { aborted: true }));
    assert_eq!(began.elapsed().as_millis() / 100, 4 * 11 + 3 * 10);
    let stats = guard.stats();
    assert_eq!((stats.timed_out, stats.aborted, stats.state), (4, 4, Some(StateKind::Open)));
    assert!(matches!(guard.call(pending).await, Err(CallError::Rejected { .. })));
    guard.reset();
    assert_eq!(guard.call(|| async { Ok(1) }).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure() {
    let guard = Numbers::builder("g").breaker(Config::default()).build().unwrap();
    let call = guard.call(|| async { panic!("a surprise") });
    assert_eq!(call.await, Err(CallError::Panicked("a surprise".to_owned())));
    let call = guard.call(|| -> std::future::Ready<_> { panic!("early") });
    assert_eq!(call.await, Err(CallError::Panicked("early".to_owned())));
    assert_eq!(guard.stats().failures, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_everything_back() {
    let config = Config::builder().consecutive_failures(1).probes(1).build().unwrap();
    let guard = Numbers::builder("g")
        .breaker(config)
        .bulkhead(Bulkhead::new().concurrent(1))
        .build()
        .unwrap();
    assert!(guard.call(|| async { Err("down") }).await.is_err());
    sleep(SECOND * 30).await;
    // The one probe is dropped in the middle, with its place.
    assert!(tokio::time::timeout(SECOND, guard.call(pending)).await.is_err());
    assert_eq!(guard.stats().state, Some(StateKind::HalfOpen));
    for n in 0..3 {
        assert_eq!(guard.call(|| async move { Ok(n) }).await, Ok(n));
    }
    assert_eq!(guard.stats().state, Some(StateKind::Closed));
}

#[tokio::test(start_paused = true)]
async fn who_waited_asks_the_breaker_again() {
    let guard = Numbers::builder("g")
        .breaker(Config::builder().consecutive_failures(1).build().unwrap())
        .bulkhead(Bulkhead::new().concurrent(1))
        .build()
        .unwrap();
    let first = guard.call(|| async {
        sleep(SECOND).await;
        Err("down")
    });
    let second = guard.call(|| async { Ok(2) });
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Err(CallError::Failed("down")));
    assert!(matches!(second, Err(CallError::Rejected { .. })), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_waited_asks_the_breaker_again() {
    let guard = Numbers::builder("g")
        .breaker(Config::builder().consecutive_failures(1).build().unwrap())
        .bulkhead(Bulkhead::new().concurrent(1))
        .build()
        .unwrap();
    assert!(guard.call(|| async { Err("down") }).await.is_err());
    sleep(SECOND * 30).await;
    let first = guard.call(|| async {
        sleep(SECOND).await;
        Err("still down")
    });
    let second = guard.call(|| async { Ok(2) });
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, Err(CallError::Failed("still down")));
    assert!(matches!(second, Err(CallError::Rejected { .. })), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_not_slow_because_it_waited() {
    let window = Window::calls(10).minimum_calls(1).slow_calls(SECOND * 5, 1.0);
    let config = Config::builder().window(window).probes(2).successes_to_close(2);
    let guard = Numbers::builder("g")
        .breaker(config.build().unwrap())
        .bulkhead(Bulkhead::new().concurrent(1))
        .build()
        .unwrap();
    let four_seconds = || async {
        sleep(SECOND * 4).await;
        Ok(1)
    };
    assert!(guard.call(|| async { Err("down") }).await.is_err());
    sleep(SECOND * 30).await;
    let probes = tokio::join!(guard.call(four_seconds), guard.call(four_seconds));
    assert_eq!(probes, (Ok(1), Ok(1)));
    assert_eq!(guard.stats().state, Some(StateKind::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_learns_of_calls_that_their_deadline_ends() {
    let guard = Numbers::builder("g")
        .deadline(SECOND * 10)
        .breaker(Config::builder().consecutive_failures(1).build().unwrap())
        .build()
        .unwrap();
    let hung = guard.call(pending).await;
    assert_eq!(hung, Err(CallError::TimedOut { aborted: true }));
    assert_eq!(guard.stats().state, Some(StateKind::Open));
}

#[tokio::test(start_paused = true)]
async fn who_asks_only_after_the_limit_is_told_to_stop() {
    let guard = Numbers::builder("g").timeout(SECOND * 10).build().unwrap();
    let call = guard.call(|| async {
        sleep(SECOND * 10 + SECOND / 2).await;
        crate::cancelled().await;
        Ok(1)
    });
    assert_eq!(call.await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_panics_when_it_is_dropped_has_timed_out() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on the way out");
        }
    }
    let hang = || async {
        let _bomb = Bomb;
        pending().await
    };
    let limits = [Numbers::builder("g").timeout(SECOND), Numbers::builder("g").deadline(SECOND)];
    for builder in limits {
        let guard = builder.build().unwrap();
        assert_eq!(guard.call(hang).await, Err(CallError::TimedOut { aborted: true }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_kept_is_a_result_all_the_same() {
    #[derive(Debug)]
    struct Fragile;
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            panic!("there is only one")
        }
    }
    let builder = Guard::<Fragile, &str>::builder("g").fallback_cached(1, SECOND);
    let guard = builder.build().unwrap();
    assert!(guard.call(|| async { Ok(Fragile) }).await.is_ok());
    assert!(guard.call(|| async { Err("down") }).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn fallbacks_serve_in_order_and_are_seen() {
    let guard = Numbers::builder("g")
        .fallback("second source", |error| {
            let wrong = *error == CallError::Failed("wrong");
            async move { if wrong { Err("wrong here too") } else { Ok(2) } }
        })
        .fallback_cached(10, SECOND * 3_600)
        .fallback_value(0)
        .build()
        .unwrap();
    let fail = async |key, error| guard.call_for(key, || async move { Err(error) }).await;
    let serving = || guard.degraded().map(|degraded| degraded.serving.to_string());
    assert_eq!(fail("a", "down").await, Ok(2));
    assert_eq!(serving(), Some("second source".to_owned()));
    assert_eq!(guard.call_for("a", || async { Ok(7) }).await, Ok(7));
    assert_eq!(serving(), None);
    assert_eq!(fail("a", "wrong").await, Ok(7));
    assert_eq!(serving(), Some("cache".to_owned()));
    assert_eq!(fail("b", "wrong").await, Ok(0));
    assert_eq!(serving(), Some("value".to_owned()));
    sleep(SECOND * 3_601).await;
    assert_eq!(fail("a", "wrong").await, Ok(0));
    assert_eq!(guard.stats().fallbacks, 4);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_panics_has_no_result() {
    let guard = Numbers::builder("g").fallback("bad", |_| async { panic!("too") }).build().unwrap();
    assert_eq!(guard.call(|| async { Err("down") }).await, Err(CallError::Failed("down")));
    assert_eq!((guard.stats().fallbacks, guard.degraded()), (0, None));
}

#[test]
fn a_call_that_is_ready_needs_no_runtime() {
    let guard =
        Numbers::builder("g").policy(Policy::standard()).deadline(Tier::Slow).build().unwrap();
    let mut call = std::pin::pin!(guard.call(|| async { Ok(1) }));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(call.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(1)));
}

#[test]
fn nonsense_is_refused() {
    let refused = |builder: GuardBuilder<u32, ()>| builder.build().unwrap_err();
    let new = || Guard::<u32, ()>::builder("g");
    assert_eq!(refused(new().retry(steady().max_tries(0))), PolicyError::NoTries);
    assert_eq!(
        refused(new().retry_if(|()| true)),
        PolicyError::WithoutRetry { setting: "retry_if" }
    );
    assert_eq!(
        refused(new().timeout(SECOND * 2).deadline(SECOND)),
        PolicyError::TimeoutBeyondDeadline { timeout: SECOND * 2, deadline: SECOND }
    );
    assert!(matches!(refused(new().deadline(Duration::ZERO)), PolicyError::Limit { .. }));
    assert_eq!(refused(new().fallback_cached(0, SECOND)), PolicyError::NoCapacity);
    assert_eq!(refused(new().fallback_cached(1, Duration::ZERO)), PolicyError::NoCapacity);
    assert_eq!(refused(new().fallback_value(1).fallback_value(2)), PolicyError::Unreachable);
    let sampling = Policy::new().sample(Sampling::above(RateLimit::per_second(1), 2));
    assert_eq!(refused(new().policy(sampling)), PolicyError::SampledCall);
}
