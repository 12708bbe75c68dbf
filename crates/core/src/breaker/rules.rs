//! When to trip: the rules of one breaker, each in a file of its own.
//!
//! A rule sees the outcomes of a closed breaker and says why to open. It knows
//! nothing of states, locks or permits.

use super::{
    call_window::CallWindow,
    config::Config,
    consecutive::Consecutive,
    learned::Learned,
    state::Cause,
    time_window::TimeWindow,
    window::{Slow, Span, Window},
};
use crate::Moment;

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

#[derive(Debug)]
pub(super) struct Rules {
    consecutive: Option<Consecutive>,
    window: Option<Windowed>,
}

#[derive(Debug)]
struct Windowed {
    calls: Calls,
    failure_rate: f64,
    learned: Option<Learned>,
    slow: Option<Slow>,
    minimum_calls: u64,
}

#[derive(Debug)]
enum Calls {
    ByCount(CallWindow),
    ByTime(TimeWindow),
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            consecutive: config.consecutive.map(Consecutive::new),
            window: config.window.as_ref().map(Windowed::new),
        }
    }

    /// Takes in one outcome; says why to open, if it should. Every rule sees
    /// every outcome, whichever of them answers.
    pub(super) fn record(&mut self, outcome: Outcome, now: Moment) -> Option<Cause> {
        let in_a_row = self.consecutive.as_mut().and_then(|rule| rule.record(outcome));
        let by_rate = self.window.as_mut().and_then(|rule| rule.record(outcome, now));
        in_a_row.or(by_rate)
    }

    /// Takes in fast successes that happened in the window's latest moment,
    /// while no failure was pending. They never open anything.
    pub(super) fn add_successes(&mut self, count: u64) {
        let Some(window) = &mut self.window else { return };
        match &mut window.calls {
            Calls::ByCount(calls) => calls.add_successes(count),
            Calls::ByTime(calls) => calls.add_successes(count),
        }
        if let Some(learned) = &mut window.learned {
            learned.add_successes(count);
        }
    }

    /// Forgets the calls. What is usual stays known.
    pub(super) fn reset(&mut self) {
        if let Some(rule) = &mut self.consecutive {
            rule.reset();
        }
        let Some(window) = &mut self.window else { return };
        if let Some(learned) = &mut window.learned {
            learned.unlearn(window.calls.tally());
        }
        match &mut window.calls {
            Calls::ByCount(calls) => calls.reset(),
            Calls::ByTime(calls) => calls.reset(),
        }
    }

    /// Failures since the last success; 0 without that rule.
    pub(super) fn streak(&self) -> u32 {
        self.consecutive.as_ref().map_or(0, Consecutive::streak)
    }

    pub(super) fn set_streak(&mut self, streak: u32) {
        if let Some(rule) = &mut self.consecutive {
            rule.set_streak(streak);
        }
    }

    /// What the window holds, if there is one.
    pub(super) fn tally(&self) -> Option<Tally> {
        self.window.as_ref().map(|window| window.calls.tally())
    }

    /// The step of time the window is in; 0 without a window by time.
    pub(super) fn epoch(&self) -> u64 {
        match self.window.as_ref().map(|window| &window.calls) {
            Some(Calls::ByTime(window)) => window.epoch(),
            Some(Calls::ByCount(_)) | None => 0,
        }
    }
}

impl Windowed {
    fn new(window: &Window) -> Self {
        Self {
            calls: match window.span {
                Span::Calls(calls) => Calls::ByCount(CallWindow::new(calls)),
                Span::Time(time) => Calls::ByTime(TimeWindow::new(time)),
            },
            failure_rate: window.failure_rate,
            learned: window.learned.map(Learned::new),
            slow: window.slow,
            minimum_calls: window.minimum_calls.into(),
        }
    }

    fn record(&mut self, outcome: Outcome, now: Moment) -> Option<Cause> {
        match &mut self.calls {
            Calls::ByCount(window) => window.record(outcome),
            Calls::ByTime(window) => window.record(outcome, now),
        }
        let tally = self.calls.tally();
        let failure_rate = match &mut self.learned {
            None => self.failure_rate,
            Some(learned) => {
                learned.record(outcome);
                learned.threshold(tally, self.failure_rate)
            }
        };
        if tally.calls < self.minimum_calls {
            return None;
        }
        if outcome.failed && share(tally.failures, tally.calls) >= failure_rate {
            return Some(Cause::FailureRate);
        }
        let slow_rate = self.slow?.rate;
        let too_slow = outcome.slow && share(tally.slow, tally.calls) >= slow_rate;
        too_slow.then_some(Cause::SlowCallRate)
    }
}

impl Calls {
    fn tally(&self) -> Tally {
        match self {
            Self::ByCount(window) => window.tally(),
            Self::ByTime(window) => window.tally(),
        }
    }
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.calls += 1;
        self.failures += u64::from(outcome.failed);
        self.slow += u64::from(outcome.slow);
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }
}

/// A division, because it rounds as the literal in a configuration does: 55 of
/// 100 is 0.55, while 0.55 × 100 is a little more than 55.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
