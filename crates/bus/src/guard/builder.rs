//! Building a guard.

use std::{future::Future, num::NonZeroUsize, sync::Arc, time::Duration};

use swarmbus_core::{backoff::Backoff, breaker, timeout::Tier};

use super::{Guard, RetryIf, cache::Cache, chain::Link, error::CallError, stats::Tally};
use crate::{
    clock::BusClock,
    pipeline::{
        breaker::NamedBreaker,
        bulkhead::{Bulkhead, BulkheadLayer},
        fallback::Degradation,
        policy::{Policy, PolicyError, check_limit},
        rate_limit::{Limiter, RateLimit},
        retry::RetryLayer,
    },
};

/// The settings of a [`Guard`] in the making. Every layer is off until it is
/// set.
#[must_use = "a builder does nothing until build() is called"]
pub struct GuardBuilder<T, E> {
    name: Arc<str>,
    policy: Policy,
    deadline: Option<Duration>,
    retry_if: Option<RetryIf<E>>,
    chain: Vec<Link<T, E>>,
    /// The first thing wrong with the chain.
    refused: Option<PolicyError>,
}

impl<T, E> GuardBuilder<T, E> {
    pub(super) fn new(name: Arc<str>) -> Self {
        let policy = Policy::new();
        Self { name, policy, deadline: None, retry_if: None, chain: Vec::new(), refused: None }
    }

    /// All settings that services of a bus have, in place of those made so far.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// See [`Policy::timeout`].
    pub fn timeout(mut self, limit: impl Into<Tier>) -> Self {
        self.policy = self.policy.timeout(limit);
        self
    }

    /// See [`Policy::bulkhead`].
    pub fn bulkhead(mut self, bulkhead: Bulkhead) -> Self {
        self.policy = self.policy.bulkhead(bulkhead);
        self
    }

    /// See [`Policy::breaker`].
    pub fn breaker(mut self, config: breaker::Config) -> Self {
        self.policy = self.policy.breaker(config);
        self
    }

    /// See [`Policy::retry`].
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.policy = self.policy.retry(backoff);
        self
    }

    /// See [`Policy::retry_budget`].
    pub fn retry_budget(mut self, percent: u8, per_second: u32) -> Self {
        self.policy = self.policy.retry_budget(percent, per_second);
        self
    }

    /// See [`Policy::rate_limit`].
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.policy = self.policy.rate_limit(limit);
        self
    }

    /// Which errors of the operation are worth another try. Default: all.
    /// Time-outs and panics are always tried again.
    pub fn retry_if(mut self, worth: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.retry_if = Some(Box::new(worth));
        self
    }

    /// How long the whole call may take, with all its tries and delays, and
    /// without its fallbacks. A try has at most nine tenths of what is left, so
    /// that one which hangs is over, and a failure for retry and breaker, before
    /// the call is.
    pub fn deadline(mut self, limit: impl Into<Tier>) -> Self {
        self.deadline = Some(limit.into().limit());
        self
    }

    /// What is called when the operation, with all its tries, has no result.
    /// One after the other, until one has. The name is for
    /// [`Degraded::serving`](crate::Degraded::serving).
    ///
    /// No limit stands around it: guard it by itself if it can hang.
    ///
    /// ```
    /// use std::{io::{Error, ErrorKind}, time::Duration};
    /// use swarmbus::Guard;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rates = Guard::builder("exchange rates")
    ///     .fallback_cached(100, Duration::from_secs(3_600))
    ///     .fallback_value(1.0)
    ///     .build()?;
    /// let down = || async { Err(Error::from(ErrorKind::ConnectionRefused)) };
    /// assert_eq!(rates.call_for("EUR", || async { Ok(1.1) }).await?, 1.1);
    /// assert_eq!(rates.call_for("EUR", down).await?, 1.1);
    /// assert_eq!(rates.call_for("CHF", down).await?, 1.0);
    /// assert_eq!(&*rates.degraded().unwrap().serving, "value");
    /// # Ok(())
    /// # }
    /// ```
    pub fn fallback<F, Fut>(self, name: impl AsRef<str>, operation: F) -> Self
    where
        F: Fn(&CallError<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let operation = Box::new(move |error: &CallError<E>| Box::pin(operation(error)) as _);
        self.link(Link::Operation(name.as_ref().into(), operation))
    }

    /// Falls back on the last result for the same key
    /// ([`Guard::call_for`]). At most `capacity` are kept, each for `ttl`: an
    /// hour unless there is a reason.
    pub fn fallback_cached(mut self, capacity: usize, ttl: Duration) -> Self
    where
        T: Clone,
    {
        let checked = check_limit("the cache's time to live", ttl);
        match (NonZeroUsize::new(capacity), checked) {
            (Some(capacity), Ok(())) => {
                self.link(Link::Cached("cache".into(), Cache::new(capacity, ttl, T::clone)))
            }
            _ => {
                self.refused.get_or_insert(PolicyError::NoCapacity);
                self
            }
        }
    }

    /// Falls back on a value that is always the same.
    pub fn fallback_value(self, value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.link(Link::Value("value".into(), Box::new(move || value.clone())))
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// See [`PolicyError`].
    pub fn build(self) -> Result<Guard<T, E>, PolicyError> {
        let Self { name, policy, deadline, retry_if, chain, refused } = self;
        refused.map_or(Ok(()), Err)?;
        policy.check()?;
        if policy.sampling.is_some() {
            return Err(PolicyError::SampledCall);
        }
        if retry_if.is_some() && policy.retry.is_none() {
            return Err(PolicyError::WithoutRetry { setting: "retry_if" });
        }
        if let Some(deadline) = deadline {
            check_limit("the deadline", deadline)?;
            if let Some(timeout) = policy.timeout.filter(|timeout| *timeout > deadline) {
                return Err(PolicyError::TimeoutBeyondDeadline { timeout, deadline });
            }
        }
        Ok(Guard {
            limiter: policy.rate_limit.map(Limiter::new).transpose()?,
            deadline,
            retry: policy.retry.map(|backoff| RetryLayer::new(backoff, policy.new_budget())),
            retry_if,
            breaker: policy
                .breaker
                .map(|config| NamedBreaker::alone(&name, config.with_seed(fastrand::u64(..)))),
            bulkhead: policy.bulkhead.map(|settings| BulkheadLayer::new(&name, settings)),
            // So that its end is known to be the operation's fault, not that of
            // a delay or a queue.
            timeout: policy.timeout.or(deadline),
            chain,
            degradation: Degradation::new(&name),
            clock: BusClock::new(),
            tally: Tally::default(),
            name,
        })
    }

    fn link(mut self, link: Link<T, E>) -> Self {
        if matches!(self.chain.last(), Some(Link::Value(..))) {
            self.refused.get_or_insert(PolicyError::Unreachable);
        }
        self.chain.push(link);
        self
    }
}
