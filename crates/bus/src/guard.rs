//! [`Guard`]: the layers of the pipeline around any operation, without a bus.

mod builder;
mod cache;
mod chain;
mod error;
mod stats;

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use swarmbus_core::Priority;

pub use self::{builder::GuardBuilder, error::CallError, stats::GuardStats};
use self::{chain::Link, stats::Tally};
use crate::{
    clock::BusClock,
    handler::contain,
    pipeline::{
        attempt::Try,
        breaker::NamedBreaker,
        bulkhead::BulkheadLayer,
        fallback::{Degradation, Degraded},
        rate_limit::Limiter,
        retry::{RetryLayer, is_failure},
        timeout::{Timed, within},
    },
};

/// Guards calls of something that can fail: a service, a disk, a model.
///
/// The layers stand in the same order as around a handler of a bus, each only
/// if it was set:
///
/// ```text
/// rate limit → fallback( deadline( retry( breaker( bulkhead( timeout( operation ))))))
/// ```
///
/// `T` and `E` are what the operation returns. One guard is meant for all calls
/// of one service: share it by reference or in an `Arc`.
///
/// ```
/// use std::{io::{Error, ErrorKind}, time::Duration};
/// use swarmbus::{Bulkhead, CallError, Guard, breaker::Config, core::backoff::Backoff};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let guard = Guard::builder("payments")
///     .timeout(Duration::from_secs(5))
///     .bulkhead(Bulkhead::new().concurrent(4))
///     .breaker(Config::default())
///     .retry(Backoff::RETRY)
///     .build()?;
///
/// // The third try succeeds, 0.3 s later.
/// let mut tries = 0;
/// let receipt = guard
///     .call(|| {
///         tries += 1;
///         let tries = tries;
///         async move { if tries < 3 { Err(ErrorKind::TimedOut.into()) } else { Ok(17) } }
///     })
///     .await?;
/// assert_eq!(receipt, 17);
/// assert_eq!((guard.stats().calls, guard.stats().retries), (1, 2));
///
/// // It goes down for good: tries fail until the breaker opens.
/// let down = || guard.call(|| async { Err(Error::from(ErrorKind::ConnectionRefused)) });
/// while !matches!(down().await, Err(CallError::Rejected { .. })) {}
/// assert_eq!(guard.stats().trips, 1);
/// guard.reset();
/// assert_eq!(guard.call(|| async { Ok(18) }).await?, 18);
/// # Ok(())
/// # }
/// ```
///
/// # Cost
///
/// A call that is ready at once allocates nothing, registers no timer, and
/// reads no clock unless its breaker measures time.
pub struct Guard<T, E> {
    name: Arc<str>,
    limiter: Option<Limiter>,
    deadline: Option<Duration>,
    retry: Option<RetryLayer>,
    retry_if: Option<RetryIf<E>>,
    breaker: Option<NamedBreaker>,
    bulkhead: Option<BulkheadLayer>,
    timeout: Option<Duration>,
    chain: Vec<Link<T, E>>,
    degradation: Degradation,
    clock: BusClock,
    tally: Tally,
}

type RetryIf<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

impl<T, E> Guard<T, E> {
    /// Settings first, then [`GuardBuilder::build`]. The name is for statistics
    /// and logs.
    pub fn builder(name: impl AsRef<str>) -> GuardBuilder<T, E> {
        GuardBuilder::new(name.as_ref().into())
    }

    /// Calls an operation, once or, with a retry, several times.
    ///
    /// A panic in it is a failure: [`CallError::Panicked`].
    ///
    /// # Errors
    ///
    /// See [`CallError`]. If a retry is refused, by a breaker that has opened
    /// for example, the error is that of the try before it.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, the operation is dropped, its place in the
    /// bulkhead is free, and the breaker counts nothing.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers, if it has to wait.
    pub async fn call<F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_for("", operation).await
    }

    /// [`call`](Self::call) for one of many things: a cached fallback answers
    /// with the last result for the same key.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn call_for<F, Fut>(&self, key: &str, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.tally.calls.fetch_add(1, Relaxed);
        if let Some(limiter) = &self.limiter
            && let Err(retry_after) = limiter.check()
        {
            self.tally.rate_limited.fetch_add(1, Relaxed);
            return Err(CallError::RateLimited { retry_after });
        }
        let result = match self.deadline {
            None => self.tries(operation).await,
            Some(deadline) => self.tries_until(deadline, operation).await,
        };
        match result {
            Ok(value) => {
                self.succeeded(key, &value);
                Ok(value)
            }
            Err(error) => self.fall_back(key, error).await,
        }
    }

    /// What it has seen so far.
    pub fn stats(&self) -> GuardStats {
        let mut stats = self.tally.stats(&self.name);
        if let Some(breaker) = &self.breaker {
            let seen = breaker.stats();
            (stats.state, stats.trips, stats.rejected) =
                (Some(seen.state), seen.opens, seen.rejected);
        }
        if let Some(bulkhead) = &self.bulkhead {
            let seen = bulkhead.report();
            stats.bulkhead_rejected = seen.rejected;
            stats.bulkhead_timed_out = seen.timed_out;
        }
        stats.degraded = self.degraded();
        stats
    }

    /// Whether a fallback serves: from its first answer until the operation
    /// succeeds again.
    pub fn degraded(&self) -> Option<Degraded> {
        self.degradation.get()
    }

    /// Closes the breaker, whatever its state, and lets it forget what it has
    /// seen. Counts stay.
    pub fn reset(&self) {
        if let Some(breaker) = &self.breaker {
            breaker.reset(&self.clock);
        }
    }

    /// All tries, and the delays between them.
    async fn tries<F, Fut>(&self, mut operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        if let Some(retry) = &self.retry {
            retry.begin();
        }
        let mut last = None;
        let mut tries = 1;
        loop {
            let error = match self.layers().run(self.timeout, &mut operation).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !is_failure(&error) {
                // A retry that is refused leaves what it was to mend.
                return Err(last.unwrap_or(error));
            }
            let Some(delay) = self.failed(&error, tries) else { return Err(error) };
            tokio::time::sleep(delay).await;
            last = Some(error);
            tries += 1;
        }
    }

    async fn tries_until<F, Fut>(&self, deadline: Duration, operation: F) -> Result<T, CallError<E>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let tries = pin!(self.tries(operation));
        let aborted = match within(deadline, tries).await {
            Timed::InTime(result) | Timed::Late(result @ Ok(_)) => return result,
            Timed::Late(Err(_)) => false,
            Timed::Aborted => true,
        };
        self.tally.timed_out(aborted);
        Err(CallError::TimedOut { aborted })
    }

    #[inline]
    fn layers(&self) -> Try<'_> {
        Try {
            breaker: self.breaker.as_ref(),
            bulkhead: self.bulkhead.as_ref(),
            priority: Priority::DEFAULT,
            clock: &self.clock,
        }
    }

    /// Counts a failure, and says after which delay to try again.
    #[cold]
    fn failed(&self, error: &CallError<E>, tries: u32) -> Option<Duration> {
        self.tally.failed();
        if let CallError::TimedOut { aborted } = error {
            self.tally.timed_out(*aborted);
        }
        let wanted = match (&self.retry_if, error) {
            (Some(retry_if), CallError::Failed(error)) => {
                // One that panics has not asked for another try.
                contain(|| retry_if(error)).unwrap_or(false)
            }
            _ => true,
        };
        let delay = self.retry.as_ref().filter(|_| wanted)?.after(tries, None, &self.clock)?;
        self.tally.retries.fetch_add(1, Relaxed);
        Some(delay)
    }

    #[inline]
    fn succeeded(&self, key: &str, value: &T) {
        self.degradation.recovered();
        self.chain.iter().for_each(|link| link.keep(key, value));
    }

    #[cold]
    async fn fall_back(&self, key: &str, error: CallError<E>) -> Result<T, CallError<E>> {
        for link in &self.chain {
            if let Some(value) = link.serve(key, &error).await {
                self.tally.fallbacks.fetch_add(1, Relaxed);
                self.degradation.served(link.name());
                return Ok(value);
            }
        }
        Err(error)
    }
}

impl<T, E> fmt::Debug for Guard<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
