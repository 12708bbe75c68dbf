//! Trip rule data: the calls of the last so many seconds.
//!
//! Time is cut into steps of 2ⁿ ns, a tenth to a twentieth of the window, so
//! that a step's number is a shift. The window holds the current step and so
//! many before it that together they are as long as the window.

use std::time::Duration;

use super::rules::{Outcome, Tally};
use crate::Moment;

#[derive(Debug)]
pub(super) struct TimeWindow {
    shift: u32,
    steps: Box<[Tally]>,
    /// The current step's number.
    epoch: u64,
    tally: Tally,
}

impl TimeWindow {
    pub(super) fn new(time: Duration) -> Self {
        let nanos = nanos(time);
        let shift = shift(time);
        let steps = usize::try_from(nanos.div_ceil(1 << shift)).unwrap_or(usize::MAX);
        let steps = vec![Tally::default(); steps].into();
        Self { shift, steps, epoch: 0, tally: Tally::default() }
    }

    pub(super) fn record(&mut self, outcome: Outcome, now: Moment) {
        let epoch = self.advance(now.as_nanos() >> self.shift);
        let index = self.index(epoch);
        self.steps[index].add(outcome);
        self.tally.add(outcome);
    }

    pub(super) fn add_successes(&mut self, count: u64) {
        let index = self.index(self.epoch);
        self.steps[index].calls += count;
        self.tally.calls += count;
    }

    pub(super) fn reset(&mut self) {
        self.steps.fill(Tally::default());
        self.tally = Tally::default();
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Moves the window to include `epoch` and returns the step that counts
    /// for it.
    ///
    /// A moment a little in the past is another thread's, and counts where it
    /// belongs. One before the whole window means that the clock was set back:
    /// what was recorded lies in the future and is forgotten, or it would
    /// never leave the window.
    fn advance(&mut self, epoch: u64) -> u64 {
        let length = self.steps.len() as u64;
        if epoch.saturating_add(length) <= self.epoch {
            self.reset();
            self.epoch = epoch;
        } else if epoch > self.epoch {
            for passed in 1..=(epoch - self.epoch).min(length) {
                let index = self.index(self.epoch.wrapping_add(passed));
                self.tally.subtract(std::mem::take(&mut self.steps[index]));
            }
            self.epoch = epoch;
        }
        epoch
    }

    fn index(&self, epoch: u64) -> usize {
        (epoch % self.steps.len() as u64) as usize
    }
}

/// A moment's step in a window of `time` is its nanoseconds shifted right by
/// this.
pub(super) fn shift(time: Duration) -> u32 {
    (nanos(time) / 10).max(1).ilog2()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
