//! What publishers and workers leave for the thread that writes.
//!
//! One lock protects it, and is held for a few words for each event. The
//! writer takes everything at once: so a settlement never comes before its
//! event, which was left earlier.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use ahash::AHashMap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use swarmbus::Settlement;
use swarmbus_core::EventId;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    error::WriteError, event_row::EventRow, letters::LetterNews, options::Options, settle::Settled,
    stats::Counters,
};

/// Settlements are written with the next events, or after this long without.
const SETTLE_WITHIN: Duration = Duration::from_millis(50);

/// So many settlements are worth a transaction of their own.
const SETTLE_BATCH: usize = 1_024;

/// The most dead letters that wait for the disk; they hold their events.
const MAX_WAITING_LETTERS: usize = 1_024;

/// Shared by all handles of a log and its threads.
pub(crate) struct Intake {
    state: Mutex<State>,
    /// Rings for the writer.
    bell: Condvar,
    /// Places for events on their way to the writer.
    room: Semaphore,
    queue: u32,
    max_pending: usize,
    /// Events up to this time may be pending without being tracked.
    untracked_until: AtomicI64,
    pub(crate) counters: Counters,
}

struct State {
    work: Work,
    /// Where the accepted events are that nobody has settled.
    pending: AHashMap<EventId, Pending>,
    next_seq: i64,
    /// Events from this on came since the log was opened.
    opened_at: i64,
    /// Events before this, which were there when the log was opened, are
    /// settled or in `pending`.
    recovered_below: i64,
    /// The first event that is pending and not tracked here.
    forgotten_from: i64,
    /// When the oldest settlement came that waits.
    waiting_since: Option<Instant>,
    /// The last transaction failed: settlements alone are not worth another
    /// one before this.
    retry_at: Option<Instant>,
    /// The writer sleeps.
    asleep: bool,
    end: Option<End>,
}

/// Why nothing more is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Panicked,
}

#[derive(Clone, Copy)]
struct Pending {
    seq: i64,
    /// It was in the log before it was accepted this time: if the bus does
    /// not want it after all, it stays pending.
    again: bool,
}

/// What the writer takes at once, and writes in one transaction.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) appends: Vec<Append>,
    pub(crate) jobs: Vec<Box<dyn Job>>,
    pub(crate) settled: Vec<Settled>,
    pub(crate) letters: VecDeque<LetterNews>,
    /// Places in the queue that all of this had.
    permits: u32,
    /// The log is to be closed after this.
    pub(crate) last: bool,
}

/// Events of one call, to be written or refused together.
pub(crate) struct Append {
    pub(crate) rows: Vec<(Place, EventRow)>,
    /// `None` if nobody waits for it.
    pub(crate) reply: Option<oneshot::Sender<Result<(), WriteError>>>,
}

/// Where an event goes.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// A new row.
    New(i64),
    /// The row that it is pending in; a new one if that was never written.
    Again(i64),
}

impl Place {
    fn new_seq(self) -> Option<i64> {
        match self {
            Self::New(seq) => Some(seq),
            Self::Again(_) => None,
        }
    }
}

/// Something else to do within the transaction.
pub(crate) trait Job: Send {
    /// Does it. What fails is undone, and the rest of the transaction goes on.
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()>;
    /// Told once, whatever happened, `run` or not.
    fn done(self: Box<Self>, result: Result<(), WriteError>);
}

impl Intake {
    /// `next_seq` and `settled_below` as the log says; `newest` is the latest
    /// time of an event in it.
    pub(crate) fn new(options: &Options, next_seq: i64, settled_below: i64, newest: i64) -> Self {
        Self {
            state: Mutex::new(State {
                work: Work::default(),
                pending: AHashMap::new(),
                next_seq,
                opened_at: next_seq,
                recovered_below: if settled_below < next_seq { settled_below } else { i64::MAX },
                forgotten_from: i64::MAX,
                waiting_since: None,
                retry_at: None,
                asleep: false,
                end: None,
            }),
            bell: Condvar::new(),
            room: Semaphore::new(options.queue),
            queue: u32::try_from(options.queue).unwrap_or(u32::MAX),
            max_pending: options.max_pending,
            untracked_until: AtomicI64::new(newest),
            counters: Counters::default(),
        }
    }

    /// Waits for places in the queue. They are given back when the writer
    /// takes what is left for it.
    pub(crate) async fn room(&self, places: usize) -> Result<Room<'_>, WriteError> {
        let places = self.places(places);
        match self.room.acquire_many(places).await {
            Ok(permit) => Ok(permit),
            Err(_) => Err(self.end()),
        }
    }

    /// Takes places in the queue, if they are free.
    pub(crate) fn try_room(&self, places: usize) -> Option<Room<'_>> {
        self.room.try_acquire_many(self.places(places)).ok()
    }

    /// A batch that is larger than the queue takes all of it.
    fn places(&self, wanted: usize) -> u32 {
        u32::try_from(wanted).unwrap_or(u32::MAX).min(self.queue)
    }

    /// Leaves events for the writer, who tells `reply` when they are written.
    pub(crate) fn append(
        &self,
        rows: Vec<EventRow>,
        reply: Option<oneshot::Sender<Result<(), WriteError>>>,
        room: Room<'_>,
    ) -> Result<(), WriteError> {
        let mut state = self.lock()?;
        self.make_room(&mut state, rows.len());
        let rows = rows.into_iter().map(|row| (state.place(&row.id), row)).collect();
        state.work.appends.push(Append { rows, reply });
        self.ring(&mut state, room);
        Ok(())
    }

    /// Leaves something else to do for the writer.
    pub(crate) fn job(&self, job: Box<dyn Job>, room: Room<'_>) -> Result<(), WriteError> {
        let mut state = self.lock()?;
        state.work.jobs.push(job);
        self.ring(&mut state, room);
        Ok(())
    }

    fn ring(&self, state: &mut State, room: Room<'_>) {
        state.work.permits = state.work.permits.saturating_add(room.num_permits() as u32);
        room.forget();
        if state.asleep {
            self.bell.notify_one();
        }
    }

    /// Leaves word of what became of an event.
    pub(crate) fn settle(&self, id: EventId, timestamp: i64, settlement: Settlement) {
        let Ok(mut state) = self.lock() else { return };
        let settled = match state.pending.remove(&id) {
            Some(pending) if pending.again && settlement == Settlement::Withdrawn => {
                state.pending.insert(id, pending);
                return;
            }
            Some(Pending { seq, .. }) => Settled::at(seq, settlement),
            // It did not get as far as the log, or cannot be told from one
            // that was there before: an event too many is better than one
            // too few.
            None if settlement == Settlement::Withdrawn => return,
            None if state.work.settled.len() >= self.max_pending => {
                Counters::add(&self.counters.settlements_lost, 1);
                return;
            }
            None => Settled::named(id, timestamp, settlement),
        };
        state.work.settled.push(settled);
        self.nudge(&mut state);
    }

    /// Leaves a dead letter.
    pub(crate) fn letter(&self, letter: LetterNews) {
        let Ok(mut state) = self.lock() else { return };
        if state.work.letters.len() >= MAX_WAITING_LETTERS {
            Counters::add(&self.counters.letters_lost, 1);
            return;
        }
        state.work.letters.push_back(letter);
        self.nudge(&mut state);
    }

    /// Wakes the writer to set its alarm, or because there is enough.
    fn nudge(&self, state: &mut State) {
        let first = state.waiting_since.is_none();
        if first {
            state.waiting_since = Some(Instant::now());
        }
        if state.asleep && (first || state.work.settled.len() == SETTLE_BATCH) {
            self.bell.notify_one();
        }
    }

    /// Sees to it that what is tracked has a limit. What is forgotten stays
    /// pending in the log.
    fn make_room(&self, state: &mut State, more: usize) {
        let tracked = state.pending.len() + state.work.settled.len() + more;
        if tracked <= self.max_pending || state.pending.is_empty() {
            return;
        }
        let mut seqs: Vec<i64> = state.pending.values().map(|pending| pending.seq).collect();
        // More than one at a time, as finding them takes looking at all.
        let nth = (seqs.len() / 8).max(more).min(seqs.len() - 1);
        let (_, &mut last, _) = seqs.select_nth_unstable(nth);
        let before = state.pending.len();
        let first = seqs.iter().copied().min().unwrap_or(last);
        state.pending.retain(|_, pending| pending.seq > last);
        state.forgotten_from = state.forgotten_from.min(first);
        self.untracked_until.store(i64::MAX, Relaxed);
        Counters::add(&self.counters.forgotten, before - state.pending.len());
    }

    /// Waits for something to write, at most until `deadline`.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Work {
        let mut state = self.state.lock();
        loop {
            let due = state.due();
            let until = match (due, deadline) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let now = state.work.is_urgent() || state.end.is_some();
            if now || until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
            state.asleep = true;
            match until {
                Some(until) => {
                    self.bell.wait_until(&mut state, until);
                }
                None => self.bell.wait(&mut state),
            }
            state.asleep = false;
        }
        state.waiting_since = None;
        let mut work = std::mem::take(&mut state.work);
        work.last = state.end.is_some();
        self.room.add_permits(work.permits as usize);
        work
    }

    /// Whether an event of this time may be in the log, pending, without being
    /// tracked: from before the log was opened, or forgotten.
    pub(crate) fn may_be_there(&self, timestamp: i64) -> bool {
        timestamp <= self.untracked_until.load(Relaxed)
    }

    /// The transaction is committed. `found` are events that turned out to be
    /// in the log already: their ids, the place they would have had, and the
    /// one they have.
    pub(crate) fn committed(&self, found: Vec<(EventId, i64, i64)>) {
        let mut state = self.state.lock();
        state.retry_at = None;
        for (id, planned, seq) in found {
            if let Some(pending) = state.pending.get_mut(&id).filter(|p| p.seq == planned) {
                *pending = Pending { seq, again: true };
            }
        }
    }

    /// The transaction failed: what nobody waits for is kept for the next one.
    pub(crate) fn failed(&self, work: &mut Work, retry_at: Instant) {
        let mut state = self.state.lock();
        state.retry_at = Some(retry_at);
        for (place, row) in work.appends.iter().flat_map(|append| &append.rows) {
            if let Place::New(seq) = *place
                && state.pending.get(&row.id).is_some_and(|pending| pending.seq == seq)
            {
                state.pending.remove(&row.id);
            }
        }
        state.work.settled.append(&mut work.settled);
        let newer = std::mem::replace(&mut state.work.letters, std::mem::take(&mut work.letters));
        state.work.letters.extend(newer);
        let over = state.work.letters.len().saturating_sub(MAX_WAITING_LETTERS);
        state.work.letters.truncate(MAX_WAITING_LETTERS);
        Counters::add(&self.counters.letters_lost, over);
        let waits = !state.work.settled.is_empty() || !state.work.letters.is_empty();
        if waits && state.waiting_since.is_none() {
            state.waiting_since = Some(Instant::now());
        }
    }

    /// No event before this is pending, once everything that was taken so far
    /// is written.
    pub(crate) fn settled_below(&self) -> i64 {
        let state = self.state.lock();
        let pending = state.pending.values().map(|pending| pending.seq);
        let waiting = state.work.settled.iter().filter_map(Settled::seq);
        let first = pending.chain(waiting).min().unwrap_or(state.next_seq);
        first.min(state.recovered_below).min(state.forgotten_from)
    }

    /// Events before `below` that were there when the log was opened have been
    /// offered again.
    pub(crate) fn recovered(&self, below: i64) {
        let mut state = self.state.lock();
        let below = if below < state.opened_at { below } else { i64::MAX };
        state.recovered_below = state.recovered_below.max(below);
    }

    /// An event was not offered again after all.
    pub(crate) fn left_pending(&self, seq: i64) {
        let mut state = self.state.lock();
        state.forgotten_from = state.forgotten_from.min(seq);
    }

    /// From where to where events may be pending that were there when the log
    /// was opened.
    pub(crate) fn unrecovered(&self) -> Option<(i64, i64)> {
        let state = self.state.lock();
        (state.recovered_below < state.opened_at)
            .then_some((state.recovered_below, state.opened_at))
    }

    pub(crate) fn pending(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Takes nothing more. What was left before is still written, unless the
    /// writer has panicked.
    pub(crate) fn finish(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_none() || end == End::Panicked {
            state.end = Some(end);
        }
        if end == End::Panicked {
            // Whoever waits for a reply learns that there will be none.
            let work = std::mem::take(&mut state.work);
            drop(state);
            drop(work);
        }
        self.room.close();
        self.bell.notify_one();
    }

    /// Why nothing more is taken.
    pub(crate) fn end(&self) -> WriteError {
        self.state.lock().end.unwrap_or(End::Panicked).into()
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, WriteError> {
        let state = self.state.lock();
        match state.end {
            Some(end) => Err(end.into()),
            None => Ok(state),
        }
    }
}

/// Places in the queue.
pub(crate) type Room<'a> = tokio::sync::SemaphorePermit<'a>;

impl From<End> for WriteError {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Closed,
            End::Panicked => Self::Panicked,
        }
    }
}

impl State {
    /// Where an event goes, from now on pending.
    fn place(&mut self, id: &EventId) -> Place {
        if let Some(pending) = self.pending.get_mut(id) {
            pending.again = true;
            return Place::Again(pending.seq);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.pending.insert(id.clone(), Pending { seq, again: false });
        Place::New(seq)
    }

    /// When settlements and letters are to be written at the latest.
    fn due(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        if let Some(retry_at) = self.retry_at {
            return Some(retry_at);
        }
        let enough = self.work.settled.len() >= SETTLE_BATCH;
        Some(if enough { since } else { since + SETTLE_WITHIN })
    }
}

impl Append {
    /// Tells the publisher, if there is one that waits.
    pub(crate) fn answer(self, result: Result<(), WriteError>) {
        if let Some(reply) = self.reply {
            // One that gave up has settled its events as withdrawn.
            drop(reply.send(result));
        }
    }
}

impl Work {
    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool {
        !self.appends.is_empty() || !self.jobs.is_empty()
    }

    /// The first row that is to be made.
    pub(crate) fn first_new(&self) -> i64 {
        let mut places =
            self.appends.iter().flat_map(|append| &append.rows).map(|(place, _)| place);
        places.find_map(|place| place.new_seq()).unwrap_or(i64::MAX)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.is_urgent() && self.settled.is_empty() && self.letters.is_empty()
    }
}
