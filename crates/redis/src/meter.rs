//! What is counted, through the `metrics` facade.

use metrics::{Counter, counter};

/// Counts of one mode's publisher.
pub(crate) struct PublishMeter {
    mode: &'static str,
    sent: Counter,
    frames: Counter,
}

impl PublishMeter {
    pub(crate) fn new(mode: &'static str) -> Self {
        Self {
            mode,
            sent: counter!("transport_events_sent_total", "mode" => mode),
            frames: counter!("transport_frames_sent_total", "mode" => mode),
        }
    }

    pub(crate) fn sent(&self, events: usize, frames: usize) {
        self.sent.increment(events as u64);
        self.frames.increment(frames as u64);
    }

    pub(crate) fn lost(&self, reason: &'static str, events: usize) {
        if events > 0 {
            counter!("transport_events_lost_total", "mode" => self.mode, "reason" => reason)
                .increment(events as u64);
        }
    }
}
