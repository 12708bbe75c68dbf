//! [`CronExpression`]: times of the wall clock, in UTC.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::{civil::DateTime, tz::Offset};
use swarmbus_core::Timestamp;

/// A cron expression, read in UTC, so that no hour is missing or comes twice.
///
/// Six fields: second, minute, hour, day of the month, month, day of the week;
/// with five the second is 0. A seventh field is the year. `*`, lists, ranges,
/// steps, names of months and days, and `L`, `W` and `#` mean what they do in
/// other crons. When both days are given, either will do.
///
/// ```
/// use swarmbus::{Timestamp, schedule::CronExpression};
///
/// let every_five_minutes: CronExpression = "0 */5 * * * *".parse()?;
/// let now: Timestamp = "2026-01-31T12:03:20Z".parse()?;
/// let next = every_five_minutes.next_after(now).map(|at| at.to_string());
/// assert_eq!(next.as_deref(), Some("2026-01-31T12:05:00Z"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CronExpression {
    text: Arc<str>,
    cron: Arc<croner::Cron>,
}

/// Why text is not a [`CronExpression`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// Longer than [`CronExpression::MAX_LEN`].
    #[error("a cron expression has at most {max} bytes, this one has {0}", max = CronExpression::MAX_LEN)]
    TooLong(usize),
    /// Not a cron expression.
    #[error("{0}")]
    Syntax(String),
}

impl CronExpression {
    /// Longest expression in bytes.
    pub const MAX_LEN: usize = 256;

    /// Checks and keeps an expression.
    ///
    /// # Errors
    ///
    /// See [`CronError`]. An expression that never comes true, such as one for
    /// the 30th of February, is none: [`next_after`](Self::next_after) is
    /// `None` for it.
    pub fn new(text: &str) -> Result<Self, CronError> {
        if text.len() > Self::MAX_LEN {
            return Err(CronError::TooLong(text.len()));
        }
        let cron = croner::Cron::from_str(text).map_err(|e| CronError::Syntax(e.to_string()))?;
        Ok(Self { text: text.into(), cron: Arc::new(cron) })
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after `at`.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        stamp(self.cron.find_next_occurrence(&civil(at)?, false).ok()?)
    }

    /// The last time that is not after `at`.
    pub fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        stamp(self.cron.find_previous_occurrence(&civil(at)?, true).ok()?)
    }
}

/// The whole second that a timestamp lies in.
fn civil(at: Timestamp) -> Option<DateTime> {
    let seconds = i64::try_from(at.as_micros() / 1_000_000).ok()?;
    Some(Offset::UTC.to_datetime(jiff::Timestamp::from_second(seconds).ok()?))
}

fn stamp(civil: DateTime) -> Option<Timestamp> {
    let at = Offset::UTC.to_timestamp(civil).ok()?;
    Timestamp::from_micros(u64::try_from(at.as_microsecond()).ok()?)
}

impl FromStr for CronExpression {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl PartialEq for CronExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CronExpression {}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn fractions_of_a_second_do_not_hide_a_time() {
        let cron = CronExpression::new("*/5 * * * * *").unwrap();
        assert_eq!(cron.next_after(at("2026-01-01T00:00:04.9Z")), Some(at("2026-01-01T00:00:05Z")));
        assert_eq!(cron.next_after(at("2026-01-01T00:00:05Z")), Some(at("2026-01-01T00:00:10Z")));
        assert_eq!(cron.next_after(at("2026-01-01T00:00:05.1Z")), Some(at("2026-01-01T00:00:10Z")));
        assert_eq!(cron.last_until(at("2026-01-01T00:00:05Z")), Some(at("2026-01-01T00:00:05Z")));
        assert_eq!(cron.last_until(at("2026-01-01T00:00:09.9Z")), Some(at("2026-01-01T00:00:05Z")));
    }

    #[test]
    fn five_fields_mean_second_zero_and_names_are_known() {
        let cron = CronExpression::new("30 6 * * MON").unwrap();
        assert_eq!(cron.next_after(at("2026-01-01T00:00:00Z")), Some(at("2026-01-05T06:30:00Z")));
    }

    #[test]
    fn what_never_comes_true_is_told_soon() {
        let never = CronExpression::new("0 0 0 30 2 *").unwrap();
        assert_eq!(never.next_after(at("2026-01-01T00:00:00Z")), None);
        assert_eq!(never.last_until(at("2026-01-01T00:00:00Z")), None);
        let past = CronExpression::new("0 0 0 1 1 * 2020").unwrap();
        assert_eq!(past.next_after(at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_is_no_expression_is_a_typed_error() {
        let long = "*".repeat(300);
        assert_eq!(CronExpression::new(&long).unwrap_err(), CronError::TooLong(300));
        for text in ["", " ", "* *", "61 * * * * *", "a b c d e f", "@often", "*/0 * * * * *"] {
            assert!(matches!(CronExpression::new(text), Err(CronError::Syntax(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_times_are_in_order(
            text in "[0-9*/,L#W?A-Z@ -]{0,24}",
            from in 1_u64..4_000_000_000_000_000,
        ) {
            let from = Timestamp::from_micros(from).unwrap();
            if let Ok(cron) = CronExpression::new(&text) {
                if let Some(next) = cron.next_after(from) {
                    prop_assert!(next > from);
                    prop_assert_eq!(cron.last_until(next), Some(next));
                }
                if let Some(last) = cron.last_until(from) {
                    prop_assert!(last <= from);
                }
            }
        }
    }
}
