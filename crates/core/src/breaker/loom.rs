//! Every interleaving of a few threads, by `loom`:
//! `RUSTFLAGS="--cfg loom" cargo test -p swarmbus-core --release --lib loom`.

use std::time::Duration;

use ::loom::{sync::Arc, thread};

use super::*;

const NOW: Moment = Moment::from_nanos(1_000);

fn later() -> Moment {
    NOW + Duration::from_secs(30)
}

fn breaker(builder: Builder) -> Arc<Breaker> {
    Arc::new(Breaker::new(builder.build().unwrap()))
}

fn spawn<R: 'static>(
    breaker: &Arc<Breaker>,
    run: impl FnOnce(&Breaker) -> R + 'static,
) -> thread::JoinHandle<R> {
    let breaker = Arc::clone(breaker);
    thread::spawn(move || run(&breaker))
}

/// Two failures meet: one of them opens the breaker, exactly one, and neither
/// is lost.
#[test]
fn concurrent_failures_open_it_once() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder().consecutive_failures(2));
        let fail = |breaker: &Breaker| breaker.acquire(NOW).unwrap().failure(NOW);
        let other = spawn(&breaker, fail);
        let here = fail(&breaker);
        let there = other.join().unwrap();
        assert!(here.is_some() != there.is_some());
        assert_eq!(breaker.stats().opens, 1);
        assert_eq!(breaker.kind(), StateKind::Open);
    });
}

/// A success that takes no lock counts as having come before or after a
/// concurrent failure, and a thread that knows of a failure ends its streak.
#[test]
fn a_success_ends_every_streak_it_knows_of() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder().consecutive_failures(2));
        let other = spawn(&breaker, |breaker| breaker.acquire(NOW).unwrap().failure(NOW));
        breaker.acquire(NOW).unwrap().success(NOW);
        assert_eq!(other.join().unwrap(), None);
        assert!(breaker.stats().streak <= 1);
        breaker.acquire(NOW).unwrap().success(NOW);
        assert_eq!(breaker.stats().streak, 0, "the failure happened before this success");
        assert_eq!(breaker.acquire(NOW).unwrap().failure(NOW), None);
    });
}

/// Whoever comes first makes the one change to half-open; with one slot, the
/// other is turned away.
#[test]
fn one_slot_lets_one_in() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder().probes(1).successes_to_close(1));
        breaker.trip(NOW);
        let ask = |breaker: &Breaker| {
            let permit = breaker.acquire(later()).ok()?;
            let transition = permit.transition();
            std::mem::forget(permit); // stays in flight
            Some(transition)
        };
        let other = spawn(&breaker, ask);
        let answers = [ask(&breaker), other.join().unwrap()];
        let granted: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(granted.len(), 1);
        assert!(granted[0].is_some());
        assert_eq!(breaker.state(later()), State::HalfOpen { in_flight: 1, successes: 0 });
    });
}

/// A dropped probe and a failing one meet: the slot is given back to the
/// half-open state it was taken from, or to nobody.
#[test]
fn a_slot_goes_back_to_its_own_state() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder().probes(2));
        breaker.trip(NOW);
        let other = spawn(&breaker, |breaker| drop(breaker.acquire(later())));
        if let Ok(probe) = breaker.acquire(later()) {
            assert!(probe.failure(later()).is_some());
        }
        other.join().unwrap();
        match breaker.state(later()) {
            State::Open { .. } => {}
            State::HalfOpen { in_flight, successes } => assert_eq!((in_flight, successes), (0, 0)),
            state => panic!("{state:?}"),
        }
    });
}

/// Counted successes are neither lost nor counted twice, whoever takes the
/// cells in meanwhile.
#[test]
fn counted_successes_add_up() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder().count_successes(true));
        let succeed = |breaker: &Breaker| _ = breaker.acquire(NOW).unwrap().success(NOW);
        let other = spawn(&breaker, move |breaker| {
            succeed(breaker);
            succeed(breaker);
        });
        succeed(&breaker);
        assert!(breaker.stats().successes <= Some(3));
        other.join().unwrap();
        assert_eq!(breaker.stats().successes, Some(3));
    });
}

/// A success of a generation that ends meanwhile counts for that one or not
/// at all: a fresh window is empty.
#[test]
fn a_late_success_stays_out_of_the_next_window() {
    ::loom::model(|| {
        let window = Window::calls(4).minimum_calls(4);
        let breaker = breaker(Config::builder().window(window));
        let permit = breaker.acquire(NOW).unwrap();
        let other = spawn(&breaker, |breaker| breaker.metrics_only(NOW));
        permit.success(NOW);
        assert!(other.join().unwrap().is_some());
        let stats = breaker.stats();
        assert_eq!(stats.window.calls, 0);
        assert!(stats.successes <= Some(1));
    });
}

/// Who reads "open" without a lock finds an open time that was really
/// published, across a re-opening too.
#[test]
fn a_rejection_names_a_true_deadline() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder().probes(1));
        breaker.trip(NOW);
        let other = spawn(&breaker, |breaker| {
            let probe = breaker.acquire(later()).unwrap();
            assert!(probe.failure(later()).is_some());
        });
        let just_before = Moment::from_nanos(later().as_nanos() - 1);
        let rejected = breaker.acquire(just_before).unwrap_err();
        let nano = Duration::from_nanos(1);
        let second_time = Duration::from_secs(30) + nano;
        match rejected.state {
            StateKind::Open => assert!([nano, second_time].contains(&rejected.retry_after)),
            state => assert_eq!(state, StateKind::HalfOpen),
        }
        other.join().unwrap();
    });
}

/// Nor does anybody find the deadline of an opening before, which may lie
/// further ahead.
#[test]
fn an_ended_open_time_rejects_nobody() {
    ::loom::model(|| {
        let breaker = breaker(Config::builder());
        breaker.trip(later());
        breaker.reset(later());
        let other = spawn(&breaker, |breaker| breaker.trip(NOW));
        assert!(breaker.acquire(later()).is_ok(), "closed, or due for a probe");
        other.join().unwrap();
    });
}
