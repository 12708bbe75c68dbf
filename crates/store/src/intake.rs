//! What publishers and workers leave for the thread that writes.
//!
//! One lock protects it, and is held for a few words for each event. The
//! writer takes everything at once: so a settlement never comes before its
//! event, which was left earlier.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use swarmbus::Settlement;
use swarmbus_core::EventId;
use tokio::sync::{Semaphore, TryAcquireError};

use crate::{
    error::WriteError,
    event_row::EventRow,
    letters::LetterNews,
    options::Options,
    settle::Settled,
    stats::Counters,
    tracked::{Place, Tracked},
    waiters::{Ticket, Waiters},
};

/// Settlements are written with the next events, or after this long without.
const SETTLE_WITHIN: Duration = Duration::from_millis(50);

/// So many settlements are worth a transaction of their own.
const SETTLE_BATCH: usize = 1_024;

/// So many events may be in a transaction that others join.
const MOST_JOIN: usize = 1_024;

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
    pub(crate) counters: Counters,
}

struct State {
    work: Work,
    tracked: Tracked,
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

/// What the writer takes at once, and writes in one transaction.
#[derive(Default)]
pub(crate) struct Work {
    /// Events, to be written or refused together.
    pub(crate) rows: Vec<(Place, EventRow)>,
    /// Who waits for them.
    pub(crate) waiters: Waiters,
    /// Those of work that has joined this.
    pub(crate) more_waiters: Vec<Waiters>,
    pub(crate) jobs: Vec<Box<dyn Job>>,
    pub(crate) settled: Vec<Settled>,
    pub(crate) letters: VecDeque<LetterNews>,
    /// Places in the queue that all of this had.
    permits: u32,
    /// The log is to be closed after this.
    pub(crate) last: bool,
}

/// Something else to do within the transaction.
pub(crate) trait Job: Send {
    /// Does it. What fails is undone, and the rest of the transaction goes on.
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()>;
    /// Told once, whatever happened, `run` or not.
    fn done(self: Box<Self>, result: Result<(), WriteError>);
}

impl Intake {
    pub(crate) fn new(options: &Options, tracked: Tracked) -> Self {
        Self {
            state: Mutex::new(State {
                work: Work::default(),
                tracked,
                waiting_since: None,
                retry_at: None,
                asleep: false,
                end: None,
            }),
            bell: Condvar::new(),
            room: Semaphore::new(options.queue),
            queue: u32::try_from(options.queue).unwrap_or(u32::MAX),
            max_pending: options.max_pending,
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

    /// Takes places in the queue; `None` if they are not free.
    pub(crate) fn try_room(&self, places: usize) -> Result<Option<Room<'_>>, WriteError> {
        match self.room.try_acquire_many(self.places(places)) {
            Ok(room) => Ok(Some(room)),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(self.end()),
        }
    }

    /// A batch that is larger than the queue takes all of it.
    fn places(&self, wanted: usize) -> u32 {
        u32::try_from(wanted).unwrap_or(u32::MAX).min(self.queue)
    }

    /// Leaves events for the writer. The ticket tells when they are written.
    pub(crate) fn append(
        &self,
        rows: impl ExactSizeIterator<Item = EventRow>,
        room: Room<'_>,
    ) -> Result<Ticket, WriteError> {
        let mut state = self.lock()?;
        self.leave(&mut state, rows, room);
        Ok(state.work.waiters.join())
    }

    /// Leaves an event that nobody waits for.
    pub(crate) fn append_later(&self, row: EventRow, room: Room<'_>) -> Result<(), WriteError> {
        self.leave(&mut *self.lock()?, std::iter::once(row), room);
        Ok(())
    }

    fn leave(
        &self,
        state: &mut State,
        rows: impl ExactSizeIterator<Item = EventRow>,
        room: Room<'_>,
    ) {
        self.make_room(state, rows.len());
        for row in rows {
            let place = state.tracked.place(&row.id, row.timestamp);
            state.work.rows.push((place, row));
        }
        self.ring(state, room);
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
        let Some(settled) = state.tracked.settle(id, timestamp, settlement) else { return };
        // One that was tracked has had its place since it was accepted.
        if settled.seq().is_none() && state.work.settled.len() >= self.max_pending {
            Counters::add(&self.counters.settlements_lost, 1);
            return;
        }
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

    /// Sees to it that what is tracked has a limit.
    fn make_room(&self, state: &mut State, more: usize) {
        let tracked = state.tracked.len() + state.work.settled.len() + more;
        if tracked > self.max_pending {
            Counters::add(&self.counters.forgotten, state.tracked.forget(more));
        }
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
        self.take_all(&mut state)
    }

    fn take_all(&self, state: &mut State) -> Work {
        state.waiting_since = None;
        let mut work = std::mem::take(&mut state.work);
        work.last = state.end.is_some();
        self.room.add_permits(work.permits as usize);
        work
    }

    /// What came while a transaction of so many events was written, and may
    /// be written with it.
    pub(crate) fn take_more(&self, events: usize) -> Option<Work> {
        let mut state = self.state.lock();
        let more = events < MOST_JOIN && state.work.is_urgent() && state.end.is_none();
        more.then(|| self.take_all(&mut state))
    }

    /// The transaction is committed. `found` are events that turned out to be
    /// in the log already: their ids, the place they would have had, and the
    /// one they have.
    pub(crate) fn committed(&self, found: Vec<(EventId, i64, i64)>) {
        let mut state = self.state.lock();
        state.retry_at = None;
        for (id, planned, seq) in found {
            state.tracked.found(&id, planned, seq);
        }
    }

    /// The transaction failed: what nobody waits for is kept for the next one.
    pub(crate) fn failed(&self, work: &mut Work, retry_at: Instant) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.retry_at = Some(retry_at);
        for (place, row) in &work.rows {
            if let Some(planned) = place.new_seq() {
                state.tracked.not_written(&row.id, planned);
            }
        }
        // Who waits to offer one of them again makes its row.
        for (place, row) in &mut state.work.rows {
            if place.new_seq().is_none() {
                *place = state.tracked.place(&row.id, row.timestamp);
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
        state.tracked.settled_below(state.work.settled.iter().filter_map(Settled::seq))
    }

    /// See [`Tracked::recovered`].
    pub(crate) fn recovered(&self, below: i64) {
        self.state.lock().tracked.recovered(below);
    }

    /// See [`Tracked::left_pending`].
    pub(crate) fn left_pending(&self, seq: i64) {
        self.state.lock().tracked.left_pending(seq);
    }

    /// See [`Tracked::unrecovered`].
    pub(crate) fn unrecovered(&self) -> Option<(i64, i64)> {
        self.state.lock().tracked.unrecovered()
    }

    pub(crate) fn pending(&self) -> usize {
        self.state.lock().tracked.len()
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

impl Work {
    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool {
        !self.rows.is_empty() || !self.jobs.is_empty()
    }

    /// The first row that is to be made.
    pub(crate) fn first_new(&self) -> i64 {
        self.rows.iter().filter_map(|(place, _)| place.new_seq()).min().unwrap_or(i64::MAX)
    }

    /// Adds what came later and is written in the same transaction.
    pub(crate) fn add(&mut self, mut more: Self) {
        self.rows.append(&mut more.rows);
        self.more_waiters.push(more.waiters);
        self.jobs.append(&mut more.jobs);
        self.settled.append(&mut more.settled);
        self.letters.append(&mut more.letters);
        self.last |= more.last;
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.is_urgent() && self.settled.is_empty() && self.letters.is_empty()
    }
}
