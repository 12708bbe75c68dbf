//! The state in one machine word, for decisions that take no lock.
//!
//! From the low end: three bits of state, five flags, 56 bits of generation.
//! The generation counts changes of state, so a permit that carries the word
//! it was granted under can tell whether its result still matters.

use super::{machine::Machine, state::StateKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    /// For a permit whose result never matters.
    pub(super) const IGNORED: Self = Self(u64::MAX);

    pub(super) fn of(machine: &Machine) -> Self {
        let state = machine.kind();
        let (admits, records) = match state {
            StateKind::Closed | StateKind::MetricsOnly => (true, true),
            StateKind::Disabled => (true, false),
            StateKind::Open | StateKind::HalfOpen | StateKind::ForcedOpen | StateKind::Isolated => {
                (false, false)
            }
        };
        let settled = admits && (!records || machine.rules.streak() == 0);
        let counted = records && machine.counts_successes();
        let flags = [
            (ADMITS, admits),
            (ABSORBS, settled && !counted),
            (COUNTS, settled && counted),
            (TIMED, machine.config.slow_after().is_some()),
            (STEPPED, machine.config.step_shift().is_some()),
        ];
        let set = |word, (flag, set): (u64, bool)| if set { word | flag } else { word };
        let word = machine.generation() << GENERATION | state as u64;
        Self(flags.into_iter().fold(word, set))
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn state(self) -> StateKind {
        // Seven states in three bits: the eighth value is `IGNORED`.
        StateKind::ALL[((self.0 & STATE) as usize).min(StateKind::ALL.len() - 1)]
    }

    /// Calls go ahead without asking further.
    pub(super) const fn admits(self) -> bool {
        self.0 & ADMITS != 0
    }

    /// A success under this word leaves no trace, whoever reports it: a late one
    /// is ignored, and one of this generation has nothing to change.
    pub(super) const fn absorbs_success(self) -> bool {
        self.0 & ABSORBS != 0
    }

    /// A success changes nothing but counts.
    pub(super) const fn counts_lock_free(self) -> bool {
        self.0 & COUNTS != 0
    }

    /// Calls are timed, so a permit notes when it was granted.
    pub(super) const fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    /// A success belongs to a step of time.
    pub(super) const fn is_stepped(self) -> bool {
        self.0 & STEPPED != 0
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> GENERATION
    }
}

const STATE: u64 = 0b111;
/// Calls go ahead without asking further.
const ADMITS: u64 = 1 << 3;
/// Calls go ahead, there is no streak of failures that a success would end, and
/// none is counted: one bit, as nearly every call asks for it twice.
const ABSORBS: u64 = 1 << 4;
/// The same, but successes are counted.
const COUNTS: u64 = 1 << 5;
const TIMED: u64 = 1 << 6;
const STEPPED: u64 = 1 << 7;
const GENERATION: u32 = 8;
