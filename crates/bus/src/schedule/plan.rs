//! [`Plan`]: when a schedule fires, and what becomes of times that were
//! missed.

use std::time::Duration;

use swarmbus_core::Timestamp;

use super::cron::CronExpression;

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Once, when the wall clock shows this time.
    At(Timestamp),
    /// Once, when so much time has passed.
    After(Duration),
    /// Again and again, with so much time between one and the next.
    Every(Duration),
    /// Whenever the wall clock shows a time that the expression names.
    Cron(CronExpression),
}

/// What becomes of the times at which a schedule should have fired and could
/// not: the process was down, the machine slept, the wall clock was set, the
/// bus was full.
///
/// Of the times that have passed, all but the last are missed, and the last is
/// too if it is more than [`MISSED_AFTER`] ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// However many were missed, it fires once.
    #[default]
    FireOnce,
    /// It does not fire for them.
    Skip,
    /// It fires for each, one after the other, the oldest first.
    FireAll {
        /// At most so many, the latest; 1 to [`MAX_FIRE_ALL`].
        limit: u32,
    },
}

/// A time that the schedule could not keep is missed after this long.
pub const MISSED_AFTER: Duration = Duration::from_secs(60);

/// The highest limit of [`Missed::FireAll`].
pub const MAX_FIRE_ALL: u32 = 1_000;

/// The shortest time between two firings of [`Plan::Every`].
pub const MIN_PERIOD: Duration = Duration::from_millis(1);

/// What a schedule does about the times that have passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Fire for this time.
    pub(super) fire: Option<Timestamp>,
    /// Look again at this one; `None` for never.
    pub(super) next: Option<Timestamp>,
}

impl Plan {
    /// As a timestamp and a store can hold it: the same plan after a restart.
    pub(super) fn in_micros(self) -> Self {
        let whole = |time| Duration::from_micros(micros(time).min(i64::MAX as u64));
        match self {
            Self::After(delay) => Self::After(whole(delay)),
            Self::Every(period) => Self::Every(whole(period)),
            Self::At(_) | Self::Cron(_) => self,
        }
    }

    /// Whether the wall clock decides, or the time that passes.
    pub(super) fn follows_wall(&self) -> bool {
        match self {
            Self::At(_) | Self::Cron(_) => true,
            Self::After(_) | Self::Every(_) => false,
        }
    }

    /// The first time, for a schedule that is made now. `now` is that of the
    /// clock that it follows.
    pub(super) fn first(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(*at),
            Self::After(delay) | Self::Every(delay) => Some(now.saturating_add(*delay)),
            Self::Cron(cron) => cron.next_after(now),
        }
    }

    /// How far away a first or next time can be, if there is a limit.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        match self {
            Self::After(wait) | Self::Every(wait) => Some(*wait),
            Self::At(_) | Self::Cron(_) => None,
        }
    }

    /// What to do at `now`, when `due` is the first time that has passed.
    /// `limited` says that [`Missed::FireAll`] has thrown away already what is
    /// too much.
    pub(super) fn step(
        &self,
        due: Timestamp,
        now: Timestamp,
        missed: Missed,
        limited: bool,
    ) -> Step {
        let fire = match missed {
            Missed::FireOnce => Some(self.latest(due, now)),
            Missed::Skip => {
                Some(self.latest(due, now)).filter(|at| now.saturating_since(*at) <= MISSED_AFTER)
            }
            Missed::FireAll { .. } if limited => Some(due),
            Missed::FireAll { limit } => Some(self.latest_but(limit.max(1) - 1, due, now)),
        };
        let next = match missed {
            Missed::FireOnce | Missed::Skip => self.following(self.latest(due, now)),
            Missed::FireAll { .. } => fire.and_then(|at| self.following(at)),
        };
        Step { fire, next }
    }

    /// The time after this one.
    fn following(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(_) | Self::After(_) => None,
            Self::Every(period) => Some(at.saturating_add(*period)),
            Self::Cron(cron) => cron.next_after(at),
        }
    }

    /// The last time from `due` to `now`.
    fn latest(&self, due: Timestamp, now: Timestamp) -> Timestamp {
        self.latest_but(0, due, now)
    }

    /// The time that has `later` others between it and `now`, or `due` if
    /// there are not that many.
    fn latest_but(&self, later: u32, due: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::At(_) | Self::After(_) => due,
            Self::Every(period) => {
                let period = micros(*period).max(1);
                let passed = micros(now.saturating_since(due)) / period;
                let steps = passed.saturating_sub(u64::from(later));
                due.saturating_add(Duration::from_micros(steps.saturating_mul(period)))
            }
            Self::Cron(cron) => {
                let mut at = cron.last_until(now);
                for _ in 0..later {
                    at = at.filter(|at| *at > due).and_then(|at| cron.last_until(before(at)?));
                }
                at.map_or(due, |at| at.max(due))
            }
        }
    }
}

fn before(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_micros(at.as_micros() - 1)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn any_missed() -> impl Strategy<Value = Missed> {
        prop_oneof![
            Just(Missed::FireOnce),
            Just(Missed::Skip),
            (1_u32..8).prop_map(|limit| Missed::FireAll { limit }),
        ]
    }

    /// The definition of [`Missed`], word by word, over a list of all times.
    fn naive(plan: &Plan, due: Timestamp, now: Timestamp, missed: Missed) -> Vec<Timestamp> {
        let mut passed = vec![due];
        while let Some(next) = plan.following(passed[passed.len() - 1]).filter(|at| *at <= now) {
            passed.push(next);
        }
        let last = passed[passed.len() - 1];
        match missed {
            Missed::FireOnce => vec![last],
            Missed::Skip if now.saturating_since(last) > MISSED_AFTER => vec![],
            Missed::Skip => vec![last],
            Missed::FireAll { limit } => {
                passed.split_off(passed.len().saturating_sub(limit as usize))
            }
        }
    }

    proptest! {
        #[test]
        fn steps_agree_with_a_list_of_all_times(
            which in 0..4,
            period in 1_u64..200,
            due in 1_000_000_u64..1_000_600,
            late in 0_u64..3_000,
            missed in any_missed(),
        ) {
            let plan = match which {
                0 => Plan::At(at(due)),
                1 => Plan::After(Duration::from_secs(period)),
                2 => Plan::Every(Duration::from_secs(period)),
                _ => Plan::Cron("0,7,30 */3 * * * *".parse().unwrap()),
            };
            let due = match &plan {
                Plan::Cron(cron) => cron.next_after(at(due)).unwrap(),
                Plan::At(_) | Plan::After(_) | Plan::Every(_) => at(due),
            };
            let now = due.saturating_add(Duration::from_secs(late));
            let mut fired = Vec::new();
            let mut next = Some(due);
            while let Some(due) = next.filter(|due| *due <= now) {
                let step = plan.step(due, now, missed, !fired.is_empty());
                fired.extend(step.fire);
                prop_assert!(step.next.is_none_or(|next| next > due));
                next = step.next;
            }
            prop_assert_eq!(fired, naive(&plan, due, now, missed));
        }
    }

    #[test]
    fn years_of_milliseconds_are_one_division() {
        let every = Plan::Every(MIN_PERIOD);
        let now = at(4_000_000_000);
        let step = every.step(at(1), now, Missed::FireAll { limit: 3 }, false);
        assert_eq!(step.fire.map(|at| now.saturating_since(at)), Some(2 * MIN_PERIOD));
        let step = every.step(at(1), now, Missed::FireOnce, false);
        assert_eq!(step, Step { fire: Some(now), next: Some(now.saturating_add(MIN_PERIOD)) });
    }
}
