//! The state in one machine word, for decisions that take no lock.
//!
//! From the low end: three bits of state, five flags, 56 bits of generation.
//! The generation counts changes of state, so a permit that carries the word
//! it was granted under can tell whether its result still matters.

use super::state::StateKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

/// What a [`Word`] says beside state and generation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// A success changes nothing but counts: there is no streak to end.
    pub(super) settled: bool,
    /// A success is to be counted.
    pub(super) counted: bool,
    /// Calls are timed, so a permit notes when it was granted.
    pub(super) timed: bool,
    /// A success belongs to a step of time.
    pub(super) stepped: bool,
}

impl Word {
    /// For a permit whose result never matters.
    pub(super) const IGNORED: Self = Self(u64::MAX);

    pub(super) fn new(state: StateKind, generation: u64, flags: Flags) -> Self {
        let admits = match state {
            StateKind::Closed | StateKind::Disabled | StateKind::MetricsOnly => ADMITS,
            StateKind::Open | StateKind::HalfOpen | StateKind::ForcedOpen | StateKind::Isolated => {
                0
            }
        };
        let flag = |set, bit| if set { bit } else { 0 };
        Self(
            generation << GENERATION
                | state as u64
                | admits
                | flag(flags.settled, SETTLED)
                | flag(flags.counted, COUNTED)
                | flag(flags.timed, TIMED)
                | flag(flags.stepped, STEPPED),
        )
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

    /// A success under this word leaves no trace, whoever's it is: a late one
    /// is ignored, and one of this generation has nothing to change.
    pub(super) const fn absorbs_success(self) -> bool {
        self.0 & (SETTLED | COUNTED) == SETTLED
    }

    /// A success changes nothing but counts.
    pub(super) const fn counts_lock_free(self) -> bool {
        self.0 & (SETTLED | COUNTED) == SETTLED | COUNTED
    }

    pub(super) const fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    pub(super) const fn is_stepped(self) -> bool {
        self.0 & STEPPED != 0
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> GENERATION
    }
}

const STATE: u64 = 0b111;
const ADMITS: u64 = 1 << 3;
const SETTLED: u64 = 1 << 4;
const COUNTED: u64 = 1 << 5;
const TIMED: u64 = 1 << 6;
const STEPPED: u64 = 1 << 7;
const GENERATION: u32 = 8;
