//! What the paths without a lock read.

use std::time::Duration;

use super::{
    machine::{Machine, Phase},
    state::StateKind,
    word::Word,
};
use crate::{
    Moment,
    sync::{AtomicU64, Ordering},
};

/// The state machine's summary. In a closed breaker nobody writes to it, so
/// every core keeps its own copy of the cache line.
#[derive(Debug)]
pub(super) struct Gate {
    word: AtomicU64,
    /// The open time's ends in nanoseconds; meaningful while open.
    open_since: AtomicU64,
    open_until: AtomicU64,
    /// Nanoseconds after which a call is slow.
    slow_after: u64,
    /// From nanoseconds to the step of a window by time; 63 without one,
    /// where every moment is in step 0 for the next 292 years.
    step_shift: u32,
}

impl Gate {
    pub(super) fn new(machine: &Machine) -> Self {
        let slow_after = machine.config.slow_after();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let gate = Self {
            word: AtomicU64::new(0),
            open_since: AtomicU64::new(0),
            open_until: AtomicU64::new(0),
            slow_after: slow_after.map_or(u64::MAX, nanos),
            step_shift: machine.config.step_shift().unwrap_or(63),
        };
        gate.publish(machine);
        gate
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Called under the lock. The word goes last, and is read with acquire: who
    /// reads "open" finds the ends of that open time or of a later one. Those
    /// of an earlier one could reject what is long due.
    pub(super) fn publish(&self, machine: &Machine) {
        if let Phase::Open { since, wait, .. } = machine.phase {
            self.open_since.store(since.as_nanos(), Ordering::Relaxed);
            self.open_until.store((since + wait).as_nanos(), Ordering::Relaxed);
        }
        self.word.store(Word::of(machine).bits(), Ordering::Release);
    }

    /// How long to wait, if that is certain without the lock: held open by
    /// hand, or within the open time. A moment before the open time may mean
    /// that the clock was set back, which is for the state machine to judge.
    pub(super) fn still_open(&self, state: StateKind, now: Moment) -> Option<Duration> {
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

    #[inline]
    pub(super) fn is_slow(&self, started: Option<Moment>, now: Moment) -> bool {
        match started {
            Some(started) => now.as_nanos().saturating_sub(started.as_nanos()) >= self.slow_after,
            None => false,
        }
    }

    /// The step of time that a success at `now` counts for.
    #[inline]
    pub(super) fn epoch(&self, now: Moment) -> u64 {
        now.as_nanos() >> self.step_shift
    }
}
