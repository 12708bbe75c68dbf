//! Every transition, every kind of permit, and clocks that misbehave. The
//! rules themselves are compared with a naive model in `tests/breaker_model.rs`.

use std::{cell::Cell, time::Duration};

use super::*;
use crate::backoff::{Backoff, Jitter};

const SECOND: Duration = Duration::from_secs(1);

type Hold = fn(&Breaker, Moment) -> Option<Transition>;

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Duration::from_secs(seconds)
}

fn breaker() -> Breaker {
    Breaker::new(Config::default())
}

fn windowed(window: Window) -> Breaker {
    Breaker::new(Config::builder().consecutive_failures(None).window(window).build().unwrap())
}

fn succeed(breaker: &Breaker, now: Moment) -> Option<Transition> {
    breaker.acquire(now).unwrap().success(now)
}

fn fail(breaker: &Breaker, now: Moment) -> Option<Transition> {
    breaker.acquire(now).unwrap().failure(now)
}

fn succeeds(times: u32, breaker: &Breaker, now: Moment) {
    for _ in 0..times {
        succeed(breaker, now);
    }
}

fn fails(times: u32, breaker: &Breaker, now: Moment) {
    for _ in 0..times {
        fail(breaker, now);
    }
}

fn opened(now: Moment) -> Breaker {
    let breaker = breaker();
    breaker.trip(now).unwrap();
    breaker
}

fn change(from: StateKind, to: StateKind, cause: Cause) -> Option<Transition> {
    Some(Transition { from, to, cause })
}

mod transitions {
    use super::{StateKind::*, *};

    #[test]
    fn five_failures_in_a_row_open_it() {
        let breaker = breaker();
        for _ in 0..4 {
            assert_eq!(fail(&breaker, at(1)), None);
        }
        assert_eq!(fail(&breaker, at(1)), change(Closed, Open, Cause::ConsecutiveFailures));
        assert_eq!(breaker.state(at(11)), State::Open { since: at(1), remaining: 20 * SECOND });
        let stats = breaker.stats();
        assert_eq!((stats.opens, stats.failures, stats.opened_at), (1, 5, Some(at(1))));
    }

    #[test]
    fn a_success_ends_the_streak() {
        let breaker = breaker();
        for _ in 0..20 {
            for _ in 0..4 {
                fail(&breaker, at(0));
            }
            assert_eq!(breaker.stats().streak, 4);
            assert_eq!(succeed(&breaker, at(0)), None);
            assert_eq!(breaker.stats().streak, 0);
        }
        assert_eq!(breaker.kind(), Closed);
    }

    #[test]
    fn open_rejects_until_its_time_is_over() {
        let breaker = opened(at(1));
        let rejected = breaker.acquire(at(1)).unwrap_err();
        assert_eq!(rejected.state, Open);
        assert_eq!(rejected.retry_after, 30 * SECOND);
        assert_eq!(rejected.transition, None);
        let last = Moment::from_nanos(at(31).as_nanos() - 1);
        assert_eq!(breaker.acquire(last).unwrap_err().retry_after, Duration::from_nanos(1));
        assert_eq!(breaker.stats().rejected, 2);
        assert_eq!(
            breaker.state(at(40)),
            State::Open { since: at(1), remaining: Duration::ZERO },
            "looking does not move it"
        );

        let probe = breaker.acquire(at(31)).unwrap();
        assert_eq!(probe.transition(), change(Open, HalfOpen, Cause::OpenTimeOver));
        assert!(probe.is_probe());
        assert_eq!(breaker.state(at(31)), State::HalfOpen { in_flight: 1, successes: 0 });
        assert_eq!(breaker.stats().recovery_attempts, 1);
    }

    #[test]
    fn three_probes_at_once_and_no_more() {
        let breaker = opened(at(0));
        let probes: Vec<_> = (0..3).map(|_| breaker.acquire(at(30)).unwrap()).collect();
        assert_eq!(probes[1].transition(), None, "a change is told once");
        let rejected = breaker.acquire(at(30)).unwrap_err();
        assert_eq!(rejected.state, HalfOpen);
        assert_eq!(rejected.retry_after, Duration::from_millis(100));
        assert_eq!(breaker.state(at(30)), State::HalfOpen { in_flight: 3, successes: 0 });
    }

    #[test]
    fn three_successful_probes_close_it() {
        let breaker = opened(at(0));
        assert_eq!(succeed(&breaker, at(30)), None);
        assert_eq!(succeed(&breaker, at(30)), None);
        assert_eq!(breaker.state(at(30)), State::HalfOpen { in_flight: 0, successes: 2 });
        assert_eq!(succeed(&breaker, at(31)), change(HalfOpen, Closed, Cause::Recovered));
        let stats = breaker.stats();
        assert_eq!((stats.recoveries, stats.last_change), (1, Some(at(31))));
    }

    #[test]
    fn one_failed_probe_opens_it_again() {
        let breaker = opened(at(0));
        succeed(&breaker, at(30));
        succeed(&breaker, at(30));
        assert_eq!(fail(&breaker, at(30)), change(HalfOpen, Open, Cause::ProbeFailed));
        assert_eq!(breaker.stats().opens, 2);
        assert_eq!(breaker.acquire(at(59)).unwrap_err().retry_after, SECOND);
        succeed(&breaker, at(60));
        assert_eq!(breaker.state(at(60)), State::HalfOpen { in_flight: 0, successes: 1 });
    }

    #[test]
    fn probes_that_hang_do_not_hold_it_half_open() {
        let breaker = opened(at(0));
        let hung: Vec<_> = (30..33).map(|second| breaker.acquire(at(second)).unwrap()).collect();
        assert_eq!(breaker.acquire(at(91)).unwrap_err().state, HalfOpen);
        let rejected = breaker.acquire(at(92)).unwrap_err();
        assert_eq!(rejected.transition, change(HalfOpen, Open, Cause::ProbesHung));
        assert_eq!((rejected.state, rejected.retry_after), (Open, 30 * SECOND));
        for probe in hung {
            assert_eq!(probe.success(at(93)), None, "too late");
        }
        assert_eq!(breaker.kind(), Open);
    }

    #[test]
    fn the_open_time_grows_with_each_opening_in_a_row() {
        let backoff = Backoff::exponential(SECOND).cap(4 * SECOND);
        let breaker = Breaker::new(Config::builder().open_backoff(backoff).build().unwrap());
        let mut now = at(0);
        breaker.trip(now);
        for expected in [1, 2, 4, 4] {
            let wait = breaker.acquire(now).unwrap_err().retry_after;
            assert_eq!(wait, expected * SECOND);
            now = now + wait;
            fail(&breaker, now);
        }
        now = now + 4 * SECOND;
        succeeds(3, &breaker, now);
        breaker.trip(now);
        let wait = breaker.acquire(now).unwrap_err().retry_after;
        assert_eq!(wait, SECOND, "closing starts over");
    }

    #[test]
    fn jittered_open_times_differ_by_seed() {
        let backoff = Backoff::fixed(30 * SECOND).jitter(Jitter::Spread(25)).cap(60 * SECOND);
        let wait = |seed| {
            let config = Config::builder().open_backoff(backoff).seed(seed).build().unwrap();
            let breaker = Breaker::new(config);
            breaker.trip(at(0));
            breaker.acquire(at(0)).unwrap_err().retry_after
        };
        assert_eq!(wait(1), wait(1));
        assert_ne!(wait(1), wait(2));
    }

    #[test]
    fn trip_opens_what_would_otherwise_serve() {
        let breaker = breaker();
        assert_eq!(breaker.trip(at(0)), change(Closed, Open, Cause::Manual));
        assert_eq!(breaker.trip(at(10)), None, "already open, until the same time");
        let probe = breaker.acquire(at(30)).unwrap();
        assert_eq!(breaker.trip(at(30)), change(HalfOpen, Open, Cause::Manual));
        assert_eq!(probe.success(at(30)), None);
        assert_eq!(breaker.stats().opens, 2);
    }
}

mod permits {
    use super::*;

    #[test]
    fn a_dropped_probe_gives_its_slot_back_and_counts_nothing() {
        let breaker = opened(at(0));
        for _ in 0..10 {
            let probes: Vec<_> = (0..3).map(|_| breaker.acquire(at(30)).unwrap()).collect();
            assert!(breaker.acquire(at(30)).is_err());
            drop(probes);
        }
        assert_eq!(breaker.state(at(30)), State::HalfOpen { in_flight: 0, successes: 0 });
        assert_eq!(breaker.stats().failures, 0);
    }

    #[test]
    fn a_dropped_permit_neither_ends_nor_lengthens_a_streak() {
        let breaker = breaker();
        fails(4, &breaker, at(0));
        drop(breaker.acquire(at(0)).unwrap());
        assert_eq!(breaker.stats().streak, 4);
        assert!(fail(&breaker, at(0)).is_some());
    }

    #[test]
    fn a_result_of_an_earlier_state_is_ignored() {
        let breaker = breaker();
        let [late_success, late_failure, dropped] = [(); 3].map(|()| breaker.acquire(at(0)));
        fails(5, &breaker, at(0));
        let early_probe = breaker.acquire(at(30)).unwrap();
        assert_eq!(late_success.unwrap().success(at(30)), None);
        assert_eq!(late_failure.unwrap().failure(at(30)), None);
        drop(dropped);
        assert_eq!(breaker.state(at(30)), State::HalfOpen { in_flight: 1, successes: 0 });

        assert!(fail(&breaker, at(30)).is_some());
        let probe = breaker.acquire(at(60)).unwrap();
        drop(early_probe);
        assert_eq!(breaker.state(at(60)), State::HalfOpen { in_flight: 1, successes: 0 });
        drop(probe);
        assert_eq!(breaker.stats().failures, 6, "late ones are not counted");
    }

    #[test]
    fn a_probe_that_outlives_its_half_open_state_is_late() {
        let breaker = opened(at(0));
        let slow = breaker.acquire(at(30)).unwrap();
        succeeds(3, &breaker, at(30));
        assert_eq!(breaker.kind(), StateKind::Closed);
        assert_eq!(slow.failure(at(31)), None);
        assert_eq!(breaker.stats().streak, 0);
    }

    #[test]
    fn bypass_counts_while_closed() {
        let breaker = breaker();
        for _ in 0..4 {
            assert_eq!(breaker.bypass().failure(at(0)), None);
        }
        let opening = breaker.bypass().failure(at(0)).unwrap();
        assert_eq!(opening.cause, Cause::ConsecutiveFailures);
        assert_eq!(breaker.stats().bypassed, 5);
    }

    #[test]
    fn bypass_moves_nothing_that_is_not_closed() {
        let breaker = opened(at(0));
        let before = breaker.bypass();
        assert!(!before.is_probe());
        for _ in 0..9 {
            assert_eq!(breaker.bypass().success(at(40)), None);
            assert_eq!(breaker.bypass().failure(at(40)), None);
        }
        assert_eq!(breaker.kind(), StateKind::Open);
        let probe = breaker.acquire(at(40)).unwrap();
        for _ in 0..9 {
            assert_eq!(breaker.bypass().success(at(40)), None);
            assert_eq!(breaker.bypass().failure(at(40)), None);
            drop(breaker.bypass());
        }
        assert_eq!(breaker.state(at(40)), State::HalfOpen { in_flight: 1, successes: 0 });
        drop(probe);
        succeeds(3, &breaker, at(40));
        assert_eq!(before.failure(at(40)), None, "granted while open");
        assert_eq!(breaker.stats().streak, 0);
    }
}

mod manual {
    use super::{StateKind::*, *};

    #[test]
    fn forced_open_and_isolated_reject_for_ever() {
        for hold in [Breaker::force_open as Hold, Breaker::isolate] {
            let breaker = breaker();
            let transition = hold(&breaker, at(0)).unwrap();
            assert_eq!(hold(&breaker, at(0)), None);
            let rejected = breaker.acquire(at(u64::MAX)).unwrap_err();
            assert_eq!(rejected.state, transition.to);
            assert_eq!(rejected.retry_after, Duration::MAX);
            assert!(rejected.to_string().ends_with("until it is reset"));
            drop(breaker.bypass());
            assert_eq!(breaker.stats().opens, 0);
            assert_eq!(breaker.reset(at(1)), change(transition.to, Closed, Cause::Manual));
            assert!(breaker.acquire(at(1)).is_ok());
        }
    }

    #[test]
    fn only_reset_ends_isolation() {
        let breaker = breaker();
        breaker.isolate(at(0));
        assert_eq!(breaker.force_open(at(0)), None);
        assert_eq!(breaker.disable(at(0)), None);
        assert_eq!(breaker.metrics_only(at(0)), None);
        assert_eq!(breaker.trip(at(0)), None);
        assert_eq!(breaker.kind(), Isolated);
        assert!(breaker.reset(at(0)).is_some());
    }

    #[test]
    fn disabled_allows_all_and_records_nothing() {
        let breaker = breaker();
        assert_eq!(breaker.disable(at(0)), change(Closed, Disabled, Cause::Manual));
        for _ in 0..100 {
            assert_eq!(fail(&breaker, at(0)), None);
            assert_eq!(succeed(&breaker, at(0)), None);
        }
        let stats = breaker.stats();
        assert_eq!((stats.failures, stats.opens, stats.last_failure), (0, 0, None));
        assert_eq!(breaker.force_open(at(0)), change(Disabled, ForcedOpen, Cause::Manual));
    }

    #[test]
    fn metrics_only_allows_all_and_says_what_it_would_do() {
        let breaker = breaker();
        breaker.metrics_only(at(0));
        for _ in 0..10 {
            assert_eq!(fail(&breaker, at(0)), None);
        }
        let stats = breaker.stats();
        assert_eq!((stats.state, stats.failures), (MetricsOnly, 10));
        assert_eq!((stats.opens, stats.would_open), (0, 2));
        assert_eq!(breaker.trip(at(0)), None);
        assert_eq!(breaker.stats().would_open, 3);
    }

    #[test]
    fn reset_forgets_the_evidence_and_keeps_the_counters() {
        let breaker = breaker();
        let under_way = breaker.acquire(at(0)).unwrap();
        fails(4, &breaker, at(0));
        assert_eq!(breaker.reset(at(0)), None, "it was closed");
        assert_eq!(under_way.failure(at(0)), None);
        let stats = breaker.stats();
        assert_eq!((stats.streak, stats.failures), (0, 4));
    }
}

mod windows {
    use super::*;

    #[test]
    fn a_share_of_the_last_calls_opens_it() {
        let breaker = windowed(Window::calls(10).failure_rate(0.3));
        fails(2, &breaker, at(0));
        succeeds(7, &breaker, at(0));
        assert_eq!(breaker.stats().window, WindowStats { calls: 9, failures: 2, slow: 0 });
        let opening = fail(&breaker, at(0)).unwrap();
        assert_eq!(opening.cause, Cause::FailureRate);
        assert_eq!(breaker.stats().successes, Some(7));
    }

    #[test]
    fn a_success_never_opens_it() {
        let breaker = windowed(Window::calls(10).failure_rate(0.5));
        fails(9, &breaker, at(0));
        for _ in 0..5 {
            assert_eq!(succeed(&breaker, at(0)), None, "one call was missing, at 90 %");
        }
    }

    #[test]
    fn old_calls_leave_a_window_by_time() {
        let breaker = windowed(Window::time(10 * SECOND).minimum_calls(4));
        fails(3, &breaker, at(1));
        assert_eq!(succeed(&breaker, at(20)), None);
        assert_eq!(breaker.stats().window, WindowStats { calls: 1, failures: 0, slow: 0 });
        fails(2, &breaker, at(21));
        assert!(fail(&breaker, at(22)).is_some());
    }

    #[test]
    fn slow_calls_open_it_and_slow_probes_do_not_close_it() {
        let window = Window::calls(10).minimum_calls(2).slow_calls(SECOND, 1.0);
        let breaker = windowed(window);
        assert_eq!(breaker.acquire(at(0)).unwrap().success(at(1)), None);
        let opening = breaker.acquire(at(0)).unwrap().success(at(1)).unwrap();
        assert_eq!(opening.cause, Cause::SlowCallRate);
        assert_eq!(breaker.stats().slow, 2);
        let again = breaker.acquire(at(31)).unwrap().success(at(32)).unwrap();
        assert_eq!(again.cause, Cause::ProbeSlow);
        assert_eq!(breaker.stats().opens, 2);
    }

    /// When a window opens that learns, by a list of all calls.
    fn opens_at(calls: &[bool], size: usize, factor: f64, most: f64) -> Option<usize> {
        let share = |calls: &[bool]| {
            calls.iter().filter(|failed| **failed).count() as f64 / calls.len() as f64
        };
        (9..calls.len()).find(|last| {
            let (older, window) = calls[..=*last].split_at((last + 1).saturating_sub(size));
            let known = older.len() >= 1_000;
            let threshold = if known { (share(older) * factor).max(0.05).min(most) } else { most };
            calls[*last] && share(window) >= threshold
        })
    }

    #[test]
    fn more_failures_than_usual_open_it() {
        for (every, factor, worse) in
            [(50, 4.0, 3), (50, 10.0, 2), (10, 2.0, 3), (10, 3.0, 1), (500, 3.0, 7), (3, 2.0, 2)]
        {
            let bad = |call: usize| call.is_multiple_of(if call < 3_000 { every } else { worse });
            let calls: Vec<_> = (0..3_300).map(bad).collect();
            let breaker = windowed(Window::calls(100).failure_rate(0.9).unusual(factor));
            let opened = calls.iter().position(|failed| {
                if *failed {
                    fail(&breaker, at(0)).is_some()
                } else {
                    succeed(&breaker, at(0));
                    false
                }
            });
            let expected = opens_at(&calls, 100, factor, 0.9);
            assert_eq!(opened, expected, "{every} {factor} {worse}");
            assert!(expected.is_none_or(|call| call > 3_000), "{every} {factor} {worse}");
        }
    }

    #[test]
    fn what_is_usual_outlives_an_outage_and_is_not_learned_from_it() {
        let window = Window::calls(100).failure_rate(0.9).unusual(4.0);
        let breaker = windowed(window);
        let calm = |seconds| {
            for call in 0..100_000 {
                if call % 50 == 0 {
                    fail(&breaker, at(seconds))
                } else {
                    succeed(&breaker, at(seconds))
                };
            }
        };
        let until_open = |seconds| (1..).find(|_| fail(&breaker, at(seconds)).is_some()).unwrap();
        calm(0);
        let first = until_open(0);
        assert!((5..9).contains(&first), "{first}");
        succeeds(3, &breaker, at(30));
        // A window of its own: ten calls at least, and far less than 90 % of them.
        succeeds(90, &breaker, at(30));
        let again = until_open(30);
        assert!((7..10).contains(&again), "{again}");
    }

    #[test]
    fn more_successes_than_a_cell_holds_are_all_counted() {
        let breaker = windowed(Window::calls(100));
        succeeds(70_000, &breaker, at(0));
        let stats = breaker.stats();
        assert_eq!(stats.successes, Some(70_000));
        assert_eq!(stats.window, WindowStats { calls: 100, failures: 0, slow: 0 });
    }

    #[test]
    fn successes_can_be_counted_without_a_window() {
        let breaker = Breaker::new(Config::builder().count_successes(true).build().unwrap());
        succeeds(10, &breaker, at(0));
        assert_eq!(breaker.stats().successes, Some(10));
        assert_eq!(super::breaker().stats().successes, None);
    }
}

mod clocks {
    use super::*;

    #[test]
    fn a_closed_breaker_reads_no_clock() {
        let forbidden = || -> Moment { panic!("read a clock") };
        for window in [None, Some(Window::calls(10))] {
            let breaker = Breaker::new(Config::builder().window(window).build().unwrap());
            assert!(!breaker.uses_clock());
            for _ in 0..1000 {
                breaker.acquire(forbidden).unwrap().success(forbidden);
            }
        }
        let breaker = breaker();
        breaker.disable(at(0));
        breaker.acquire(forbidden).unwrap().success(forbidden);
    }

    #[test]
    fn timed_windows_read_it_once_a_call_or_twice() {
        let reads = Cell::new(0);
        let clock = || {
            reads.set(reads.get() + 1);
            at(1)
        };
        for (window, expected) in [
            (Window::time(SECOND), 1),
            (Window::calls(10).slow_calls(SECOND, 0.5), 2),
            (Window::time(SECOND).slow_calls(SECOND, 0.5), 2),
        ] {
            let breaker = windowed(window);
            assert!(breaker.uses_clock());
            reads.set(0);
            breaker.acquire(clock).unwrap().success(clock);
            assert_eq!(reads.get(), expected);
        }
    }

    #[test]
    fn a_clock_set_back_does_not_lock_it_open() {
        let breaker = opened(at(1_000_000));
        let (since, remaining) = (at(1_000_000), 30 * SECOND);
        assert_eq!(breaker.state(at(10)), State::Open { since, remaining });
        let rejected = breaker.acquire(at(10)).unwrap_err();
        assert_eq!(rejected.retry_after, remaining);
        assert_eq!(breaker.acquire(at(39)).unwrap_err().retry_after, SECOND);
        assert!(breaker.acquire(at(40)).is_ok());
    }

    #[test]
    fn a_moment_read_a_little_earlier_does_not_move_the_deadline() {
        let breaker = opened(at(100));
        assert_eq!(breaker.acquire(at(99)).unwrap_err().retry_after, 31 * SECOND);
        assert_eq!(breaker.acquire(at(129)).unwrap_err().retry_after, SECOND);
    }

    #[test]
    fn a_clock_set_back_does_not_keep_hung_probes() {
        let breaker = opened(at(1_000_000));
        let hung: Vec<_> = (0..3).map(|_| breaker.acquire(at(1_000_030)).unwrap()).collect();
        assert!(breaker.acquire(at(10)).is_err());
        let rejected = breaker.acquire(at(70)).unwrap_err();
        assert_eq!(rejected.transition.unwrap().cause, Cause::ProbesHung);
        drop(hung);
    }

    #[test]
    fn a_clock_set_back_empties_a_window_by_time() {
        let breaker = windowed(Window::time(10 * SECOND).minimum_calls(3));
        fails(2, &breaker, at(1_000_000));
        assert_eq!(fail(&breaker, at(5)), None);
        assert_eq!(breaker.stats().window, WindowStats { calls: 1, failures: 1, slow: 0 });
    }

    #[test]
    fn the_ends_of_time_neither_panic_nor_lock() {
        let last = Moment::from_nanos(u64::MAX);
        let window = Window::time(10 * SECOND).slow_calls(SECOND, 0.5);
        let breaker = Breaker::new(Config::builder().window(window).build().unwrap());
        for now in [Moment::ORIGIN, last, Moment::ORIGIN, last] {
            fail(&breaker, now);
            succeed(&breaker, now);
        }
        breaker.trip(Moment::from_nanos(u64::MAX - 1));
        assert!(breaker.acquire(Moment::from_nanos(u64::MAX - 1)).is_err());
        assert!(breaker.acquire(last).is_ok());
        breaker.trip(last);
        assert!(breaker.acquire(Moment::ORIGIN).is_err(), "the clock wrapped: wait once more");
        assert!(breaker.acquire(at(30)).is_ok());
    }
}

mod snapshots {
    use super::*;

    fn round_trip(breaker: &Breaker, taken: Moment, restored: Moment) -> Breaker {
        let json = serde_json::to_string(&breaker.snapshot(taken)).unwrap();
        let snapshot = serde_json::from_str(&json).unwrap();
        assert_eq!(breaker.snapshot(taken), snapshot);
        let frame = rmp_serde::to_vec_named(&snapshot).unwrap();
        let snapshot = rmp_serde::from_slice(&frame).unwrap();
        Breaker::restore(Config::default(), snapshot, restored)
    }

    #[test]
    fn every_state_survives() {
        let breaker = breaker();
        fails(4, &breaker, at(7));
        let restored = round_trip(&breaker, at(8), at(1000));
        assert_eq!(restored.stats().streak, 4);
        assert_eq!(restored.stats().last_failure, Some(at(999)));
        assert!(fail(&restored, at(1000)).is_some(), "the fifth");

        for hold in
            [Breaker::force_open as Hold, Breaker::disable, Breaker::metrics_only, Breaker::isolate]
        {
            hold(&breaker, at(9));
            assert_eq!(round_trip(&breaker, at(9), at(0)).kind(), breaker.kind());
        }
    }

    #[test]
    fn an_open_one_waits_out_the_rest() {
        let breaker = opened(at(100));
        drop(breaker.acquire(at(101)));
        drop(breaker.bypass());
        let restored = round_trip(&breaker, at(110), at(5000));
        assert_eq!(restored.acquire(at(5000)).unwrap_err().retry_after, 20 * SECOND);
        assert!(restored.acquire(at(5020)).is_ok());
        let stats = restored.stats();
        assert_eq!((stats.opens, stats.rejected, stats.bypassed), (1, 2, 1));
        assert_eq!(stats.opened_at, Some(at(4990)));
    }

    #[test]
    fn a_half_open_one_keeps_its_successes_but_no_probes() {
        let breaker = opened(at(0));
        succeed(&breaker, at(30));
        succeed(&breaker, at(30));
        let hung: Vec<_> = (0..3).map(|_| breaker.acquire(at(30)).unwrap()).collect();
        let restored = round_trip(&breaker, at(31), at(0));
        assert_eq!(restored.state(at(0)), State::HalfOpen { in_flight: 0, successes: 2 });
        assert_eq!(succeed(&restored, at(0)).unwrap().cause, Cause::Recovered);
        drop(hung);
    }

    #[test]
    fn a_made_up_snapshot_does_no_harm() {
        let mut snapshot = breaker().snapshot(at(0));
        snapshot.streak = u32::MAX;
        snapshot.totals.failures = u64::MAX;
        snapshot.totals.last_failure = Some(Duration::MAX);
        let restored = Breaker::restore(Config::default(), snapshot, at(0));
        assert!(fail(&restored, at(0)).is_some());
        assert_eq!(restored.stats().failures, u64::MAX);

        let (elapsed, remaining, row) = (Duration::MAX, Duration::MAX, u32::MAX);
        snapshot.state = SavedState::Open { elapsed, remaining, row };
        let restored = Breaker::restore(Config::default(), snapshot, at(0));
        assert!(restored.acquire(at(29)).is_err());
        assert!(fail(&restored, at(30)).is_some());

        snapshot.state = SavedState::HalfOpen { successes: u32::MAX, row };
        let restored = Breaker::restore(Config::default(), snapshot, at(0));
        assert!(succeed(&restored, at(0)).is_some());
    }

    #[test]
    fn a_snapshot_may_lack_what_it_did_not_know() {
        let snapshot: Snapshot = serde_json::from_str(r#"{"state":"forced_open"}"#).unwrap();
        let restored = Breaker::restore(Config::default(), snapshot, at(0));
        assert_eq!(restored.kind(), StateKind::ForcedOpen);
    }
}

mod config {
    use super::*;

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let build = |builder: Builder| builder.build().unwrap_err();
        let window = |window| build(Config::builder().window(window));
        let zero = |setting| ConfigError::Zero { setting };
        let b = Config::builder;
        assert_eq!(build(b().consecutive_failures(0)), zero("consecutive_failures"));
        assert_eq!(build(b().probes(0)), zero("probes"));
        assert_eq!(build(b().successes_to_close(0)), zero("successes_to_close"));
        assert_eq!(build(b().open_for(Duration::ZERO)), ConfigError::OpenTime);
        assert_eq!(build(b().open_for(Duration::MAX)), ConfigError::OpenTime);
        assert_eq!(window(Window::calls(0)), zero("minimum_calls"));
        assert_eq!(window(Window::calls(65_537)), ConfigError::WindowCalls(65_537));
        assert_eq!(
            window(Window::calls(5).minimum_calls(6)),
            ConfigError::MinimumCalls { minimum: 6, calls: 5 }
        );
        assert_eq!(window(Window::time(Duration::ZERO)), ConfigError::WindowTime(Duration::ZERO));
        for rate in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
            let failure = window(Window::calls(5).failure_rate(rate));
            assert!(matches!(failure, ConfigError::Rate { setting: "failure_rate", .. }));
            let slow = window(Window::calls(5).slow_calls(SECOND, rate));
            assert!(matches!(slow, ConfigError::Rate { setting: "slow_calls", .. }));
        }
        for factor in [1.0, -2.0, f64::NAN, f64::INFINITY] {
            let unusual = window(Window::calls(5).unusual(factor));
            assert!(matches!(unusual, ConfigError::Unusual(_)));
        }
    }

    #[test]
    fn without_rules_only_trip_opens_it() {
        let breaker = Breaker::new(Config::builder().consecutive_failures(None).build().unwrap());
        fails(100, &breaker, at(0));
        assert_eq!(breaker.kind(), StateKind::Closed);
        assert!(breaker.trip(at(0)).is_some());
    }

    #[test]
    fn a_breaker_crosses_threads() {
        fn assert<T: Send + Sync>() {}
        assert::<Breaker>();
        assert::<Permit<'_>>();
    }
}
