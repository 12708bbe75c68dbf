//! Retries as a share of the calls: core's [`RetryBudget`].

use swarmbus_core::{Moment, backoff};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::backoff::duration;

/// How many retries there may be.
#[wasm_bindgen]
#[derive(Debug)]
pub struct RetryBudget(backoff::RetryBudget);

#[wasm_bindgen]
impl RetryBudget {
    /// Retries up to `percent` of the calls, and `per_second` besides; more than 255
    /// percent counts as 255.
    pub fn create(percent: u32, per_second: u32) -> RetryBudget {
        let percent = u8::try_from(percent).unwrap_or(u8::MAX);
        Self(backoff::RetryBudget::new(percent, per_second))
    }

    /// Counts a call: its first try, not its retries.
    pub fn deposit(&self) {
        self.0.deposit();
    }

    /// Asks for one retry; `now` in milliseconds. Whoever gets a yes has spent it.
    pub fn withdraw(&self, now: f64) -> bool {
        self.0.withdraw(Moment::ORIGIN + duration(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_calls() {
        let budget = RetryBudget::create(50, 0);
        assert!(!budget.withdraw(0.0));
        (0..4).for_each(|_| budget.deposit());
        let granted = (0..10).filter(|_| budget.withdraw(1.0)).count();
        assert_eq!(granted, 2);
    }
}
