//! [`HealthReport`]: what the checks said, as plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarmbus_core::{Str, Timestamp};

use super::{Check, Probe};

/// Longest error text that is kept, in bytes; what is beyond is cut off.
const MAX_ERROR_LEN: usize = 1_024;

/// All checks at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// No liveness check is failing.
    pub live: bool,
    /// It is started and live, and every readiness check has passed and is not
    /// failing.
    pub ready: bool,
    /// Every startup check has passed.
    pub started: bool,
    /// Whether it is within the time that starting may take.
    pub starting: bool,
    /// By name.
    pub checks: Vec<CheckReport>,
}

/// One check at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// What it finds out.
    pub probe: Probe,
    /// The service that it asks about.
    pub service: Option<String>,
    /// What it comes to.
    pub state: CheckState,
    /// Since when it comes to that.
    pub since: Timestamp,
    /// Runs that failed since the last that did not.
    pub consecutive_failures: u32,
    /// What the last failure said; kept when the check passes again.
    pub last_error: Option<String>,
    /// When the last run ended; `None` before the first.
    pub last_run: Option<Timestamp>,
    /// How long the last run took.
    pub took: Option<Duration>,
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// It has neither passed yet nor failed often enough.
    Pending,
    /// It passed, and has not failed often enough since.
    Passing,
    /// It failed as often in a row as makes it failing.
    Failing,
}

impl HealthReport {
    pub(super) fn of(checks: Vec<CheckReport>, starting: bool) -> Self {
        let all = |probe, good: fn(CheckState) -> bool| {
            checks.iter().filter(|check| check.probe == probe).all(|check| good(check.state))
        };
        let live = all(Probe::Liveness, |state| state != CheckState::Failing);
        let started = all(Probe::Startup, |state| state == CheckState::Passing);
        let passing = all(Probe::Readiness, |state| state == CheckState::Passing);
        Self { live, ready: live && started && passing, started, starting, checks }
    }
}

impl CheckReport {
    pub(super) fn new(check: &Check, now: Timestamp) -> Self {
        Self {
            name: check.name.clone(),
            probe: check.probe,
            service: check.service.as_ref().map(Str::to_string),
            state: CheckState::Pending,
            since: now,
            consecutive_failures: 0,
            last_error: None,
            last_run: None,
            took: None,
        }
    }

    /// Takes in the result of a run; `true` if the check comes to something else
    /// now.
    pub(super) fn record(
        &mut self,
        result: Result<(), String>,
        threshold: u32,
        now: Timestamp,
        took: Duration,
    ) -> bool {
        (self.last_run, self.took) = (Some(now), Some(took));
        let state = match result {
            Ok(()) => {
                self.consecutive_failures = 0;
                CheckState::Passing
            }
            Err(mut error) => {
                error.truncate(error.floor_char_boundary(MAX_ERROR_LEN));
                self.last_error = Some(error);
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
                if self.consecutive_failures < threshold { self.state } else { CheckState::Failing }
            }
        };
        let changed = state != self.state;
        if changed {
            (self.state, self.since) = (state, now);
        }
        changed
    }
}
