//! The thread that writes: everything that came while it committed is its
//! next transaction.

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use swarmbus_core::EventId;

use crate::{
    error::{Fault, WriteError},
    event_row::{EventRow, IdColumn, Inserts},
    intake::{End, Intake, Job, Work},
    letters,
    options::{Durability, Options},
    retention::Retention,
    settle,
    stats::Counters,
    sync::{After, Syncer},
    tracked::Place,
    waiters::Told,
};

/// After a failure, settlements that nobody waits for try again so much later.
const RETRY: Duration = Duration::from_millis(500);

/// How often it is written down from where on to look for pending events.
const MARK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    pub(crate) conn: Connection,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) intake: Arc<Intake>,
    pub(crate) syncer: Syncer,
    pub(crate) retention: Retention,
    pub(crate) marked_at: Instant,
    pub(crate) told: Told,
    /// Freed when the writer ends.
    pub(crate) _lock: File,
}

/// What a transaction did besides what it was asked for.
#[derive(Default)]
struct Written {
    /// Events that were in the log: id, planned place, place.
    found: Vec<(EventId, i64, i64)>,
    offered_again: usize,
    events: usize,
    /// Results of the jobs.
    jobs: Vec<rusqlite::Result<()>>,
}

impl Writer {
    /// Works until the log is closed. Says what the last transaction met.
    pub(crate) fn run(mut self) -> Result<(), WriteError> {
        // If this thread panics nobody may wait for it.
        let guard = EndOnPanic(Arc::clone(&self.intake));
        let result = self.work();
        std::mem::forget(guard);
        result
    }

    fn work(&mut self) -> Result<(), WriteError> {
        loop {
            let due = self.told.due().into_iter().chain(self.retention.due()).min();
            let mut work = self.intake.take(due);
            self.told.wake_late();
            let (last, idle) = (work.last, work.is_empty());
            let result = if idle && !last { Ok(()) } else { self.write(&mut work) };
            if last {
                result?;
                return Ok(self.syncer.sync()?);
            }
            if self.retention.may_step(idle) {
                let deleted = self.retention.step(&mut self.conn);
                self.retained(deleted);
            }
        }
    }

    fn write(&mut self, work: &mut Work) -> Result<(), WriteError> {
        let written = match self.transact(work) {
            Ok(written) => written,
            Err(fault) => {
                self.failed(work, &fault);
                return Err(fault.into());
            }
        };
        let counters = &self.intake.counters;
        Counters::add(&counters.commits, 1);
        Counters::add(&counters.written, written.events);
        Counters::add(&counters.offered_again, written.offered_again);
        Counters::add(&counters.settled, work.settled.len());
        if counters.failing.swap(false, Relaxed) {
            tracing::info!(log = %self.path.display(), "the event log writes again");
        }
        self.intake.committed(written.found);
        let after = After::new(work, written.jobs, self.options.on_failure);
        let broken = match self.options.durability {
            Durability::GroupCommit { .. } => {
                self.syncer.committed();
                None
            }
            Durability::CommitBeforeAccept => self.syncer.sync().err(),
        };
        after.tell(&self.path, &self.intake, broken.clone(), &mut self.told);
        broken.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Writes all, or nothing.
    fn transact(&mut self, work: &mut Work) -> Result<Written, Fault> {
        self.syncer.check()?;
        let fault = |error| Fault::new(&self.path, &error);
        let mut written = Written::default();
        let tx =
            self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        let most_letters = self.options.max_letters;
        write(&tx, work, most_letters, &mut written).map_err(fault)?;
        // With group commit others write while this commits; a sync is worth sharing.
        while self.options.durability == Durability::CommitBeforeAccept
            && let Some(mut more) = self.intake.take_more(work.rows.len() + work.jobs.len())
        {
            let result = write(&tx, &mut more, most_letters, &mut written);
            work.add(more);
            result.map_err(fault)?;
        }
        if work.last || self.marked_at.elapsed() >= MARK_EVERY {
            self.marked_at = Instant::now();
            tx.prepare_cached("UPDATE log_state SET settled_below = max(settled_below, ?1)")
                .and_then(|mut update| update.execute([self.intake.settled_below()]))
                .map_err(fault)?;
        }
        tx.commit().map_err(fault)?;
        Ok(written)
    }

    fn failed(&mut self, work: &mut Work, fault: &Fault) {
        let intake = Arc::clone(&self.intake);
        let counters = &intake.counters;
        Counters::add(&counters.failures, 1);
        if !counters.failing.swap(true, Relaxed) {
            tracing::error!(%fault, "the event log cannot write");
        }
        self.intake.failed(work, Instant::now() + RETRY);
        let after = After::new(work, Vec::new(), self.options.on_failure);
        after.tell(&self.path, &intake, Some(fault.clone()), &mut self.told);
    }

    fn retained(&self, deleted: rusqlite::Result<usize>) {
        match deleted {
            Ok(deleted) => Counters::add(&self.intake.counters.aged_out, deleted),
            Err(error) => {
                let fault = Fault::new(&self.path, &error);
                tracing::warn!(%fault, "the event log could not delete old events");
            }
        }
    }
}

/// Writes what was taken at once.
fn write(
    tx: &Transaction<'_>,
    work: &mut Work,
    most_letters: usize,
    written: &mut Written,
) -> rusqlite::Result<()> {
    // An event that was settled and then came again is not settled again.
    let first_new = work.first_new();
    let (old, new) = settle::split(&mut work.settled, first_new);
    settle::write(tx, old)?;
    append(tx, &work.rows, written)?;
    settle::write(tx, new)?;
    letters::write(tx, &work.letters, most_letters)?;
    for job in &mut work.jobs {
        written.jobs.push(run(tx, &mut **job)?);
    }
    Ok(())
}

/// Writes the events of all who wait.
fn append(
    tx: &Transaction<'_>,
    rows: &[(Place, EventRow)],
    written: &mut Written,
) -> rusqlite::Result<()> {
    let mut inserts = Inserts::new(tx)?;
    let mut again =
        tx.prepare_cached("UPDATE events SET retry_count = retry_count + 1 WHERE seq = ?1")?;
    let mut find = tx.prepare_cached(
        "UPDATE events SET retry_count = retry_count + 1
         WHERE timestamp = ?1 AND id = ?2 AND status = 0 RETURNING seq",
    )?;
    for (place, row) in rows {
        if !matches!(place, Place::New(_)) {
            // What is looked for may be among the last.
            inserts.finish()?;
        }
        let seq = match *place {
            Place::New(seq) => seq,
            Place::Again(seq) if again.execute([seq])? > 0 => {
                written.offered_again += 1;
                continue;
            }
            // Again, and not there: who came first has found it elsewhere.
            Place::Unless(seq) | Place::Again(seq) => {
                let mut rows = find.query(params![row.timestamp, IdColumn(&row.id)])?;
                let mut at = None;
                // To its end, or the update is not done.
                while let Some(row) = rows.next()? {
                    at = Some(row.get(0)?);
                }
                if let Some(at) = at {
                    written.found.push((row.id.clone(), seq, at));
                    written.offered_again += 1;
                    continue;
                }
                seq
            }
        };
        inserts.add(seq, row)?;
        written.events += 1;
    }
    inserts.finish()
}

/// Runs one job. The outer error is one that ends the transaction.
fn run(tx: &Transaction<'_>, job: &mut dyn Job) -> rusqlite::Result<rusqlite::Result<()>> {
    tx.execute_batch("SAVEPOINT job")?;
    let result = job.run(tx);
    if let Err(error) = result {
        if tx.is_autocommit() {
            // SQLite has undone everything, as it does when the disk is full.
            return Err(error);
        }
        tx.execute_batch("ROLLBACK TO job; RELEASE job")?;
        return Ok(Err(error));
    }
    tx.execute_batch("RELEASE job")?;
    Ok(Ok(()))
}

struct EndOnPanic(Arc<Intake>);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        tracing::error!("the event log's thread has panicked");
        self.0.finish(End::Panicked);
    }
}
