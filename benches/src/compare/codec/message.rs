//! One event as a typed struct, the way a program without a bus would have it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use swarmbus_core::{Event, EventType, Payload, Priority, Target, Timestamp};

/// The fields that our event has too, and the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    #[serde(rename = "type")]
    pub(super) ty: String,
    source: String,
    target: Option<String>,
    priority: u8,
    timestamp: u64,
    correlation_id: Option<String>,
    traceparent: Option<String>,
    payload: Task,
}

/// A payload of nested maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    title: String,
    attempt: u32,
    urgent: bool,
    tags: Vec<String>,
    limits: BTreeMap<String, u64>,
    inputs: BTreeMap<String, BTreeMap<String, String>>,
    readings: BTreeMap<String, Vec<f64>>,
}

impl Message {
    /// Number `n`; all are about equally long.
    pub(super) fn new(n: usize) -> Self {
        Self {
            ty: format!("svc{n:02}.entity{}.created", n % 7),
            source: format!("coordinator-{n:02}"),
            target: Some(format!("worker-{:02}", 99 - n)),
            priority: 5,
            timestamp: 1_767_225_600_000_000 + n as u64,
            correlation_id: Some(format!("order-2026-{n:06}")),
            traceparent: Some(format!(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033{n:02}-01"
            )),
            payload: Task::new(n),
        }
    }

    pub(super) fn to_event(&self) -> Event {
        let payload = Payload::msgpack(&self.payload).expect("encoded");
        let mut event = Event::new(EventType::new(&self.ty).expect("a type"), payload)
            .with_source(self.source.as_str())
            .with_priority(Priority::new(self.priority).expect("0 to 9"))
            .with_timestamp(Timestamp::from_micros(self.timestamp).expect("in range"));
        if let Some(target) = &self.target {
            event = event.with_target(Target::agent(target.as_str()));
        }
        if let Some(id) = &self.correlation_id {
            event = event.with_correlation_id(id.as_str());
        }
        if let Some(traceparent) = &self.traceparent {
            event = event.with_traceparent(traceparent.as_str());
        }
        event
    }

    /// Everything that came over the wire, for checking.
    pub(super) fn from_event(event: &Event) -> Self {
        let target = |target: &Target| match target {
            Target::Agent(name) | Target::Swarm(name) => name.to_string(),
        };
        Self {
            ty: event.ty().to_string(),
            source: event.source().to_owned(),
            target: event.target().map(target),
            priority: event.priority().get(),
            timestamp: event.timestamp().map_or(0, Timestamp::as_micros),
            correlation_id: event.correlation_id().map(ToString::to_string),
            traceparent: event.traceparent().map(str::to_owned),
            payload: event.decode().expect("decoded"),
        }
    }
}

impl Task {
    fn new(n: usize) -> Self {
        let text = |key: &str| key.to_owned();
        let input = |name: &str| {
            let map = [
                ("uri", format!("s3://swarm-inputs/{n:04}/{name}.parquet")),
                ("format", text("parquet")),
                ("checksum", format!("sha256:{n:032x}")),
                ("region", text("eu-central-1")),
            ];
            (text(name), map.map(|(key, value)| (text(key), value)).into())
        };
        let reading = |name: &str| (text(name), (0..6).map(|i| (n + i) as f64 / 7.0).collect());
        Self {
            title: format!(
                "resize and classify the images of batch {n:04} and report their labels to the coordinator"
            ),
            attempt: 1,
            urgent: n.is_multiple_of(2),
            tags: ["images", "classify", "nightly"].map(text).into(),
            limits: [("cpu_ms", 12_000), ("memory_mb", 512), ("retries", 3)]
                .map(|(key, value)| (text(key), value))
                .into(),
            inputs: ["images", "labels", "model", "previous"].map(input).into(),
            readings: ["latency", "load", "memory"].map(reading).into(),
        }
    }
}
