//! The state machine, pure and for one thread: every decision a breaker makes.
//!
//! The concurrent form asks it under a lock, and answers alone only what it
//! can read off a [`Word`](super::word::Word).

use std::time::Duration;

use super::{
    config::Config,
    rules::{Outcome, Rules},
    state::{Cause, State, StateKind, Transition},
    stats::{Totals, bump},
    stripes::Tag,
};
use crate::Moment;

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) config: Config,
    pub(super) phase: Phase,
    generation: u64,
    pub(super) rules: Rules,
    pub(super) totals: Totals,
}

/// The state with all that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    /// `row` openings in a row came before this one.
    Open {
        since: Moment,
        wait: Duration,
        row: u32,
    },
    HalfOpen {
        last_grant: Moment,
        in_flight: u32,
        successes: u32,
        row: u32,
    },
    ForcedOpen,
    Disabled,
    MetricsOnly,
    Isolated,
}

/// The answer to a request for a permit, and the change it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted(Option<Transition>),
    Rejected { retry_after: Duration, transition: Option<Transition> },
}

impl Machine {
    pub(super) fn new(config: Config) -> Self {
        let rules = Rules::new(&config);
        Self { config, phase: Phase::Closed, generation: 0, rules, totals: Totals::default() }
    }

    pub(super) fn acquire(&mut self, now: Moment) -> Verdict {
        match self.phase {
            Phase::Closed | Phase::Disabled | Phase::MetricsOnly => Verdict::Granted(None),
            Phase::ForcedOpen | Phase::Isolated => {
                Verdict::Rejected { retry_after: Duration::MAX, transition: None }
            }
            Phase::Open { since, wait, row } => self.acquire_open(since, wait, row, now),
            Phase::HalfOpen { last_grant, in_flight, successes, row } => {
                if in_flight < self.config.probes {
                    let in_flight = in_flight + 1;
                    self.phase = Phase::HalfOpen { last_grant: now, in_flight, successes, row };
                    return Verdict::Granted(None);
                }
                self.all_probes_out(last_grant, now)
            }
        }
    }

    /// Takes in the result of a permit that was granted in `generation`.
    pub(super) fn resolve(
        &mut self,
        generation: u64,
        outcome: Outcome,
        now: Moment,
    ) -> Option<Transition> {
        if generation != self.generation {
            return None;
        }
        match self.phase {
            Phase::Closed => {
                self.count(outcome, now);
                let cause = self.rules.record(outcome, now)?;
                Some(self.open(0, cause, now))
            }
            Phase::MetricsOnly => {
                self.count(outcome, now);
                self.rules.record(outcome, now)?;
                bump(&mut self.totals.would_open);
                self.rules.reset();
                None
            }
            Phase::HalfOpen { last_grant, in_flight, successes, row } => {
                self.count(outcome, now);
                match outcome {
                    Outcome { failed: true, .. } => Some(self.reopen(row, Cause::ProbeFailed, now)),
                    Outcome { slow: true, .. } => Some(self.reopen(row, Cause::ProbeSlow, now)),
                    _ if successes + 1 >= self.config.successes_to_close => {
                        bump(&mut self.totals.recoveries);
                        Some(self.enter(Phase::Closed, Cause::Recovered, now))
                    }
                    _ => {
                        let (in_flight, successes) = (in_flight.saturating_sub(1), successes + 1);
                        self.phase = Phase::HalfOpen { last_grant, in_flight, successes, row };
                        None
                    }
                }
            }
            // Nothing granted in these states has a result that counts.
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled | Phase::Isolated => None,
        }
    }

    /// Gives back the slot of a probe that was dropped without a result.
    pub(super) fn release(&mut self, generation: u64) {
        if let Phase::HalfOpen { in_flight, .. } = &mut self.phase
            && generation == self.generation
        {
            *in_flight = in_flight.saturating_sub(1);
        }
    }

    /// Takes in fast successes of this generation, all at once.
    pub(super) fn add_successes(&mut self, count: u64) {
        self.rules.add_successes(count);
        self.count_successes(count);
    }

    /// Counts successes whose generation has just ended.
    pub(super) fn count_successes(&mut self, count: u64) {
        self.totals.successes = self.totals.successes.saturating_add(count);
    }

    /// Opens early, as if a rule had said so.
    pub(super) fn trip(&mut self, now: Moment) -> Option<Transition> {
        match self.phase {
            Phase::Closed => Some(self.open(0, Cause::Manual, now)),
            Phase::HalfOpen { row, .. } => Some(self.reopen(row, Cause::Manual, now)),
            Phase::MetricsOnly => {
                bump(&mut self.totals.would_open);
                None
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled | Phase::Isolated => None,
        }
    }

    /// Open for at least so long from now, if no person holds it in a state.
    pub(super) fn keep_open(&mut self, time: Duration, now: Moment) -> Option<Transition> {
        let transition = match self.phase {
            Phase::Closed => Some(self.open(0, Cause::Evidence, now)),
            Phase::HalfOpen { row, .. } => Some(self.open(row, Cause::Evidence, now)),
            Phase::Open { .. } => None,
            Phase::MetricsOnly | Phase::ForcedOpen | Phase::Disabled | Phase::Isolated => {
                return None;
            }
        };
        if let Phase::Open { since, wait, row } = self.phase {
            // What it found out by itself may last longer.
            let by_itself = self.totals.opened_by != Some(Cause::Evidence);
            let left = if by_itself { remaining(since, wait, now) } else { Duration::ZERO };
            let (since, wait) = (now, left.max(time));
            self.phase = Phase::Open { since, wait, row };
        }
        transition
    }

    /// Goes into a manual state; an isolated breaker stays isolated.
    pub(super) fn hold(&mut self, phase: Phase, now: Moment) -> Option<Transition> {
        if self.phase == phase || self.phase == Phase::Isolated {
            return None;
        }
        Some(self.enter(phase, Cause::Manual, now))
    }

    /// Closes from any state and forgets what the rules have seen.
    pub(super) fn reset(&mut self, now: Moment) -> Option<Transition> {
        if self.phase == Phase::Closed {
            self.generation += 1;
            self.rules.reset();
            return None;
        }
        Some(self.enter(Phase::Closed, Cause::Manual, now))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn kind(&self) -> StateKind {
        self.state(Moment::ORIGIN).kind()
    }

    pub(super) fn state(&self, now: Moment) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { since, wait, .. } => {
                State::Open { since, remaining: remaining(since, wait, now) }
            }
            Phase::HalfOpen { in_flight, successes, .. } => {
                State::HalfOpen { in_flight, successes }
            }
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::MetricsOnly => State::MetricsOnly,
            Phase::Isolated => State::Isolated,
        }
    }

    /// What a success must be counted under, if it is counted at all.
    pub(super) fn tag(&self) -> Tag {
        Tag::new(self.generation, self.rules.epoch())
    }

    pub(super) fn counts_successes(&self) -> bool {
        self.config.count_successes || self.config.window.is_some()
    }

    fn acquire_open(&mut self, since: Moment, wait: Duration, row: u32, now: Moment) -> Verdict {
        if was_set_back(since, wait, now) {
            // Waiting for the old deadline could take for ever: start again.
            self.phase = Phase::Open { since: now, wait, row };
            return Verdict::Rejected { retry_after: wait, transition: None };
        }
        let retry_after = remaining(since, wait, now);
        if !retry_after.is_zero() {
            return Verdict::Rejected { retry_after, transition: None };
        }
        bump(&mut self.totals.recovery_attempts);
        let phase = Phase::HalfOpen { last_grant: now, in_flight: 1, successes: 0, row };
        Verdict::Granted(Some(self.enter(phase, Cause::OpenTimeOver, now)))
    }

    fn all_probes_out(&mut self, granted: Moment, now: Moment) -> Verdict {
        let hint = PROBE_HINT.min(self.config.open_time.longest());
        let waiting = Verdict::Rejected { retry_after: hint, transition: None };
        let (Some(timeout), Phase::HalfOpen { last_grant, row, .. }) =
            (self.config.probe_timeout, &mut self.phase)
        else {
            return waiting;
        };
        if granted.saturating_since(now) > timeout {
            // The clock was set back; count from here.
            *last_grant = now;
            return waiting;
        }
        if now.saturating_since(granted) < timeout {
            return waiting;
        }
        let row = *row;
        let transition = Some(self.reopen(row, Cause::ProbesHung, now));
        let Phase::Open { wait, .. } = self.phase else { return waiting };
        Verdict::Rejected { retry_after: wait, transition }
    }

    fn reopen(&mut self, row: u32, cause: Cause, now: Moment) -> Transition {
        self.open(row.saturating_add(1), cause, now)
    }

    fn open(&mut self, row: u32, cause: Cause, now: Moment) -> Transition {
        bump(&mut self.totals.opens);
        self.totals.opened_at = Some(now);
        self.totals.opened_by = Some(cause);
        let random = mix(self.config.seed.wrapping_add(self.generation));
        let wait = self.config.open_time.delay(row, random);
        self.enter(Phase::Open { since: now, wait, row }, cause, now)
    }

    fn enter(&mut self, phase: Phase, cause: Cause, now: Moment) -> Transition {
        let from = self.kind();
        self.phase = phase;
        self.generation += 1;
        self.rules.reset();
        self.totals.last_change = Some(now);
        Transition { from, to: self.kind(), cause }
    }

    fn count(&mut self, outcome: Outcome, now: Moment) {
        if outcome.slow {
            bump(&mut self.totals.slow);
        }
        if outcome.failed {
            bump(&mut self.totals.failures);
            self.totals.last_failure = Some(now);
        } else {
            bump(&mut self.totals.successes);
        }
    }
}

/// Probes tend to come back sooner than the open time ends.
const PROBE_HINT: Duration = Duration::from_millis(100);

fn remaining(since: Moment, wait: Duration, now: Moment) -> Duration {
    if was_set_back(since, wait, now) { wait } else { (since + wait).saturating_since(now) }
}

/// Whether the clock was: by more than a whole open time. Less may be a moment
/// that another thread read a little earlier.
fn was_set_back(since: Moment, wait: Duration, now: Moment) -> bool {
    since.saturating_since(now) > wait
}

/// Turns neighbouring numbers into unrelated ones (the finalizer of
/// `SplitMix64`), which is all that jitter needs.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
