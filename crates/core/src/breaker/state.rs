//! What a breaker can be, how it moves, and how it says no.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Moment;

/// What a breaker is right now, with what belongs to it. See
/// [`Breaker::state`](super::Breaker::state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls go ahead and their outcomes feed the trip rules.
    Closed,
    /// Calls are rejected.
    Open {
        /// When it opened.
        since: Moment,
        /// Until the next call is let through as a probe; zero once a probe is
        /// due, for the state only moves when somebody asks for a permit.
        remaining: Duration,
    },
    /// A few probes find out whether calls succeed again.
    HalfOpen {
        /// Probes that have not been resolved.
        in_flight: u32,
        /// Probes that succeeded.
        successes: u32,
    },
    /// By hand: every call is rejected.
    ForcedOpen,
    /// By hand: every call goes ahead, nothing is recorded.
    Disabled,
    /// By hand: every call goes ahead, outcomes are recorded, and opening is
    /// only counted: [`Stats::would_open`](super::Stats::would_open).
    MetricsOnly,
    /// By hand: every call is rejected, and only
    /// [`reset`](super::Breaker::reset) ends it.
    Isolated,
}

impl State {
    /// The state without its data.
    pub const fn kind(self) -> StateKind {
        match self {
            Self::Closed => StateKind::Closed,
            Self::Open { .. } => StateKind::Open,
            Self::HalfOpen { .. } => StateKind::HalfOpen,
            Self::ForcedOpen => StateKind::ForcedOpen,
            Self::Disabled => StateKind::Disabled,
            Self::MetricsOnly => StateKind::MetricsOnly,
            Self::Isolated => StateKind::Isolated,
        }
    }
}

/// The name of a [`State`]: for logs, metric labels and comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// [`State::Closed`].
    Closed,
    /// [`State::Open`].
    Open,
    /// [`State::HalfOpen`].
    HalfOpen,
    /// [`State::ForcedOpen`].
    ForcedOpen,
    /// [`State::Disabled`].
    Disabled,
    /// [`State::MetricsOnly`].
    MetricsOnly,
    /// [`State::Isolated`].
    Isolated,
}

impl StateKind {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
        Self::Isolated,
    ];

    /// `closed`, `open`, `half_open`, `forced_open`, `disabled`,
    /// `metrics_only` or `isolated`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A change of state, returned by the call that made it: log it and count it
/// there. Each change is returned exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: StateKind,
    /// The state since.
    pub to: StateKind,
    /// What made it move.
    pub cause: Cause,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: {}", self.from, self.to, self.cause)
    }
}

/// Why a breaker moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// So many failures in a row.
    ConsecutiveFailures,
    /// Too large a share of the window's calls failed.
    FailureRate,
    /// Too large a share of the window's calls was slow.
    SlowCallRate,
    /// A probe failed while half-open.
    ProbeFailed,
    /// A probe succeeded while half-open, but slowly.
    ProbeSlow,
    /// All probes were out for longer than the probe timeout.
    ProbesHung,
    /// The open time is over and somebody asked.
    OpenTimeOver,
    /// Enough probes succeeded.
    Recovered,
    /// Somebody asked for it.
    Manual,
    /// Other nodes' calls fail: see [`evidence`](super::evidence).
    Evidence,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ConsecutiveFailures => "too many failures in a row",
            Self::FailureRate => "failure rate too high",
            Self::SlowCallRate => "slow-call rate too high",
            Self::ProbeFailed => "a probe failed",
            Self::ProbeSlow => "a probe was slow",
            Self::ProbesHung => "no probe came back in time",
            Self::OpenTimeOver => "the open time is over",
            Self::Recovered => "enough probes succeeded",
            Self::Manual => "by hand",
            Self::Evidence => "calls of other nodes fail",
        })
    }
}

/// The breaker said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is {state}, {}", Retry(*retry_after))]
pub struct Rejected {
    /// `Open`, `HalfOpen` (all probes are out), `ForcedOpen` or `Isolated`.
    pub state: StateKind,
    /// How long to wait before asking again makes sense. Exact while open. A
    /// hint while half-open: at most 0.1 s, for the probes decide.
    /// [`Duration::MAX`] when only a person ends it.
    pub retry_after: Duration,
    /// The change this very call made, if any: a half-open breaker whose
    /// probes hung opens again.
    pub transition: Option<Transition>,
}

struct Retry(Duration);

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Duration::MAX => f.write_str("until it is reset"),
            wait => write!(f, "retry after {wait:?}"),
        }
    }
}
