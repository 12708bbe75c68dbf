//! [`Approval`]: something that waits for a yes or a no.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus_core::{Timestamp, approval::{Approval, Refused, State}};
//!
//! let now = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
//! let mut approval = Approval::request("deployer", now, Duration::from_secs(3600));
//! approval.approve("anna", "tests are green", now)?;
//! assert!(matches!(approval.state(), State::Approved { by, .. } if by == "anna"));
//!
//! // One answer is all there is.
//! let refused = approval.deny("bert", "it is Friday", now).unwrap_err();
//! assert!(matches!(refused, Refused::Approved { .. }));
//! # Ok::<(), Refused>(())
//! ```
//!
//! | from | to | when |
//! | --- | --- | --- |
//! | pending | approved, denied | somebody says so before the deadline |
//! | pending | expired | at the deadline |
//! | approved, denied, expired | nothing | |
//!
//! Who answers is a name that the caller vouches for: whether that one may is
//! decided elsewhere. Time is wall-clock time, as people answer by it and an
//! approval outlives its process. If the clock is set back, an answer counts as
//! given when the approval was asked for, at the earliest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Longest name and longest reason of an answer in bytes; what is beyond is cut
/// off.
pub const MAX_TEXT_LEN: usize = 1_024;

/// A request for a yes or a no, and what became of it. As serde writes it, it
/// can be read back; an impossible one, such as an answer after the deadline,
/// is refused: see [`Impossible`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Approval {
    requested_by: String,
    requested_at: Timestamp,
    deadline: Timestamp,
    state: State,
}

/// What became of an [`Approval`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nobody has answered, and the deadline has not been noticed.
    Pending,
    /// Somebody said yes.
    Approved {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
        /// Why; may be empty.
        reason: String,
    },
    /// Somebody said no.
    Denied {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
        /// Why; may be empty.
        reason: String,
    },
    /// Nobody answered in time.
    Expired {
        /// The deadline.
        at: Timestamp,
    },
}

/// Why an answer does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It has been approved.
    #[error("approved by {by} at {at}")]
    Approved {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// It has been denied.
    #[error("denied by {by} at {at}")]
    Denied {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// It is too late.
    #[error("expired at {at}")]
    Expired {
        /// The deadline.
        at: Timestamp,
    },
    /// An answer is somebody's: the name is empty.
    #[error("an answer needs the name of who gives it")]
    Nobody,
}

/// Why what was read cannot have been an [`Approval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Impossible {
    /// The deadline lies before the request.
    #[error("the deadline lies before the request")]
    Deadline,
    /// The answer lies outside of the time between request and deadline, or the
    /// expiry is not at the deadline.
    #[error("it was not decided between the request and the deadline")]
    Decided,
    /// The answer has no name.
    #[error("nobody answered")]
    Nobody,
}

impl Approval {
    /// Asks, and waits for `limit`.
    pub fn request(by: impl Into<String>, now: Timestamp, limit: Duration) -> Self {
        Self {
            requested_by: by.into(),
            requested_at: now,
            deadline: now.saturating_add(limit),
            state: State::Pending,
        }
    }

    /// Says yes.
    ///
    /// # Errors
    ///
    /// [`Refused`]. Too late an answer makes it [`State::Expired`], if nobody
    /// had noticed.
    pub fn approve(
        &mut self,
        by: impl Into<String>,
        reason: impl Into<String>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let (by, at) = self.answer(by.into(), now)?;
        self.state = State::Approved { by, at, reason: cut(reason.into()) };
        Ok(())
    }

    /// Says no.
    ///
    /// # Errors
    ///
    /// As [`approve`](Self::approve).
    pub fn deny(
        &mut self,
        by: impl Into<String>,
        reason: impl Into<String>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let (by, at) = self.answer(by.into(), now)?;
        self.state = State::Denied { by, at, reason: cut(reason.into()) };
        Ok(())
    }

    /// Notices the deadline: `true` if that is what made it expire, so once at
    /// most.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let expires = self.state == State::Pending && now >= self.deadline;
        if expires {
            self.state = State::Expired { at: self.deadline };
        }
        expires
    }

    /// The time until it expires; `None` unless it is pending.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        (self.state == State::Pending).then(|| self.deadline.saturating_since(now))
    }

    /// What became of it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Who asked.
    pub fn requested_by(&self) -> &str {
        &self.requested_by
    }

    /// When it was asked for.
    pub fn requested_at(&self) -> Timestamp {
        self.requested_at
    }

    /// When it expires, or would have.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Checks that an answer counts, and says as whose and when.
    fn answer(&mut self, by: String, now: Timestamp) -> Result<(String, Timestamp), Refused> {
        self.expire(now);
        match &self.state {
            State::Approved { by, at, .. } => Err(Refused::Approved { by: by.clone(), at: *at }),
            State::Denied { by, at, .. } => Err(Refused::Denied { by: by.clone(), at: *at }),
            State::Expired { at } => Err(Refused::Expired { at: *at }),
            State::Pending if by.is_empty() => Err(Refused::Nobody),
            State::Pending => Ok((cut(by), now.max(self.requested_at))),
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_LEN));
    text
}

/// An [`Approval`] as it is read, before it is believed.
#[derive(Deserialize)]
struct Saved {
    requested_by: String,
    requested_at: Timestamp,
    deadline: Timestamp,
    state: State,
}

impl TryFrom<Saved> for Approval {
    type Error = Impossible;

    fn try_from(saved: Saved) -> Result<Self, Impossible> {
        let Saved { requested_by, requested_at, deadline, state } = saved;
        if deadline < requested_at {
            return Err(Impossible::Deadline);
        }
        match &state {
            State::Approved { by, at, .. } | State::Denied { by, at, .. } => {
                if by.is_empty() {
                    return Err(Impossible::Nobody);
                }
                if !(requested_at..deadline).contains(at) {
                    return Err(Impossible::Decided);
                }
            }
            State::Expired { at } if *at != deadline => return Err(Impossible::Decided),
            State::Expired { .. } | State::Pending => {}
        }
        Ok(Self { requested_by, requested_at, deadline, state })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn pending() -> Approval {
        Approval::request("a", at(100), Duration::from_micros(50))
    }

    #[test]
    fn the_deadline_is_too_late() {
        let mut approval = pending();
        assert_eq!(approval.remaining(at(149)), Some(Duration::from_micros(1)));
        assert!(!approval.expire(at(149)));
        assert_eq!(approval.approve("b", "", at(150)), Err(Refused::Expired { at: at(150) }));
        assert_eq!(approval.state(), &State::Expired { at: at(150) });
        assert!(!approval.expire(at(200)), "it had been noticed");
        assert_eq!(approval.remaining(at(1)), None);
    }

    #[test]
    fn an_answer_has_a_name_and_a_possible_time() {
        let mut approval = pending();
        assert_eq!(approval.deny("", "no", at(110)), Err(Refused::Nobody));
        assert_eq!(approval.state(), &State::Pending);
        approval.deny("b", "no", at(5)).unwrap();
        let denied = State::Denied { by: "b".into(), at: at(100), reason: "no".into() };
        assert_eq!(approval.state(), &denied);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut approval = pending();
        approval.approve("é".repeat(1_000), "é".repeat(1_000), at(110)).unwrap();
        let State::Approved { by, reason, .. } = approval.state() else { panic!("{approval:?}") };
        assert_eq!((by.len(), reason.len()), (MAX_TEXT_LEN, MAX_TEXT_LEN));
        approval = pending();
        approval.deny("b", format!("x{}", "é".repeat(1_000)), at(110)).unwrap();
        let State::Denied { reason, .. } = approval.state() else { panic!("{approval:?}") };
        assert_eq!(reason.len(), MAX_TEXT_LEN - 1);
    }

    #[test]
    fn impossible_ones_are_not_read() {
        let mut approved = pending();
        approved.approve("b", "", at(120)).unwrap();
        let good = serde_json::to_string(&approved).unwrap();
        assert_eq!(serde_json::from_str::<Approval>(&good).unwrap(), approved);
        let second = "1970-01-01T00:00:00.0001";
        assert!(good.contains(&format!("{second}2Z")), "{good}");
        for (from, to) in [
            (format!("{second}2Z"), format!("{second}5Z")),
            (format!("{second}2Z"), "1970-01-01T00:00:00.00009Z".into()),
            (format!("{second}5Z"), "1970-01-01T00:00:00.00009Z".into()),
            (r#""by":"b""#.into(), r#""by":"""#.into()),
            (r#""approved""#.into(), r#""expired""#.into()),
            (r#""approved""#.into(), r#""granted""#.into()),
        ] {
            let bad = good.replace(&from, &to);
            assert_ne!(bad, good);
            assert!(serde_json::from_str::<Approval>(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Against the rule in one sentence: the first that comes before the
        /// deadline decides, else it expires.
        #[test]
        fn the_first_answer_in_time_decides(
            steps in prop::collection::vec((0_u8..3, 1_u64..12), 0..20),
        ) {
            let mut approval = pending();
            let mut now = 100;
            let mut first = None;
            for (kind, wait) in steps {
                now += wait;
                if first.is_none() {
                    first = match kind {
                        _ if now >= 150 => Some(State::Expired { at: at(150) }),
                        0 => Some(State::Approved { by: "b".into(), at: at(now), reason: "y".into() }),
                        1 => Some(State::Denied { by: "c".into(), at: at(now), reason: "n".into() }),
                        _ => None,
                    };
                }
                let before = approval.clone();
                let accepted = match kind {
                    0 => approval.approve("b", "y", at(now)).is_ok(),
                    1 => approval.deny("c", "n", at(now)).is_ok(),
                    _ => approval.expire(at(now)),
                };
                if accepted {
                    prop_assert_eq!(before.state(), &State::Pending);
                }
                prop_assert_eq!(approval.state(), first.as_ref().unwrap_or(&State::Pending));
                let text = serde_json::to_string(&approval).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Approval>(&text).unwrap(), &approval);
            }
        }
    }
}
