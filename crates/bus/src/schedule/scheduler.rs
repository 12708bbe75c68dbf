//! What the handles of a bus and its driver share: the timetable, and what is
//! asked of it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use parking_lot::{Mutex, MutexGuard};
use swarmbus_core::{Event, Timestamp};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    CancelError, Missed, Plan, RestoreError, Restored, Schedule, ScheduleConfig, ScheduleError,
    ScheduleId, ScheduleStats, ScheduleStore, ScheduleStoreError,
    timetable::{Now, Planned, Timetable},
};
use crate::{clock::WallClock, handler::contained};

/// The schedules of one bus. Its one task, the driver, fires them and is the
/// only one that writes to the store, so that writes cannot overtake each
/// other.
pub(crate) struct Scheduler {
    pub(super) limit: usize,
    pub(super) store: Option<Arc<dyn ScheduleStore>>,
    wall: WallClock,
    started: Instant,
    wall_at_start: Timestamp,
    /// See [`Now::read`].
    ahead: AtomicI64,
    state: Mutex<State>,
    /// Rings when the driver has to look.
    pub(super) wake: Notify,
    pub(super) closed: CancellationToken,
    /// The driver has done its last write.
    pub(super) ended: CancellationToken,
}

/// What the lock protects.
#[derive(Default)]
pub(super) struct State {
    pub(super) table: Timetable,
    pub(super) asked: Asked,
    pub(super) stats: ScheduleStats,
    /// How many are asked for and not made yet: those that are being written
    /// too.
    pub(super) adding: usize,
    ready: bool,
}

/// What waits for the driver's next write.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) new: Vec<Adding>,
    pub(super) cancelled: Vec<oneshot::Sender<Written>>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.cancelled.is_empty()
    }
}

/// What came of a write.
pub(super) type Written = Result<(), Arc<ScheduleStoreError>>;

pub(super) struct Adding {
    pub(super) schedule: Planned,
    pub(super) done: oneshot::Sender<Written>,
}

impl Scheduler {
    pub(crate) fn new(config: ScheduleConfig) -> Self {
        let ScheduleConfig { capacity, store, wall } = config;
        let ready = store.is_none();
        Self {
            limit: capacity,
            store,
            wall_at_start: wall.now(),
            wall,
            ahead: AtomicI64::new(0),
            started: Instant::now(),
            state: Mutex::new(State { ready, ..State::default() }),
            wake: Notify::new(),
            closed: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let steady = self.wall_at_start.saturating_add(self.started.elapsed());
        let now = Now::read(self.wall.now(), steady, self.ahead.load(Relaxed));
        self.ahead.store(now.ahead, Relaxed);
        now
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Nothing is fired any more.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Waits until the store knows what can be known.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) async fn add(
        &self,
        id: ScheduleId,
        plan: Plan,
        missed: Missed,
        event: Event,
    ) -> Result<ScheduleId, ScheduleError> {
        let now = self.now();
        let due = plan.first(if plan.follows_wall() { now.wall } else { now.steady });
        let due = due.ok_or(ScheduleError::Never)?;
        let (done, written) = oneshot::channel();
        {
            let mut state = self.state();
            // Under the lock: the driver takes what was asked after it closed.
            if self.closed.is_cancelled() {
                return Err(ScheduleError::Closed);
            }
            if !state.ready {
                return Err(ScheduleError::NotRestored);
            }
            // Those of names that are there wait for the store, too.
            let places = if state.table.contains(&id) { 0 } else { state.table.len() };
            if places + state.adding >= self.limit {
                return Err(ScheduleError::TooMany { limit: self.limit });
            }
            let schedule = Planned { id: id.clone(), plan, missed, event, due };
            state.asked.new.push(Adding { schedule, done });
            state.adding += 1;
        }
        self.wake.notify_one();
        match written.await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(error)) => Err(ScheduleError::Store(error)),
            Err(_) => Err(ScheduleError::Closed),
        }
    }

    pub(super) async fn cancel(&self, id: &ScheduleId) -> Result<bool, CancelError> {
        let (done, written) = oneshot::channel();
        {
            let mut state = self.state();
            if self.closed.is_cancelled() {
                return Err(CancelError::Closed);
            }
            if !state.ready {
                return Err(CancelError::NotRestored);
            }
            if !state.table.remove(id) {
                return Ok(false);
            }
            state.asked.cancelled.push(done);
        }
        self.wake.notify_one();
        match written.await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(CancelError::Store(error)),
            Err(_) => Err(CancelError::Closed),
        }
    }

    pub(super) async fn restore(&self) -> Result<Restored, RestoreError> {
        let Some(store) = &self.store else { return Ok(Restored::default()) };
        if self.state().ready {
            return Err(RestoreError::Twice);
        }
        let loaded = contained(store.load()).await;
        let loaded = loaded
            .unwrap_or_else(|panic| Err(ScheduleStoreError::Panicked(panic)))
            .map_err(RestoreError::Store)?;
        let (found, limit) = (loaded.schedules.len(), self.limit);
        if found > limit {
            return Err(RestoreError::TooMany { found, limit });
        }
        let now = self.now();
        let overdue = loaded.schedules.iter().filter(|schedule| schedule.next <= now.wall).count();
        {
            let mut state = self.state();
            if self.closed.is_cancelled() {
                return Err(RestoreError::Closed);
            }
            if std::mem::replace(&mut state.ready, true) {
                return Err(RestoreError::Twice);
            }
            for schedule in loaded.schedules {
                state.table.insert(Planned::restored(schedule, now));
            }
        }
        self.wake.notify_one();
        Ok(Restored { schedules: found, overdue, damaged: loaded.damaged })
    }

    pub(super) fn list(&self) -> Vec<Schedule> {
        let now = self.now();
        let mut all = self.state().table.list(now);
        all.sort_by(|a, b| (a.next, &a.id).cmp(&(b.next, &b.id)));
        all
    }

    pub(super) fn get(&self, id: &ScheduleId) -> Option<Schedule> {
        let now = self.now();
        self.state().table.get(id, now)
    }

    pub(super) fn stats(&self) -> ScheduleStats {
        let state = self.state();
        ScheduleStats {
            schedules: state.table.len(),
            unsaved: if self.store.is_some() { state.table.unsaved() } else { 0 },
            ..state.stats
        }
    }
}
