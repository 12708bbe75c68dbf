//! What goes wrong in which call. Pure: decided by hashing, so that the same
//! seed breaks the same tries of the same events, whatever else runs.

use super::Nonsense;
use crate::cmd::load_test::{
    args::Args,
    faults::{below, mix},
};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Fails,
    Panics,
    /// It never ends by itself.
    Hangs,
    /// It takes its time.
    Waits,
}

/// The shares of all calls, as shares of all 64-bit numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    seed: u64,
    fails: u64,
    panics: u64,
    hangs: u64,
    waits: u64,
}

impl Faults {
    pub(super) fn new(args: &Args) -> Result<Self, Nonsense> {
        let fails = args.fail_rate;
        let panics = fails + args.chaos.panic_rate;
        let hangs = panics + args.chaos.stuck_rate;
        let waits = hangs + args.slow_rate;
        if waits > 1.0 {
            return Err(Nonsense::TooManyFaults);
        }
        let [fails, panics, hangs, waits] = [fails, panics, hangs, waits].map(below);
        Ok(Self { seed: mix(args.seed), fails, panics, hangs, waits })
    }

    /// What happens in this try of this event, counted from 1.
    pub(super) fn of(&self, event: u64, attempt: u32) -> Fault {
        let drawn = mix(mix(self.seed ^ event).wrapping_add(u64::from(attempt)));
        match drawn {
            _ if drawn < self.fails => Fault::Fails,
            _ if drawn < self.panics => Fault::Panics,
            _ if drawn < self.hangs => Fault::Hangs,
            _ if drawn < self.waits => Fault::Waits,
            _ => Fault::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_goes_wrong_as_asked_for_and_always_the_same() {
        let [fails, panics, hangs, waits] = [0.2, 0.21, 0.22, 0.3].map(below);
        let faults = Faults { seed: 1, fails, panics, hangs, waits };
        let drawn: Vec<_> = (0..10_000).map(|event| faults.of(event, 1)).collect();
        let count = |fault| drawn.iter().filter(|drawn| **drawn == fault).count();
        assert!((1_900..2_100).contains(&count(Fault::Fails)));
        assert!((60..140).contains(&count(Fault::Panics)));
        assert!((60..140).contains(&count(Fault::Hangs)));
        assert!((720..880).contains(&count(Fault::Waits)));
        assert_eq!(drawn, (0..10_000).map(|event| faults.of(event, 1)).collect::<Vec<_>>());
        assert_ne!(drawn, (0..10_000).map(|event| faults.of(event, 2)).collect::<Vec<_>>());
    }
}
