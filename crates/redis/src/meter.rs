//! What is measured, through the `metrics` facade.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use swarmbus::{
    Metric, MetricKind,
    transport::{Gap, Incoming},
};

use crate::error::ConnectionError;

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(const $constant: &str = $name;)*
        /// Every metric that a transport records, with its labels in its help.
        pub const METRICS: &[Metric] =
            &[$(Metric { name: $name, kind: MetricKind::$kind, help: $help }),*];
    };
}

metrics! {
    SENT = "transport_events_sent_total", Counter, "events that the server has; by `mode`";
    FRAMES = "transport_frames_sent_total", Counter, "messages that carried them; by `mode`";
    LOST = "transport_events_lost_total", Counter,
        "accepted events that did not get to the server, as far as is known; by `mode` and `reason`";
    RECEIVED = "transport_events_received_total", Counter, "events that came in; by `mode`";
    GAPS = "transport_gaps_total", Counter, "gaps that were found; by `mode` and `reason`";
    MISSED = "transport_events_missed_total", Counter,
        "events that subscribers were told they missed; by `mode` and `reason`";
    WAITING = "transport_events_waiting", Gauge, "events that wait to be sent; by `mode`";
    CONNECTED = "transport_connections_total", Counter,
        "connections that were made; by `connection`";
    REDELIVERED = "transport_tasks_redelivered_total", Counter,
        "tasks that came to a member and had been delivered before";
    GIVEN_UP = "transport_tasks_given_up_total", Counter, "tasks that became dead letters";
    PING = "transport_ping_seconds", Histogram, "the way of an event to the server and back";
    PING_FAILED = "transport_ping_failures_total", Counter, "pings that did not come back";
}

/// Says once what the metrics mean.
pub(crate) fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, Unit::Count, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, Unit::Count, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
}

/// Counts a new connection.
pub(crate) fn connected(name: &'static str) {
    counter!(CONNECTED, "connection" => name).increment(1);
}

/// Counts of one mode's publisher.
pub(crate) struct PublishMeter {
    mode: &'static str,
    sent: Counter,
    frames: Counter,
    waiting: Gauge,
}

impl PublishMeter {
    pub(crate) fn new(mode: &'static str) -> Self {
        Self {
            mode,
            sent: counter!(SENT, "mode" => mode),
            frames: counter!(FRAMES, "mode" => mode),
            waiting: gauge!(WAITING, "mode" => mode),
        }
    }

    pub(crate) fn sent(&self, events: usize, frames: usize) {
        self.sent.increment(events as u64);
        self.frames.increment(frames as u64);
    }

    pub(crate) fn lost(&self, reason: &'static str, events: usize) {
        if events > 0 {
            counter!(LOST, "mode" => self.mode, "reason" => reason).increment(events as u64);
        }
    }

    pub(crate) fn waiting(&self, events: usize) {
        self.waiting.set(events as f64);
    }
}

/// Counts of one mode's subscribers.
#[derive(Clone)]
pub(crate) struct ReceiveMeter {
    mode: &'static str,
    events: Counter,
    slow: Counter,
}

impl ReceiveMeter {
    pub(crate) fn new(mode: &'static str) -> Self {
        Self {
            mode,
            events: counter!(RECEIVED, "mode" => mode),
            slow: counter!(MISSED, "mode" => mode, "reason" => "slow"),
        }
    }

    /// What one message brought, once however many inboxes there are.
    pub(crate) fn received(&self, batch: &[Incoming]) {
        let mut events = 0;
        for incoming in batch {
            match incoming {
                Incoming::Gap(gap) => self.missed(gap),
                _ => events += 1,
            }
        }
        self.events.increment(events);
    }

    /// Events of which an inbox had no room: for each inbox.
    pub(crate) fn slow(&self, events: u64) {
        if events > 0 {
            self.slow.increment(events);
        }
    }

    pub(crate) fn missed(&self, gap: &Gap) {
        let (mode, reason) = (self.mode, gap.reason.name());
        counter!(GAPS, "mode" => mode, "reason" => reason).increment(1);
        counter!(MISSED, "mode" => mode, "reason" => reason).increment(gap.missed.unwrap_or(1));
    }
}

/// Counts of the members of groups.
#[derive(Clone)]
pub(crate) struct TaskMeter {
    pub(crate) receive: ReceiveMeter,
    redelivered: Counter,
    given_up: Counter,
}

impl TaskMeter {
    pub(crate) fn new() -> Self {
        Self {
            receive: ReceiveMeter::new("group"),
            redelivered: counter!(REDELIVERED),
            given_up: counter!(GIVEN_UP),
        }
    }

    pub(crate) fn redelivered(&self, tasks: usize) {
        self.redelivered.increment(tasks as u64);
    }

    pub(crate) fn given_up(&self, tasks: u64) {
        self.given_up.increment(tasks);
    }
}

/// What pings say.
pub(crate) struct PingMeter {
    took: Histogram,
    failed: Counter,
}

impl PingMeter {
    pub(crate) fn new() -> Self {
        Self { took: histogram!(PING), failed: counter!(PING_FAILED) }
    }

    pub(crate) fn pinged(&self, ping: &Result<Duration, ConnectionError>) {
        match ping {
            Ok(took) => self.took.record(*took),
            Err(_) => self.failed.increment(1),
        }
    }
}
