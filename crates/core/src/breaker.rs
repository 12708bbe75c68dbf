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
pub mod evidence;
mod gate;
mod learned;
mod machine;
mod permit;
mod rules;
mod snapshot;
mod state;
mod stats;
mod stripes;
mod time_window;
mod window;
mod word;

use std::{fmt, sync::PoisonError, time::Duration};

pub use config::{Builder, Config, ConfigError};
pub use permit::{Permit, Ticket};
pub use snapshot::{SavedState, SavedTotals, Snapshot};
pub use state::{Cause, Rejected, State, StateKind, Transition};
pub use stats::{Stats, WindowStats};
pub use window::Window;

use self::{
    gate::Gate,
    machine::{Machine, Phase, Verdict},
    stripes::Stripes,
    word::Word,
};
use crate::{
    Clock, Moment,
    sync::{AtomicU64, Mutex, Ordering, Padded},
};

/// A circuit breaker for any number of threads. See the [module](self).
pub struct Breaker {
    gate: Padded<Gate>,
    counters: Padded<Counters>,
    stripes: Option<Stripes>,
    machine: Mutex<Machine>,
}

/// What a permit is made of, with the change that granting it made.
type Granted = (Ticket, Option<Transition>);

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
    #[inline(always)]
    pub fn acquire(&self, now: impl Clock) -> Result<Permit<'_>, Rejected> {
        let word = self.gate.0.word();
        if word.absorbs_success() {
            // Nothing that measures time counts what comes of it.
            return Ok(Permit::new(self, word, None));
        }
        // Taken apart and put together, so that a permit lives in registers.
        match self.acquire_not_quiet(word, now) {
            Ok((ticket, transition)) => Ok(self.attach(ticket).with_transition(transition)),
            Err(rejected) => Err(rejected),
        }
    }

    /// A permit's ticket if the breaker [is quiet](Self::is_quiet), for a call that
    /// cannot be cut off. If it succeeds and the breaker is quiet then, too, there
    /// is nothing to tell; otherwise [attach](Self::attach) the ticket and resolve
    /// the permit.
    ///
    /// ```
    /// use swarmbus_core::{Moment, breaker::{Breaker, Config}};
    ///
    /// let breaker = Breaker::new(Config::default());
    /// let guarded = |call: fn() -> bool| {
    ///     if let Some(ticket) = breaker.acquire_if_quiet() {
    ///         let success = call();
    ///         if !(success && breaker.is_quiet()) {
    ///             breaker.attach(ticket).resolve(success, Moment::ORIGIN);
    ///         }
    ///     }
    /// };
    /// guarded(|| true);
    /// guarded(|| false);
    /// assert_eq!(breaker.stats().failures, 1);
    /// assert!(breaker.acquire_if_quiet().is_none());
    /// ```
    #[inline(always)]
    pub fn acquire_if_quiet(&self) -> Option<Ticket> {
        let word = self.gate.0.word();
        word.absorbs_success().then(|| Ticket::new(word, None))
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
        Permit::new(self, word, None)
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

    /// Whether, until something else is done to it, every [`acquire`](Self::acquire)
    /// is granted and a success then leaves no trace: it is closed without a streak
    /// of failures, or disabled, and has neither a window nor anything else that
    /// counts or times calls. Who is alone in using it may then save both calls.
    ///
    /// ```
    /// use swarmbus_core::{Moment, breaker::{Breaker, Config}};
    ///
    /// let breaker = Breaker::new(Config::default());
    /// assert!(breaker.is_quiet());
    /// breaker.acquire(Moment::ORIGIN).unwrap().failure(Moment::ORIGIN);
    /// assert!(!breaker.is_quiet()); // the next success ends a streak
    /// breaker.acquire(Moment::ORIGIN).unwrap().success(Moment::ORIGIN);
    /// assert!(breaker.is_quiet());
    /// ```
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.gate.0.word().absorbs_success()
    }

    /// Opens a closed or half-open breaker as its rules would, and lets it
    /// recover as usual: for a health check that knows before the calls do.
    pub fn trip(&self, now: impl Clock) -> Option<Transition> {
        let now = now.now();
        self.with(|machine| machine.trip(now))
    }

    /// Opens a closed or half-open breaker for `time`, or sees to it that an
    /// open one stays so for at least that long; then it recovers as usual. For
    /// who knows of others' failures and says so again and again
    /// ([`evidence`]): once nobody does, the breaker is on its own. A state
    /// that was set by hand stays.
    pub fn keep_open(&self, time: Duration, now: impl Clock) -> Option<Transition> {
        let now = now.now();
        self.with(|machine| machine.keep_open(time, now))
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

    /// Whether a closed breaker's ordinary calls read the clock: with a window
    /// by time, or slow calls. If not, a [`Clock`] that reads lazily costs
    /// nothing.
    #[inline]
    pub fn uses_clock(&self) -> bool {
        let word = self.gate.0.word();
        word.is_timed() || word.is_stepped()
    }
}

impl Breaker {
    fn from_machine(machine: Machine, [rejected, bypassed]: [u64; 2]) -> Self {
        Self {
            gate: Padded(Gate::new(&machine)),
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

    #[inline(never)]
    fn acquire_not_quiet(&self, word: Word, now: impl Clock) -> Result<Granted, Rejected> {
        if word.admits() {
            let started = if word.is_timed() { Some(now.now()) } else { None };
            return Ok((Ticket::new(word, started), None));
        }
        self.acquire_not_closed(word, now.now())
    }

    #[cold]
    #[inline(never)]
    fn acquire_not_closed(&self, word: Word, now: Moment) -> Result<Granted, Rejected> {
        let rejected = |state, retry_after, transition| {
            self.counters.0.rejected.fetch_add(1, Ordering::Relaxed);
            Err(Rejected { state, retry_after, transition })
        };
        if let Some(retry_after) = self.gate.0.still_open(word.state(), now) {
            return rejected(word.state(), retry_after, None);
        }
        let (verdict, word) = self.with(|machine| (machine.acquire(now), Word::of(machine)));
        match verdict {
            Verdict::Granted(transition) => {
                let started = if word.is_timed() { Some(now) } else { None };
                Ok((Ticket::new(word, started), transition))
            }
            Verdict::Rejected { retry_after, transition } => {
                rejected(word.state(), retry_after, transition)
            }
        }
    }

    fn hold(&self, phase: Phase, now: Moment) -> Option<Transition> {
        self.with(|machine| machine.hold(phase, now))
    }

    /// Rejected and bypassed.
    fn tallies(&self) -> [u64; 2] {
        let Counters { rejected, bypassed } = &self.counters.0;
        [rejected.load(Ordering::Relaxed), bypassed.load(Ordering::Relaxed)]
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.kind()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
