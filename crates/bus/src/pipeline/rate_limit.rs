//! Layer: rate limits. So many calls in a time, and under an event storm only
//! a sample.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::policy::PolicyError;

/// So many calls in a time, and at most so many at once.
///
/// Tokens come back evenly: `RateLimit::per_second(100)` gives one each 10 ms,
/// and keeps as many as the burst allows.
///
/// ```
/// use std::time::Duration;
/// use swarmbus::{CallError, Guard, RateLimit};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = RateLimit::per_second(10).burst(2);
/// let guard = Guard::builder("search").rate_limit(limit).build()?;
/// let search = || guard.call(|| async { Ok::<_, String>(()) });
/// assert!(search().await.is_ok() && search().await.is_ok());
/// let Err(CallError::RateLimited { retry_after }) = search().await else { panic!() };
/// tokio::time::advance(retry_after).await;
/// assert!(search().await.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    calls: u32,
    per: Duration,
    burst: u32,
}

impl RateLimit {
    /// `calls` in each second, and as many at once.
    pub const fn per_second(calls: u32) -> Self {
        Self::new(calls, Duration::from_secs(1))
    }

    /// `calls` in each period, and as many at once.
    pub const fn new(calls: u32, per: Duration) -> Self {
        Self { calls, per, burst: calls }
    }

    /// How many may come at once after a pause. Default: those of one period.
    /// It must be possible to save them up in 292 years.
    #[must_use]
    pub const fn burst(mut self, calls: u32) -> Self {
        self.burst = calls;
        self
    }

    pub(crate) fn quota(&self) -> Result<Quota, PolicyError> {
        let step = self.per.checked_div(self.calls);
        let longest = step.and_then(|step| step.checked_mul(self.burst));
        let burst =
            NonZeroU32::new(self.burst).filter(|_| longest.is_some_and(|all| all <= LONGEST));
        match (step.and_then(Quota::with_period), burst) {
            (Some(quota), Some(burst)) => Ok(quota.allow_burst(burst)),
            _ => Err(PolicyError::Rate { calls: self.calls, per: self.per, burst: self.burst }),
        }
    }
}

/// How long the tokens of a whole burst may take to come back. Twice that is
/// more than the limiter can tell.
const LONGEST: Duration = Duration::from_nanos(u64::MAX / 2);

/// Under an event storm, only a sample is handled: while events come faster
/// than a rate, one in so many of those above it, picked by chance.
///
/// For events of which a part tells enough, such as readings and progress.
/// Those left out count as [`Outcome::SampledOut`](crate::Outcome).
///
/// ```
/// use swarmbus::{Bus, Event, RateLimit, Sampling};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().build()?;
/// let storm = Sampling::above(RateLimit::per_second(100), 10);
/// let _chart = bus.subscribe("sensor.read").sample(storm).handle(|_: &Event| ())?;
/// for _ in 0..1_100 {
///     bus.publish(Event::of("sensor.read", "21 °C")).await?;
/// }
/// bus.drain(std::time::Duration::from_secs(1)).await;
/// let outcomes = bus.ledger().outcomes;
/// assert_eq!((outcomes.delivered, outcomes.sampled_out), (200, 900));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    above: RateLimit,
    keep_one_in: u32,
}

impl Sampling {
    /// Handles everything up to the rate, and one in `keep_one_in` beyond it.
    pub const fn above(rate: RateLimit, keep_one_in: u32) -> Self {
        Self { above: rate, keep_one_in }
    }

    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if self.keep_one_in < 2 {
            return Err(PolicyError::Sampling { keep_one_in: self.keep_one_in });
        }
        self.above.quota().map(drop)
    }
}

/// A rate limit that any number of callers share.
#[derive(Debug)]
pub(crate) struct Limiter(RateLimiter<NotKeyed, InMemoryState, TokioClock, Middleware>);

type Middleware = NoOpMiddleware<std::time::Instant>;

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Result<Self, PolicyError> {
        Ok(Self(RateLimiter::direct_with_clock(limit.quota()?, TokioClock)))
    }

    /// So many in each second, and as many at once.
    pub(crate) fn per_second(calls: NonZeroU32) -> Self {
        Self(RateLimiter::direct_with_clock(Quota::per_second(calls), TokioClock))
    }

    /// Takes a token, or says when the next one comes.
    pub(crate) fn check(&self) -> Result<(), Duration> {
        self.0.check().map_err(|not_until| not_until.wait_time_from(TokioClock.now()))
    }
}

/// A sampler that any number of callers share.
#[derive(Debug)]
pub(crate) struct Sampler {
    calm: Limiter,
    keep_one_in: u32,
    above: AtomicU64,
    seed: u64,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Result<Self, PolicyError> {
        sampling.check()?;
        let calm = Limiter::new(sampling.above)?;
        let (above, seed) = (AtomicU64::new(0), fastrand::u64(..));
        Ok(Self { calm, keep_one_in: sampling.keep_one_in, above, seed })
    }

    /// Whether this event is one to handle.
    pub(crate) fn keeps(&self) -> bool {
        self.calm.check().is_ok() || self.picks(self.above.fetch_add(1, Relaxed))
    }

    /// One of each so many, by chance: every so-and-so-eth would always be the
    /// same one of sources, or handlers, that take turns.
    fn picks(&self, number: u64) -> bool {
        let each = u64::from(self.keep_one_in);
        let picked = fastrand::Rng::with_seed(self.seed ^ (number / each)).u64(..each);
        number % each == picked
    }
}

/// Tokio's clock, so that a test may pause it.
#[derive(Clone, Debug)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_come_back_evenly() {
        let limiter = Limiter::new(RateLimit::per_second(10).burst(3)).unwrap();
        let passed = || (0..20).filter(|_| limiter.check().is_ok()).count();
        assert_eq!(passed(), 3);
        let wait = limiter.check().unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(passed(), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(passed(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_sampled_and_calm_is_not() {
        let sampler = Sampler::new(Sampling::above(RateLimit::per_second(100), 10)).unwrap();
        let kept = |n: u32| (0..n).filter(|_| sampler.keeps()).count();
        assert_eq!(kept(100), 100);
        assert_eq!(kept(1_000), 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(kept(100), 100);
    }

    #[test]
    fn nonsense_is_refused() {
        for limit in [
            RateLimit::per_second(0),
            RateLimit::per_second(1).burst(0),
            RateLimit::new(1, Duration::ZERO),
            RateLimit::new(u32::MAX, Duration::from_nanos(1)),
        ] {
            assert!(matches!(limit.quota(), Err(PolicyError::Rate { .. })), "{limit:?}");
        }
        assert!(Sampling::above(RateLimit::per_second(1), 1).check().is_err());
    }
}
