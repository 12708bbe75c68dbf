//! The breaker under real threads: what a model checker is too slow to drive.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use swarmbus_core::{
    Moment,
    breaker::{Breaker, Config, State, StateKind, Window},
};

const NOW: Moment = Moment::from_nanos(1);
const THREADS: usize = 8;

fn later() -> Moment {
    NOW + Duration::from_secs(30)
}

/// Runs `work` on all threads, started together.
fn together(work: impl Fn(usize) + Sync) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn a_stampede_meets_three_slots() {
    let breaker = Breaker::new(Config::default());
    for _ in 0..200 {
        breaker.reset(NOW);
        breaker.trip(NOW);
        let (in_flight, most, moved) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        together(|_| {
            for _ in 0..20 {
                let Ok(permit) = breaker.acquire(later()) else { continue };
                let now_in_flight = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now_in_flight, Ordering::SeqCst);
                moved.fetch_add(u32::from(permit.transition().is_some()), Ordering::SeqCst);
                thread::yield_now();
                in_flight.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(moved.into_inner(), 1, "one thread makes the change");
        assert_eq!(breaker.state(later()), State::HalfOpen { in_flight: 0, successes: 0 });
    }
}

#[test]
fn every_call_is_counted_once() {
    const CALLS: u64 = 50_000;
    // It opens only if all fail, and one thread never does.
    let window = Window::calls(1000).failure_rate(1.0).minimum_calls(1000);
    let config = Config::builder().consecutive_failures(None).window(window).build().unwrap();
    let breaker = Breaker::new(config);
    together(|thread| {
        for call in 0..CALLS {
            let permit = breaker.acquire(NOW).unwrap();
            let fails = thread % 2 == 1 && call % 10 == 0;
            let moved = if fails { permit.failure(NOW) } else { permit.success(NOW) };
            assert_eq!(moved, None);
        }
    });
    let stats = breaker.stats();
    let failures = THREADS as u64 / 2 * CALLS / 10;
    assert_eq!(stats.failures, failures);
    assert_eq!(stats.successes, Some(THREADS as u64 * CALLS - failures));
    assert_eq!(stats.window.calls, 1000);
}

#[test]
fn each_change_is_told_once() {
    let config = Config::builder().open_for(Duration::from_nanos(1)).build().unwrap();
    let breaker = Breaker::new(config);
    let (opens, recoveries, attempts) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let rejected = AtomicU64::new(0);
    let clock = AtomicU64::new(1);
    let tick = || Moment::from_nanos(clock.fetch_add(1, Ordering::Relaxed));
    together(|thread| {
        for call in 0..20_000 {
            let Ok(permit) = breaker.acquire(tick) else {
                rejected.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            attempts.fetch_add(u64::from(permit.transition().is_some()), Ordering::Relaxed);
            let fails = (call / 50 + thread) % 3 == 0;
            let moved = if fails { permit.failure(tick) } else { permit.success(tick) };
            match moved.map(|transition| transition.to) {
                Some(StateKind::Open) => _ = opens.fetch_add(1, Ordering::Relaxed),
                Some(StateKind::Closed) => _ = recoveries.fetch_add(1, Ordering::Relaxed),
                Some(other) => panic!("{other}"),
                None => {}
            }
        }
    });
    let stats = breaker.stats();
    assert!(stats.opens > 0);
    assert_eq!(stats.opens, opens.into_inner());
    assert_eq!(stats.recoveries, recoveries.into_inner());
    assert_eq!(stats.recovery_attempts, attempts.into_inner());
    assert_eq!(stats.rejected, rejected.into_inner());
}
