//! Settings of a resilient store.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use parking_lot::Mutex;
use swarmbus_core::{
    backoff::{Backoff, Jitter},
    breaker::{Breaker, Config},
};
use tokio::sync::{Notify, RwLock, watch};

use super::{Local, ResilientStore, Shared, overlay::Overlay, stats::Tally, write::Log};
use crate::{clock::BusClock, pipeline::fallback::Degradation, state::StateStore};

/// The environment variable that switches the fallback off, with `off`, `0`
/// or `false`: calls then go to the primary alone, and fail when it does.
pub const FALLBACK_SWITCH: &str = "SWARMBUS_STATE_FALLBACK";

/// Settings of a [`ResilientStore`].
///
/// | setting | default |
/// | --- | --- |
/// | [`name`](Self::name) | `state` |
/// | [`enabled`](Self::enabled) | as [`FALLBACK_SWITCH`] says |
/// | [`timeout`](Self::timeout) | 2 s |
/// | [`breaker`](Self::breaker) | 5 failures in a row; open 0.1 s at first, then twice as long up to 2 s |
/// | [`max_writes`](Self::max_writes) | 10,000, of 64 MiB together |
/// | [`remember`](Self::remember) | 10,000 keys, of 64 MiB together |
/// | [`remember_for`](Self::remember_for) | 1 h |
/// | [`assume_absent`](Self::assume_absent) | no |
#[must_use]
pub struct ResilientBuilder {
    primary: Arc<dyn StateStore>,
    name: Arc<str>,
    enabled: bool,
    timeout: Duration,
    breaker: Config,
    max_writes: (usize, usize),
    remember: (NonZeroUsize, usize),
    remember_for: Duration,
    assume_absent: bool,
}

const KEYS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
const BYTES: usize = 64 << 20;

impl ResilientBuilder {
    pub(super) fn new(primary: Arc<dyn StateStore>) -> Self {
        let open = Backoff::exponential(Duration::from_millis(100)).cap(Duration::from_secs(2));
        let breaker = Config::builder()
            .open_backoff(open.jitter(Jitter::Spread(25)))
            .build()
            .unwrap_or_default();
        let switch = std::env::var(FALLBACK_SWITCH);
        Self {
            primary,
            name: "state".into(),
            enabled: !switch.is_ok_and(|value| is_off(&value)),
            timeout: Duration::from_secs(2),
            breaker: breaker.with_seed(fastrand::u64(..)),
            max_writes: (10_000, BYTES),
            remember: (KEYS, BYTES),
            remember_for: Duration::from_secs(3_600),
            assume_absent: false,
        }
    }

    /// What it is called in [`Degraded`](crate::Degraded) and in logs.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = name.as_ref().into();
        self
    }

    /// Whether there is a fallback at all, whatever [`FALLBACK_SWITCH`] says.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// How long the primary may take for one call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// When to stop asking the primary, and when to try again. Failures are
    /// [`StateError::Unavailable`](crate::state::StateError::Unavailable) and
    /// calls that take too long.
    pub fn breaker(mut self, config: Config) -> Self {
        self.breaker = config;
        self
    }

    /// How many writes may wait to be written back, and of how many bytes.
    pub fn max_writes(mut self, writes: usize, bytes: usize) -> Self {
        self.max_writes = (writes, bytes);
        self
    }

    /// Of how many keys, and how many bytes, to remember what the primary
    /// said; what waits to be written back is among the bytes.
    pub fn remember(mut self, keys: NonZeroUsize, bytes: usize) -> Self {
        self.remember = (keys, bytes);
        self
    }

    /// How long what the primary said is good enough.
    pub fn remember_for(mut self, time: Duration) -> Self {
        self.remember_for = time;
        self
    }

    /// Takes a key of which nothing is known for absent while the primary is
    /// away, and lists what is known as if it were all. For caches: elsewhere
    /// it makes somebody start anew what exists.
    pub fn assume_absent(mut self, assume: bool) -> Self {
        self.assume_absent = assume;
        self
    }

    /// The store. Calls need a tokio runtime with timers.
    pub fn build(self) -> ResilientStore {
        let overlay =
            Overlay::new(self.remember.0, self.remember.1, self.remember_for, self.assume_absent);
        let log = Log::new(self.max_writes.0, self.max_writes.1);
        ResilientStore {
            shared: Arc::new(Shared {
                primary: self.primary,
                enabled: self.enabled,
                timeout: self.timeout,
                breaker: Breaker::new(self.breaker),
                clock: BusClock::new(),
                gate: RwLock::new(()),
                local: Mutex::new(Local { overlay, log, is_writing_back: false }),
                waiting: watch::Sender::new(0),
                was_reset: Arc::new(Notify::new()),
                degradation: Degradation::new(&self.name),
                serving: "memory".into(),
                tally: Tally::default(),
            }),
        }
    }
}

fn is_off(value: &str) -> bool {
    ["off", "0", "false"].iter().any(|off| value.trim().eq_ignore_ascii_case(off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_knows_three_words() {
        assert!(["off", " OFF ", "0", "false"].into_iter().all(is_off));
        assert!(!["on", "1", "", "true"].into_iter().any(is_off));
    }
}
