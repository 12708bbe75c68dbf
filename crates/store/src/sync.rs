//! Syncing what commits have written.
//!
//! With group commit a thread does so now and then, while the writer goes on.
//! Else the writer itself syncs each commit before anybody is told of it.
//!
//! SQLite syncs the write-ahead log itself only before a checkpoint when
//! `synchronous` is NORMAL. A sync is for the file and not for who opened it,
//! so this thread syncs the `-wal` file by a handle of its own while the writer
//! goes on. SQLite holds no locks on that file (they are on the `-shm` file and
//! the database), so that closing the handle frees none of them, as it would
//! for the database.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    error::{Fault, OpenError, WriteError},
    intake::{Intake, Job, Work},
    options::OnFailure,
    stats::Counters,
    waiters::{Told, Waiters},
};

pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    file: File,
    path: PathBuf,
    at_most: Duration,
    intake: Arc<Intake>,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    /// When the first commit was made that no sync has begun for.
    since: Option<Instant>,
    /// A sync failed. The system may have dropped what it could not write, so
    /// a later sync that succeeds proves nothing.
    broken: Option<Fault>,
    closing: bool,
}

impl Syncer {
    /// `wal` must be there already, and its folder's entry synced.
    pub(crate) fn start(
        wal: &Path,
        at_most: Duration,
        intake: Arc<Intake>,
    ) -> Result<Self, OpenError> {
        // Some systems sync only what may be written.
        let file = File::options().write(true).open(wal).map_err(|error| Fault::io(wal, &error))?;
        let shared = Arc::new(Shared {
            file,
            path: wal.to_owned(),
            at_most,
            intake,
            state: Mutex::default(),
            bell: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("swarmbus-sync".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        });
        Ok(Self { shared, thread: Some(thread.map_err(OpenError::Thread)?) })
    }

    /// A commit was made.
    pub(crate) fn committed(&self) {
        let mut state = self.shared.state.lock();
        if state.since.is_none() {
            state.since = Some(Instant::now());
            self.shared.bell.notify_one();
        }
    }

    /// Syncs now.
    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.shared.state.lock().since = None;
        self.shared.sync();
        self.check()
    }

    /// Whether all syncs so far have succeeded.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.shared.state.lock().broken.clone().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            match state.since.map(|since| since + self.at_most) {
                // The writer has synced, unless it panicked or could not write.
                due if state.closing => {
                    drop(state);
                    if due.is_some() {
                        self.sync();
                    }
                    return;
                }
                None => self.bell.wait(&mut state),
                Some(due) if due > Instant::now() => {
                    self.bell.wait_until(&mut state, due);
                }
                Some(_) => {
                    state.since = None;
                    drop(state);
                    self.sync();
                    state = self.state.lock();
                }
            }
        }
    }

    fn sync(&self) {
        let began = Instant::now();
        if let Err(error) = self.file.sync_data() {
            let fault = Fault::io(&self.path, &error);
            tracing::error!(%fault, "the event log could not sync, and takes nothing more");
            self.state.lock().broken.get_or_insert(fault);
        }
        let counters = &self.intake.counters;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.longest_sync_micros.fetch_max(micros, Relaxed);
        Counters::add(&counters.syncs, 1);
    }
}

/// Who is to be told how a transaction went.
pub(crate) struct After {
    waiters: Vec<Waiters>,
    jobs: Vec<Box<dyn Job>>,
    /// Of the jobs; none if the transaction failed.
    results: Vec<rusqlite::Result<()>>,
    events: usize,
    on_failure: OnFailure,
}

impl After {
    pub(crate) fn new(
        work: &mut Work,
        results: Vec<rusqlite::Result<()>>,
        on_failure: OnFailure,
    ) -> Self {
        let mut waiters = std::mem::take(&mut work.more_waiters);
        waiters.push(std::mem::take(&mut work.waiters));
        let jobs = std::mem::take(&mut work.jobs);
        Self { waiters, jobs, results, events: work.rows.len(), on_failure }
    }

    /// `fault` if the transaction failed, or could not be synced.
    pub(crate) fn tell(self, path: &Path, intake: &Intake, fault: Option<Fault>, told: &mut Told) {
        let mut results = self.results.into_iter();
        for job in self.jobs {
            let own = results.next().unwrap_or(Ok(())).map_err(|error| Fault::new(path, &error));
            job.done(fault.clone().map_or(own, Err).map_err(WriteError::from));
        }
        let answer = match (fault, self.on_failure) {
            (None, _) => Ok(()),
            (Some(fault), OnFailure::Refuse) => Err(WriteError::from(fault)),
            (Some(_), OnFailure::GoOn) => {
                Counters::add(&intake.counters.lost, self.events);
                Ok(())
            }
        };
        for waiters in self.waiters {
            told.add(waiters.answer(answer.clone()));
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.bell.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say when it panicked.
            drop(thread.join());
        }
    }
}
