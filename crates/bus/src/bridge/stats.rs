//! What a bridge has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::Counter;
use serde::Serialize;

/// A count, and the metric of it.
pub(super) struct Count {
    value: AtomicU64,
    metric: Counter,
}

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.value.fetch_add(more, Relaxed);
        self.metric.increment(more);
    }
}

macro_rules! stats {
    ($($(#[$help:meta])* $name:ident = $metric:literal,)*) => {
        /// What a bridge has done since it was made. What became of the events
        /// that it was to send is in the bus's ledger.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct BridgeStats {
            $($(#[$help])* pub $name: u64,)*
            /// Events that wait to be sent.
            pub waiting: usize,
        }

        pub(super) struct Counts {
            $(pub(super) $name: Count,)*
        }

        impl Counts {
            pub(super) fn new(bridge: &str) -> Self {
                Self {
                    $($name: Count {
                        value: AtomicU64::new(0),
                        metric: metrics::counter!($metric, "bridge" => bridge.to_owned()),
                    },)*
                }
            }

            pub(super) fn read(&self, waiting: usize) -> BridgeStats {
                BridgeStats { $($name: self.$name.value.load(Relaxed),)* waiting }
            }
        }
    };
}

stats! {
    /// Events that were sent.
    sent = "bridge_sent_total",
    /// Tries that failed.
    failed = "bridge_failed_total",
    /// Events that waited when the bridge was closed.
    given_up = "bridge_given_up_total",
    /// Events that came in and were published on the bus.
    received = "bridge_received_total",
    /// Events that came in again, and were left out.
    duplicates = "bridge_duplicates_total",
    /// Events that had come in here as often as they may, and were left out.
    looped = "bridge_looped_total",
    /// Events that came in and that the bus did not take.
    refused = "bridge_refused_total",
    /// Gaps in what came in.
    gaps = "bridge_gaps_total",
    /// Events missing in them, as far as that is known.
    missed = "bridge_missed_events_total",
}
