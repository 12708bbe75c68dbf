//! [`Overflow::AdaptiveRate`](super::Overflow::AdaptiveRate): fewer events
//! are admitted while the queue is too full, all of them again afterwards.
//!
//! Here are its settings; the [`limiter`] obeys them.

mod limiter;

use std::time::Duration;

pub(super) use limiter::Limiter;

/// How [`Overflow::AdaptiveRate`](super::Overflow::AdaptiveRate) reacts.
///
/// | setting | unit | default |
/// | --- | --- | --- |
/// | [`with_water_marks`](Self::with_water_marks) | fractions of the capacity | low 0.5, high 0.8 |
/// | [`with_cut`](Self::with_cut) | fraction of the rate at which the queue is emptied | 0.5 |
/// | [`with_min_rate`](Self::with_min_rate) | events per second | 10 |
/// | [`with_step`](Self::with_step) | time | 100 ms |
/// | [`with_recovery`](Self::with_recovery) | time | 1 s |
///
/// The course of an overload:
///
/// 1. From the high-water mark on, events are admitted at `cut` times the
///    rate at which the queue is being emptied, but never below `min_rate`:
///    it drains, and yet nobody starves. The rate is measured from
///    the queue alone: what was admitted and is not in it any more was taken
///    out. It covers the last two steps, or longer if little happens.
/// 2. Below the low-water mark the limit is lifted to the measured rate, and
///    doubled after each step that the queue stays there.
/// 3. Once no decision for `recovery` has found the queue at the low-water
///    mark or above, there is no limit any more, however low it was.
///
/// Critical events (8 and 9) are admitted throughout, outside the limit,
/// until the queue is really full.
///
/// ```
/// use std::time::Duration;
/// use swarmbus_core::overflow::{AdaptiveRateConfig, Overflow};
///
/// let config = AdaptiveRateConfig::default()
///     .with_water_marks(0.4, 0.9)?
///     .with_recovery(Duration::from_secs(5))?;
/// let policy = Overflow::AdaptiveRate(config);
/// # Ok::<(), swarmbus_core::overflow::AdaptiveRateError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveRateConfig {
    low_water: f64,
    high_water: f64,
    cut: f64,
    min_rate: u32,
    step: Duration,
    recovery: Duration,
}

/// Which setting of [`AdaptiveRateConfig`] makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptiveRateError {
    /// The water marks are not `0 < low < high < 1`.
    #[error("water marks must satisfy 0 < low < high < 1")]
    WaterMarks,
    /// The cut is not between 0 and 1.
    #[error("the cut must be above 0 and below 1")]
    Cut,
    /// Nothing would be admitted at all.
    #[error("the minimum rate must be at least one event per second")]
    MinRate,
    /// Too short to measure anything in, or longer than anybody waits.
    #[error("a step lasts between 1 ms and 1 min")]
    Step,
    /// Longer than anybody waits.
    #[error("the recovery lasts at most 1 h")]
    Recovery,
}

impl AdaptiveRateConfig {
    /// At `high` the limit sets in, below `low` it is lifted. Both are rounded
    /// up to whole events, so a queue of fewer than 5 at the default marks is
    /// full before it is limited.
    ///
    /// # Errors
    ///
    /// Unless `0 < low < high < 1`.
    pub fn with_water_marks(mut self, low: f64, high: f64) -> Result<Self, AdaptiveRateError> {
        if !(0.0 < low && low < high && high < 1.0) {
            return Err(AdaptiveRateError::WaterMarks);
        }
        (self.low_water, self.high_water) = (low, high);
        Ok(self)
    }

    /// What fraction of the rate at which the queue is emptied is admitted.
    ///
    /// # Errors
    ///
    /// Unless `0 < cut < 1`.
    pub fn with_cut(mut self, cut: f64) -> Result<Self, AdaptiveRateError> {
        if !(0.0 < cut && cut < 1.0) {
            return Err(AdaptiveRateError::Cut);
        }
        self.cut = cut;
        Ok(self)
    }

    /// Events per second that are admitted even when nothing is taken out,
    /// until the queue is full.
    ///
    /// # Errors
    ///
    /// When it is 0.
    pub fn with_min_rate(mut self, events_per_second: u32) -> Result<Self, AdaptiveRateError> {
        if events_per_second == 0 {
            return Err(AdaptiveRateError::MinRate);
        }
        self.min_rate = events_per_second;
        Ok(self)
    }

    /// How fast measurements are forgotten and how often the limit doubles.
    /// It is also how much of an unused limit may be made up for in one burst.
    ///
    /// # Errors
    ///
    /// Unless it is between 1 ms and 1 min.
    pub fn with_step(mut self, step: Duration) -> Result<Self, AdaptiveRateError> {
        if step < Duration::from_millis(1) || step > Duration::from_secs(60) {
            return Err(AdaptiveRateError::Step);
        }
        self.step = step;
        Ok(self)
    }

    /// How long the queue has to stay below the low-water mark until there is
    /// no limit any more.
    ///
    /// # Errors
    ///
    /// When it is longer than an hour.
    pub fn with_recovery(mut self, recovery: Duration) -> Result<Self, AdaptiveRateError> {
        if recovery > Duration::from_secs(3600) {
            return Err(AdaptiveRateError::Recovery);
        }
        self.recovery = recovery;
        Ok(self)
    }
}

impl Default for AdaptiveRateConfig {
    fn default() -> Self {
        Self {
            low_water: 0.5,
            high_water: 0.8,
            cut: 0.5,
            min_rate: 10,
            step: Duration::from_millis(100),
            recovery: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests;
