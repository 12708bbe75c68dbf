//! [`Overflow::AdaptiveRate`](super::Overflow::AdaptiveRate): fewer events
//! are admitted while the queue is too full, all of them again afterwards.
//!
//! Only the queue itself is observed. What was admitted and is not in it any
//! more was taken out, so the rate at which consumers empty it is known
//! exactly, and the limit is a fraction of that: right for ten events a
//! second and for ten million, with nothing to configure.

use std::time::Duration;

use super::{Decision, Reason};
use crate::{Clock, Moment, Priority};

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
/// 1. A queue at the high-water mark is watched for one step, without a
///    limit, to learn how fast it is emptied.
/// 2. If it still is at the mark, events are admitted at that rate times
///    `cut`, but never below `min_rate`, so that it drains and yet nobody
///    starves. Each further step at the mark measures again and may only
///    lower the limit.
/// 3. Below the low-water mark the limit doubles each step.
/// 4. Once every decision for `recovery` + `step` has found the queue below
///    the low-water mark, there is no limit any more, however low it was.
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
    /// At `high` the limiting begins, below `low` it ends.
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

    /// How long one measurement takes, and how often the limit changes. It is
    /// also how much of an unused limit may be made up for in one burst.
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

/// The state of one queue's limit. It is only asked about queues with room.
#[derive(Debug)]
pub(super) struct Limiter {
    config: AdaptiveRateConfig,
    /// Events from which on the queue is overloaded.
    high: usize,
    /// Events below which it is calm.
    low: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Everybody is admitted and no clock is read.
    Open,
    /// At the high-water mark: everybody is admitted for one step, to see how
    /// fast the queue is emptied.
    Watching { step: Step },
    /// One event is admitted every `interval` nanoseconds.
    Limiting {
        step: Step,
        interval: u64,
        /// When the next event is due if events come evenly. One that comes
        /// up to a step early is admitted all the same.
        due: Moment,
        /// For how long the queue has been below the low-water mark.
        calm: Duration,
    },
}

/// One measurement under way.
#[derive(Clone, Copy, Debug)]
struct Step {
    began: Moment,
    /// Events in the queue when it began.
    depth: usize,
    /// Events let into the queue since.
    admitted: usize,
}

impl Limiter {
    pub(super) fn new(config: AdaptiveRateConfig, capacity: usize) -> Self {
        // At least 1: even a queue of one event can be calm, when empty.
        let part = |fraction: f64| ((capacity as f64 * fraction).ceil() as usize).max(1);
        let (low, high) = (part(config.low_water), part(config.high_water));
        Self { config, high, low, state: State::Open }
    }

    #[inline]
    pub(super) fn decide(&mut self, incoming: Priority, len: usize, now: impl Clock) -> Decision {
        if matches!(self.state, State::Open) && len < self.high {
            return Decision::Accept;
        }
        self.decide_slowly(incoming, len, now.now())
    }

    /// Events per second, while there is a limit.
    pub(super) fn limit(&self) -> Option<f64> {
        match self.state {
            State::Limiting { interval, .. } => Some(SECOND as f64 / interval as f64),
            State::Open | State::Watching { .. } => None,
        }
    }

    #[cold]
    fn decide_slowly(&mut self, incoming: Priority, len: usize, now: Moment) -> Decision {
        self.advance(len, now);
        match &mut self.state {
            State::Open => Decision::Accept,
            State::Watching { step } => {
                step.admitted += 1;
                Decision::Accept
            }
            State::Limiting { step, interval, due, .. } => {
                if incoming < Priority::CRITICAL {
                    let early = due.saturating_since(now);
                    if early > self.config.step {
                        let retry_after = early - self.config.step;
                        return Decision::Reject(Reason::RateLimited { retry_after });
                    }
                    *due = (*due).max(now) + Duration::from_nanos(*interval);
                }
                step.admitted += 1;
                Decision::Accept
            }
        }
    }

    /// Ends the current step if it is over, and goes on from what it showed.
    fn advance(&mut self, len: usize, now: Moment) {
        let fresh = Step { began: now, depth: len, admitted: 0 };
        let done = match &self.state {
            State::Open => return self.state = State::Watching { step: fresh },
            State::Watching { step } | State::Limiting { step, .. } => *step,
        };
        let elapsed = now.saturating_since(done.began);
        if elapsed < self.config.step {
            return;
        }
        self.state = match self.state {
            State::Open => State::Open,
            State::Watching { .. } if len < self.low => State::Open,
            State::Watching { .. } if len < self.high => State::Watching { step: fresh },
            State::Watching { .. } => State::Limiting {
                step: fresh,
                interval: self.cut(done, len, elapsed),
                // A step ahead: nothing has been saved up for a burst.
                due: now + self.config.step,
                calm: Duration::ZERO,
            },
            State::Limiting { interval, due, calm, .. } if len < self.low => {
                // Nobody asked between steps, so a long silence was calm too.
                let calm = calm + elapsed;
                if calm >= self.config.recovery {
                    State::Open
                } else {
                    let steps = elapsed.as_nanos() / self.config.step.as_nanos();
                    let interval = (interval >> steps.min(63)).max(1);
                    State::Limiting { step: fresh, interval, due, calm }
                }
            }
            State::Limiting { interval, due, .. } => {
                let interval = match len < self.high {
                    true => interval,
                    false => interval.max(self.cut(done, len, elapsed)),
                };
                State::Limiting { step: fresh, interval, due, calm: Duration::ZERO }
            }
        };
    }

    /// The interval between admissions that follows from a step that ended
    /// with `len` events in the queue.
    fn cut(&self, step: Step, len: usize, elapsed: Duration) -> u64 {
        let slowest = SECOND / u64::from(self.config.min_rate);
        let taken_out = (step.depth + step.admitted).saturating_sub(len);
        // Nothing taken out makes it infinite, which the clamp handles.
        let interval = elapsed.as_nanos() as f64 / (taken_out as f64 * self.config.cut);
        (interval as u64).clamp(1, slowest)
    }
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
