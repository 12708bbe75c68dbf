//! Layer: retries. Tries again what failed, later and later.
//!
//! A failure and a time-out are tried again. A refusal is not: an open breaker
//! or a full bulkhead has just said that more calls do harm.

use std::{sync::Arc, time::Duration};

use swarmbus_core::{
    Clock,
    backoff::{Backoff, RetryBudget},
};

use super::timeout;
use crate::guard::CallError;

/// When to try again.
#[derive(Debug)]
pub(crate) struct RetryLayer {
    backoff: Backoff,
    /// Shared with everybody who calls the same service.
    budget: Arc<RetryBudget>,
}

impl RetryLayer {
    pub(crate) fn new(backoff: Backoff, budget: Arc<RetryBudget>) -> Self {
        Self { backoff, budget }
    }

    /// A call begins: the budget is a share of them.
    #[inline]
    pub(crate) fn begin(&self) {
        self.budget.deposit();
    }

    /// The delay after try number `tries`, counted from 1. `None` if that was
    /// the last, if the next one would begin after `left` or after the limit of
    /// a call around this one, or if the budget is spent.
    pub(crate) fn after(
        &self,
        tries: u32,
        left: Option<Duration>,
        now: impl Clock,
    ) -> Option<Duration> {
        if tries > self.backoff.tries() {
            return None;
        }
        let delay = self.backoff.delay(tries - 1, fastrand::u64(..));
        let in_time = |left: Option<Duration>| left.is_none_or(|left| delay < left);
        // The budget last, as asking spends it.
        let again = in_time(left) && in_time(timeout::left()) && self.budget.withdraw(now);
        again.then_some(delay)
    }
}

/// Whether a call that ended so may be tried again at all.
pub(crate) fn is_failure<E>(error: &CallError<E>) -> bool {
    match error {
        CallError::Failed(_) | CallError::Panicked(_) | CallError::TimedOut { .. } => true,
        CallError::Rejected { .. }
        | CallError::BulkheadFull
        | CallError::BulkheadTimeout { .. }
        | CallError::RateLimited { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use swarmbus_core::{Moment, backoff::Jitter};

    use super::*;

    fn retry(backoff: Backoff, budget: RetryBudget) -> RetryLayer {
        RetryLayer::new(backoff, Arc::new(budget))
    }

    #[test]
    fn it_ends_after_its_tries_and_before_a_deadline() {
        let backoff = Backoff::exponential(Duration::from_secs(1)).jitter(Jitter::None);
        let retry = retry(backoff.max_tries(3), RetryBudget::default());
        let after = |tries, left| retry.after(tries, left, Moment::ORIGIN);
        let seconds = |n| Some(Duration::from_secs(n));
        let delays: Vec<_> = (1..=4).map(|tries| after(tries, None)).collect();
        assert_eq!(delays, [seconds(1), seconds(2), seconds(4), None]);
        assert_eq!(after(2, seconds(3)), seconds(2));
        assert_eq!(after(2, seconds(2)), None);
    }

    #[test]
    fn it_ends_with_its_budget() {
        let retry = retry(Backoff::RETRY, RetryBudget::new(50, 0));
        assert_eq!(retry.after(1, None, Moment::ORIGIN), None);
        (0..4).for_each(|_| retry.begin());
        let granted = (0..10).filter(|_| retry.after(1, None, Moment::ORIGIN).is_some()).count();
        assert_eq!(granted, 2);
    }
}
