//! The queue of dead letters: bounded, and never waited for.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use swarmbus_core::Event;

use super::DeadLetter;
use crate::handler::discard;

/// Letters by number, which is the order in which they first failed. When it
/// is full, the oldest makes room.
#[derive(Debug)]
pub(crate) struct LetterQueue {
    letters: Mutex<BTreeMap<u64, Entry>>,
    capacity: usize,
    last_id: AtomicU64,
    evicted: AtomicU64,
    loans: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    letter: DeadLetter,
    /// Somebody retries it: which loan that is. It stays here meanwhile, so
    /// that it is not lost with whoever does.
    on_loan: Option<u64>,
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
            loans: AtomicU64::default(),
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
        // What goes is dropped outside the lock: its error is the program's.
        let replaced = letters.get_mut(&letter.id).map(|entry| &mut entry.letter);
        let (gone, evicted) = match replaced {
            Some(earlier) => (Some(std::mem::replace(earlier, letter)), false),
            None if self.capacity == 0 => (Some(letter), true),
            None => {
                let full = letters.len() >= self.capacity;
                let oldest = if full { letters.pop_first() } else { None };
                letters.insert(letter.id, Entry { letter, on_loan: None });
                (oldest.map(|(_, entry)| entry.letter), full)
            }
        };
        drop(letters);
        discard(gone);
        if evicted {
            self.evicted.fetch_add(1, Relaxed);
        }
    }

    /// A copy of a letter that nobody else gets until the loan ends.
    pub(super) fn lend(&self, id: u64) -> Result<Loan<'_>, NotLent> {
        let mut letters = self.letters.lock();
        let entry = letters.get_mut(&id).ok_or(NotLent::Missing)?;
        if entry.on_loan.is_some() {
            return Err(NotLent::OnLoan);
        }
        let number = self.loans.fetch_add(1, Relaxed);
        entry.on_loan = Some(number);
        Ok(Loan { queue: self, number, letter: entry.letter.clone() })
    }
}

/// A letter that is being retried. Dropped, it waits in the queue again, as
/// it is there now.
pub(super) struct Loan<'a> {
    queue: &'a LetterQueue,
    number: u64,
    pub(super) letter: DeadLetter,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // A letter that went and came back may be lent anew.
        if let Some(entry) = self.queue.letters.lock().get_mut(&self.letter.id)
            && entry.on_loan == Some(self.number)
        {
            entry.on_loan = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::dead_letter::DeadReason;
    use swarmbus_core::Timestamp;

    #[test]
    fn a_loan_that_ends_does_not_end_a_later_one() {
        let queue = LetterQueue::new(1);
        let letter = |id| {
            let event = Event::of("x", ());
            let at = Timestamp::from_micros(1).unwrap();
            let letter = DeadLetter::restored(event, "h", DeadReason::Failed, "no", 1, at);
            DeadLetter { id, ..letter }
        };
        queue.push(letter(1));
        let first = queue.lend(1).unwrap();
        // Evicted while it is retried, it comes back when that fails.
        queue.push(letter(2));
        queue.push(letter(1));
        let second = queue.lend(1);
        drop(first);
        let third = queue.lend(1);
        assert_eq!([second.is_ok(), third.is_ok()].iter().filter(|lent| **lent).count(), 1);
    }
}
