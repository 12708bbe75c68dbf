//! [`Tier`]: how long a call may take, and when what it calls must be over.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus_core::timeout::Tier;
//!
//! // Nothing around it: 30 s, and 10 % more to come to an end when told to.
//! let limit = Tier::Normal.within(None).unwrap();
//! assert_eq!(limit.soft(), Duration::from_secs(30));
//! assert_eq!(limit.hard(), Duration::from_secs(33));
//!
//! // Its caller has 20 s left: it must be over, grace and all, before those are.
//! let limit = Tier::Normal.within(Some(Duration::from_secs(20))).unwrap();
//! assert_eq!(limit.soft(), Duration::from_secs(18));
//! assert!(limit.hard() < Duration::from_secs(20));
//!
//! // A caller without time has no use for the answer.
//! assert_eq!(Tier::Normal.within(Some(Duration::ZERO)), None);
//! ```

use std::{fmt, time::Duration};

/// How long a call may take.
///
/// | tier | limit |
/// | --- | --- |
/// | `Fast` | 5 s |
/// | `Normal`, the default | 30 s |
/// | `Slow` | 5 min |
/// | `Batch` | 30 min |
/// | `Custom` | what it says; with zero no call ever starts |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// A look-up: 5 s.
    Fast,
    /// A request: 30 s.
    #[default]
    Normal,
    /// A computation: 5 min.
    Slow,
    /// A job: 30 min.
    Batch,
    /// Another limit.
    Custom(Duration),
}

impl Tier {
    /// The limit of a call that nobody waits for.
    pub const fn limit(self) -> Duration {
        match self {
            Self::Fast => Duration::from_secs(5),
            Self::Normal => Duration::from_secs(30),
            Self::Slow => Duration::from_secs(5 * 60),
            Self::Batch => Duration::from_secs(30 * 60),
            Self::Custom(limit) => limit,
        }
    }

    /// The limit of a call whose caller has `remaining` left until its own
    /// deadline; `None` if it has none.
    ///
    /// The call gets its tier's time, at most nine tenths of `remaining`. With
    /// its grace it then ends at 0.99 of it, before the caller does. Pass the
    /// soft limit on as the deadline of what this call calls, and the same
    /// holds all the way down.
    ///
    /// `None` if there is no time at all: do not start.
    #[must_use]
    pub fn within(self, remaining: Option<Duration>) -> Option<Limit> {
        // Rounded up, so that even of a few nanoseconds less is left.
        let tenth = |time: Duration| time.saturating_add(Duration::from_nanos(9)) / 10;
        let most = remaining.map_or(Duration::MAX, |time| time - tenth(time));
        let soft = self.limit().min(most);
        (!soft.is_zero()).then_some(Limit { soft })
    }
}

/// When one call has to end, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    soft: Duration,
}

impl Limit {
    /// Then it is told to stop: its future is dropped, its token cancelled. It
    /// counts as timed out.
    pub const fn soft(self) -> Duration {
        self.soft
    }

    /// Then it is stopped by force, if it can be: a tenth later, saturating.
    pub fn hard(self) -> Duration {
        self.soft.saturating_add(self.soft / 10)
    }
}

impl From<Duration> for Tier {
    fn from(limit: Duration) -> Self {
        Self::Custom(limit)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fast => f.pad("fast"),
            Self::Normal => f.pad("normal"),
            Self::Slow => f.pad("slow"),
            Self::Batch => f.pad("batch"),
            Self::Custom(limit) => write!(f, "{limit:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tier() -> impl Strategy<Value = Tier> {
        prop_oneof![
            Just(Tier::Fast),
            Just(Tier::Normal),
            Just(Tier::Slow),
            Just(Tier::Batch),
            any::<Duration>().prop_map(Tier::Custom),
            (0_u64..100).prop_map(|nanos| Tier::Custom(Duration::from_nanos(nanos))),
        ]
    }

    #[test]
    fn tiers_keep_their_table() {
        let tiers = [Tier::Fast, Tier::Normal, Tier::Slow, Tier::Batch];
        assert_eq!(tiers.map(|tier| tier.limit().as_secs()), [5, 30, 300, 1_800]);
        assert_eq!(Tier::default(), Tier::Normal);
    }

    proptest! {
        #[test]
        fn a_call_ends_before_its_caller(
            tier in tier(),
            remaining in prop_oneof![
                any::<Duration>(),
                (0_u64..1_000).prop_map(Duration::from_nanos),
                (0_u64..4_000).prop_map(Duration::from_secs),
            ],
        ) {
            match tier.within(Some(remaining)) {
                Some(limit) => {
                    prop_assert!(limit.soft() <= tier.limit());
                    prop_assert!(limit.soft() <= limit.hard());
                    prop_assert!(limit.hard() < remaining);
                    // No shorter than it must be.
                    let tight = remaining.mul_f64(0.8).min(tier.limit());
                    prop_assert!(limit.soft() >= tight || remaining < Duration::from_micros(1));
                }
                None => prop_assert!(tier.limit().is_zero() || remaining < Duration::from_nanos(10)),
            }
        }

        #[test]
        fn nested_calls_end_from_the_inside_out(
            calls in prop::collection::vec((tier(), 0.0_f64..1.0), 1..12),
        ) {
            // Each call starts some way into its caller's time.
            let mut start = Duration::ZERO;
            let mut deadline: Option<Duration> = None;
            let mut hard_end = Duration::MAX;
            for (tier, used) in calls {
                let remaining = deadline.map(|deadline| deadline.saturating_sub(start));
                let Some(limit) = tier.within(remaining) else { break };
                let (Some(soft), Some(hard)) =
                    (start.checked_add(limit.soft()), start.checked_add(limit.hard()))
                else {
                    break;
                };
                prop_assert!(deadline.is_none_or(|deadline| hard < deadline));
                prop_assert!(hard < hard_end || hard_end == Duration::MAX);
                (deadline, hard_end) = (Some(soft), hard);
                start += limit.soft().mul_f64(used / 2.0);
            }
        }
    }
}
