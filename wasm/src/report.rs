//! What a breaker tells about itself, and what outlives it, as lists of numbers with
//! the places that `breaker/report.ts` knows. A negative number stands for "none".

use std::time::Duration;

use swarmbus_core::Moment;
use swarmbus_core::breaker::{Breaker, Cause, Config, SavedState, SavedTotals, State, StateKind};

use crate::clock::millis;

/// State and counters.
pub(crate) fn stats(breaker: &Breaker, now: Moment) -> Vec<f64> {
    let stats = breaker.stats();
    let (mut remaining, mut probes) = (-1.0, (-1.0, -1.0));
    match breaker.state(now) {
        State::Open { remaining: left, .. } => remaining = left.as_secs_f64() * 1e3,
        State::HalfOpen { in_flight, successes } => probes = (in_flight.into(), successes.into()),
        State::Closed
        | State::ForcedOpen
        | State::Disabled
        | State::MetricsOnly
        | State::Isolated => {}
    }
    let moment = |moment: Option<Moment>| moment.map_or(-1.0, millis);
    vec![
        state_number(stats.state).into(),
        remaining,
        probes.0,
        probes.1,
        stats.opens as f64,
        stats.would_open as f64,
        stats.recovery_attempts as f64,
        stats.recoveries as f64,
        stats.rejected as f64,
        stats.bypassed as f64,
        stats.successes.map_or(-1.0, |successes| successes as f64),
        stats.failures as f64,
        stats.slow as f64,
        stats.streak.into(),
        stats.window.calls as f64,
        stats.window.failures as f64,
        stats.window.slow as f64,
        moment(stats.last_change),
        moment(stats.opened_at),
        stats.opened_by.map_or(-1.0, |cause| cause_number(cause).into()),
        moment(stats.last_failure),
    ]
}

/// What [`restore`] takes.
pub(crate) fn snapshot(breaker: &Breaker, now: Moment) -> Vec<f64> {
    let snapshot = breaker.snapshot(now);
    let (mut elapsed, mut remaining, mut successes, mut row) =
        (Duration::ZERO, Duration::ZERO, 0, 0);
    let kind = match snapshot.state {
        SavedState::Closed => StateKind::Closed,
        SavedState::Open { elapsed: since, remaining: left, row: before } => {
            (elapsed, remaining, row) = (since, left, before);
            StateKind::Open
        }
        SavedState::HalfOpen { successes: so_far, row: before } => {
            (successes, row) = (so_far, before);
            StateKind::HalfOpen
        }
        SavedState::ForcedOpen => StateKind::ForcedOpen,
        SavedState::Disabled => StateKind::Disabled,
        SavedState::MetricsOnly => StateKind::MetricsOnly,
        SavedState::Isolated => StateKind::Isolated,
    };
    let totals = snapshot.totals;
    let mut numbers = vec![f64::from(state_number(kind))];
    numbers.extend(span(Some(elapsed)));
    numbers.extend(span(Some(remaining)));
    numbers.extend([successes, row, snapshot.streak].map(f64::from));
    let counters = [
        totals.opens,
        totals.would_open,
        totals.recovery_attempts,
        totals.recoveries,
        totals.rejected,
        totals.bypassed,
        totals.successes,
        totals.failures,
        totals.slow,
    ];
    numbers.extend(counters.map(|counter| counter as f64));
    let times = [totals.last_change, totals.opened_at, totals.last_failure];
    numbers.extend(times.into_iter().flat_map(span));
    numbers
}

/// A breaker from what [`snapshot`] gave; none when it is no such list. Any numbers
/// are fine.
pub(crate) fn restore(config: Config, numbers: &[f64], now: Moment) -> Option<Breaker> {
    let &[kind, e0, e1, r0, r1, successes, row, streak, ref rest @ ..] = numbers else {
        return None;
    };
    let &[opens, would_open, attempts, recoveries, rejected, bypassed, ref rest @ ..] = rest else {
        return None;
    };
    let &[counted, failures, slow, c0, c1, o0, o1, f0, f1] = rest else { return None };
    let kind = StateKind::ALL.get(kind as usize)?;
    // The only way to one outside of core: the struct may grow.
    let mut snapshot = Breaker::new(Config::default()).snapshot(now);
    snapshot.state = match kind {
        StateKind::Closed => SavedState::Closed,
        StateKind::Open => SavedState::Open {
            elapsed: duration(e0, e1)?,
            remaining: duration(r0, r1)?,
            row: row as u32,
        },
        StateKind::HalfOpen => {
            SavedState::HalfOpen { successes: successes as u32, row: row as u32 }
        }
        StateKind::ForcedOpen => SavedState::ForcedOpen,
        StateKind::Disabled => SavedState::Disabled,
        StateKind::MetricsOnly => SavedState::MetricsOnly,
        StateKind::Isolated => SavedState::Isolated,
    };
    snapshot.streak = streak as u32;
    snapshot.totals = SavedTotals {
        opens: opens as u64,
        would_open: would_open as u64,
        recovery_attempts: attempts as u64,
        recoveries: recoveries as u64,
        rejected: rejected as u64,
        bypassed: bypassed as u64,
        successes: counted as u64,
        failures: failures as u64,
        slow: slow as u64,
        last_change: duration(c0, c1),
        opened_at: duration(o0, o1),
        last_failure: duration(f0, f1),
    };
    Some(Breaker::restore(config, snapshot, now))
}

/// Seconds and nanoseconds.
fn span(time: Option<Duration>) -> [f64; 2] {
    time.map_or([-1.0, -1.0], |time| [time.as_secs() as f64, time.subsec_nanos().into()])
}

fn duration(secs: f64, nanos: f64) -> Option<Duration> {
    (secs >= 0.0).then(|| Duration::new(secs as u64, (nanos as u32).min(999_999_999)))
}

pub(crate) fn state_number(state: StateKind) -> u32 {
    StateKind::ALL.iter().zip(0..).find(|(known, _)| **known == state).map_or(0, |(_, n)| n)
}

pub(crate) fn cause_number(cause: Cause) -> u32 {
    match cause {
        Cause::ConsecutiveFailures => 0,
        Cause::FailureRate => 1,
        Cause::SlowCallRate => 2,
        Cause::ProbeFailed => 3,
        Cause::ProbeSlow => 4,
        Cause::ProbesHung => 5,
        Cause::OpenTimeOver => 6,
        Cause::Recovered => 7,
        Cause::Manual => 8,
        Cause::Evidence => 9,
        // A cause that `CAUSES` does not know yet.
        _ => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_nanos(5_000_000_007);

    #[test]
    fn a_snapshot_comes_back_as_it_was() {
        let config = Config::default;
        let closed = Breaker::new(config());
        closed.acquire(NOW).unwrap().failure(NOW);
        let open = Breaker::new(config());
        open.trip(NOW);
        let half_open = Breaker::new(config());
        half_open.keep_open(Duration::from_nanos(1), Moment::ORIGIN);
        half_open.acquire(NOW).unwrap().success(NOW);
        let isolated = Breaker::new(config());
        isolated.isolate(NOW);
        for breaker in [closed, open, half_open, isolated] {
            let later = NOW + Duration::from_millis(1500);
            let restored = restore(config(), &snapshot(&breaker, later), later).unwrap();
            assert_eq!(restored.snapshot(later), breaker.snapshot(later));
        }
    }

    #[test]
    fn any_numbers_are_fine_and_a_short_list_is_none() {
        let len = snapshot(&Breaker::new(Config::default()), NOW).len();
        for odd in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            for kind in 0..7 {
                let mut numbers = vec![odd; len];
                numbers[0] = kind.into();
                if let Some(breaker) = restore(Config::default(), &numbers, NOW) {
                    let _ = breaker.acquire(NOW);
                }
            }
        }
        assert!(restore(Config::default(), &vec![0.0; len - 1], NOW).is_none());
    }
}
