//! Successes that wait to be counted, spread over cells so that threads do
//! not write to the same cache line.
//!
//! A fast success never opens a breaker, so a window need not know of it
//! before the next failure or slow call. Until then it waits in its thread's
//! cell; whoever takes the lock takes the cells' contents in first. Each cell
//! is tagged with the generation and the step of time it counts for, and a
//! success adds to it only by an exchange that compares the tag: it cannot end
//! up in a generation or a step it does not belong to.

use crate::sync::{self, AtomicU64, Ordering, Padded};

#[derive(Debug)]
pub(super) struct Stripes(Box<[Padded<AtomicU64>]>);

/// From the high end: 16 bits of generation, 32 bits of epoch, 16 bits for
/// the count. Bits that are cut off would matter only to a thread that sleeps
/// between its two instructions while the breaker changes 65,536 times, or to
/// a cell untouched for 2³² steps of time (49 days at the finest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    pub(super) const fn new(generation: u64, epoch: u64) -> Self {
        Self((generation & 0xffff) << 48 | (epoch & 0xffff_ffff) << 16)
    }
}

impl Stripes {
    pub(super) fn new(tag: Tag) -> Self {
        Self((0..sync::SLOTS).map(|_| Padded(AtomicU64::new(tag.0))).collect())
    }

    /// Counts one success under `tag`. `false` if the cells stand at another
    /// tag or this one is full: then the lock decides.
    ///
    /// Relaxed, because a cell's value is all there is to it: nothing else is
    /// read on the strength of it.
    pub(super) fn add(&self, tag: Tag) -> bool {
        let cell = &self.0[sync::slot()].0;
        let mut value = cell.load(Ordering::Relaxed);
        while value & !COUNT == tag.0 && value & COUNT != COUNT {
            let next = value + 1;
            match cell.compare_exchange_weak(value, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => value = other,
            }
        }
        false
    }

    /// Takes everything out and sets the cells to `tag`. Called under the
    /// lock, so tags change one at a time.
    pub(super) fn drain(&self, tag: Tag) -> u64 {
        let mut count = 0;
        for Padded(cell) in &self.0 {
            // Most cells are as they should be; looking costs less than a swap.
            if cell.load(Ordering::Relaxed) != tag.0 {
                count += cell.swap(tag.0, Ordering::Relaxed) & COUNT;
            }
        }
        count
    }
}

const COUNT: u64 = 0xffff;
