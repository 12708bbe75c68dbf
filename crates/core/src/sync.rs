//! The synchronisation primitives of this crate: those of `std`, or under
//! `--cfg loom` those of the model checker.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

/// A value with its cache line, and the neighbour the prefetcher adds, to
/// itself.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Over how many cells threads spread what they count; a power of two.
pub(crate) const SLOTS: usize = if cfg!(loom) { 1 } else { 8 };

/// This thread's cell, below [`SLOTS`]. Threads take turns as they come.
#[cfg(not(loom))]
#[inline]
pub(crate) fn slot() -> usize {
    use std::{cell::Cell, sync::atomic::AtomicUsize};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! { static SLOT: Cell<usize> = const { Cell::new(usize::MAX) } }

    // A thread that is being torn down has no slot of its own any more.
    let slot = SLOT.try_with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        slot.get()
    });
    slot.unwrap_or(0) % SLOTS
}

/// One cell for all: the checker then tries every order of two threads that
/// meet in it.
#[cfg(loom)]
pub(crate) fn slot() -> usize {
    0
}
