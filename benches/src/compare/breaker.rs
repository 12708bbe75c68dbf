//! What a call costs that a circuit breaker guards: asking, and telling it of
//! the success, around a call that does nothing.
//!
//! - Ours: `acquire` and `success`, both with a closure that reads the
//!   operating system's clock if asked, as the bus does it.
//! - failsafe: `is_call_permitted` and `on_success` of its state machine, the
//!   cheapest way it offers.
//! - tower-resilience: `poll_ready` and `call` of its service around one that
//!   is always ready; it offers no other way. It has no name, so that its
//!   events clone no text, and is polled by hand, so that no runtime is in the
//!   figure. The boxed future is part of its price.
//!
//! Every call's permission is counted and checked.

mod guards;

use std::{hint::black_box, sync::Barrier, time::Duration};

use failsafe::failure_policy::{SuccessRateOverTimeWindow, consecutive_failures};
use swarmbus_core::breaker::{Config, Window};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

use self::guards::{Failsafe, Guard, Swarmbus, Tower, swarmbus, tower};
use crate::harness::{Case, timed};

/// Longer than any measurement.
const HOUR: Duration = Duration::from_secs(3_600);

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let failsafe_window = || Failsafe::new(SuccessRateOverTimeWindow::default());
    let tower_window = || tower(CircuitBreakerLayer::builder());
    vec![
        Case::nanoseconds("closed, acquire and success", calls(in_a_row()))
            .against("failsafe", 5.0, calls(failsafe_in_a_row()))
            .against("tower-resilience", 5.0, calls(tower_in_a_row())),
        Case::nanoseconds("closed, window of 100 calls", calls(windowed(Window::calls(100))))
            .against("tower-resilience", None, calls(tower_window())),
        Case::nanoseconds(
            "closed, window of 30 s",
            calls(windowed(Window::time(Duration::from_secs(30)))),
        )
        .against("failsafe", None, calls(failsafe_window())),
        Case::nanoseconds("closed, shared by two threads", two_threads(in_a_row()))
            .against("failsafe", None, two_threads(failsafe_in_a_row()))
            .against("tower-resilience", None, two_threads(tower_in_a_row())),
        Case::nanoseconds("open, rejected", rejections(open_for_an_hour()))
            .against("failsafe", None, rejections(failsafe_in_a_row()))
            .against("tower-resilience", None, rejections(tower_in_a_row())),
    ]
}

/// The default: five failures in a row open it.
fn in_a_row() -> Swarmbus {
    swarmbus(Config::default())
}

fn open_for_an_hour() -> Swarmbus {
    swarmbus(Config::builder().open_for(HOUR).build().expect("settings"))
}

fn failsafe_in_a_row() -> impl Guard {
    let backoff = failsafe::backoff::constant(HOUR);
    Failsafe::new(consecutive_failures(5, backoff))
}

fn tower_in_a_row() -> Tower {
    tower(CircuitBreakerLayer::builder().consecutive_failures(5))
}

fn windowed(window: Window) -> Swarmbus {
    let config = Config::builder().consecutive_failures(None).window(window);
    swarmbus(config.build().expect("settings"))
}

/// Successful calls from one thread.
fn calls(mut guard: impl Guard) -> impl FnMut(u64) -> Duration {
    move |n| {
        let mut permitted = 0;
        let took = timed(n, || permitted += u64::from(black_box(&mut guard).call()));
        assert_eq!(permitted, n, "a closed breaker permits every call");
        took
    }
}

/// Successful calls from two threads at once, so many from each.
fn two_threads(guard: impl Guard) -> impl FnMut(u64) -> Duration {
    move |n| {
        let start = Barrier::new(2);
        let run = |guard| {
            let mut run = calls(guard);
            let start = &start;
            move || {
                start.wait();
                run(n)
            }
        };
        std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(run(guard.clone())));
            threads.into_iter().map(|thread| thread.join().expect("no panic")).max()
        })
        .unwrap_or_default()
    }
}

/// Calls that an open breaker turns away.
fn rejections(mut guard: impl Guard) -> impl FnMut(u64) -> Duration {
    guard.open();
    move |n| {
        let mut permitted = 0;
        let took = timed(n, || permitted += u64::from(black_box(&mut guard).call()));
        assert_eq!(permitted, 0, "an open breaker permits no call");
        took
    }
}
