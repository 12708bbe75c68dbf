//! The queue of dead letters: bounded, and never waited for.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use swarmbus_core::Event;

use super::DeadLetter;

/// Letters by number, which is the order in which they first failed. When it
/// is full, the oldest makes room.
#[derive(Debug)]
pub(crate) struct LetterQueue {
    letters: Mutex<BTreeMap<u64, Entry>>,
    capacity: usize,
    last_id: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    letter: DeadLetter,
    /// Somebody retries it. It stays here meanwhile, so that it is not lost
    /// with whoever does.
    on_loan: bool,
}

/// Why a letter was not lent.
#[derive(Debug)]
pub(super) enum NotLent {
    Missing,
    OnLoan,
}

impl LetterQueue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            letters: Mutex::default(),
            capacity,
            last_id: AtomicU64::default(),
            evicted: AtomicU64::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.lock().len()
    }

    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// The letter of an event and a handler.
    pub(super) fn find(&self, event: &Event, handler: &str) -> Option<u64> {
        let id = event.id()?;
        let letters = self.letters.lock();
        let same = |letter: &&DeadLetter| {
            *letter.handler == *handler && letter.event.id().as_ref() == Some(&id)
        };
        letters.values().map(|entry| &entry.letter).find(same).map(|letter| letter.id)
    }

    pub(super) fn list(&self) -> Vec<DeadLetter> {
        self.letters.lock().values().map(|entry| entry.letter.clone()).collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<DeadLetter> {
        self.letters.lock().get(&id).map(|entry| entry.letter.clone())
    }

    pub(super) fn take_all(&self) -> Vec<DeadLetter> {
        let letters = std::mem::take(&mut *self.letters.lock());
        letters.into_values().map(|entry| entry.letter).collect()
    }

    pub(super) fn remove(&self, id: u64) -> Option<DeadLetter> {
        self.letters.lock().remove(&id).map(|entry| entry.letter)
    }

    /// Adds a letter, or what became of one that was retried.
    pub(super) fn push(&self, letter: DeadLetter) {
        let mut letters = self.letters.lock();
        // What goes is dropped outside the lock: it may be large.
        let replaced = letters.get_mut(&letter.id).map(|entry| &mut entry.letter);
        let (gone, evicted) = match replaced {
            Some(earlier) => (Some(std::mem::replace(earlier, letter)), false),
            None if self.capacity == 0 => (Some(letter), true),
            None => {
                let full = letters.len() >= self.capacity;
                let oldest = if full { letters.pop_first() } else { None };
                letters.insert(letter.id, Entry { letter, on_loan: false });
                (oldest.map(|(_, entry)| entry.letter), full)
            }
        };
        drop(letters);
        drop(gone);
        if evicted {
            self.evicted.fetch_add(1, Relaxed);
        }
    }

    /// A copy of a letter that nobody else gets until the loan ends.
    pub(super) fn lend(&self, id: u64) -> Result<Loan<'_>, NotLent> {
        let mut letters = self.letters.lock();
        let entry = letters.get_mut(&id).ok_or(NotLent::Missing)?;
        if entry.on_loan {
            return Err(NotLent::OnLoan);
        }
        entry.on_loan = true;
        Ok(Loan { queue: self, letter: entry.letter.clone() })
    }
}

/// A letter that is being retried. Dropped, it waits in the queue again, as
/// it is there now.
pub(super) struct Loan<'a> {
    queue: &'a LetterQueue,
    pub(super) letter: DeadLetter,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.queue.letters.lock().get_mut(&self.letter.id) {
            entry.on_loan = false;
        }
    }
}
