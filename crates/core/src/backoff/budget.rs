//! [`RetryBudget`]: retries may be a share of the calls and no more.

use std::{collections::VecDeque, sync::PoisonError, time::Duration};

use crate::{
    Clock, Moment,
    sync::{self, AtomicU64, Mutex, Ordering, Padded},
};

/// Keeps retries from multiplying the load on what fails already.
///
/// Whenever a retry is granted, those of the last [`WINDOW`](Self::WINDOW), 10
/// seconds, are at most
///
/// > `percent` of the calls in the same time + `per_second` × 10
///
/// | setting | default |
/// | --- | --- |
/// | `percent` | 20 |
/// | `per_second` | 10, so that a service with few calls may be retried at all |
///
/// ```
/// use swarmbus_core::{Moment, backoff::RetryBudget};
///
/// let budget = RetryBudget::new(20, 0);
/// let now = Moment::ORIGIN;
/// assert!(!budget.withdraw(now)); // from here on calls are known
/// for _ in 0..10 {
///     budget.deposit();
/// }
/// assert!(budget.withdraw(now));
/// assert!(budget.withdraw(now));
/// assert!(!budget.withdraw(now));
/// ```
///
/// # Threads
///
/// It is shared as it is. [`deposit`](Self::deposit), once for each call, is one
/// addition in a cell of the thread's own and reads no clock.
/// [`withdraw`](Self::withdraw), once for each retry, takes a lock for a few
/// instructions.
///
/// That is so cheap because a call has no time: only a withdrawal notes how many
/// calls there were when it came. So the calls that count are those since the
/// earliest withdrawal in the window, which are known to lie in it. A first
/// failure after a quiet time starts with the floor alone, and the share grows
/// with each call from there.
#[derive(Debug)]
pub struct RetryBudget {
    percent: u8,
    per_second: u32,
    calls: Box<[Padded<AtomicU64>]>,
    steps: Mutex<Steps>,
}

impl RetryBudget {
    /// What "the last" calls and retries are: 10 s.
    pub const WINDOW: Duration = Duration::from_secs(10);

    /// Retries up to `percent` of the calls, and `per_second` besides. Both may
    /// be 0; with both 0 there are no retries.
    pub fn new(percent: u8, per_second: u32) -> Self {
        Self {
            percent,
            per_second,
            calls: (0..sync::SLOTS).map(|_| Padded(AtomicU64::new(0))).collect(),
            steps: Mutex::new(Steps::default()),
        }
    }

    /// Counts a call: its first try, not its retries.
    ///
    /// Relaxed, because a cell's value is all there is to it.
    #[inline]
    pub fn deposit(&self) {
        self.calls[sync::slot()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks for one retry. Whoever gets a `true` has spent it.
    #[must_use]
    pub fn withdraw(&self, now: impl Clock) -> bool {
        let now = now.now();
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the sums come in order.
        let calls = self.calls.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum();
        let (recent_calls, recent_retries) = steps.advance(now, calls);
        let floor = u128::from(self.per_second) * u128::from(Self::WINDOW.as_secs());
        let allowed = u128::from(recent_calls) * u128::from(self.percent) / 100 + floor;
        let granted = u128::from(recent_retries) < allowed;
        if granted {
            steps.count_retry();
        }
        granted
    }
}

impl Default for RetryBudget {
    /// 20 percent, and 10 a second.
    fn default() -> Self {
        Self::new(20, 10)
    }
}

/// The steps of time in which somebody asked, oldest first. A window of ten
/// steps touches eleven: retries are counted in all of them, calls only in the
/// ten that lie in it whole, so that both err on the safe side.
#[derive(Debug, Default)]
struct Steps(VecDeque<Step>);

#[derive(Debug)]
struct Step {
    number: u64,
    /// All calls there had ever been when somebody first asked in this step.
    calls_before: u64,
    retries: u64,
}

impl Steps {
    const WIDTH: u64 = RetryBudget::WINDOW.as_nanos() as u64 / Self::COUNT;
    const COUNT: u64 = 10;

    /// Goes on to `now`. Returns the calls and the retries of the window, where
    /// `calls` are all that there have ever been.
    fn advance(&mut self, now: Moment, calls: u64) -> (u64, u64) {
        let number = now.as_nanos() / Self::WIDTH;
        // A moment that another thread read earlier belongs to the newest step.
        let newest = self.0.back().map_or(0, |step| step.number);
        let number = number.max(newest);
        if self.0.is_empty() || number > newest {
            self.0.push_back(Step { number, calls_before: calls, retries: 0 });
        }
        while self.0.front().is_some_and(|step| step.number + Self::COUNT < number) {
            self.0.pop_front();
        }
        let whole = self.0.iter().find(|step| step.number + Self::COUNT > number);
        let recent = calls - whole.map_or(calls, |step| step.calls_before);
        (recent, self.0.iter().map(|step| step.retries).sum())
    }

    fn count_retry(&mut self) {
        if let Some(step) = self.0.back_mut() {
            step.retries += 1;
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Every call and every retry in a list.
    #[derive(Default)]
    struct Model {
        calls: Vec<Moment>,
        retries: Vec<Moment>,
    }

    impl Model {
        fn recent(list: &[Moment], now: Moment) -> u64 {
            let recent = |at: &&Moment| now - **at < RetryBudget::WINDOW;
            list.iter().filter(recent).count() as u64
        }

        /// What may be spent in the window that ends now.
        fn allowed(&self, percent: u8, per_second: u32, now: Moment) -> u64 {
            Self::recent(&self.calls, now) * u64::from(percent) / 100 + u64::from(per_second) * 10
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Calls(u8),
        Retries(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop_oneof![0_u64..400, 400_u64..4_000, 4_000_u64..40_000].prop_map(Step::Wait),
            any::<u8>().prop_map(Step::Calls),
            any::<u8>().prop_map(Step::Retries),
        ]
    }

    proptest! {
        #[test]
        fn retries_never_exceed_their_share(
            percent in 0_u8..=120,
            per_second in 0_u32..4,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let budget = RetryBudget::new(percent, per_second);
            let mut model = Model::default();
            let mut now = Moment::from_nanos(123_456_789);
            for step in steps {
                match step {
                    Step::Wait(millis) => now = now + Duration::from_millis(millis),
                    Step::Calls(calls) => for _ in 0..calls {
                        budget.deposit();
                        model.calls.push(now);
                    },
                    Step::Retries(retries) => for _ in 0..retries {
                        if budget.withdraw(now) {
                            model.retries.push(now);
                            let spent = Model::recent(&model.retries, now);
                            prop_assert!(spent <= model.allowed(percent, per_second, now));
                        }
                    },
                }
            }
        }

        #[test]
        fn the_floor_is_there_after_every_quiet_time(
            per_second in 1_u32..5,
            calls in 0_u32..1_000,
            start in 0_u64..20_000,
        ) {
            let budget = RetryBudget::new(20, per_second);
            let mut now = Moment::ORIGIN + Duration::from_millis(start);
            for _ in 0..3 {
                (0..calls).for_each(|_| budget.deposit());
                let granted = (0..1_000).filter(|_| budget.withdraw(now)).count();
                prop_assert_eq!(granted, per_second as usize * 10);
                now = now + RetryBudget::WINDOW + SECOND;
            }
        }
    }

    #[test]
    fn a_steady_failure_gets_its_share() {
        let budget = RetryBudget::default();
        let mut granted = 0;
        for millis in 0..60_000 {
            budget.deposit();
            let now = Moment::ORIGIN + Duration::from_millis(millis);
            granted += u32::from(budget.withdraw(now));
        }
        // 20 percent of 60,000, and a floor of 10 a second; what is lost is
        // the step that a window of ten touches at its end.
        assert!((11_500..=12_700).contains(&granted), "{granted}");
    }

    #[test]
    fn a_clock_that_was_read_earlier_moves_nothing_back() {
        let budget = RetryBudget::new(0, 1);
        let late = Moment::ORIGIN + 100 * SECOND;
        assert_eq!((0..20).filter(|_| budget.withdraw(late)).count(), 10);
        assert!(!budget.withdraw(Moment::ORIGIN));
        assert!(budget.withdraw(Moment::from_nanos(u64::MAX)));
    }

    #[test]
    fn threads_together_get_no_more_than_one() {
        let budget = RetryBudget::new(50, 1);
        assert!(budget.withdraw(Moment::ORIGIN));
        let granted: usize = std::thread::scope(|scope| {
            let work = || {
                let calls = 0..1_000;
                calls.map(|_| budget.deposit()).filter(|()| budget.withdraw(Moment::ORIGIN)).count()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted + 1, 8_000 / 2 + 10);
    }
}
