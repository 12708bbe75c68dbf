//! A lifecycle as it is read, before it is believed.

use std::collections::VecDeque;

use serde::Deserialize;

use super::{HISTORY, Lifecycle, MAX_REASON_LEN, State, StateKind, Transition};

/// Why what was read cannot have been a [`Lifecycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Impossible {
    /// More transitions than are kept.
    #[error("{0} transitions, and only {HISTORY} are kept")]
    History(usize),
    /// A reason that would have been cut off.
    #[error("a reason is {0} bytes long, at most {MAX_REASON_LEN} are kept")]
    Reason(usize),
    /// A transition that the table does not have.
    #[error("{from} never becomes {to}")]
    Transition {
        /// The state before.
        from: StateKind,
        /// The state after.
        to: StateKind,
    },
    /// A transition that does not begin where or when the one before it ended.
    #[error("transition {0} does not follow from the one before")]
    Gap(usize),
    /// The state is not the one that the last transition leads to, or not
    /// initializing where there is none.
    #[error("the state is not where the last transition leads")]
    State,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    state: State,
    history: VecDeque<Transition>,
}

impl TryFrom<Saved> for Lifecycle {
    type Error = Impossible;

    fn try_from(Saved { state, history }: Saved) -> Result<Self, Impossible> {
        if history.len() > HISTORY {
            return Err(Impossible::History(history.len()));
        }
        let mut before: Option<&Transition> = None;
        for (at, transition) in history.iter().enumerate() {
            check(transition)?;
            if before.is_some_and(|it| it.to != transition.from || it.at > transition.at) {
                return Err(Impossible::Gap(at));
            }
            before = Some(transition);
        }
        let follows = match before {
            Some(last) => State::after(last) == state,
            None => state.kind() == StateKind::Initializing,
        };
        if follows { Ok(Self { state, history }) } else { Err(Impossible::State) }
    }
}

fn check(transition: &Transition) -> Result<(), Impossible> {
    let &Transition { from, to, .. } = transition;
    if transition.reason.len() > MAX_REASON_LEN {
        return Err(Impossible::Reason(transition.reason.len()));
    }
    let restarted = to == StateKind::Initializing;
    if restarted || from.successors().contains(&to) {
        Ok(())
    } else {
        Err(Impossible::Transition { from, to })
    }
}
