//! [`Breaker`]: may this call go ahead?
//!
//! A breaker stands before something that can fail. While calls succeed it is
//! *closed* and lets everything through. When they fail too often it *opens*
//! and turns calls away, which spares the caller the wait and the callee the
//! load. After a while it goes *half-open*: a few probes find out whether to
//! close again.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus_core::{Moment, breaker::{Breaker, Config}};
//!
//! let breaker = Breaker::new(Config::default());
//! let now = Moment::ORIGIN;
//! for _ in 0..5 {
//!     breaker.acquire(now)?.failure(now);
//! }
//! let rejected = breaker.acquire(now).unwrap_err();
//! assert_eq!(rejected.retry_after, Duration::from_secs(30));
//!
//! // Three probes in a row succeed and close it.
//! let later = now + rejected.retry_after;
//! for _ in 0..3 {
//!     breaker.acquire(later)?.success(later);
//! }
//! assert!(breaker.acquire(later).is_ok());
//! # Ok::<(), swarmbus_core::breaker::Rejected>(())
//! ```
//!
//! # Ask, then resolve
//!
//! [`acquire`](Breaker::acquire) gives a [`Permit`]. The permit is resolved
//! with [`success`](Permit::success) or [`failure`](Permit::failure); dropped,
//! it counts as neither and frees its probe slot. It belongs to the state it
//! was granted in: a result that comes in after a change of state is ignored.
//!
//! # What takes no lock
//!
//! One decision is written once, in `machine.rs`, for one thread. It runs
//! under a mutex, and before the mutex is let go a summary of the state is
//! stored in one atomic word. Whoever can decide by the word alone does:
//!
//! - **acquire while closed**: the word says "admits".
//! - **success while closed with no streak of failures to end**: nothing
//!   would change. If successes are counted, one is added to the thread's own
//!   cell (`stripes.rs`); a window takes the cells in before the next failure.
//! - **acquire while open**: the word says so, and the end of the open time
//!   lies in another atomic, stored before the word.
//!
//! This is sound because each such call acts as if it had run at the instant
//! it read the word, before anything that changed the word later; and by
//! coherence a thread that has seen a change, or hears of it from a thread
//! that has, never reads an older word. Everything else, failures above all,
//! takes the lock.

mod call_window;
mod config;
mod consecutive;
mod machine;
mod rules;
mod snapshot;
mod state;
mod stats;
mod stripes;
mod time_window;
mod word;

use std::{fmt, mem::ManuallyDrop, sync::PoisonError, time::Duration};

pub use config::{Builder, Config, ConfigError, Window};
pub use snapshot::{SavedState, SavedTotals, Snapshot};
pub use state::{Cause, Rejected, State, StateKind, Transition};
pub use stats::{Stats, WindowStats};

use self::{
    machine::{Machine, Phase, Verdict},
    rules::Outcome,
    stripes::{Padded, Stripes, Tag},
    word::Word,
};
use crate::{
    Clock, Moment,
    sync::{AtomicU64, Mutex, Ordering},
};

/// A circuit breaker for any number of threads. See the [module](self).
pub struct Breaker {
    gate: Padded<Gate>,
    counters: Padded<Counters>,
    stripes: Option<Stripes>,
    machine: Mutex<Machine>,
}

/// What the lock-free paths read. In a closed breaker nobody writes to it, so
/// every core keeps its own copy of the line.
struct Gate {
    word: AtomicU64,
    /// The open time's ends in nanoseconds; meaningful while open.
    open_since: AtomicU64,
    open_until: AtomicU64,
    /// Nanoseconds after which a call is slow.
    slow_after: u64,
    /// See [`time_window`].
    step_shift: u32,
}

struct Counters {
    rejected: AtomicU64,
    bypassed: AtomicU64,
}

impl Breaker {
    /// Closed, with nothing recorded.
    pub fn new(config: Config) -> Self {
        Self::from_machine(Machine::new(config), [0, 0])
    }

    /// Asks for one call to go ahead. A closed breaker does not look at `now`,
    /// unless it measures [slow calls](Window::slow_calls).
    ///
    /// # Errors
    ///
    /// [`Rejected`] says why and when to ask again.
    #[inline]
    pub fn acquire(&self, now: impl Clock) -> Result<Permit<'_>, Rejected> {
        let word = self.gate.0.word();
        if word.admits() {
            let started = if word.is_timed() { Some(now.now()) } else { None };
            return Ok(Permit { breaker: self, word, started, transition: None });
        }
        self.acquire_not_closed(word, now.now())
    }

    /// A permit whatever the state, for what must not wait (priorities 8 and
    /// 9). Its result counts only if the breaker is closed, now and until
    /// then: such a call never opens or closes a circuit that others test.
    /// It is never slow, as its start is not measured.
    #[inline]
    pub fn bypass(&self) -> Permit<'_> {
        self.counters.0.bypassed.fetch_add(1, Ordering::Relaxed);
        let word = self.gate.0.word();
        let word = if word.admits() { word } else { Word::IGNORED };
        Permit { breaker: self, word, started: None, transition: None }
    }

    /// The state. Looking changes nothing: an open breaker whose time is over
    /// stays [`State::Open`] until somebody asks for a permit.
    pub fn state(&self, now: impl Clock) -> State {
        let now = now.now();
        self.with(|machine| machine.state(now))
    }

    /// The state without its data, without a lock.
    #[inline]
    pub fn kind(&self) -> StateKind {
        self.gate.0.word().state()
    }

    /// Opens a closed or half-open breaker as its rules would, and lets it
    /// recover as usual: for a health check that knows before the calls do.
    pub fn trip(&self, now: impl Clock) -> Option<Transition> {
        let now = now.now();
        self.with(|machine| machine.trip(now))
    }

    /// Rejects every call until told otherwise.
    pub fn force_open(&self, now: impl Clock) -> Option<Transition> {
        self.hold(Phase::ForcedOpen, now.now())
    }

    /// Lets every call through and records nothing, until told otherwise.
    pub fn disable(&self, now: impl Clock) -> Option<Transition> {
        self.hold(Phase::Disabled, now.now())
    }

    /// Lets every call through and records outcomes, until told otherwise:
    /// [`Stats::would_open`] tells what the rules would have done.
    pub fn metrics_only(&self, now: impl Clock) -> Option<Transition> {
        self.hold(Phase::MetricsOnly, now.now())
    }

    /// Rejects every call until [`reset`](Self::reset); the other manual
    /// states cannot end it.
    pub fn isolate(&self, now: impl Clock) -> Option<Transition> {
        self.hold(Phase::Isolated, now.now())
    }

    /// Closes, whatever the state, and forgets what the rules have seen.
    /// Counters stay. Results of calls already under way are ignored.
    pub fn reset(&self, now: impl Clock) -> Option<Transition> {
        let now = now.now();
        self.with(|machine| machine.reset(now))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let [rejected, bypassed] = self.tallies();
        self.with(|machine| {
            let totals = machine.totals;
            let window = machine.rules.tally().unwrap_or_default();
            Stats {
                state: machine.kind(),
                opens: totals.opens,
                would_open: totals.would_open,
                recovery_attempts: totals.recovery_attempts,
                recoveries: totals.recoveries,
                rejected,
                bypassed,
                successes: machine.counts_successes().then_some(totals.successes),
                failures: totals.failures,
                slow: totals.slow,
                streak: machine.rules.streak(),
                window: WindowStats {
                    calls: window.calls,
                    failures: window.failures,
                    slow: window.slow,
                },
                last_change: totals.last_change,
                opened_at: totals.opened_at,
                last_failure: totals.last_failure,
            }
        })
    }

    /// Whether a closed breaker's ordinary calls read the clock: with a window
    /// by time, or slow calls. If not, a [`Clock`] that reads lazily costs
    /// nothing.
    #[inline]
    pub fn uses_clock(&self) -> bool {
        let word = self.gate.0.word();
        word.is_timed() || word.is_stepped()
    }
}

/// Leave for one call. Resolve it with [`success`](Self::success) or
/// [`failure`](Self::failure); dropping it counts nothing.
#[must_use = "a permit dropped at once says nothing about the call"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    /// What the breaker was when it was granted.
    word: Word,
    started: Option<Moment>,
    transition: Option<Transition>,
}

impl Permit<'_> {
    /// The call succeeded. `now` is read only if the time matters. Returns the
    /// change this made, if any.
    #[inline]
    pub fn success(self, now: impl Clock) -> Option<Transition> {
        let permit = ManuallyDrop::new(self);
        let word = permit.breaker.gate.0.word();
        if word.absorbs_success() || word.generation() != permit.word.generation() {
            return None;
        }
        permit.breaker.success_counted(word, &permit, now)
    }

    /// The call failed. Returns the change this made, if any.
    #[inline]
    pub fn failure(self, now: impl Clock) -> Option<Transition> {
        let permit = ManuallyDrop::new(self);
        let word = permit.breaker.gate.0.word();
        if word.generation() != permit.word.generation() {
            return None;
        }
        permit.breaker.resolve(&permit, true, now.now())
    }

    /// The change that granting this permit made: open to half-open.
    #[inline]
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }

    /// Whether this call is a probe of a half-open breaker.
    #[inline]
    pub fn is_probe(&self) -> bool {
        !self.word.admits()
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_probe() {
            self.breaker.release(self.word.generation());
        }
    }
}

impl Breaker {
    fn from_machine(machine: Machine, [rejected, bypassed]: [u64; 2]) -> Self {
        let config = &machine.config;
        let slow_after = config
            .slow_after()
            .map_or(u64::MAX, |after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let gate = Gate {
            word: AtomicU64::new(machine.word().bits()),
            open_since: AtomicU64::new(0),
            open_until: AtomicU64::new(0),
            slow_after,
            step_shift: config.step_shift().unwrap_or(0),
        };
        gate.publish(&machine);
        Self {
            gate: Padded(gate),
            counters: Padded(Counters {
                rejected: AtomicU64::new(rejected),
                bypassed: AtomicU64::new(bypassed),
            }),
            stripes: machine.counts_successes().then(|| Stripes::new(machine.tag())),
            machine: Mutex::new(machine),
        }
    }

    /// Runs one step of the state machine and publishes what came of it. No
    /// caller's code runs in here: clocks are read before.
    fn with<R>(&self, step: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = machine.generation();
        if let Some(stripes) = &self.stripes {
            let waiting = stripes.drain(machine.tag());
            machine.add_successes(waiting);
        }
        let result = step(&mut machine);
        if let Some(stripes) = &self.stripes {
            // Successes that slipped in since, while the word still invited
            // them. Of an ended generation, only the total is left.
            let slipped_in = stripes.drain(machine.tag());
            if machine.generation() == generation {
                machine.add_successes(slipped_in);
            } else {
                machine.count_successes(slipped_in);
            }
        }
        self.gate.0.publish(&machine);
        result
    }

    #[cold]
    fn acquire_not_closed(&self, word: Word, now: Moment) -> Result<Permit<'_>, Rejected> {
        let state = word.state();
        if let Some(retry_after) = self.gate.0.still_open(state, now) {
            return Err(self.reject(state, retry_after, None));
        }
        let (verdict, state, word) = self.with(|machine| {
            let state = machine.kind();
            (machine.acquire(now), state, machine.word())
        });
        match verdict {
            Verdict::Granted(transition) => {
                let started = if word.is_timed() { Some(now) } else { None };
                Ok(Permit { breaker: self, word, started, transition })
            }
            Verdict::Rejected { retry_after, transition } => {
                let state = transition.map_or(state, |transition| transition.to);
                Err(self.reject(state, retry_after, transition))
            }
        }
    }

    fn reject(
        &self,
        state: StateKind,
        retry_after: Duration,
        transition: Option<Transition>,
    ) -> Rejected {
        self.counters.0.rejected.fetch_add(1, Ordering::Relaxed);
        Rejected { state, retry_after, transition }
    }

    /// A success that is counted, or ends a streak, or is a probe's.
    fn success_counted(
        &self,
        word: Word,
        permit: &Permit<'_>,
        now: impl Clock,
    ) -> Option<Transition> {
        let gate = &self.gate.0;
        let stripes = match &self.stripes {
            Some(stripes) if word.is_settled() => stripes,
            Some(_) | None => return self.resolve(permit, false, now.now()),
        };
        if !self.uses_clock() {
            if stripes.add(Tag::new(word.generation(), 0)) {
                return None;
            }
            return self.resolve(permit, false, now.now());
        }
        let now = now.now();
        let epoch = if word.is_stepped() { now.as_nanos() >> gate.step_shift } else { 0 };
        if !gate.is_slow(permit.started, now) && stripes.add(Tag::new(word.generation(), epoch)) {
            return None;
        }
        self.resolve(permit, false, now)
    }

    #[cold]
    fn resolve(&self, permit: &Permit<'_>, failed: bool, now: Moment) -> Option<Transition> {
        let outcome = Outcome { failed, slow: self.gate.0.is_slow(permit.started, now) };
        self.with(|machine| machine.resolve(permit.word.generation(), outcome, now))
    }

    #[cold]
    fn release(&self, generation: u64) {
        self.with(|machine| machine.release(generation));
    }

    fn hold(&self, phase: Phase, now: Moment) -> Option<Transition> {
        self.with(|machine| machine.hold(phase, now))
    }

    fn tallies(&self) -> [u64; 2] {
        let Counters { rejected, bypassed } = &self.counters.0;
        [rejected.load(Ordering::Relaxed), bypassed.load(Ordering::Relaxed)]
    }
}

impl Gate {
    #[inline]
    fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Called under the lock. The word goes last: who reads "open" must find
    /// the ends of that open time, or of a later one.
    fn publish(&self, machine: &Machine) {
        if let Phase::Open { since, wait, .. } = machine.phase {
            self.open_since.store(since.as_nanos(), Ordering::Relaxed);
            self.open_until.store((since + wait).as_nanos(), Ordering::Relaxed);
        }
        self.word.store(machine.word().bits(), Ordering::Release);
    }

    /// How long to wait, if that is certain without the lock: held open by
    /// hand, or within the open time. A moment before the open time may mean
    /// that the clock was set back, which is for the state machine to judge.
    fn still_open(&self, state: StateKind, now: Moment) -> Option<Duration> {
        match state {
            StateKind::ForcedOpen | StateKind::Isolated => Some(Duration::MAX),
            StateKind::Open => {
                let since = self.open_since.load(Ordering::Relaxed);
                let until = self.open_until.load(Ordering::Relaxed);
                let now = now.as_nanos();
                (since <= now && now < until).then(|| Duration::from_nanos(until - now))
            }
            StateKind::Closed
            | StateKind::HalfOpen
            | StateKind::Disabled
            | StateKind::MetricsOnly => None,
        }
    }

    fn is_slow(&self, started: Option<Moment>, now: Moment) -> bool {
        let elapsed = started.map(|started| now.as_nanos().saturating_sub(started.as_nanos()));
        elapsed.is_some_and(|elapsed| elapsed >= self.slow_after)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.kind()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("is_probe", &self.is_probe()).finish_non_exhaustive()
    }
}
