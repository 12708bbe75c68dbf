//! [`Snapshot`]: a breaker's state as plain data, to outlive its process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Breaker,
    config::Config,
    machine::{Machine, Phase},
    state::StateKind,
    stats::Totals,
};
use crate::{Clock, Moment};

/// A breaker's state and counters. Times are relative to when it was taken:
/// the origin of a [`Moment`] means nothing to another process.
///
/// What the window held is not kept. Its calls were another process's, and a
/// breaker that opens on them tells nobody anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state.
    pub state: SavedState,
    /// [`Stats::streak`](super::Stats::streak).
    #[serde(default)]
    pub streak: u32,
    /// The counters and times of [`Stats`](super::Stats).
    #[serde(default)]
    pub totals: SavedTotals,
}

/// The state in a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavedState {
    /// Closed.
    Closed,
    /// Open.
    Open {
        /// For how long it had been open.
        elapsed: Duration,
        /// For how long it still would be.
        remaining: Duration,
        /// How many openings in a row came before.
        row: u32,
    },
    /// Half-open. Probes in flight end with their process.
    HalfOpen {
        /// Probes that had succeeded.
        successes: u32,
        /// How many openings in a row came before the last.
        row: u32,
    },
    /// Forced open.
    ForcedOpen,
    /// Disabled.
    Disabled,
    /// Metrics only.
    MetricsOnly,
    /// Isolated.
    Isolated,
}

/// The counters in a [`Snapshot`]; what each counts is said at
/// [`Stats`](super::Stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of `Stats`")]
pub struct SavedTotals {
    pub opens: u64,
    pub would_open: u64,
    pub recovery_attempts: u64,
    pub recoveries: u64,
    pub rejected: u64,
    pub bypassed: u64,
    pub successes: u64,
    pub failures: u64,
    pub slow: u64,
    /// How long ago, as are the next two.
    pub last_change: Option<Duration>,
    pub opened_at: Option<Duration>,
    pub last_failure: Option<Duration>,
}

impl Breaker {
    /// State and counters as plain data.
    pub fn snapshot(&self, now: impl Clock) -> Snapshot {
        let now = now.now();
        let [rejected, bypassed] = self.tallies();
        self.with(|machine| {
            let totals = machine.totals;
            let ago = |moment: Option<Moment>| moment.map(|then| now.saturating_since(then));
            Snapshot {
                state: save(machine, now),
                streak: machine.rules.streak(),
                totals: SavedTotals {
                    opens: totals.opens,
                    would_open: totals.would_open,
                    recovery_attempts: totals.recovery_attempts,
                    recoveries: totals.recoveries,
                    rejected,
                    bypassed,
                    successes: totals.successes,
                    failures: totals.failures,
                    slow: totals.slow,
                    last_change: ago(totals.last_change),
                    opened_at: ago(totals.opened_at),
                    last_failure: ago(totals.last_failure),
                },
            }
        })
    }

    /// A breaker that goes on where `snapshot` stopped, with `config` deciding
    /// from here: an open time is cut to the longest that `config` knows, a
    /// streak to one failure short of its limit. Any snapshot is fine, made up
    /// ones too.
    ///
    /// ```
    /// use std::time::Duration;
    /// use swarmbus_core::{Moment, breaker::{Breaker, Config, State}};
    ///
    /// let before = Breaker::new(Config::default());
    /// let now = Moment::from_nanos(5_000_000_000);
    /// before.trip(now);
    /// let saved = serde_json::to_string(&before.snapshot(now + Duration::from_secs(10)))?;
    ///
    /// let other_origin = Moment::ORIGIN;
    /// let after =
    ///     Breaker::restore(Config::default(), serde_json::from_str(&saved)?, other_origin);
    /// let rejected = after.acquire(other_origin).unwrap_err();
    /// assert_eq!(rejected.retry_after, Duration::from_secs(20));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn restore(config: Config, snapshot: Snapshot, now: impl Clock) -> Self {
        let now = now.now();
        let totals = snapshot.totals;
        let then = |ago: Option<Duration>| ago.map(|ago| before(now, ago));
        let mut machine = Machine::new(config);
        machine.phase = load(snapshot.state, &machine.config, now);
        if matches!(machine.kind(), StateKind::Closed | StateKind::MetricsOnly) {
            machine.rules.set_streak(snapshot.streak);
        }
        machine.totals = Totals {
            opens: totals.opens,
            would_open: totals.would_open,
            recovery_attempts: totals.recovery_attempts,
            recoveries: totals.recoveries,
            successes: totals.successes,
            failures: totals.failures,
            slow: totals.slow,
            last_change: then(totals.last_change),
            opened_at: then(totals.opened_at),
            opened_by: None,
            last_failure: then(totals.last_failure),
        };
        Self::from_machine(machine, [totals.rejected, totals.bypassed])
    }
}

fn save(machine: &Machine, now: Moment) -> SavedState {
    match machine.phase {
        Phase::Closed => SavedState::Closed,
        Phase::Open { since, wait, row } => SavedState::Open {
            elapsed: now.saturating_since(since),
            // A clock that was set back must not lengthen it.
            remaining: (since + wait).saturating_since(now).min(wait),
            row,
        },
        Phase::HalfOpen { successes, row, .. } => SavedState::HalfOpen { successes, row },
        Phase::ForcedOpen => SavedState::ForcedOpen,
        Phase::Disabled => SavedState::Disabled,
        Phase::MetricsOnly => SavedState::MetricsOnly,
        Phase::Isolated => SavedState::Isolated,
    }
}

fn load(saved: SavedState, config: &Config, now: Moment) -> Phase {
    match saved {
        SavedState::Closed => Phase::Closed,
        SavedState::Open { elapsed, remaining, row } => {
            let longest = config.open_time.longest();
            let since = before(now, elapsed.min(longest));
            let wait = now.saturating_since(since) + remaining.min(longest);
            Phase::Open { since, wait, row }
        }
        SavedState::HalfOpen { successes, row } => {
            let successes = successes.min(config.successes_to_close - 1);
            Phase::HalfOpen { last_grant: now, in_flight: 0, successes, row }
        }
        SavedState::ForcedOpen => Phase::ForcedOpen,
        SavedState::Disabled => Phase::Disabled,
        SavedState::MetricsOnly => Phase::MetricsOnly,
        SavedState::Isolated => Phase::Isolated,
    }
}

fn before(now: Moment, ago: Duration) -> Moment {
    let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    Moment::from_nanos(now.as_nanos().saturating_sub(ago))
}
