//! [`Policy`]: what stands around a call, checked before it is believed.

use std::{sync::Arc, time::Duration};

use swarmbus_core::{
    backoff::{Backoff, RetryBudget},
    breaker,
    timeout::Tier,
};

use super::{
    bulkhead::{self, Bulkhead},
    rate_limit::{RateLimit, Sampling},
    timeout,
};

/// The layers around the calls of one service, each off until it is set.
///
/// Given to [`BusBuilder::service`](crate::BusBuilder::service), every handler
/// that names the service gets them, and shares the breaker, the bulkhead, the
/// rate limit, the sample and the retry budget with the others. Given to
/// [`GuardBuilder::policy`](crate::GuardBuilder::policy), they guard any
/// operation.
///
/// ```
/// use std::time::Duration;
/// use swarmbus::{Bulkhead, Bus, Event, Policy, core::backoff::Backoff};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let payments = Policy::new()
///     .timeout(Duration::from_secs(5))
///     .bulkhead(Bulkhead::new().concurrent(4))
///     .retry(Backoff::RETRY);
/// let bus = Bus::builder().service("payments", payments).build()?;
/// let _charge = bus.subscribe("order.placed").service("payments").handle_async(|event: Event| async move {
///     println!("charging for {:?}", event.text());
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a policy does nothing until it is given to a bus or a guard"]
pub struct Policy {
    pub(crate) timeout: Option<Duration>,
    pub(crate) bulkhead: Option<Bulkhead>,
    pub(crate) breaker: Option<breaker::Config>,
    pub(crate) retry: Option<Backoff>,
    pub(crate) budget: Option<(u8, u32)>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) sampling: Option<Sampling>,
}

impl Policy {
    /// Nothing at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// A time-out of 5 s, a breaker, a bulkhead and three retries, each with
    /// its defaults.
    pub fn standard() -> Self {
        Self::new()
            .timeout(Tier::Fast)
            .bulkhead(Bulkhead::new())
            .breaker(breaker::Config::default())
            .retry(Backoff::RETRY)
    }

    /// How long one try may take: a [`Tier`], or a [`Duration`]. At the limit
    /// it is asked to stop ([`cancelled`](crate::cancelled)), a tenth later it
    /// is dropped. A plain function cannot be stopped: such a handler of a
    /// service with a time-out is refused.
    pub fn timeout(mut self, limit: impl Into<Tier>) -> Self {
        self.timeout = Some(limit.into().limit());
        self
    }

    /// How many calls run at once, and how many wait.
    pub fn bulkhead(mut self, bulkhead: Bulkhead) -> Self {
        self.bulkhead = Some(bulkhead);
        self
    }

    /// A circuit breaker with these settings.
    pub fn breaker(mut self, config: breaker::Config) -> Self {
        self.breaker = Some(config);
        self
    }

    /// How often, and after which delays, a call that failed or timed out is
    /// tried again.
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.retry = Some(backoff);
        self
    }

    /// Retries are at most `percent` of the calls, and `per_second` besides:
    /// see [`RetryBudget`](crate::core::backoff::RetryBudget). Default: 20 and
    /// 10.
    pub fn retry_budget(mut self, percent: u8, per_second: u32) -> Self {
        self.budget = Some((percent, per_second));
        self
    }

    /// How many calls are taken in a time; those beyond are refused.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Which part of the events is handled under an event storm. For handlers
    /// of a bus only.
    pub fn sample(mut self, sampling: Sampling) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// These settings, and those of a service where there are none.
    pub(crate) fn or(self, service: &Self) -> Self {
        Self {
            timeout: self.timeout.or(service.timeout),
            bulkhead: self.bulkhead.or(service.bulkhead),
            breaker: self.breaker.or_else(|| service.breaker.clone()),
            retry: self.retry.or(service.retry),
            budget: self.budget.or(service.budget),
            rate_limit: self.rate_limit.or(service.rate_limit),
            sampling: self.sampling.or(service.sampling),
        }
    }

    /// A budget for the retries, for whoever is to share it.
    pub(crate) fn new_budget(&self) -> Arc<RetryBudget> {
        let budget = self.budget.map(|(percent, per_second)| RetryBudget::new(percent, per_second));
        Arc::new(budget.unwrap_or_default())
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if let Some(limit) = self.timeout {
            check_limit("timeout", limit)?;
        }
        if let Some(Bulkhead { concurrent, queue, wait }) = self.bulkhead {
            if !(1..=bulkhead::MOST).contains(&concurrent) || queue > bulkhead::MOST {
                return Err(PolicyError::Bulkhead { concurrent, queue });
            }
            if queue > 0 {
                check_limit("the bulkhead's wait", wait)?;
            }
        }
        if self.retry.is_some_and(|backoff| backoff.tries() == 0) {
            return Err(PolicyError::NoTries);
        }
        match self.budget {
            Some(_) if self.retry.is_none() => {
                return Err(PolicyError::WithoutRetry { setting: "retry_budget" });
            }
            Some((0, 0)) => return Err(PolicyError::NoTries),
            _ => {}
        }
        if let Some(limit) = self.rate_limit {
            limit.quota()?;
        }
        self.sampling.map_or(Ok(()), |sampling| sampling.check())
    }
}

/// Checks a limit of time.
pub(crate) fn check_limit(setting: &'static str, limit: Duration) -> Result<(), PolicyError> {
    if limit.is_zero() || limit > timeout::LONGEST {
        return Err(PolicyError::Limit { setting, limit });
    }
    Ok(())
}

/// Why settings are refused: they contradict each other, or themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A retry of no tries, or with a budget of none.
    #[error("a retry of 0 tries, or without a budget, is none: leave it out")]
    NoTries,
    /// What needs a retry, without one.
    #[error("{setting} is set, and nothing is tried again: set retry")]
    WithoutRetry {
        /// The setting's name.
        setting: &'static str,
    },
    /// A time of zero, or longer than a year.
    #[error("{setting} must be more than 0 and at most 365 days, not {limit:?}")]
    Limit {
        /// The setting's name.
        setting: &'static str,
        /// What was given.
        limit: Duration,
    },
    /// One try may take longer than all of them.
    #[error("a try may take {timeout:?}, and all of them only {deadline:?}")]
    TimeoutBeyondDeadline {
        /// The limit of one try.
        timeout: Duration,
        /// The limit of the call.
        deadline: Duration,
    },
    /// A plain function runs to its end: nothing can stop it.
    #[error("a plain function cannot be stopped at a time-out: use handle_async")]
    TimeoutOfPlainFunction,
    /// A bulkhead for no calls, or for too many.
    #[error(
        "a bulkhead is for 1 to 1,000,000 calls, with at most as many waiting, not {concurrent} and {queue}"
    )]
    Bulkhead {
        /// Calls at once.
        concurrent: usize,
        /// Calls that wait.
        queue: usize,
    },
    /// A rate without calls, time or burst, or with a burst that takes
    /// centuries to save up.
    #[error("a rate needs calls, a time and a burst, not {calls} in {per:?} with {burst} at once")]
    Rate {
        /// Calls in each period.
        calls: u32,
        /// The period.
        per: Duration,
        /// Calls at once.
        burst: u32,
    },
    /// A sample that leaves nothing out.
    #[error("a sample keeps one in 2 or more, not one in {keep_one_in}")]
    Sampling {
        /// What was given.
        keep_one_in: u32,
    },
    /// A batch of no events or of more than 65,536, or one that waits for longer
    /// than a year.
    #[error("a batch has 1 to 65,536 events and waits at most a year, not {size} and {wait:?}")]
    Batching {
        /// Events at the most.
        size: usize,
        /// How long the first waits for others.
        wait: Duration,
    },
    /// A layer around each call by itself, and calls that are made together.
    #[error("{setting} is for one event at a time, and this handler gets batches")]
    Batched {
        /// The setting's name.
        setting: &'static str,
    },
    /// Sampling leaves out events; a call has an answer to give.
    #[error("calls are not sampled: set a rate limit")]
    SampledCall,
    /// Settings of a breaker that is off.
    #[error("the breaker has settings and is off")]
    BreakerOff,
    /// A cache that holds nothing, or for no time.
    #[error("a cached fallback needs a capacity and a time to live")]
    NoCapacity,
    /// A fallback that never has its turn.
    #[error("a fallback after a constant value never has its turn")]
    Unreachable,
    /// No service of this name was declared.
    #[error("no service {name:?} was declared: see BusBuilder::service")]
    UnknownService {
        /// What was given.
        name: String,
    },
    /// A service of this name was declared before.
    #[error("the service {name:?} is declared twice")]
    TwiceDeclared {
        /// What was given.
        name: String,
    },
    /// More services than a bus may have.
    #[error("a bus has at most {limit} services")]
    TooManyServices {
        /// The limit.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let refused = |policy: Policy| policy.check().unwrap_err();
        let no_tries = Policy::new().retry(Backoff::RETRY.max_tries(0));
        assert_eq!(refused(no_tries), PolicyError::NoTries);
        let budget = Policy::new().retry_budget(10, 1);
        assert_eq!(refused(budget), PolicyError::WithoutRetry { setting: "retry_budget" });
        let nothing = Policy::new().retry(Backoff::RETRY).retry_budget(0, 0);
        assert_eq!(refused(nothing), PolicyError::NoTries);
        let limit = |policy: Policy| matches!(refused(policy), PolicyError::Limit { .. });
        assert!(limit(Policy::new().timeout(Duration::ZERO)));
        assert!(limit(Policy::new().timeout(Duration::MAX)));
        assert!(limit(Policy::new().bulkhead(Bulkhead::new().wait(Duration::ZERO))));
        let bulkhead = |bulkhead| {
            matches!(refused(Policy::new().bulkhead(bulkhead)), PolicyError::Bulkhead { .. })
        };
        assert!(bulkhead(Bulkhead::new().concurrent(0)));
        assert!(bulkhead(Bulkhead::new().concurrent(usize::MAX)));
        assert!(bulkhead(Bulkhead::new().queue(usize::MAX)));
        let rate = Policy::new().rate_limit(RateLimit::per_second(0));
        assert!(matches!(refused(rate), PolicyError::Rate { .. }));
        // Longer than a clock can tell.
        for limit in
            [RateLimit::new(1, Duration::MAX), RateLimit::new(1, timeout::LONGEST).burst(u32::MAX)]
        {
            assert!(matches!(refused(Policy::new().rate_limit(limit)), PolicyError::Rate { .. }));
        }
        let sampling = Policy::new().sample(Sampling::above(RateLimit::per_second(1), 0));
        assert!(matches!(refused(sampling), PolicyError::Sampling { .. }));
    }

    #[test]
    fn what_makes_sense_is_taken() {
        assert_eq!(Policy::new().check(), Ok(()));
        assert_eq!(Policy::standard().check(), Ok(()));
        let none_wait = Bulkhead::new().queue(0).wait(Duration::ZERO);
        assert_eq!(Policy::new().bulkhead(none_wait).check(), Ok(()));
        // The longest rate that is taken can be asked, too.
        let limit = RateLimit::new(1, timeout::LONGEST).burst(290);
        let limiter = crate::pipeline::rate_limit::Limiter::new(limit).unwrap();
        assert!((0..290).all(|_| limiter.check().is_ok()) && limiter.check().is_err());
    }
}
