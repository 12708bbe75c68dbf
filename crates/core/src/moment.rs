//! [`Moment`]: monotonic time for code that has no clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A point on some monotonic clock: nanoseconds since an origin that only the
/// owner of the clock knows. Good for 584 years; arithmetic saturates.
///
/// Wall-clock time is [`Timestamp`](crate::Timestamp): it jumps, so nothing
/// is ever timed with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin.
    pub const ORIGIN: Self = Self(0);

    /// From nanoseconds since the origin.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this, zero if it lies the other way.
    #[inline]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    #[inline]
    fn add(self, delay: Duration) -> Self {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// [`saturating_since`](Moment::saturating_since).
    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

/// Where `now` comes from: a [`Moment`] read before, or a function that reads
/// a clock only if the answer is needed. Reading a clock costs more than a
/// closed breaker's whole decision.
pub trait Clock {
    /// The current moment.
    fn now(&self) -> Moment;
}

impl Clock for Moment {
    #[inline]
    fn now(&self) -> Moment {
        *self
    }
}

impl<F: Fn() -> Moment> Clock for F {
    #[inline]
    fn now(&self) -> Moment {
        self()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}
