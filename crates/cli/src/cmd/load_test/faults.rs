//! Handlers that fail or are slow, on request.

use std::time::Duration;

use super::message::{Note, What};

/// How long a slow handler waits.
pub(super) const SLOW: Duration = Duration::from_millis(1);

/// Which handler calls go wrong. Decided by hashing, not by counting: the
/// same seed gives the same answer for the same message whatever else runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    seed: u64,
    fail_below: u64,
    slow_below: u64,
}

/// What a handler returns that was told to fail.
#[derive(Debug, thiserror::Error)]
#[error("failed on purpose (--fail-rate)")]
pub(super) struct Injected;

impl Faults {
    pub(super) fn new(seed: u64, fail_rate: f64, slow_rate: f64) -> Self {
        Self { seed, fail_below: below(fail_rate), slow_below: below(slow_rate) }
    }

    /// Whether agent `who` fails on this message.
    #[inline]
    pub(super) fn fails(&self, who: u64, note: &Note) -> bool {
        self.fail_below > 0 && self.draw(1, who, note) < self.fail_below
    }

    /// Whether agent `who` takes its time for this message.
    #[inline]
    pub(super) fn is_slow(&self, who: u64, note: &Note) -> bool {
        self.slow_below > 0 && self.draw(2, who, note) < self.slow_below
    }

    /// Whether any handler call may be slow.
    pub(super) fn any_slow(&self) -> bool {
        self.slow_below > 0
    }

    /// A validator disagrees with one result in 16.
    #[inline]
    pub(super) fn vote(&self, who: u64, note: &Note) -> What {
        if self.draw(3, who, note).is_multiple_of(16) { What::No } else { What::Yes }
    }

    #[inline]
    fn draw(&self, purpose: u64, who: u64, note: &Note) -> u64 {
        let from = u64::from(note.coordinator) << 32 | (note.what as u64) << 8 | purpose;
        mix(mix(mix(self.seed ^ from).wrapping_add(who)).wrapping_add(note.task))
    }
}

/// The share of all 64-bit numbers.
pub(super) fn below(share: f64) -> u64 {
    // A cast from float saturates: 1 is all but one of them.
    (share * 2_f64.powi(64)) as u64
}

/// The `SplitMix64` generator's last step.
#[inline]
pub(super) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_go_wrong_as_asked_for_and_always_the_same() {
        let count = |seed, share| {
            let faults = Faults::new(seed, share, 0.0);
            let note = |task| Note { what: What::Task, coordinator: 1, task, began: 0 };
            (0..10_000).filter(|task| faults.fails(7, &note(*task))).collect::<Vec<_>>()
        };
        assert_eq!(count(1, 0.0).len(), 0);
        assert_eq!(count(1, 1.0).len(), 10_000);
        assert!((900..1_100).contains(&count(1, 0.1).len()));
        assert_eq!(count(1, 0.1), count(1, 0.1));
        assert_ne!(count(1, 0.1), count(2, 0.1));
    }
}
