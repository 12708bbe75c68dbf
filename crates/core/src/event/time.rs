//! [`Timestamp`]: wall-clock time in whole microseconds.

use std::{borrow::Cow, fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z, at least 1.
///
/// Microseconds stay exact in a JavaScript number until the year 2255. Text
/// is RFC 3339 in UTC, with serde too; a finer fraction than a microsecond is
/// cut off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

/// Why text is not a [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// Not RFC 3339.
    #[error("a timestamp is RFC 3339, such as 2026-01-31T12:00:00Z")]
    Syntax,
    /// Before 1970 or after 9999.
    #[error("a timestamp lies between 1970-01-01T00:00:00.000001Z and the year 9999")]
    Range,
}

impl Timestamp {
    /// 9999-12-30T21:59:59.999999Z, about the latest that can be written in every
    /// time zone with a year of four digits.
    pub const MAX: Self = Self(NonZeroU64::new(253_402_207_199_999_999).unwrap());

    /// `None` for 0 and after [`MAX`](Self::MAX).
    #[inline]
    pub const fn from_micros(micros: u64) -> Option<Self> {
        match NonZeroU64::new(micros) {
            Some(micros) if micros.get() <= Self::MAX.0.get() => Some(Self(micros)),
            _ => None,
        }
    }

    /// From the time since 1970 as the operating system tells it, held to the
    /// range of a timestamp: a clock set before 1970 gives the first
    /// microsecond.
    #[inline]
    pub fn from_unix(since_epoch: Duration) -> Self {
        let micros = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(micros.clamp(1, Self::MAX.as_micros())).unwrap_or(Self::MAX)
    }

    /// Microseconds since 1970.
    #[inline]
    pub const fn as_micros(self) -> u64 {
        self.0.get()
    }

    /// The time from `earlier` to this, zero if it lies the other way.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.as_micros().saturating_sub(earlier.as_micros()))
    }

    /// Later by `delay`, at most [`MAX`](Self::MAX).
    #[must_use]
    pub fn saturating_add(self, delay: Duration) -> Self {
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.as_micros().saturating_add(delay)).unwrap_or(Self::MAX)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at: jiff::Timestamp = text.parse().map_err(|_| TimestampError::Syntax)?;
        u64::try_from(at.as_microsecond())
            .ok()
            .and_then(Self::from_micros)
            .ok_or(TimestampError::Range)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.as_micros()).map_err(|_| fmt::Error)?;
        let at = jiff::Timestamp::from_microsecond(micros).map_err(|_| fmt::Error)?;
        at.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
