//! What is pending, and where in the log it is. Pure: no lock, no clock.

use ahash::AHashMap;
use swarmbus::Settlement;
use swarmbus_core::EventId;

use crate::settle::Settled;

/// The events that are pending, as far as they are kept track of.
pub(crate) struct Tracked {
    events: AHashMap<EventId, Pending>,
    next_seq: i64,
    /// Events from this on came since the log was opened.
    opened_at: i64,
    /// Events before this, which were there when the log was opened, are
    /// settled or in `events`.
    recovered_below: i64,
    /// The first event that is pending and not in `events`.
    untracked_from: i64,
    /// Events up to this time may be pending and not in `events`.
    untracked_until: i64,
}

#[derive(Clone, Copy)]
struct Pending {
    seq: i64,
    /// It was in the log before it was accepted this time: if the bus does
    /// not want it after all, it stays pending.
    again: bool,
}

/// Where an event goes.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// A new row.
    New(i64),
    /// A new row, unless the event is found in the log.
    Unless(i64),
    /// The row that it is pending in; a new one if that was never written.
    Again(i64),
}

impl Place {
    /// The row that is to be made, if there is to be one.
    pub(crate) fn new_seq(self) -> Option<i64> {
        match self {
            Self::New(seq) | Self::Unless(seq) => Some(seq),
            Self::Again(_) => None,
        }
    }
}

impl Tracked {
    /// `next_seq` and `settled_below` as the log says; `newest` is the latest
    /// time of an event in it.
    pub(crate) fn new(next_seq: i64, settled_below: i64, newest: i64) -> Self {
        Self {
            events: AHashMap::new(),
            next_seq,
            opened_at: next_seq,
            recovered_below: if settled_below < next_seq { settled_below } else { i64::MAX },
            untracked_from: i64::MAX,
            untracked_until: newest,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Where an event goes, from now on pending.
    pub(crate) fn place(&mut self, id: &EventId, timestamp: i64) -> Place {
        if let Some(pending) = self.events.get_mut(id) {
            pending.again = true;
            return Place::Again(pending.seq);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.events.insert(id.clone(), Pending { seq, again: false });
        if timestamp <= self.untracked_until { Place::Unless(seq) } else { Place::New(seq) }
    }

    /// An event was found in the log at another place than planned.
    pub(crate) fn found(&mut self, id: &EventId, planned: i64, seq: i64) {
        if let Some(pending) = self.events.get_mut(id).filter(|p| p.seq == planned) {
            *pending = Pending { seq, again: true };
        }
    }

    /// An event was not written.
    pub(crate) fn not_written(&mut self, id: &EventId, planned: i64) {
        if self.events.get(id).is_some_and(|pending| pending.seq == planned) {
            self.events.remove(id);
        }
    }

    /// What to write for an event that was settled. `None` for one that is
    /// withdrawn and not to be forgotten: it did not get as far as the log, or
    /// it was pending there before. An event too many is better than one too
    /// few.
    pub(crate) fn settle(
        &mut self,
        id: EventId,
        timestamp: i64,
        settlement: Settlement,
    ) -> Option<Settled> {
        let withdrawn = settlement == Settlement::Withdrawn;
        match self.events.get(&id).copied() {
            Some(pending) if pending.again && withdrawn => None,
            Some(Pending { seq, .. }) => {
                self.events.remove(&id);
                Some(Settled::at(seq, settlement))
            }
            None if withdrawn => None,
            None => Some(Settled::named(id, timestamp, settlement)),
        }
    }

    /// Forgets the oldest `at_least`, and more, as finding them takes looking
    /// at all. They stay pending in the log. Returns how many went.
    pub(crate) fn forget(&mut self, at_least: usize) -> usize {
        let mut seqs: Vec<i64> = self.events.values().map(|pending| pending.seq).collect();
        let Some(last) = seqs.len().checked_sub(1) else { return 0 };
        let nth = (seqs.len() / 8).max(at_least).min(last);
        let (_, &mut newest, _) = seqs.select_nth_unstable(nth);
        self.untracked_from = seqs.iter().copied().fold(self.untracked_from, i64::min);
        self.untracked_until = i64::MAX;
        let before = self.events.len();
        self.events.retain(|_, pending| pending.seq > newest);
        before - self.events.len()
    }

    /// The first row that may be pending, `waiting` among them: rows whose
    /// settlements are not written yet.
    pub(crate) fn settled_below(&self, waiting: impl Iterator<Item = i64>) -> i64 {
        let pending = self.events.values().map(|pending| pending.seq);
        let first = pending.chain(waiting).min().unwrap_or(self.next_seq);
        first.min(self.recovered_below).min(self.untracked_from)
    }

    /// Events before `below` that were there when the log was opened have been
    /// offered again.
    pub(crate) fn recovered(&mut self, below: i64) {
        let below = if below < self.opened_at { below } else { i64::MAX };
        self.recovered_below = self.recovered_below.max(below);
    }

    /// An event was not offered again after all.
    pub(crate) fn left_pending(&mut self, seq: i64) {
        self.untracked_from = self.untracked_from.min(seq);
    }

    /// From where to where events may be pending that were there when the log
    /// was opened.
    pub(crate) fn unrecovered(&self) -> Option<(i64, i64)> {
        (self.recovered_below < self.opened_at).then_some((self.recovered_below, self.opened_at))
    }
}
