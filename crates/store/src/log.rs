//! [`EventLog`]: start reading here.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::Connection;
use swarmbus_core::Event;
use tokio::sync::oneshot;

use crate::{
    error::{Fault, OpenError, WriteError},
    event_row::EventRow,
    intake::{End, Intake, Job},
    options::{Durability, OnFailure, Options},
    reader::LogReader,
    retention::Retention,
    schema,
    stats::LogStats,
    sync::Syncer,
    tracked::Tracked,
    waiters::Told,
    writer::Writer,
};

/// An event log in one SQLite file: the journal of a bus.
///
/// A handle: clones share one log. The last one that is dropped closes it,
/// which blocks until what was left for the writer is written; use
/// [`close`](Self::close) to wait for that without blocking, and to learn
/// whether it went well. A bus holds a handle of its journal.
///
/// # Files
///
/// Beside `events.db` lie `events.db-wal` and `events.db-shm`, which belong to
/// it while it is open and after a crash, and `events.db-lock`, which is empty
/// and keeps a second journal away. It is freed when the process ends,
/// however it ends.
///
/// # Order
///
/// Events are written in the order in which they were given to the log; a
/// batch is written whole or not at all.
///
/// # Memory
///
/// Publishers wait while [`Options::queue`] events wait for the writer. Each
/// event that is accepted keeps a place for its settlement
/// ([`Options::max_pending`]), so that a slow disk cannot make settlements
/// pile up: those of neighbouring events are written as one.
#[derive(Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    on_failure: OnFailure,
    intake: Arc<Intake>,
    recovering: tokio::sync::Mutex<()>,
    writer: Mutex<Option<JoinHandle<Result<(), WriteError>>>>,
}

/// No log comes that far in an age: beyond it the file is damaged.
const LAST_SEQ: i64 = 1 << 62;

impl EventLog {
    /// Opens the log, or makes it, with the default [`Options`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::new().open(path)
    }

    /// The options have been checked.
    pub(crate) fn start(path: &Path, options: Options) -> Result<Self, OpenError> {
        let path = &resolved(path);
        let lock = lock(path)?;
        let conn = schema::open_writer(path, options.busy_timeout)?;
        let fault = |error| Fault::new(path, &error);
        let number = |sql| conn.query_row(sql, (), |row| row.get::<_, i64>(0)).map_err(fault);
        let last_seq = number("SELECT coalesce(max(seq), 0) FROM events")?;
        let newest = number("SELECT coalesce(max(timestamp), 0) FROM events")?;
        let settled_below = number("SELECT settled_below FROM log_state")?;
        // The last rows may have been deleted. Their numbers are not used
        // again: nobody would look for what is pending there.
        let next_seq = last_seq.saturating_add(1).max(settled_below);
        if next_seq > LAST_SEQ {
            let detail = format!("its rows have reached number {next_seq}");
            return Err(Fault::corrupt(path, detail).into());
        }
        let intake = Arc::new(Intake::new(&options, Tracked::new(next_seq, settled_below, newest)));
        // From here on the log syncs its commits itself.
        conn.execute_batch("PRAGMA synchronous = NORMAL").map_err(fault)?;
        let at_most = match options.durability {
            Durability::CommitBeforeAccept => Duration::ZERO,
            Durability::GroupCommit { at_most } => at_most,
        };
        let syncer = Syncer::start(&beside(path, "-wal"), at_most, Arc::clone(&intake))?;
        let writer = Writer {
            conn,
            path: path.to_owned(),
            intake: Arc::clone(&intake),
            syncer,
            retention: Retention::new(options.keep_for, Instant::now()),
            marked_at: Instant::now(),
            told: Told::default(),
            options: options.clone(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new().name("swarmbus-log".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(OpenError::Thread)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                on_failure: options.on_failure,
                intake,
                recovering: tokio::sync::Mutex::default(),
                writer: Mutex::new(Some(thread)),
            }),
        })
    }

    /// The file, with links in its path resolved.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Writes events as pending, all or none, as the bus does with those that
    /// it accepts. Without a bus they stay pending until
    /// [`Journal::settle`](swarmbus::Journal::settle), or until they are
    /// recovered.
    ///
    /// Returns when they are as safe as [`Durability`] says. An event that is
    /// pending already, by its id and its time, takes no second row.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; nothing was written then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, they may be written or not.
    pub async fn append(&self, events: &[Event]) -> Result<(), WriteError> {
        if events.is_empty() {
            return Ok(());
        }
        let intake = &*self.inner.intake;
        let ticket = if let [event] = events {
            let row = EventRow::new(event)?;
            intake.append(std::iter::once(row), intake.room(1).await?)?
        } else {
            let rows = events.iter().map(EventRow::new).collect::<Result<Vec<_>, _>>()?;
            let room = intake.room(rows.len()).await?;
            intake.append(rows.into_iter(), room)?
        };
        ticket.await.unwrap_or_else(|| Err(intake.end()))
    }

    /// Leaves an event for the writer without waiting for it. `Ok(false)` if
    /// there is no room.
    pub(crate) fn append_later(&self, event: &Event) -> Result<bool, WriteError> {
        let row = EventRow::new(event)?;
        let Some(room) = self.inner.intake.try_room(1)? else { return Ok(false) };
        self.inner.intake.append_later(row, room)?;
        Ok(true)
    }

    /// Runs a closure on the writer's thread, in a transaction. What it does
    /// is undone if it fails; returns once the transaction is committed.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, the closure may run or not.
    pub(crate) async fn write<T, F>(&self, f: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let room = self.inner.intake.room(1).await?;
        let (reply, done) = oneshot::channel();
        self.inner.intake.job(Box::new(Closure { f: Some(f), value: None, reply }), room)?;
        done.await.unwrap_or_else(|_| Err(self.inner.intake.end()))
    }

    /// Waits until everything that was left for the writer so far is
    /// committed, settlements and dead letters too.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn flush(&self) -> Result<(), WriteError> {
        self.write(|_| Ok(())).await
    }

    /// A reader of this log, with a connection of its own. Blocks shortly.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn reader(&self) -> Result<LogReader, OpenError> {
        LogReader::open(&self.inner.path)
    }

    /// What the log has done since it was opened.
    pub fn stats(&self) -> LogStats {
        self.inner.intake.counters.read(self.inner.intake.pending())
    }

    pub(crate) fn intake(&self) -> &Arc<Intake> {
        &self.inner.intake
    }

    /// Only one recovery at a time.
    pub(crate) async fn recovering(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.recovering.lock().await
    }

    pub(crate) fn on_failure(&self) -> OnFailure {
        self.inner.on_failure
    }

    /// Closes the log for all handles: what was left for the writer is
    /// written and synced, then nothing more is taken. Shut the bus down
    /// before.
    ///
    /// # Errors
    ///
    /// What the last transaction met; see [`WriteError`].
    ///
    /// # Cancel safety
    ///
    /// It goes on to its end even if this future is dropped.
    pub async fn close(&self) -> Result<(), WriteError> {
        self.inner.intake.finish(End::Closed);
        let Some(writer) = self.inner.writer.lock().take() else { return Ok(()) };
        let end = tokio::task::spawn_blocking(move || writer.join());
        match end.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(WriteError::Panicked),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.intake.finish(End::Closed);
        let Some(writer) = self.writer.get_mut().take() else { return };
        // The last handle may have been in a job, which the writer drops.
        if writer.thread().id() == std::thread::current().id() {
            return;
        }
        match writer.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the event log was not closed cleanly"),
            Err(_) => tracing::error!("the event log's thread has panicked"),
        }
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// A log has one name, or two journals would lock two files. An absolute path
/// is also no `file:` URI, and stays right when the program changes its folder.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let mut name = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(file) = name.canonicalize() {
            return file;
        }
        // The file is not made yet. Where there is no folder, opening says so.
        let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(folder) = folder.unwrap_or(Path::new(".")).canonicalize() else { break };
        name = folder.join(name.file_name().unwrap_or_default());
        let Ok(target) = name.read_link() else { return name };
        name = folder.join(target);
    }
    path.to_owned()
}

/// Links to links that are followed, as by Linux.
const MOST_LINKS: usize = 40;

/// Keeps other journals away from a log, in this process and in others. A file
/// of its own: closing another handle of the database itself would free
/// SQLite's locks.
fn lock(path: &Path) -> Result<File, OpenError> {
    let lock = beside(path, "-lock");
    let fault = |error| Fault::io(&lock, &error);
    let file = File::options().create(true).append(true).open(&lock).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(fault(error).into()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A closure and the one who waits for what it returns.
struct Closure<T, F> {
    f: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

impl<T, F> Job for Closure<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if let Some(f) = self.f.take() {
            self.value = Some(f(conn)?);
        }
        Ok(())
    }

    fn done(self: Box<Self>, result: Result<(), WriteError>) {
        let Self { value, reply, .. } = *self;
        // One that gave up does not want to know.
        drop(reply.send(result.and_then(|()| value.ok_or(WriteError::Closed))));
    }
}

#[cfg(test)]
mod tests;
