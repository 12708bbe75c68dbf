//! What a coordinator knows: its tasks in flight and their votes. Pure.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::message::{Note, What};

/// A task is given up after this many times what tasks usually take, within
/// these limits (nanoseconds).
const PATIENCE: u64 = 8;
const PATIENCE_MIN: u64 = 100_000_000;
const PATIENCE_MAX: u64 = 5_000_000_000;

/// What became of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tasks {
    /// More validators voted yes than no.
    pub(super) accepted: u64,
    /// They did not.
    pub(super) rejected: u64,
    /// Votes were missing for too long, so another task took its place.
    pub(super) timed_out: u64,
    /// Votes that came after that.
    pub(super) late_votes: u64,
    /// Still in flight at the end.
    pub(super) unfinished: u64,
}

impl AddAssign for Tasks {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.timed_out += other.timed_out;
        self.late_votes += other.late_votes;
        self.unfinished += other.unfinished;
    }
}

#[derive(Debug)]
pub(super) struct Coordinator {
    number: u32,
    validators: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// What a task usually takes.
    usual: u64,
    /// When to look for tasks that took too long.
    look_at: u64,
    tasks: Tasks,
}

/// A place for one task at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The next task of this slot, or the one in flight.
    task: u64,
    began: u64,
    yes: u32,
    no: u32,
    in_flight: bool,
}

impl Coordinator {
    pub(super) fn new(number: u32, validators: u32, window: u32) -> Self {
        let slots = (0..window).map(|slot| Slot { task: u64::from(slot), ..Slot::default() });
        Self {
            number,
            validators,
            slots: slots.collect(),
            free: (0..window).rev().collect(),
            usual: PATIENCE_MAX / PATIENCE,
            look_at: 0,
            tasks: Tasks::default(),
        }
    }

    /// Begins a task, unless as many as the window allows are in flight.
    #[inline]
    pub(super) fn begin(&mut self, now: u64) -> Option<Note> {
        let slot = &mut self.slots[self.free.pop()? as usize];
        *slot = Slot { began: now, in_flight: true, yes: 0, no: 0, ..*slot };
        let (coordinator, task) = (self.number, slot.task);
        Some(Note { what: What::Task, coordinator, task, began: now })
    }

    /// Counts a vote; the last one decides.
    #[inline]
    pub(super) fn vote(&mut self, vote: &Note, now: u64) {
        let number = (vote.task % self.slots.len() as u64) as usize;
        let took = now.saturating_sub(vote.began);
        self.usual = self.usual - self.usual / 16 + took / 16;
        let slot = &mut self.slots[number];
        if !slot.in_flight || slot.task != vote.task {
            self.tasks.late_votes += 1;
            return;
        }
        match vote.what {
            What::Yes => slot.yes += 1,
            What::No => slot.no += 1,
            What::Task | What::Result => return,
        }
        if slot.yes + slot.no < self.validators {
            return;
        }
        if slot.yes > slot.no {
            self.tasks.accepted += 1;
        } else {
            self.tasks.rejected += 1;
        }
        self.end(number);
    }

    /// Whether another task may begin.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Gives up tasks that have waited too long for their votes. Looks only
    /// every few milliseconds, however often it is called.
    pub(super) fn expire_now_and_then(&mut self, now: u64) {
        if now >= self.look_at {
            self.look_at = now + PATIENCE_MIN / 20;
            self.expire(now);
        }
    }

    fn expire(&mut self, now: u64) {
        let patience = (self.usual * PATIENCE).clamp(PATIENCE_MIN, PATIENCE_MAX);
        for number in 0..self.slots.len() {
            let slot = self.slots[number];
            if slot.in_flight && now.saturating_sub(slot.began) > patience {
                self.tasks.timed_out += 1;
                self.end(number);
            }
        }
    }

    /// Whether no task is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// What became of its tasks.
    pub(super) fn tasks(&self) -> Tasks {
        Tasks { unfinished: (self.slots.len() - self.free.len()) as u64, ..self.tasks }
    }

    fn end(&mut self, number: usize) {
        let window = self.slots.len() as u64;
        let slot = &mut self.slots[number];
        slot.in_flight = false;
        // Still this slot's own, and never used before.
        slot.task += window;
        self.free.push(number as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(task: Note, what: What) -> Note {
        Note { what, ..task }
    }

    #[test]
    fn the_majority_decides_and_the_slot_is_free_again() {
        let mut coordinator = Coordinator::new(4, 3, 2);
        let (a, b) = (coordinator.begin(0).unwrap(), coordinator.begin(0).unwrap());
        assert_eq!(coordinator.begin(0), None, "the window is full");
        for (task, whats) in [(a, [What::Yes, What::No, What::Yes]), (b, [What::No; 3])] {
            for what in whats {
                coordinator.vote(&vote(task, what), 1);
            }
        }
        assert!(coordinator.is_idle());
        assert_eq!(coordinator.tasks(), Tasks { accepted: 1, rejected: 1, ..Tasks::default() });
        assert_ne!(coordinator.begin(2).unwrap().task, b.task);
    }

    #[test]
    fn a_tie_is_a_no() {
        let mut coordinator = Coordinator::new(0, 2, 1);
        let task = coordinator.begin(0).unwrap();
        coordinator.vote(&vote(task, What::Yes), 1);
        coordinator.vote(&vote(task, What::No), 1);
        assert_eq!(coordinator.tasks().rejected, 1);
    }

    #[test]
    fn a_task_without_votes_times_out_and_late_votes_do_no_harm() {
        let mut coordinator = Coordinator::new(0, 1, 1);
        let slow = coordinator.begin(0).unwrap();
        coordinator.expire(PATIENCE_MAX);
        assert_eq!(coordinator.tasks().unfinished, 1);
        coordinator.expire(PATIENCE_MAX + 1);
        assert_eq!(coordinator.tasks().timed_out, 1);
        let next = coordinator.begin(PATIENCE_MAX).unwrap();
        coordinator.vote(&vote(slow, What::Yes), PATIENCE_MAX);
        assert_eq!(coordinator.tasks().late_votes, 1);
        coordinator.vote(&vote(next, What::Yes), PATIENCE_MAX);
        assert_eq!(coordinator.tasks().accepted, 1);
    }

    #[test]
    fn patience_follows_what_tasks_take() {
        let mut coordinator = Coordinator::new(0, 1, 1);
        for _ in 0..200 {
            let task = coordinator.begin(0).unwrap();
            coordinator.vote(&vote(task, What::Yes), 1_000_000);
        }
        coordinator.begin(0).unwrap();
        coordinator.expire(PATIENCE_MIN);
        assert_eq!(coordinator.tasks().timed_out, 0);
        coordinator.expire(PATIENCE_MIN + 1);
        assert_eq!(coordinator.tasks().timed_out, 1);
    }
}
