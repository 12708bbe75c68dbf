//! [`Lifecycle`]: how the system as a whole is, and how it may change.
//!
//! ```
//! use swarmbus_core::{Timestamp, lifecycle::{Lifecycle, StateKind}};
//!
//! let now = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
//! let mut system = Lifecycle::new(now);
//! system.transition(StateKind::Healthy, "all checks pass", now)?;
//! system.transition(StateKind::Degraded, "the mailer is down", now)?;
//!
//! // Nobody is well again without having recovered. Nothing has changed.
//! let refused = system.transition(StateKind::Healthy, "hope", now).unwrap_err();
//! assert_eq!(
//!     refused.to_string(),
//!     "degraded cannot become healthy, only recovering, failed or maintenance",
//! );
//! assert_eq!(system.state().reason(), Some("the mailer is down"));
//! # Ok::<(), swarmbus_core::lifecycle::Refused>(())
//! ```
//!
//! | from | to |
//! | --- | --- |
//! | initializing | healthy, degraded, failed, maintenance |
//! | healthy | degraded, failed, maintenance |
//! | degraded | recovering, failed, maintenance |
//! | recovering | healthy, degraded, failed, maintenance |
//! | failed | recovering, maintenance |
//! | maintenance | initializing |
//! | all but maintenance | initializing, when a new process [starts](Lifecycle::restart) |

mod saved;
mod signs;

use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};

use crate::Timestamp;
pub use saved::Impossible;
pub use signs::Signs;

/// How many transitions [`Lifecycle::history`] keeps.
pub const HISTORY: usize = 100;

/// Longest reason in bytes; what is beyond is cut off.
pub const MAX_REASON_LEN: usize = 1_024;

/// The state of the system, with the last [`HISTORY`] transitions.
///
/// What serde writes can be read back; what cannot have been written is
/// refused: see [`Impossible`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "saved::Saved")]
pub struct Lifecycle {
    state: State,
    history: VecDeque<Transition>,
}

/// What the system is right now, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// It starts; not everything has been checked.
    Initializing {
        /// Since when.
        since: Timestamp,
    },
    /// Everything works.
    Healthy {
        /// Since when.
        since: Timestamp,
    },
    /// Something is down, the rest works.
    Degraded {
        /// Since when.
        since: Timestamp,
        /// What is down.
        reason: String,
    },
    /// What was down is being tried again.
    Recovering {
        /// Since when.
        since: Timestamp,
        /// What is being tried.
        reason: String,
    },
    /// It does not work.
    Failed {
        /// Since when.
        since: Timestamp,
        /// What broke.
        reason: String,
    },
    /// Somebody took it out of service.
    Maintenance {
        /// Since when.
        since: Timestamp,
        /// What for.
        reason: String,
    },
}

/// The name of a [`State`]: for logs, metric labels and comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// [`State::Initializing`].
    Initializing,
    /// [`State::Healthy`].
    Healthy,
    /// [`State::Degraded`].
    Degraded,
    /// [`State::Recovering`].
    Recovering,
    /// [`State::Failed`].
    Failed,
    /// [`State::Maintenance`].
    Maintenance,
}

/// A change of state that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// The state before.
    pub from: StateKind,
    /// The state since.
    pub to: StateKind,
    /// When; never earlier than the transition before, even if the clock was
    /// set back.
    pub at: Timestamp,
    /// Why, in words for people.
    pub reason: String,
}

/// A change of state that is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} cannot become {to}, {why}")]
pub struct Refused {
    /// The state, before and after.
    pub from: StateKind,
    /// What it was to become.
    pub to: StateKind,
    /// Why not.
    pub why: Why,
}

/// Why a change of state is [`Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It is that already.
    Already,
    /// No transition leads there: these can be reached.
    NoWay(&'static [StateKind]),
}

impl Lifecycle {
    /// Initializing, without a history.
    pub fn new(now: Timestamp) -> Self {
        Self { state: State::Initializing { since: now }, history: VecDeque::new() }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The last [`HISTORY`] transitions, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Transition> + ExactSizeIterator {
        self.history.iter()
    }

    /// Changes the state and writes it into the history.
    ///
    /// # Errors
    ///
    /// [`Refused`], if the table of [`StateKind::successors`] does not have it;
    /// then nothing has changed.
    pub fn transition(
        &mut self,
        to: StateKind,
        reason: impl Into<String>,
        now: Timestamp,
    ) -> Result<Transition, Refused> {
        let from = self.state.kind();
        let refused = |why| Err(Refused { from, to, why });
        if from == to {
            return refused(Why::Already);
        }
        if !from.successors().contains(&to) {
            return refused(Why::NoWay(from.successors()));
        }
        Ok(self.enter(to, reason.into(), now))
    }

    /// What a new process makes of the state that the one before it left:
    /// initializing, as nothing is known of it any more. Only maintenance stays,
    /// for it is somebody's decision; then this returns `None`.
    pub fn restart(&mut self, now: Timestamp) -> Option<Transition> {
        match self.state.kind() {
            StateKind::Maintenance => None,
            _ => Some(self.enter(StateKind::Initializing, "the process started".into(), now)),
        }
    }

    fn enter(&mut self, to: StateKind, mut reason: String, now: Timestamp) -> Transition {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_LEN));
        let at = now.max(self.state.since());
        let transition = Transition { from: self.state.kind(), to, at, reason };
        self.state = State::after(&transition);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(transition.clone());
        transition
    }
}

impl State {
    /// The state that a transition leads to.
    fn after(Transition { to, at, reason, .. }: &Transition) -> Self {
        let (since, reason) = (*at, reason.clone());
        match to {
            StateKind::Initializing => Self::Initializing { since },
            StateKind::Healthy => Self::Healthy { since },
            StateKind::Degraded => Self::Degraded { since, reason },
            StateKind::Recovering => Self::Recovering { since, reason },
            StateKind::Failed => Self::Failed { since, reason },
            StateKind::Maintenance => Self::Maintenance { since, reason },
        }
    }

    /// The state without its data.
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Initializing { .. } => StateKind::Initializing,
            Self::Healthy { .. } => StateKind::Healthy,
            Self::Degraded { .. } => StateKind::Degraded,
            Self::Recovering { .. } => StateKind::Recovering,
            Self::Failed { .. } => StateKind::Failed,
            Self::Maintenance { .. } => StateKind::Maintenance,
        }
    }

    /// Since when.
    pub const fn since(&self) -> Timestamp {
        match self {
            Self::Initializing { since }
            | Self::Healthy { since }
            | Self::Degraded { since, .. }
            | Self::Recovering { since, .. }
            | Self::Failed { since, .. }
            | Self::Maintenance { since, .. } => *since,
        }
    }

    /// Why, for those states that need a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Initializing { .. } | Self::Healthy { .. } => None,
            Self::Degraded { reason, .. }
            | Self::Recovering { reason, .. }
            | Self::Failed { reason, .. }
            | Self::Maintenance { reason, .. } => Some(reason),
        }
    }
}

impl StateKind {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Initializing,
        Self::Healthy,
        Self::Degraded,
        Self::Recovering,
        Self::Failed,
        Self::Maintenance,
    ];

    /// The states that [`Lifecycle::transition`] can reach from this one.
    pub const fn successors(self) -> &'static [Self] {
        use StateKind::*;
        match self {
            Initializing => &[Healthy, Degraded, Failed, Maintenance],
            Healthy => &[Degraded, Failed, Maintenance],
            Degraded => &[Recovering, Failed, Maintenance],
            Recovering => &[Healthy, Degraded, Failed, Maintenance],
            Failed => &[Recovering, Maintenance],
            Maintenance => &[Initializing],
        }
    }

    /// `initializing`, `healthy`, `degraded`, `recovering`, `failed` or
    /// `maintenance`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Recovering => "recovering",
            Self::Failed => "failed",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: {}", self.from, self.to, self.reason)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::NoWay(states) = self else { return f.write_str("it is that already") };
        f.write_str("only ")?;
        for (at, state) in states.iter().enumerate() {
            let left = states.len() - at;
            let before = if at == 0 {
                ""
            } else if left == 1 {
                " or "
            } else {
                ", "
            };
            write!(f, "{before}{state}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
