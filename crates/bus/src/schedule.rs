//! Scheduled events: published later, once or again and again, and kept over a
//! restart.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus::{Bus, Event, schedule::Missed};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::builder().build()?;
//! let once = bus.schedule(Event::of("agent.wake", ())).after(Duration::from_secs(30)).await?;
//! bus.schedule(Event::of("report.due", ()))
//!     .named("hourly report")
//!     .missed(Missed::Skip)
//!     .cron("0 0 * * * *")
//!     .await?;
//!
//! assert_eq!(bus.schedules().list()[0].id, once, "the next one comes first");
//! assert!(bus.schedules().cancel(&once).await?);
//! # Ok(())
//! # }
//! ```
//!
//! # What a firing is
//!
//! An event of its own, with an id and a timestamp of its own. The attribute
//! `schedule` names the schedule, `scheduledat` the time that it was due, in
//! RFC 3339. It is published like any other, through middleware, journal and
//! queue. A full bus holds up only the schedule whose firing waits: times that
//! pass meanwhile are [`Missed`]. A firing that middleware refuses is lost, and
//! counted in [`ScheduleStats::refused`].
//!
//! # Clocks
//!
//! [`at`](NewSchedule::at) and [`cron`](NewSchedule::cron) follow the wall
//! clock, in UTC, which is read at least every 5 s: so much later at most is a
//! jump noticed, or the end of a machine's sleep. A clock that goes forward
//! has schedules miss times. After one that goes back no time comes twice,
//! unless by more than 3 hours: then it was wrong before, and cron schedules
//! begin anew from what it shows now.
//!
//! [`after`](NewSchedule::after) and [`every`](NewSchedule::every) measure
//! time that passes, whatever the wall clock is set to. Where the operating
//! system's monotonic clock stands still while the machine sleeps, as on
//! Linux, so do they. `every` does not drift: it keeps to the multiples of its
//! period. While the process is down there is but the wall clock, so over a
//! restart they are kept by it.
//!
//! Timers are good for 1 ms, and a schedule is never early.
//!
//! # Restart
//!
//! With [`ScheduleConfig::store`], a schedule is written down before it is
//! made, and its next time after each firing is published. So firings are **at
//! least once**: after a crash between the two, the firing comes again, with
//! the same attributes unless the clock was set or more times have passed by
//! then. [`Schedules::restore`] takes up what was stored; call it when the
//! handlers are subscribed, as missed times may fire at once.
//!
//! A program that makes its schedules at every start gives them names: a
//! schedule whose name and plan are there already goes on where it is.

use std::{sync::Arc, time::Duration};

use swarmbus_core::{Event, EventId, Timestamp, codec};

mod cron;
mod driver;
mod error;
mod plan;
mod scheduler;
mod store;
mod timetable;

pub use cron::{CronError, CronExpression};
pub use error::{CancelError, IdError, RestoreError, ScheduleError};
pub use plan::{MAX_FIRE_ALL, MIN_PERIOD, MISSED_AFTER, Missed, Plan};
pub use store::{
    DamagedSchedule, LoadedSchedules, MemorySchedules, Schedule, ScheduleChange, ScheduleId,
    ScheduleStore, ScheduleStoreError,
};

pub(crate) use driver::drive;
pub(crate) use scheduler::Scheduler;

use crate::clock::WallClock;

/// Settings of a bus's schedules, for
/// [`BusBuilder::schedules`](crate::BusBuilder::schedules).
#[derive(Clone)]
#[must_use = "it does nothing until it is given to a builder"]
pub struct ScheduleConfig {
    capacity: usize,
    store: Option<Arc<dyn ScheduleStore>>,
    wall: WallClock,
}

impl Default for ScheduleConfig {
    /// 10,000 schedules, no store, the operating system's clock.
    fn default() -> Self {
        Self { capacity: 10_000, store: None, wall: WallClock::default() }
    }
}

impl ScheduleConfig {
    /// How many schedules there may be; 0 for none. Default: 10,000.
    pub fn capacity(mut self, schedules: usize) -> Self {
        self.capacity = schedules;
        self
    }

    /// Keeps schedules over a restart. Default: none.
    pub fn store(mut self, store: impl ScheduleStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Another wall clock: for tests, whose pause does not stop the operating
    /// system's. It is read often, so it should be quick; if it panics, the
    /// operating system's is read.
    pub fn wall_clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.wall = WallClock::new(now);
        self
    }
}

/// A schedule in the making: see [`Bus::schedule`](crate::Bus::schedule).
///
/// Each of the last methods makes it, and returns its id once the store has
/// it, if there is one.
///
/// # Cancel safety
///
/// Dropped while they wait for the store, the schedule is not made; a crash
/// right then may leave it in the store.
#[must_use = "a schedule is made by at, after, every or cron"]
pub struct NewSchedule<'a> {
    scheduler: &'a Scheduler,
    event: Event,
    name: Option<String>,
    missed: Missed,
}

impl<'a> NewSchedule<'a> {
    pub(crate) fn new(scheduler: &'a Scheduler, event: Event) -> Self {
        Self { scheduler, event: event.unstamped(), name: None, missed: Missed::default() }
    }

    /// Its id, in place of one that is made up. A schedule of this name is
    /// replaced; if its plan is the same, it goes on where it is, with the new
    /// event.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What becomes of times that it misses. Default: [`Missed::FireOnce`].
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Once, when the wall clock shows this time. One that has passed is late,
    /// and fires at once; under [`Missed::Skip`] not if it is missed.
    ///
    /// # Errors
    ///
    /// See [`ScheduleError`].
    pub async fn at(self, at: Timestamp) -> Result<ScheduleId, ScheduleError> {
        self.make(Plan::At(at)).await
    }

    /// Once, when so much time has passed, in whole microseconds.
    ///
    /// # Errors
    ///
    /// See [`ScheduleError`].
    pub async fn after(self, delay: Duration) -> Result<ScheduleId, ScheduleError> {
        self.make(Plan::After(delay)).await
    }

    /// Again and again, the first time after one period, which is whole
    /// microseconds and at least [`MIN_PERIOD`].
    ///
    /// # Errors
    ///
    /// See [`ScheduleError`].
    pub async fn every(self, period: Duration) -> Result<ScheduleId, ScheduleError> {
        self.make(Plan::Every(period)).await
    }

    /// At the times that a [`CronExpression`] names, in UTC.
    ///
    /// # Errors
    ///
    /// See [`ScheduleError`].
    pub async fn cron(self, expression: &str) -> Result<ScheduleId, ScheduleError> {
        let expression = CronExpression::new(expression)?;
        self.make(Plan::Cron(expression)).await
    }

    /// By a plan made elsewhere.
    ///
    /// # Errors
    ///
    /// See [`ScheduleError`].
    pub async fn make(self, plan: Plan) -> Result<ScheduleId, ScheduleError> {
        let Self { scheduler, event, name, missed } = self;
        let plan = plan.in_micros();
        if matches!(plan, Plan::Every(period) if period < MIN_PERIOD) {
            return Err(ScheduleError::Period);
        }
        if matches!(missed, Missed::FireAll { limit } if !(1..=MAX_FIRE_ALL).contains(&limit)) {
            return Err(ScheduleError::FireAllLimit);
        }
        let id = match name {
            Some(name) => ScheduleId::new(name)?,
            None => ScheduleId::generated(&EventId::v7(scheduler.now().wall, fastrand::u64(1..))),
        };
        // What cannot be written would make other writes fail, or be tried for
        // ever.
        codec::encode(&timetable::marked(&event, &id, Timestamp::MAX))?;
        scheduler.add(id, plan, missed, event).await
    }
}

/// The schedules of a bus: see [`Bus::schedules`](crate::Bus::schedules).
#[derive(Clone, Copy)]
pub struct Schedules<'a> {
    scheduler: &'a Scheduler,
}

impl<'a> Schedules<'a> {
    pub(crate) fn new(scheduler: &'a Scheduler) -> Self {
        Self { scheduler }
    }

    /// All of them, the next one first.
    pub fn list(&self) -> Vec<Schedule> {
        self.scheduler.list()
    }

    /// One of them; `None` when it has ended.
    pub fn get(&self, id: &ScheduleId) -> Option<Schedule> {
        self.scheduler.get(id)
    }

    /// When one of them fires next; `None` when it has ended.
    pub fn next(&self, id: &ScheduleId) -> Option<Timestamp> {
        Some(self.get(id)?.next)
    }

    /// Ends a schedule: from the call on it does not fire, and a firing that
    /// waits for room in the queue is withdrawn. Returns whether it was there,
    /// once the store has forgotten it.
    ///
    /// # Errors
    ///
    /// See [`CancelError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, the schedule has ended.
    pub async fn cancel(&self, id: &ScheduleId) -> Result<bool, CancelError> {
        self.scheduler.cancel(id).await
    }

    /// Takes up what the store has. To be called once, before schedules are
    /// made and after handlers are subscribed: times that were missed while
    /// the process was down may fire at once. Without a store it does nothing.
    ///
    /// # Errors
    ///
    /// See [`RestoreError`]; nothing is restored then, and it may be called
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, nothing is restored.
    pub async fn restore(&self) -> Result<Restored, RestoreError> {
        self.scheduler.restore().await
    }

    /// What was counted since the bus was built.
    pub fn stats(&self) -> ScheduleStats {
        self.scheduler.stats()
    }
}

/// What a [`restore`](Schedules::restore) took up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Schedules that go on.
    pub schedules: usize,
    /// Those among them that should have fired while the process was down.
    pub overdue: usize,
    /// Stored schedules that cannot be read. They do not fire.
    pub damaged: Vec<DamagedSchedule>,
}

/// What the schedules of a bus have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleStats {
    /// Schedules that there are now.
    pub schedules: usize,
    /// Firings that were published.
    pub fired: u64,
    /// Firings that middleware refused, or panicked at.
    pub refused: u64,
    /// Firings that wait now, because the queue or the journal does not take
    /// them.
    pub waiting: usize,
    /// Writes that the store failed at.
    pub store_failures: u64,
    /// Schedules whose last state the store does not have yet.
    pub unsaved: usize,
}

#[cfg(test)]
mod tests;
