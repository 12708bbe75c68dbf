//! [`Config`]: what a breaker is told once, checked before it is believed.

use std::time::Duration;

use super::{
    time_window,
    window::{MAX_CALLS, Span, Window},
};
use crate::backoff::Backoff;

/// The settings of a [`Breaker`](super::Breaker), valid by construction.
///
/// | setting | default |
/// | --- | --- |
/// | [`consecutive_failures`](Builder::consecutive_failures) | 5 |
/// | [`window`](Builder::window) | none |
/// | [`open_for`](Builder::open_for) | 30 s |
/// | [`probes`](Builder::probes) | 3 |
/// | [`successes_to_close`](Builder::successes_to_close) | 3 |
/// | [`probe_timeout`](Builder::probe_timeout) | 60 s |
/// | [`count_successes`](Builder::count_successes) | only with a window |
///
/// ```
/// use std::time::Duration;
/// use swarmbus_core::breaker::{Config, Window};
///
/// let config = Config::builder()
///     .consecutive_failures(None)
///     .window(Window::calls(100).failure_rate(0.5).minimum_calls(20))
///     .open_for(Duration::from_secs(10))
///     .build()?;
/// # let _ = config;
/// # Ok::<(), swarmbus_core::breaker::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) consecutive: Option<u32>,
    pub(super) window: Option<Window>,
    pub(super) open_time: Backoff,
    pub(super) probes: u32,
    pub(super) successes_to_close: u32,
    pub(super) probe_timeout: Option<Duration>,
    pub(super) count_successes: bool,
    pub(super) seed: u64,
}

impl Config {
    /// The same settings with another [`seed`](Builder::seed).
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts from the defaults.
    pub fn builder() -> Builder {
        Builder(Self::default())
    }

    /// The time after which a call counts as slow.
    pub(super) fn slow_after(&self) -> Option<Duration> {
        self.window?.slow.map(|slow| slow.after)
    }

    /// A moment's nanoseconds shifted by this are its step in a window by time.
    pub(super) fn step_shift(&self) -> Option<u32> {
        match self.window?.span {
            Span::Time(time) => Some(time_window::shift(time)),
            Span::Calls(_) => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            consecutive: Some(5),
            window: None,
            open_time: Backoff::fixed(Duration::from_secs(30)),
            probes: 3,
            successes_to_close: 3,
            probe_timeout: Some(Duration::from_secs(60)),
            count_successes: false,
            seed: 0,
        }
    }
}

/// Why settings are not a [`Config`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// This setting must be at least 1.
    #[error("{setting} must be at least 1")]
    Zero {
        /// The setting's name.
        setting: &'static str,
    },
    /// A rate is more than 0 and at most 1.
    #[error("{setting} must be more than 0 and at most 1, not {value}")]
    Rate {
        /// The setting's name.
        setting: &'static str,
        /// What was given.
        value: f64,
    },
    /// Unusual is more than what is usual, and less than all there could be.
    #[error("unusual is a finite factor of more than 1, not {0}")]
    Unusual(f64),
    /// A window by count holds 1 to 65,536 calls.
    #[error("a window holds 1 to {MAX_CALLS} calls, not {0}")]
    WindowCalls(u32),
    /// A window by time is 10 ms to a day long.
    #[error("a window is 10 ms to 24 h long, not {0:?}")]
    WindowTime(Duration),
    /// The window can never hold that many calls.
    #[error("minimum_calls ({minimum}) is more than the window holds ({calls})")]
    MinimumCalls {
        /// The minimum.
        minimum: u32,
        /// What the window holds.
        calls: u32,
    },
    /// The open time is more than zero and at most a year.
    #[error("the open time must be more than 0 and at most 365 days")]
    OpenTime,
}

/// Collects settings for a [`Config`]; [`build`](Self::build) checks them.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder(Config);

impl Builder {
    /// Open after this many failures in a row; `None` turns the rule off. With
    /// neither this nor a window, a breaker opens only by
    /// [`trip`](super::Breaker::trip).
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.0.consecutive = failures.into();
        self
    }

    /// Open by the share of failed or slow calls in a sliding window.
    pub fn window(mut self, window: impl Into<Option<Window>>) -> Self {
        self.0.window = window.into();
        self
    }

    /// Reject for this long before the first probe.
    pub fn open_for(self, time: Duration) -> Self {
        self.open_backoff(Backoff::fixed(time))
    }

    /// An open time that grows with each opening in a row and starts over when
    /// the breaker closes. [`max_tries`](Backoff::max_tries) does not apply.
    pub fn open_backoff(mut self, backoff: Backoff) -> Self {
        self.0.open_time = backoff;
        self
    }

    /// At most this many probes at once while half-open.
    pub fn probes(mut self, probes: u32) -> Self {
        self.0.probes = probes;
        self
    }

    /// Close after this many successful probes.
    pub fn successes_to_close(mut self, successes: u32) -> Self {
        self.0.successes_to_close = successes;
        self
    }

    /// If all probes are out and none has been granted for this long, they
    /// hang: open again rather than reject for ever. `None` trusts the caller
    /// to bound each call.
    pub fn probe_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.0.probe_timeout = timeout.into();
        self
    }

    /// Count successes for [`Stats::successes`](super::Stats::successes) even
    /// without a window. Off by default: it costs a closed breaker's success
    /// its only write.
    pub fn count_successes(mut self, count: bool) -> Self {
        self.0.count_successes = count;
        self
    }

    /// Where the jitter of [`open_backoff`](Self::open_backoff) starts. Give
    /// each breaker a number of its own so that they do not probe together.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// # Errors
    ///
    /// The first setting that cannot be meant, see [`ConfigError`].
    pub fn build(self) -> Result<Config, ConfigError> {
        let config = self.0;
        at_least_one("consecutive_failures", config.consecutive.unwrap_or(1))?;
        at_least_one("probes", config.probes)?;
        at_least_one("successes_to_close", config.successes_to_close)?;
        if config.open_time.longest().is_zero() || config.open_time.longest() > MAX_OPEN {
            return Err(ConfigError::OpenTime);
        }
        if let Some(window) = &config.window {
            window.check()?;
        }
        Ok(config)
    }
}

const MAX_OPEN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn at_least_one(setting: &'static str, value: u32) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::Zero { setting }) } else { Ok(()) }
}
