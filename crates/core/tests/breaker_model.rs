//! The breaker against a model that is too simple to be wrong: it keeps every
//! outcome in a list and counts afresh each time. Random settings, random
//! operations, one thread; each answer must be the same. `PROPTEST_CASES=20000`
//! looks longer.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use proptest::prelude::*;
use swarmbus_core::{
    Moment,
    breaker::{Breaker, Config, Permit, State, StateKind, Window},
};

#[derive(Clone, Copy, Debug)]
enum Op {
    Acquire,
    Bypass,
    /// Resolve one of the permits that are out.
    Succeed(usize),
    Fail(usize),
    Drop(usize),
    /// Ask and resolve at once: most real calls overlap with nothing.
    Call {
        fails: bool,
    },
    /// Pass the time, in milliseconds.
    Wait(u64),
    /// The clock is set back.
    SetBack(u64),
    Trip,
    ForceOpen,
    Disable,
    MetricsOnly,
    Isolate,
    Reset,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    consecutive: Option<u32>,
    span: Option<Span>,
    rate: f64,
    minimum: u32,
    slow: Option<(u64, f64)>,
    open_ms: u64,
    probes: u32,
    to_close: u32,
    probe_timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Span {
    Calls(u32),
    Millis(u64),
}

proptest! {
    #[test]
    fn it_answers_as_the_model_does(settings in settings(), ops in prop::collection::vec(op(), 1..200)) {
        let breaker = Breaker::new(settings.config());
        let mut model = Model::new(settings);
        let mut permits: Vec<(Permit<'_>, Ticket)> = Vec::new();
        for op in ops {
            let index = match op {
                Op::Succeed(n) | Op::Fail(n) | Op::Drop(n) if !permits.is_empty() => n % permits.len(),
                Op::Succeed(_) | Op::Fail(_) | Op::Drop(_) => continue,
                _ => 0,
            };
            let now = model.now();
            match op {
                Op::Acquire => match (breaker.acquire(now), model.acquire()) {
                    (Ok(permit), Ok(ticket)) => permits.push((permit, ticket)),
                    (Err(rejected), Err(retry_after)) => {
                        prop_assert_eq!(rejected.retry_after, retry_after);
                        prop_assert_eq!(rejected.state, model.kind());
                    }
                    (got, expected) => prop_assert!(false, "{got:?}, not {expected:?}"),
                },
                Op::Bypass => permits.push((breaker.bypass(), model.bypass())),
                Op::Succeed(_) => {
                    let (permit, ticket) = permits.swap_remove(index);
                    let moved = permit.success(now).is_some();
                    prop_assert_eq!(moved, model.resolve(ticket, false));
                }
                Op::Fail(_) => {
                    let (permit, ticket) = permits.swap_remove(index);
                    let moved = permit.failure(now).is_some();
                    prop_assert_eq!(moved, model.resolve(ticket, true));
                }
                Op::Drop(_) => {
                    let (permit, ticket) = permits.swap_remove(index);
                    drop(permit);
                    model.release(ticket);
                }
                Op::Call { fails } => {
                    let (Ok(permit), Ok(ticket)) = (breaker.acquire(now), model.acquire()) else {
                        continue;
                    };
                    let moved = if fails { permit.failure(now) } else { permit.success(now) };
                    prop_assert_eq!(moved.is_some(), model.resolve(ticket, fails));
                }
                Op::Wait(ms) => model.millis += ms,
                Op::SetBack(ms) => model.millis = model.millis.saturating_sub(ms),
                Op::Trip => prop_assert_eq!(breaker.trip(now).is_some(), model.trip()),
                Op::ForceOpen => {
                    let moved = breaker.force_open(now).is_some();
                    prop_assert_eq!(moved, model.hold(Phase::Held(StateKind::ForcedOpen)));
                }
                Op::Disable => {
                    let moved = breaker.disable(now).is_some();
                    prop_assert_eq!(moved, model.hold(Phase::Held(StateKind::Disabled)));
                }
                Op::MetricsOnly => {
                    let moved = breaker.metrics_only(now).is_some();
                    prop_assert_eq!(moved, model.hold(Phase::Held(StateKind::MetricsOnly)));
                }
                Op::Isolate => {
                    let moved = breaker.isolate(now).is_some();
                    prop_assert_eq!(moved, model.hold(Phase::Held(StateKind::Isolated)));
                }
                Op::Reset => prop_assert_eq!(breaker.reset(now).is_some(), model.reset()),
            }
            prop_assert_eq!(breaker.kind(), model.kind());
            if let State::HalfOpen { in_flight, successes } = breaker.state(model.now()) {
                prop_assert_eq!(Phase::half_open(in_flight, successes), model.phase.without_time());
                prop_assert!(in_flight <= settings.probes);
            }
        }
        let stats = breaker.stats();
        prop_assert_eq!(stats.opens, model.opens);
        prop_assert_eq!(stats.would_open, model.would_open);
        prop_assert_eq!(stats.rejected, model.rejected);
        prop_assert_eq!(stats.failures, model.failures);
        prop_assert_eq!(stats.successes.unwrap_or(model.successes), model.successes);
        prop_assert_eq!(stats.slow, model.slow);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { since: u64 },
    HalfOpen { last_grant: u64, in_flight: u32, successes: u32 },
    Held(StateKind),
}

#[derive(Clone, Copy, Debug)]
struct Ticket {
    /// `None`: its result never counts.
    generation: Option<u64>,
    probe: bool,
    started: Option<u64>,
}

#[derive(Clone, Copy)]
struct Outcome {
    step: u64,
    failed: bool,
    slow: bool,
}

struct Model {
    settings: Settings,
    millis: u64,
    phase: Phase,
    generation: u64,
    /// All since the last change of state.
    outcomes: Vec<Outcome>,
    opens: u64,
    would_open: u64,
    rejected: u64,
    failures: u64,
    successes: u64,
    slow: u64,
}

impl Model {
    fn new(settings: Settings) -> Self {
        let (phase, outcomes) = (Phase::Closed, Vec::new());
        let (opens, would_open, rejected, failures, successes, slow) = (0, 0, 0, 0, 0, 0);
        let (millis, generation) = (1_000_000, 0);
        Self {
            settings,
            millis,
            phase,
            generation,
            outcomes,
            opens,
            would_open,
            rejected,
            failures,
            successes,
            slow,
        }
    }

    fn now(&self) -> Moment {
        Moment::ORIGIN + Duration::from_millis(self.millis)
    }

    fn kind(&self) -> StateKind {
        match self.phase {
            Phase::Closed => StateKind::Closed,
            Phase::Open { .. } => StateKind::Open,
            Phase::HalfOpen { .. } => StateKind::HalfOpen,
            Phase::Held(kind) => kind,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
        self.outcomes.clear();
    }

    fn open(&mut self) {
        self.opens += 1;
        self.enter(Phase::Open { since: self.millis });
    }

    fn acquire(&mut self) -> Result<Ticket, Duration> {
        let granted = self.admit();
        match granted {
            Ok(probe) => {
                let started = self.settings.slow.map(|_| self.millis);
                Ok(Ticket { generation: Some(self.generation), probe, started })
            }
            Err(retry_after) => {
                self.rejected += 1;
                Err(retry_after)
            }
        }
    }

    fn admit(&mut self) -> Result<bool, Duration> {
        let Settings { open_ms, probes, probe_timeout_ms, .. } = self.settings;
        let now = self.millis;
        match self.phase {
            Phase::Closed | Phase::Held(StateKind::Disabled | StateKind::MetricsOnly) => Ok(false),
            Phase::Held(_) => Err(Duration::MAX),
            Phase::Open { since } if since > now + open_ms => {
                self.phase = Phase::Open { since: now };
                Err(Duration::from_millis(open_ms))
            }
            Phase::Open { since } if now < since + open_ms => {
                Err(Duration::from_millis(since + open_ms - now))
            }
            Phase::Open { .. } => {
                self.enter(Phase::HalfOpen { last_grant: now, in_flight: 1, successes: 0 });
                Ok(true)
            }
            Phase::HalfOpen { in_flight, successes, .. } if in_flight < probes => {
                let in_flight = in_flight + 1;
                self.phase = Phase::HalfOpen { last_grant: now, in_flight, successes };
                Ok(true)
            }
            Phase::HalfOpen { last_grant, in_flight, successes } => {
                let timeout = probe_timeout_ms.unwrap_or(u64::MAX / 2);
                if last_grant > now + timeout {
                    self.phase = Phase::HalfOpen { last_grant: now, in_flight, successes };
                } else if now >= last_grant + timeout {
                    self.open();
                    return Err(Duration::from_millis(open_ms));
                }
                Err(Duration::from_millis(open_ms.min(100)))
            }
        }
    }

    fn bypass(&mut self) -> Ticket {
        let counts = matches!(self.kind(), StateKind::Closed | StateKind::MetricsOnly);
        Ticket { generation: counts.then_some(self.generation), probe: false, started: None }
    }

    fn release(&mut self, ticket: Ticket) {
        if ticket.generation == Some(self.generation)
            && ticket.probe
            && let Phase::HalfOpen { in_flight, .. } = &mut self.phase
        {
            *in_flight -= 1;
        }
    }

    /// Whether it changed the state.
    fn resolve(&mut self, ticket: Ticket, failed: bool) -> bool {
        let disabled = self.kind() == StateKind::Disabled;
        if ticket.generation != Some(self.generation) || disabled {
            return false;
        }
        let slow = match (self.settings.slow, ticket.started) {
            (Some((after, _)), Some(started)) => self.millis.saturating_sub(started) >= after,
            _ => false,
        };
        self.slow += u64::from(slow);
        self.failures += u64::from(failed);
        self.successes += u64::from(!failed);
        if let Phase::HalfOpen { last_grant, in_flight, successes } = self.phase {
            if failed || slow {
                self.open();
                return true;
            }
            if successes + 1 == self.settings.to_close {
                self.enter(Phase::Closed);
                return true;
            }
            let (in_flight, successes) = (in_flight - 1, successes + 1);
            self.phase = Phase::HalfOpen { last_grant, in_flight, successes };
            return false;
        }
        let trips = self.record(failed, slow);
        if trips && self.phase == Phase::Closed {
            self.open();
            return true;
        }
        if trips {
            self.would_open += 1;
            self.outcomes.clear();
        }
        false
    }

    fn record(&mut self, failed: bool, slow: bool) -> bool {
        let step = match self.settings.span {
            Some(Span::Millis(ms)) => {
                let (step, length) = (self.millis * 1_000_000 / step_nanos(ms), steps(ms));
                // Before the whole window: the clock was set back.
                let latest = self.outcomes.iter().map(|outcome| outcome.step).max();
                if latest.is_some_and(|latest| step + length <= latest) {
                    self.forget_window();
                }
                step
            }
            _ => 0,
        };
        self.outcomes.push(Outcome { step, failed, slow });
        let streak = self.outcomes.iter().rev().take_while(|outcome| outcome.failed).count();
        let in_a_row = self.settings.consecutive.is_some_and(|limit| streak >= limit as usize);
        in_a_row || self.share_too_large(failed, slow)
    }

    /// What was recorded leaves the window, but a streak is a streak.
    fn forget_window(&mut self) {
        for outcome in &mut self.outcomes {
            outcome.step = FORGOTTEN;
        }
    }

    fn share_too_large(&self, failed: bool, slow: bool) -> bool {
        let window: Vec<_> = match self.settings.span {
            None => return false,
            Some(Span::Calls(calls)) => self.outcomes.iter().rev().take(calls as usize).collect(),
            Some(Span::Millis(ms)) => {
                let latest = self.outcomes.iter().map(|outcome| outcome.step).max().unwrap();
                let within = |outcome: &&Outcome| outcome.step + steps(ms) > latest;
                self.outcomes.iter().filter(within).collect()
            }
        };
        let share = |count: usize| count as f64 / window.len() as f64;
        let failures = window.iter().filter(|outcome| outcome.failed).count();
        let slows = window.iter().filter(|outcome| outcome.slow).count();
        window.len() >= self.settings.minimum as usize
            && (failed && share(failures) >= self.settings.rate
                || slow && self.settings.slow.is_some_and(|(_, rate)| share(slows) >= rate))
    }

    fn trip(&mut self) -> bool {
        match self.kind() {
            StateKind::Closed | StateKind::HalfOpen => {
                self.open();
                true
            }
            StateKind::MetricsOnly => {
                self.would_open += 1;
                false
            }
            _ => false,
        }
    }

    fn hold(&mut self, phase: Phase) -> bool {
        if self.phase == phase || self.kind() == StateKind::Isolated {
            return false;
        }
        self.enter(phase);
        true
    }

    fn reset(&mut self) -> bool {
        let moved = self.phase != Phase::Closed;
        self.enter(Phase::Closed);
        moved
    }
}

impl Phase {
    fn half_open(in_flight: u32, successes: u32) -> Self {
        Self::HalfOpen { last_grant: 0, in_flight, successes }
    }

    fn without_time(self) -> Self {
        match self {
            Self::HalfOpen { in_flight, successes, .. } => Self::half_open(in_flight, successes),
            other => other,
        }
    }
}

impl Settings {
    fn config(self) -> Config {
        let window = self.span.map(|span| {
            let window = match span {
                Span::Calls(calls) => Window::calls(calls),
                Span::Millis(ms) => Window::time(Duration::from_millis(ms)),
            };
            let window = window.failure_rate(self.rate).minimum_calls(self.minimum);
            match self.slow {
                Some((after, rate)) => window.slow_calls(Duration::from_millis(after), rate),
                None => window,
            }
        });
        Config::builder()
            .consecutive_failures(self.consecutive)
            .window(window)
            .open_for(Duration::from_millis(self.open_ms))
            .probes(self.probes)
            .successes_to_close(self.to_close)
            .probe_timeout(self.probe_timeout_ms.map(Duration::from_millis))
            .build()
            .unwrap()
    }
}

/// Recorded before the clock was set back: in no window from then on.
const FORGOTTEN: u64 = 0;

/// The step of a window by time: the largest power of two up to a tenth of it.
fn step_nanos(ms: u64) -> u64 {
    let tenth = ms * 1_000_000 / 10;
    (1..).map(|power| 1 << power).take_while(|step| *step <= tenth).last().unwrap()
}

fn steps(ms: u64) -> u64 {
    (ms * 1_000_000).div_ceil(step_nanos(ms))
}

fn settings() -> impl Strategy<Value = Settings> {
    let span = prop_oneof![
        Just(None),
        (1..12_u32).prop_map(|calls| Some(Span::Calls(calls))),
        (10..500_u64).prop_map(|ms| Some(Span::Millis(ms))),
    ];
    let rates = prop_oneof![Just(0.25), Just(0.5), Just(1.0), 0.01..1.0];
    (
        prop::option::of(1..6_u32),
        span,
        rates,
        1..6_u32,
        prop::option::of((1..50_u64, 0.1..=1.0)),
        1..300_u64,
        1..5_u32,
        1..5_u32,
        prop::option::of(1..500_u64),
    )
        .prop_map(
            |(consecutive, span, rate, minimum, slow, open_ms, probes, to_close, hung)| {
                let minimum = match span {
                    Some(Span::Calls(calls)) => minimum.min(calls),
                    _ => minimum,
                };
                // Slow calls are a window's business.
                let slow = slow.filter(|_| span.is_some());
                Settings {
                    consecutive,
                    span,
                    rate,
                    minimum,
                    slow,
                    open_ms,
                    probes,
                    to_close,
                    probe_timeout_ms: hung,
                }
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => Just(Op::Acquire),
        3 => Just(Op::Bypass),
        8 => any::<usize>().prop_map(Op::Succeed),
        8 => any::<usize>().prop_map(Op::Fail),
        4 => any::<usize>().prop_map(Op::Drop),
        30 => any::<bool>().prop_map(|fails| Op::Call { fails }),
        20 => (0..150_u64).prop_map(Op::Wait),
        2 => (0..3_000_u64).prop_map(Op::SetBack),
        1 => Just(Op::Trip),
        1 => Just(Op::ForceOpen),
        1 => Just(Op::Disable),
        1 => Just(Op::MetricsOnly),
        1 => Just(Op::Isolate),
        3 => Just(Op::Reset),
    ]
}
