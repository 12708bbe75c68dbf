//! What-if replay on recordings that are written by hand.

use std::time::Duration;

use proptest::prelude::*;
use swarmbus_core::{
    EventType, Priority, Timestamp,
    backoff::{Backoff, Jitter},
    breaker::Config,
};

use super::*;

const SECOND: u64 = 1_000_000;

/// A line of the handler `h`.
fn line(event: u64, at: u64, end: CallEnd) -> CallRecord {
    CallRecord {
        at: Timestamp::from_micros(SECOND + at).unwrap(),
        took: Duration::ZERO,
        event: event.to_string().as_str().into(),
        event_type: EventType::from_static("x"),
        priority: Priority::DEFAULT,
        handler: "h".into(),
        end,
    }
}

/// Events one second apart, without retries.
fn recording(results: impl IntoIterator<Item = CallEnd>) -> Recording {
    let mut recording = Recording::new();
    for (n, end) in results.into_iter().enumerate() {
        let n = n as u64;
        recording.push(line(n, n * SECOND, end));
        if end == CallEnd::Failed {
            recording.push(line(n, n * SECOND, CallEnd::DeadLettered));
        }
    }
    recording
}

fn breaker(failures: u32, open: u64) -> Settings {
    let config = Config::builder()
        .consecutive_failures(failures)
        .open_for(Duration::from_secs(open))
        .successes_to_close(1)
        .build()
        .unwrap();
    Settings { breaker: Some(config), ..Settings::default() }
}

fn off() -> Settings {
    Settings { breaker: None, ..Settings::default() }
}

use CallEnd::{Failed as No, Rejected, Succeeded as Yes};

#[test]
fn the_settings_of_the_recording_give_the_recording() {
    // Five failures open the breaker at 4 s for 3 s; the probe at 7 s succeeds.
    let mut recording = recording([No, No, No, No, No, Rejected, Rejected, Yes, Yes, Yes]);
    let what_if = recording.what_if(&breaker(5, 3), &off());
    let (recorded, baseline) = (what_if.recorded, what_if.baseline);
    assert_eq!((recorded.matches, recorded.calls), (10, 8));
    assert_eq!((recorded.opens, recorded.open_for), (None, None));
    assert_eq!((baseline.opens, baseline.open_for), (Some(1), Some(Duration::from_secs(3))));
    assert_eq!(Tally { opens: None, open_for: None, ..baseline }, recorded);

    // Without a breaker, the rejected ones go like their neighbours.
    let changed = what_if.changed;
    assert_eq!((changed.delivered, changed.dead_lettered), (4, 6));
    assert_eq!((changed.calls, changed.rejected_by_breaker), (10, 0));
}

#[test]
fn retries_use_what_was_recorded_and_then_the_nearest_call() {
    let mut recording = Recording::new();
    // Two tries, the second succeeded.
    recording.push(line(1, 0, No));
    recording.push(line(1, 100_000, Yes));
    // One try; five seconds later the handler works again.
    recording.push(line(2, 10 * SECOND, No));
    recording.push(line(2, 10 * SECOND, CallEnd::DeadLettered));
    recording.push(line(3, 15 * SECOND, Yes));
    let backoff = Backoff::fixed(Duration::from_secs(4)).jitter(Jitter::None).max_tries(1);
    let again = Settings { retry: Some(backoff), ..off() };
    let what_if = recording.what_if(&again, &off());
    assert_eq!((what_if.recorded.retries, what_if.recorded.dead_lettered), (1, 1));
    let baseline = what_if.baseline;
    assert_eq!((baseline.delivered, baseline.retries, baseline.dead_lettered), (3, 2, 0));
    let changed = what_if.changed;
    assert_eq!((changed.delivered, changed.retries, changed.dead_lettered), (1, 0, 2));
}

#[test]
fn a_letter_that_was_retried_by_hand_is_another_match() {
    let mut recording = recording([No]);
    recording.push(line(0, 60 * SECOND, Yes));
    let recorded = recording.what_if(&off(), &off()).recorded;
    assert_eq!((recorded.matches, recorded.retries), (2, 0));
    assert_eq!((recorded.delivered, recorded.dead_lettered), (1, 1));
}

#[test]
fn urgent_events_pass_and_other_layers_stay_out_of_it() {
    let mut recording = Recording::new();
    for n in 0..10 {
        let urgent = Priority::CRITICAL;
        recording.push(CallRecord { priority: urgent, ..line(n, n * SECOND, No) });
        recording.push(CallRecord { priority: urgent, ..line(n, n * SECOND, CallEnd::GivenUp) });
    }
    recording.push(line(10, 0, CallEnd::Elsewhere));
    recording.push(line(11, 0, No));
    let what_if = recording.what_if(&breaker(3, 1_000), &off());
    assert_eq!((what_if.baseline.failed, what_if.baseline.elsewhere), (11, 1));
    // The last one was cut off by the end of the recording. Simulated, it
    // comes before the others and finds the breaker closed.
    assert_eq!((what_if.recorded.failed, what_if.recorded.elsewhere), (10, 2));
}

#[test]
fn a_retry_that_the_breaker_refuses_leaves_a_dead_letter() {
    let mut recording = recording([No]);
    let backoff = Backoff::fixed(Duration::from_secs(4)).jitter(Jitter::None).max_tries(3);
    let settings = Settings { retry: Some(backoff), ..breaker(1, 60) };
    let baseline = recording.what_if(&settings, &off()).baseline;
    assert_eq!((baseline.dead_lettered, baseline.rejected_by_breaker), (1, 0));
    assert_eq!((baseline.calls, baseline.retries), (1, 0));
}

#[test]
fn a_call_that_a_time_out_cut_off_counts_as_one_that_failed() {
    let mut recording = Recording::new();
    recording.push(line(1, 0, CallEnd::DeadLettered));
    let what_if = recording.what_if(&off(), &breaker(1, 1));
    assert_eq!((what_if.recorded.calls, what_if.changed.opens), (1, Some(1)));
}

#[test]
fn a_handler_that_was_never_called_is_unknown() {
    let mut recording = recording([Rejected, Rejected]);
    let what_if = recording.what_if(&breaker(1, 1), &off());
    assert_eq!((what_if.recorded.rejected_by_breaker, what_if.changed.unknown), (2, 2));
}

#[test]
fn services_are_types_or_handlers() {
    let mut recording = Recording::new();
    for n in 0..6 {
        let ty = EventType::from_static(if n % 2 == 0 { "a" } else { "b" });
        for end in [No, CallEnd::DeadLettered] {
            recording.push(CallRecord { event_type: ty.clone(), ..line(n, n * SECOND, end) });
        }
    }
    let per_handler = Settings { scope: Scope::PerHandler, ..breaker(3, 1_000) };
    let what_if = recording.what_if(&breaker(3, 1_000), &per_handler);
    assert_eq!(what_if.services.len(), 2);
    assert_eq!(what_if.baseline.rejected_by_breaker, 0);
    assert_eq!((what_if.changed.rejected_by_breaker, what_if.changed.opens), (3, Some(1)));
    assert_eq!(what_if.services[0].event_type.as_deref(), Some("a"));
}

#[test]
fn a_recording_and_its_types_have_limits() {
    let mut recording = Recording::new();
    for n in 0..swarmbus::MAX_TYPES as u64 + 5 {
        let event_type = EventType::new(format!("t{n}")).unwrap();
        recording.push(CallRecord { event_type, ..line(n, n, Yes) });
    }
    let what_if = recording.what_if(&off(), &off());
    assert_eq!(what_if.services.len(), swarmbus::MAX_TYPES + 1);
    assert_eq!(what_if.services[swarmbus::MAX_TYPES].recorded.delivered, 5);
    for n in recording.len() as u64..Recording::MAX_CALLS as u64 {
        assert!(recording.push(line(n, n, Yes)));
    }
    assert!(!recording.push(line(0, 0, Yes)));
}

fn end() -> impl Strategy<Value = CallEnd> {
    prop_oneof![
        Just(Yes),
        Just(No),
        Just(CallEnd::DeadLettered),
        Just(Rejected),
        Just(CallEnd::GivenUp),
        Just(CallEnd::Elsewhere)
    ]
}

proptest! {
    /// Whatever the recording: every match has one end, and calls are the
    /// first tries and the retries.
    #[test]
    fn every_simulation_balances(
        lines in prop::collection::vec((0..20_u64, 0..100 * SECOND, 0..3_000_u64, end()), 0..200),
        failures in 1..6_u32,
        open in 1..40_u64,
        tries in 0..4_u32,
    ) {
        let mut recording = Recording::new();
        for (event, at, took, end) in lines {
            let took = Duration::from_millis(took);
            recording.push(CallRecord { took, ..line(event, at, end) });
        }
        let retry = Some(Backoff::RETRY.max_tries(tries));
        let settings = Settings { retry, ..breaker(failures, open) };
        let what_if = recording.what_if(&settings, &off());
        for tally in [what_if.recorded, what_if.baseline, what_if.changed] {
            let ends = tally.delivered + tally.dead_lettered + tally.failed
                + tally.rejected_by_breaker + tally.elsewhere + tally.unknown;
            prop_assert_eq!(tally.matches, ends, "{:?}", tally);
            prop_assert!(tally.retries <= tally.calls);
        }
        prop_assert_eq!(what_if.recorded.matches, what_if.baseline.matches);
        prop_assert_eq!(what_if.changed.rejected_by_breaker, 0);
    }
}
