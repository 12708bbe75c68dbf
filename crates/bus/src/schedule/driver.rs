//! The one task of a bus's schedules: it sleeps until the nearest is due,
//! publishes, and keeps the store up to date.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use swarmbus_core::{Event, backoff::Backoff};
use tokio::{
    task::{AbortHandle, JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    ScheduleChange, ScheduleId, ScheduleStore, ScheduleStoreError,
    scheduler::{Asked, Scheduler, Written},
    timetable::{Firing, FiringKey},
};
use crate::{error::PublishCause, handler::contained, inner::Inner};

/// Firings between two looks at everything else.
const LONGEST_ROUND: usize = 256;

/// Between tries of a publish that waiting does not help, and of a write that
/// failed: 0.1 s to 10 s.
const AGAIN: Backoff = Backoff::RETRY;

/// Runs the schedules of a bus until it closes.
pub(crate) async fn drive(scheduler: Arc<Scheduler>, inner: Weak<Inner>) {
    // Also when the runtime ends and drops this in the middle.
    let _ended = scheduler.ended.clone().drop_guard();
    let closed: CancellationToken = scheduler.closed.clone();
    let mut driver = Driver {
        scheduler,
        inner,
        waiting: JoinSet::new(),
        handles: HashMap::new(),
        writing: None,
        failed_writes: 0,
        write_again: None,
    };
    closed.run_until_cancelled(driver.run()).await;
    driver.end().await;
}

struct Driver {
    scheduler: Arc<Scheduler>,
    inner: Weak<Inner>,
    /// Firings that the bus does not take now: one of each schedule at most.
    waiting: JoinSet<(FiringKey, Published)>,
    handles: HashMap<FiringKey, AbortHandle>,
    writing: Option<Writing>,
    failed_writes: u32,
    write_again: Option<Instant>,
}

/// A write on its way, and what it settles.
struct Writing {
    changed: Vec<ScheduleId>,
    asked: Asked,
    task: JoinHandle<Result<(), ScheduleStoreError>>,
}

enum Published {
    Yes,
    /// The bus will never take it.
    Refused,
    /// The bus has closed: the firing is still due, for the next bus.
    Closed,
}

impl Driver {
    /// Cancel safe: what is taken from the timetable is in `self` before the
    /// next await.
    async fn run(&mut self) {
        loop {
            let more = self.fire_due().await;
            self.forget_unwanted();
            self.start_write();
            let now = self.scheduler.now();
            let next = self.scheduler.state().table.wait(now);
            let writing = self.writing.as_mut().map(|writing| &mut writing.task);
            tokio::select! {
                () = std::future::ready(()), if more => {}
                () = self.scheduler.wake.notified() => {}
                () = until(next.map(|wait| Instant::now() + wait)) => {}
                () = until(self.write_again) => self.write_again = None,
                Some(done) = self.waiting.join_next() => {
                    if let Ok((key, published)) = done {
                        self.handles.remove(&key);
                        self.settle(&key, published);
                    }
                }
                written = finished(writing) => self.finish_write(written),
            }
        }
    }

    /// Publishes what is due and can be taken at once; returns whether there
    /// is more.
    async fn fire_due(&mut self) -> bool {
        for _ in 0..LONGEST_ROUND {
            let now = self.scheduler.now();
            let Some(firing) = self.scheduler.state().table.take_due(now) else { return false };
            let Some(inner) = self.inner.upgrade() else { return false };
            match try_publish(&inner, &firing.event) {
                Some(published) => self.settle(&firing.key, published),
                None => self.wait(inner, firing),
            }
            tokio::task::coop::consume_budget().await;
        }
        true
    }

    fn settle(&mut self, key: &FiringKey, published: Published) {
        let mut state = self.scheduler.state();
        match published {
            Published::Yes => state.stats.fired += 1,
            Published::Refused => state.stats.refused += 1,
            Published::Closed => return,
        }
        state.table.done(key);
        state.stats.waiting = self.handles.len();
    }

    /// Withdraws firings whose schedule was cancelled or replaced.
    fn forget_unwanted(&mut self) {
        let mut state = self.scheduler.state();
        for key in state.table.take_unwanted() {
            if let Some(handle) = self.handles.remove(&key) {
                handle.abort();
            }
        }
        state.stats.waiting = self.handles.len();
    }

    /// Gives a firing that the bus did not take a task to wait in, so that it
    /// holds up no other.
    fn wait(&mut self, inner: Arc<Inner>, firing: Firing) {
        let Firing { key, event } = firing;
        let its = key.clone();
        let task = self.waiting.spawn(async move {
            let published = contained(publish(inner, event)).await;
            (its, published.unwrap_or(Published::Refused))
        });
        self.handles.insert(key, task);
        self.scheduler.state().stats.waiting = self.handles.len();
    }

    /// Begins to write what the store does not know, unless it is writing.
    fn start_write(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let now = self.scheduler.now();
        let mut state = self.scheduler.state();
        if state.asked.is_empty() && self.write_again.is_some() {
            return;
        }
        let asked = std::mem::take(&mut state.asked);
        let mut changes = state.table.take_changes(now);
        let changed = changes.iter().map(|change| change.id().clone()).collect();
        let new = asked.new.iter().map(|adding| state.table.preview(&adding.schedule, now));
        changes.extend(new.map(ScheduleChange::Save));
        drop(state);
        match &self.scheduler.store {
            Some(store) if !changes.is_empty() => {
                let task = tokio::spawn(write(Arc::clone(store), changes));
                self.writing = Some(Writing { changed, asked, task });
            }
            _ => self.settle_write(asked, &Ok(())),
        }
    }

    fn finish_write(&mut self, written: Result<(), ScheduleStoreError>) {
        let Some(Writing { changed, asked, .. }) = self.writing.take() else { return };
        let written = written.map_err(Arc::new);
        match &written {
            Ok(()) => {
                if std::mem::take(&mut self.failed_writes) > 0 {
                    tracing::info!("the store of schedules works again");
                }
                self.write_again = None;
            }
            Err(error) => {
                if self.failed_writes == 0 {
                    tracing::error!(%error, "schedules could not be stored");
                }
                let wait = AGAIN.delay(self.failed_writes, fastrand::u64(..));
                self.failed_writes = self.failed_writes.saturating_add(1);
                self.write_again = Some(Instant::now() + wait);
                let mut state = self.scheduler.state();
                state.stats.store_failures += 1;
                state.table.put_back(changed);
            }
        }
        self.settle_write(asked, &written);
    }

    /// Makes the schedules that the store has now, and tells who asked.
    fn settle_write(&self, asked: Asked, written: &Written) {
        let mut state = self.scheduler.state();
        state.adding -= asked.new.len();
        for adding in asked.new {
            let id = adding.schedule.id.clone();
            let was_there = state.table.contains(&id);
            if written.is_ok() {
                if adding.done.is_closed() {
                    // Who asked has gone: the store must forget it again.
                    state.table.put_back([id]);
                    continue;
                }
                state.table.insert(adding.schedule);
            }
            if adding.done.send(written.clone()).is_err() && !was_there {
                state.table.remove(&id);
            }
        }
        for done in asked.cancelled {
            // Who asked may have gone: the schedule has ended all the same.
            let _ = done.send(written.clone());
        }
    }

    /// Has the store know as much as possible. What is on its way to the bus
    /// is not published any more, and stays due in the store.
    async fn end(mut self) {
        self.waiting.abort_all();
        while let Some(done) = self.waiting.join_next().await {
            if let Ok((key, published)) = done {
                self.settle(&key, published);
            }
        }
        if let Some(writing) = &mut self.writing {
            let written = finished(Some(&mut writing.task)).await;
            self.finish_write(written);
        }
        self.start_write();
        if let Some(writing) = &mut self.writing {
            let written = finished(Some(&mut writing.task)).await;
            self.finish_write(written);
        }
    }
}

/// Until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// The end of a write, or never.
async fn finished(
    task: Option<&mut JoinHandle<Result<(), ScheduleStoreError>>>,
) -> Result<(), ScheduleStoreError> {
    match task {
        // A runtime that ends cancels the write.
        Some(task) => {
            task.await.unwrap_or_else(|error| Err(ScheduleStoreError::Failed(error.into())))
        }
        None => std::future::pending().await,
    }
}

/// In a task of its own, so that a slow store does not hold up firings.
async fn write(
    store: Arc<dyn ScheduleStore>,
    changes: Vec<ScheduleChange>,
) -> Result<(), ScheduleStoreError> {
    let written = contained(store.write(&changes)).await;
    written.unwrap_or_else(|panic| Err(ScheduleStoreError::Panicked(panic)))
}

/// Publishes without waiting; `None` if it must wait.
fn try_publish(inner: &Inner, event: &Event) -> Option<Published> {
    let mut slot = Some(event.clone());
    // Middleware is the program's, and may panic.
    let tried = catch_unwind(AssertUnwindSafe(|| inner.try_publish(&mut slot)));
    match tried {
        Ok(Ok(())) => Some(Published::Yes),
        Ok(Err(error)) if error.cause.may_pass() => None,
        Ok(Err(error)) if error.cause == PublishCause::Closed => Some(Published::Closed),
        Ok(Err(_)) => Some(Published::Refused),
        Err(_) => Some(Published::Refused),
    }
}

/// Publishes, waiting for as long as it takes.
async fn publish(inner: Arc<Inner>, event: Event) -> Published {
    match inner.publish_until_taken(&event).await {
        Ok(()) => Published::Yes,
        Err(PublishCause::Closed) => Published::Closed,
        Err(_) => Published::Refused,
    }
}
