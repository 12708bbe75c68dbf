//! [`Window`]: over which calls a breaker judges, and how.

use std::time::Duration;

use super::config::{ConfigError, at_least_one};

/// A sliding window over calls and the shares of it that open a breaker.
///
/// The window is looked at when a failed or slow call enters it: a fast
/// success never opens a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Window {
    pub(super) span: Span,
    pub(super) failure_rate: f64,
    pub(super) learned: Option<f64>,
    pub(super) slow: Option<Slow>,
    pub(super) minimum_calls: u32,
}

impl Window {
    /// The last `calls` calls, 1 to 65,536. Failure rate 0.5, no slow calls,
    /// at least 10 calls (or all of a smaller window).
    pub const fn calls(calls: u32) -> Self {
        let minimum = if calls < 10 { calls } else { 10 };
        Self { minimum_calls: minimum, ..Self::new(Span::Calls(calls)) }
    }

    /// The calls of the last `time`, 10 ms to 24 h, give or take a tenth: it
    /// slides in steps. Failure rate 0.5, no slow calls, at least 10 calls.
    ///
    /// Each success reads the clock.
    pub const fn time(time: Duration) -> Self {
        Self::new(Span::Time(time))
    }

    /// Open when this share of calls failed: more than 0, at most 1.
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = rate;
        self
    }

    /// Open earlier where failures are rare: when so many times as many calls
    /// fail as do as a rule, `factor` more than 1. No more than
    /// [`failure_rate`](Self::failure_rate) is ever needed, and fewer than 5 %
    /// never open it.
    ///
    /// The rule is learned from the calls before those in the window, while the
    /// breaker is closed; the older ones count less. Before there were a thousand,
    /// after a restart too, only the failure rate counts.
    ///
    /// ```
    /// use swarmbus_core::{Moment, breaker::{Breaker, Config, Window}};
    ///
    /// let window = Window::calls(100).failure_rate(0.5).unusual(4.0);
    /// let config = Config::builder().consecutive_failures(None).window(window).build()?;
    /// let (breaker, now) = (Breaker::new(config), Moment::ORIGIN);
    /// // As a rule, one call in 50 fails.
    /// for call in 0..2_000 {
    ///     let permit = breaker.acquire(now).unwrap();
    ///     if call % 50 == 0 { permit.failure(now) } else { permit.success(now) };
    /// }
    /// // Half of those that come now fail: that is enough long before half of all do.
    /// for call in 0.. {
    ///     let Ok(permit) = breaker.acquire(now) else { break };
    ///     if call % 2 == 0 { permit.failure(now) } else { permit.success(now) };
    /// }
    /// let failures = breaker.stats().failures - 40;
    /// assert!((6..10).contains(&failures), "{failures}");
    /// # Ok::<(), swarmbus_core::breaker::ConfigError>(())
    /// ```
    pub const fn unusual(mut self, factor: f64) -> Self {
        self.learned = Some(factor);
        self
    }

    /// Open when the share `rate` of calls took `after` or longer, failed or
    /// not. A probe as slow as that fails to close the breaker.
    ///
    /// Each permit and each outcome reads the clock.
    pub const fn slow_calls(mut self, after: Duration, rate: f64) -> Self {
        self.slow = Some(Slow { after, rate });
        self
    }

    /// Judge no fewer calls than this.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    const fn new(span: Span) -> Self {
        Self { span, failure_rate: 0.5, learned: None, slow: None, minimum_calls: 10 }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("minimum_calls", self.minimum_calls)?;
        rate("failure_rate", self.failure_rate)?;
        if let Some(factor) = self.learned.filter(|factor| !(*factor > 1.0 && factor.is_finite())) {
            return Err(ConfigError::Unusual(factor));
        }
        if let Some(slow) = &self.slow {
            rate("slow_calls", slow.rate)?;
        }
        match self.span {
            Span::Calls(calls) if calls == 0 || calls > MAX_CALLS => {
                Err(ConfigError::WindowCalls(calls))
            }
            Span::Calls(calls) if self.minimum_calls > calls => {
                Err(ConfigError::MinimumCalls { minimum: self.minimum_calls, calls })
            }
            Span::Time(time) if time < MIN_TIME || time > MAX_TIME => {
                Err(ConfigError::WindowTime(time))
            }
            Span::Calls(_) | Span::Time(_) => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Span {
    Calls(u32),
    Time(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slow {
    pub(super) after: Duration,
    pub(super) rate: f64,
}

pub(super) const MAX_CALLS: u32 = 65_536;
const MIN_TIME: Duration = Duration::from_millis(10);
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);

fn rate(setting: &'static str, value: f64) -> Result<(), ConfigError> {
    // Written so that NaN is refused as well.
    if value > 0.0 && value <= 1.0 { Ok(()) } else { Err(ConfigError::Rate { setting, value }) }
}
