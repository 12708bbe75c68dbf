//! What all sides share: the server, and what an event is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use swarmbus::transport::Channel;
use swarmbus_redis::local::Server;
use tokio::runtime::{Builder, Runtime};

/// Bytes of an event's payload.
pub(super) const PAYLOAD: usize = 200;

/// Messages that a rival sends together: as many as our frames have events.
pub(super) const PIPELINE: u64 = 512;

/// The server, and when all this began.
pub(super) struct Arena {
    pub(super) server: Server,
    began: Instant,
}

impl Arena {
    pub(super) fn new() -> Self {
        let server = Server::builder().pubsub_buffer(0).start().expect("a server");
        Self { server, began: Instant::now() }
    }

    /// Nanoseconds since all this began.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// An event: its number, when it was published, and zeros.
    pub(super) fn payload(&self, number: u64) -> Bytes {
        let mut bytes = vec![0; PAYLOAD];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.now().to_le_bytes());
        bytes.into()
    }
}

pub(super) fn live() -> Channel {
    Channel::live("bench").expect("a name")
}

pub(super) fn single() -> Channel {
    Channel::live("bench-single").expect("a name")
}

pub(super) fn durable() -> Channel {
    Channel::durable("bench").expect("a name")
}

/// As a program of its own would have.
pub(super) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Of nanoseconds, up to a minute. One that grows by itself would cut off what
/// is saturated.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("3 digits")
}

/// Sees to it that everything arrives, once, and in order if that is promised.
pub(super) struct Arrivals {
    came: u64,
    until: u64,
    /// What has come, if the order is open.
    seen: Option<Vec<bool>>,
    took: Histogram<u64>,
}

impl Arrivals {
    pub(super) fn new(until: u64) -> Self {
        Self { came: 0, until, seen: None, took: histogram() }
    }

    pub(super) fn in_any_order(until: u64) -> Self {
        Self { seen: Some(vec![false; until as usize]), ..Self::new(until) }
    }

    /// An event has come; `true` when it was the last.
    pub(super) fn came(&mut self, payload: &[u8]) -> bool {
        let number = payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let number = number.expect("200 bytes");
        let expected = match &mut self.seen {
            Some(seen) => !std::mem::replace(&mut seen[number as usize], true),
            None => number == self.came,
        };
        assert!(expected && payload.len() == PAYLOAD, "{number} came after {} events", self.came);
        self.came += 1;
        self.came == self.until
    }

    /// The same, with how long it took.
    pub(super) fn came_after(&mut self, payload: &[u8], now: u64) -> bool {
        let sent = payload[8..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        self.took.saturating_record(now.saturating_sub(sent.expect("200 bytes")));
        self.came(payload)
    }

    /// What 99 of 100 events took at most.
    pub(super) fn p99(&self) -> Duration {
        Duration::from_nanos(self.took.value_at_quantile(0.99))
    }
}
