//! Metrics, through the `metrics` facade.
//!
//! Counters are not counted here: the ledger counts, and a task carries its
//! totals to the recorder once a second and at every drain. Recording
//! therefore costs the hot path nothing. Times are measured for one event in
//! [`SAMPLE_EVERY`].

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed, time::Duration};

use ahash::RandomState;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use parking_lot::Mutex;

use crate::inner::Inner;

/// Of this many events, one has its times measured unless
/// [`BusBuilder::sample_every`](crate::BusBuilder::sample_every) says
/// otherwise.
pub const SAMPLE_EVERY: u32 = 64;

/// So many breakers of a bus have a gauge of their own, those that changed their
/// state first: recorders never forget a label.
/// [`Bus::breakers`](crate::Bus::breakers) has all of them.
pub const MAX_BREAKER_GAUGES: usize = 10_000;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// A current value.
    Gauge,
    /// A distribution, of sampled values.
    Histogram,
}

/// One metric that a bus records. All have the label `bus`.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(const $constant: Metric =
            Metric { name: $name, kind: MetricKind::$kind, help: $help };)*
        /// Every metric that a bus records.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    PUBLISHED = "events_published_total", Counter, "events accepted";
    PROCESSED = "events_processed_total", Counter, "handler calls that succeeded";
    FAILED = "events_failed_total", Counter, "handler calls that failed";
    REJECTED = "events_rejected_total", Counter, "matches stopped by an open breaker";
    BULKHEAD = "events_rejected_by_bulkhead_total", Counter,
        "matches that found a full bulkhead, or waited too long for it";
    RATE_LIMITED = "events_rate_limited_total", Counter, "matches beyond a rate limit";
    SAMPLED_OUT = "events_sampled_out_total", Counter, "matches left out of a sample";
    LOOPED = "events_looped_total", Counter, "matches whose event had come back";
    FELL_BACK = "events_fell_back_total", Counter, "matches that a fallback handled";
    RETRIES = "event_retries_total", Counter, "handler calls after the first";
    TIMED_OUT = "handler_timeouts_total", Counter, "handler calls that took too long";
    ABORTED = "handler_aborts_total", Counter, "those of them that had to be dropped";
    DETACHED = "detached_calls", Gauge, "matches that wait for a retry or in a bulkhead";
    DEGRADED = "degraded_handlers", Gauge, "handlers that a fallback stands in for";
    DROPPED = "events_dropped_total", Counter, "matches dropped by an overflow policy";
    EXPIRED = "events_expired_total", Counter, "matches whose deadline had passed";
    REFUSED = "events_refused_total", Counter, "events handed back to their publisher";
    PROCESSING = "event_processing_duration_seconds", Histogram, "time in a handler, sampled";
    QUEUE_WAIT = "event_queue_wait_seconds", Histogram, "time in the queue, sampled";
    QUEUE_SIZE = "queue_size", Gauge, "events that wait";
    BACKPRESSURE = "backpressure_active", Gauge, "1 while a queue is above its high-water mark";
    BREAKER = "circuit_breaker_state", Gauge,
        "by `handler` and `event_type`: 0 closed, 1 half-open, 2 open";
    STALLS = "handler_stalls_total", Counter, "calls that took longer than the stall limit";
    CYCLES = "command_cycles_total", Counter, "commands refused because they waited for themselves";
    DEAD_LETTERS = "dead_letter_queue_size", Gauge, "dead letters that wait";
}

/// The metrics of one bus.
pub(crate) struct Meter {
    bus: Label,
    every: u32,
    breakers: Mutex<HashSet<Key, RandomState>>,
    published: Counter,
    processed: Counter,
    failed: Counter,
    rejected: Counter,
    bulkhead: Counter,
    rate_limited: Counter,
    sampled_out: Counter,
    looped: Counter,
    fell_back: Counter,
    retries: Counter,
    timed_out: Counter,
    aborted: Counter,
    detached: Gauge,
    degraded: Gauge,
    dropped: Counter,
    expired: Counter,
    refused: Counter,
    stalls: Counter,
    cycles: Counter,
    processing: Histogram,
    queue_wait: Histogram,
    queue_size: Gauge,
    backpressure: Gauge,
    dead_letters: Gauge,
}

impl Meter {
    /// `every`: one event in how many has its times measured; 0 for none.
    pub(crate) fn new(bus: &str, every: u32) -> Self {
        let bus = Label::new("bus", bus.to_owned());
        metrics::with_recorder(|recorder| {
            for metric in METRICS {
                describe(recorder, metric);
            }
            let key = |metric: Metric| Key::from_parts(metric.name, vec![bus.clone()]);
            let counter = |metric| recorder.register_counter(&key(metric), &METADATA);
            let gauge = |metric| recorder.register_gauge(&key(metric), &METADATA);
            let histogram = |metric| recorder.register_histogram(&key(metric), &METADATA);
            Self {
                bus: bus.clone(),
                every,
                breakers: Mutex::default(),
                published: counter(PUBLISHED),
                processed: counter(PROCESSED),
                failed: counter(FAILED),
                rejected: counter(REJECTED),
                bulkhead: counter(BULKHEAD),
                rate_limited: counter(RATE_LIMITED),
                sampled_out: counter(SAMPLED_OUT),
                looped: counter(LOOPED),
                fell_back: counter(FELL_BACK),
                retries: counter(RETRIES),
                timed_out: counter(TIMED_OUT),
                aborted: counter(ABORTED),
                detached: gauge(DETACHED),
                degraded: gauge(DEGRADED),
                dropped: counter(DROPPED),
                expired: counter(EXPIRED),
                refused: counter(REFUSED),
                stalls: counter(STALLS),
                cycles: counter(CYCLES),
                processing: histogram(PROCESSING),
                queue_wait: histogram(QUEUE_WAIT),
                queue_size: gauge(QUEUE_SIZE),
                backpressure: gauge(BACKPRESSURE),
                dead_letters: gauge(DEAD_LETTERS),
            }
        })
    }

    /// The state gauge of one breaker, if there may be one more.
    pub(crate) fn breaker(&self, handler: &str, event_type: &str) -> Gauge {
        let labels = vec![
            self.bus.clone(),
            Label::new("handler", handler.to_owned()),
            Label::new("event_type", event_type.to_owned()),
        ];
        let key = Key::from_parts(BREAKER.name, labels);
        {
            let mut known = self.breakers.lock();
            if known.len() >= MAX_BREAKER_GAUGES && !known.contains(&key) {
                return Gauge::noop();
            }
            known.insert(key.clone());
        }
        metrics::with_recorder(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    /// Counts down to the next event whose times are measured.
    #[inline(always)]
    pub(crate) fn due(&self, until: &mut u32) -> bool {
        match until.checked_sub(1) {
            Some(less) => {
                *until = less;
                false
            }
            None => {
                *until = self.every.saturating_sub(1);
                self.every > 0
            }
        }
    }

    /// Whether [`due`](Self::due) would say so.
    pub(crate) fn is_due(&self, until: u32) -> bool {
        until == 0 && self.every > 0
    }

    pub(crate) fn handled(&self, took: Duration) {
        self.processing.record(took);
    }

    pub(crate) fn waited(&self, wait: Duration) {
        self.queue_wait.record(wait);
    }

    /// Carries the totals to the recorder.
    pub(crate) fn report(&self, inner: &Inner) {
        let ledger = inner.totals();
        let outcomes = ledger.outcomes;
        self.published.absolute(ledger.published);
        self.processed.absolute(outcomes.delivered);
        self.failed.absolute(outcomes.failed + outcomes.dead_lettered);
        self.rejected.absolute(outcomes.rejected_by_breaker);
        self.bulkhead.absolute(outcomes.rejected_by_bulkhead);
        self.rate_limited.absolute(outcomes.rejected_by_rate_limit);
        self.sampled_out.absolute(outcomes.sampled_out);
        self.looped.absolute(outcomes.looped);
        self.fell_back.absolute(outcomes.fell_back);
        self.retries.absolute(inner.tally.retries.load(Relaxed));
        self.timed_out.absolute(inner.tally.timed_out.load(Relaxed));
        self.aborted.absolute(inner.tally.aborted.load(Relaxed));
        self.detached.set(ledger.detached as f64);
        self.degraded
            .set(inner.degradations.all().iter().filter(|h| h.get().is_some()).count() as f64);
        self.dropped.absolute(outcomes.dropped_oldest + outcomes.dropped_lowest);
        self.expired.absolute(outcomes.expired);
        self.refused.absolute(ledger.refused);
        self.stalls.absolute(inner.stalls.total());
        self.cycles.absolute(inner.stalls.cycles());
        self.queue_size.set(inner.depth() as f64);
        self.backpressure.set(f64::from(inner.pressure.is_high()));
        self.dead_letters.set(inner.dead_letters.len() as f64);
    }
}

static METADATA: Metadata<'static> = Metadata::new("swarmbus", Level::INFO, Some("swarmbus"));

fn describe(recorder: &dyn Recorder, metric: &Metric) {
    let name = KeyName::from_const_str(metric.name);
    let help = metric.help.into();
    match metric.kind {
        MetricKind::Counter => recorder.describe_counter(name, Some(Unit::Count), help),
        MetricKind::Gauge => recorder.describe_gauge(name, Some(Unit::Count), help),
        MetricKind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), help),
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    #[test]
    fn the_labels_of_breakers_are_bounded() {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            let meter = Meter::new("b", 0);
            let fixed = recorder.snapshotter().snapshot().into_vec().len();
            let name = |n: usize| format!("agent.{n}");
            (0..MAX_BREAKER_GAUGES + 5).for_each(|n| meter.breaker(&name(n), "x").set(2.0));
            // One that is known may come again, such as that of a new handler.
            meter.breaker(&name(0), "x").set(0.0);
            let all = recorder.snapshotter().snapshot().into_vec().len();
            assert_eq!(all - fixed, MAX_BREAKER_GAUGES);
        });
    }
}
