//! [`Backoff`]: how long to wait before the next try.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus_core::backoff::{Backoff, Jitter};
//!
//! let backoff = Backoff::exponential(Duration::from_millis(100))
//!     .cap(Duration::from_secs(1))
//!     .max_tries(6);
//! let millis: Vec<u128> = backoff.delays(|| 0).map(|delay| delay.as_millis()).collect();
//! assert_eq!(millis, [100, 200, 400, 800, 1000, 1000]);
//!
//! // Randomness is an argument: a generator in the bus, a constant in a test.
//! let spread = backoff.jitter(Jitter::Spread(25));
//! assert_eq!(spread.delay(0, 0), Duration::from_millis(75));
//! assert_eq!(spread.delay(0, u64::MAX), Duration::from_millis(125));
//! ```
//!
//! Delays alone do not spare a service that fails for everybody: callers that
//! all retry three times send it four times the load. [`RetryBudget`] keeps
//! retries to a share of the calls.

mod budget;

use std::time::Duration;

pub use budget::RetryBudget;

/// A rule for the delays between tries. Pure and `Copy`: it holds settings,
/// the progress is in [`Delays`].
///
/// | setting | default |
/// | --- | --- |
/// | [`cap`](Self::cap) | 10 s, or the first delay if that is longer |
/// | [`jitter`](Self::jitter) | none |
/// | [`max_tries`](Self::max_tries) | 3 |
///
/// `Backoff::default()` is the bus's retry rule: [`RETRY`](Self::RETRY).
/// Delays are whole nanoseconds and saturate at 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    growth: Growth,
    first: u64,
    cap: u64,
    jitter: Jitter,
    max_tries: u32,
}

/// How much of a delay is left to chance, so that callers which failed
/// together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Jitter {
    /// The delay itself.
    #[default]
    None,
    /// Evenly spread by up to this many percent to either side; more than 100
    /// counts as 100. `Spread(25)` turns 1 s into 0.75 s to 1.25 s. The upper
    /// side ends at the cap, so that delays do not crowd on it.
    Spread(u8),
    /// Anything from zero to the delay ("full jitter"): the least load on a
    /// service that comes back, and the widest choice of delays.
    Full,
}

impl Backoff {
    /// 0.1 s, 0.2 s, 0.4 s with 25 % jitter and a cap of 10 s: for calls whose
    /// caller waits.
    pub const RETRY: Self =
        Self::exponential(Duration::from_millis(100)).jitter(Jitter::Spread(25));

    /// 1 s, 2 s, 4 s, 8 s, 16 s with 25 % jitter and a cap of 300 s: for work
    /// nobody waits for.
    pub const PATIENT: Self = Self::exponential(Duration::from_secs(1))
        .cap(Duration::from_secs(300))
        .jitter(Jitter::Spread(25))
        .max_tries(5);

    /// `first`, twice, four times, eight times `first`, …
    pub const fn exponential(first: Duration) -> Self {
        Self::new(Growth::Exponential, first)
    }

    /// `first`, twice, three times, four times `first`, …
    pub const fn linear(first: Duration) -> Self {
        Self::new(Growth::Linear, first)
    }

    /// `first` times 1, 1, 2, 3, 5, 8, …
    pub const fn fibonacci(first: Duration) -> Self {
        Self::new(Growth::Fibonacci, first)
    }

    /// `delay` every time.
    pub const fn fixed(delay: Duration) -> Self {
        Self::new(Growth::Fixed, delay)
    }

    /// No delay is longer than this, jitter included.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = saturating_nanos(cap);
        self
    }

    /// How much is left to chance.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// [`delays`](Self::delays) ends after this many; 0 means none.
    #[must_use]
    pub const fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = tries;
        self
    }

    /// The number of delays in [`delays`](Self::delays).
    pub const fn tries(&self) -> u32 {
        self.max_tries
    }

    /// The delays in order. `random` gives evenly distributed numbers and is
    /// called once a delay, and never without jitter.
    ///
    /// Keep the iterator for as long as tries fail, drop it at a success.
    pub fn delays<R: FnMut() -> u64>(&self, random: R) -> Delays<R> {
        Delays { backoff: *self, next: 0, random }
    }

    /// The delay before retry number `attempt`, counted from 0; any number is
    /// fine, [`max_tries`](Self::max_tries) does not apply. `random` decides
    /// the jitter: all 64 bits evenly distributed.
    pub const fn delay(&self, attempt: u32, random: u64) -> Duration {
        let delay = self.nanos(attempt);
        Duration::from_nanos(match self.jitter {
            Jitter::None => delay,
            Jitter::Full => between(0, delay, random),
            Jitter::Spread(percent) => {
                let spread = share(delay, percent);
                let high = delay.saturating_add(spread);
                let high = if high < self.cap { high } else { self.cap };
                between(delay - spread, high, random)
            }
        })
    }

    /// No delay is longer, whatever the attempt and the jitter.
    pub(crate) const fn longest(&self) -> Duration {
        self.delay(u32::MAX, u64::MAX)
    }

    const fn new(growth: Growth, first: Duration) -> Self {
        let first = saturating_nanos(first);
        let cap = if first > DEFAULT_CAP { first } else { DEFAULT_CAP };
        Self { growth, first, cap, jitter: Jitter::None, max_tries: DEFAULT_TRIES }
    }

    /// Without jitter, held to the cap.
    const fn nanos(&self, attempt: u32) -> u64 {
        let factor = match self.growth {
            Growth::Fixed => 1,
            Growth::Linear => attempt as u64 + 1,
            Growth::Exponential if attempt < u64::BITS => 1 << attempt,
            Growth::Exponential => u64::MAX,
            Growth::Fibonacci => fibonacci(attempt),
        };
        let delay = self.first.saturating_mul(factor);
        if delay < self.cap { delay } else { self.cap }
    }
}

impl Default for Backoff {
    /// [`RETRY`](Self::RETRY).
    fn default() -> Self {
        Self::RETRY
    }
}

/// The delays of a [`Backoff`], in order; see [`Backoff::delays`].
#[derive(Clone, Debug)]
pub struct Delays<R> {
    backoff: Backoff,
    next: u32,
    random: R,
}

impl<R: FnMut() -> u64> Iterator for Delays<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.next >= self.backoff.max_tries {
            return None;
        }
        let random = match self.backoff.jitter {
            Jitter::None => 0,
            Jitter::Spread(_) | Jitter::Full => (self.random)(),
        };
        let delay = self.backoff.delay(self.next, random);
        self.next += 1;
        Some(delay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.backoff.max_tries - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl<R: FnMut() -> u64> ExactSizeIterator for Delays<R> {}

impl<R: FnMut() -> u64> std::iter::FusedIterator for Delays<R> {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    Fixed,
    Linear,
    Exponential,
    Fibonacci,
}

const DEFAULT_CAP: u64 = 10_000_000_000;
const DEFAULT_TRIES: u32 = 3;

const fn saturating_nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

/// 1, 1, 2, 3, 5, …; saturates from the 93rd on.
const fn fibonacci(n: u32) -> u64 {
    let (mut current, mut next) = (1_u64, 1_u64);
    let mut step = 0;
    while step < n && current < u64::MAX {
        (current, next) = (next, current.saturating_add(next));
        step += 1;
    }
    current
}

/// `percent` of `whole`, at most all of it.
const fn share(whole: u64, percent: u8) -> u64 {
    let percent = if percent > 100 { 100 } else { percent };
    (whole as u128 * percent as u128 / 100) as u64
}

/// Maps all of `u64` evenly onto `low..=high`. A multiplication does what a
/// remainder would, without favouring the low end.
const fn between(low: u64, high: u64, random: u64) -> u64 {
    let choices = (high - low) as u128 + 1;
    low + ((random as u128 * choices) >> 64) as u64
}

#[cfg(test)]
mod tests;
