//! [`WhatIf`]: what the recording came to, and what it would have come to.

use std::{ops::AddAssign, time::Duration};

use serde::Serialize;

/// What became of events and handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Pairs of an event and a handler that was to get it.
    pub matches: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Failed in the end, and kept as dead letters.
    pub dead_lettered: u64,
    /// Failed in the end, by handlers that keep no dead letters.
    pub failed: u64,
    /// Not delivered because a breaker was open.
    pub rejected_by_breaker: u64,
    /// Ended in a layer that is not played through.
    pub elsewhere: u64,
    /// Not to be told: the recording has no call of the handler.
    pub unknown: u64,
    /// Calls of handlers.
    pub calls: u64,
    /// Of these, repeated ones.
    pub retries: u64,
    /// How often a breaker opened; not known of the recording itself.
    pub opens: Option<u64>,
    /// How long breakers were open, from opening to the first probe, all
    /// together; not known of the recording itself.
    #[serde(serialize_with = "seconds", rename = "open_seconds")]
    pub open_for: Option<Duration>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.matches += other.matches;
        self.delivered += other.delivered;
        self.dead_lettered += other.dead_lettered;
        self.failed += other.failed;
        self.rejected_by_breaker += other.rejected_by_breaker;
        self.elsewhere += other.elsewhere;
        self.unknown += other.unknown;
        self.calls += other.calls;
        self.retries += other.retries;
        self.opens = sum(self.opens, other.opens);
        self.open_for = match (self.open_for, other.open_for) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn seconds<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(to)
}

/// One recording, three times: as it was, and simulated with two settings.
///
/// The difference that other settings make is the one between `baseline` and
/// `changed`: both are simulated alike. How far `baseline`, with the settings
/// of the recording, is from `recorded` says how good the simulation is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WhatIf {
    /// What really happened.
    pub recorded: Tally,
    /// Simulated with the first settings.
    pub baseline: Tally,
    /// Simulated with the second settings.
    pub changed: Tally,
    /// The same for each service, in the order of their first event.
    pub services: Vec<ServiceWhatIf>,
}

/// A service: a handler, or a handler and an event type.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceWhatIf {
    /// The handler's name.
    pub handler: String,
    /// `None` for the types beyond the first thousand of a handler.
    pub event_type: Option<String>,
    /// What really happened.
    pub recorded: Tally,
    /// Simulated with the first settings.
    pub baseline: Tally,
    /// Simulated with the second settings.
    pub changed: Tally,
}
