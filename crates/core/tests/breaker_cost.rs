//! What a call through a closed breaker costs, beside what a lock costs in the
//! same run:
//! `cargo test -p swarmbus-core --release --test breaker_cost -- --ignored --nocapture`.

#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    hint::black_box,
    sync::Mutex,
    time::{Duration, Instant},
};

use swarmbus_core::{
    Moment,
    breaker::{Breaker, Config, Window},
};

const NOW: Moment = Moment::from_nanos(1_000_000_000);

#[test]
#[ignore = "a measurement: needs --release and a quiet machine"]
fn a_closed_breaker_costs_less_than_a_lock() {
    let slow = Window::calls(100).slow_calls(Duration::from_secs(1), 0.5);
    let lock = {
        let mutex = Mutex::new(0_u64);
        measure("std Mutex, lock and unlock", || *black_box(&mutex).lock().unwrap() += 1)
    };
    let closed = call("consecutive failures", &closed(None));
    let by_count = call("window of 100 calls", &self::closed(Window::calls(100)));
    call("window of 10 s", &self::closed(Window::time(Duration::from_secs(10))));
    call("window of 100 calls, slow calls", &self::closed(slow));

    let breaker = self::closed(None);
    let mut calls = 0_u64;
    measure("consecutive failures, every tenth fails", || {
        calls += 1;
        let permit = black_box(&breaker).acquire(NOW).unwrap();
        black_box(if calls.is_multiple_of(10) { permit.failure(NOW) } else { permit.success(NOW) });
    });
    breaker.trip(NOW);
    measure("open, rejected", || assert!(black_box(&breaker).acquire(NOW).is_err()));

    assert!(closed * 2.0 < lock, "{closed} ns to a lock's {lock}");
    assert!(by_count < lock * 1.5, "{by_count} ns to a lock's {lock}");
}

fn closed(window: impl Into<Option<Window>>) -> Breaker {
    Breaker::new(Config::builder().window(window).build().unwrap())
}

/// `acquire` and `success`. The moment is given, so no clock is in it.
fn call(name: &str, breaker: &Breaker) -> f64 {
    measure(name, || {
        let permit = black_box(breaker).acquire(NOW).unwrap();
        black_box(permit.success(NOW));
    })
}

/// The best of ten rounds, in nanoseconds: what disturbs only adds.
fn measure(name: &str, mut run: impl FnMut()) -> f64 {
    const ROUND: u32 = 1_000_000;
    let round = |_| {
        let start = Instant::now();
        for _ in 0..ROUND {
            run();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND)
    };
    let best = (0..10).map(round).fold(f64::INFINITY, f64::min);
    println!("{name:42} {best:6.2} ns");
    best
}
