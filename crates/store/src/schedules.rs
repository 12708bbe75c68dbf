//! The schedules of a bus, in the log's file.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use swarmbus::schedule::{
    CronExpression, DamagedSchedule, LoadedSchedules, MAX_FIRE_ALL, MIN_PERIOD, Missed, Plan,
    Schedule, ScheduleChange, ScheduleId, ScheduleStore, ScheduleStoreError,
};
use swarmbus_core::{
    Event, Timestamp,
    codec::{self, Frame},
};

use crate::{
    error::{Damage, WriteError},
    log::EventLog,
};

/// Keeps a bus's schedules in the file of the log, which may be the bus's
/// journal too: set it with
/// [`ScheduleConfig::store`](swarmbus::schedule::ScheduleConfig::store).
///
/// ```
/// use std::time::Duration;
/// use swarmbus::{Bus, Event, schedule::ScheduleConfig};
/// use swarmbus_store::EventLog;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.db");
/// let log = EventLog::open(&path)?;
/// let schedules = ScheduleConfig::default().store(log.clone());
/// let bus = Bus::builder().journal(log.clone()).schedules(schedules).build()?;
/// let _worker = bus.subscribe("report.*").handle(|event: &Event| println!("{}", event.ty()))?;
///
/// // What earlier runs of the program scheduled. Handlers come first.
/// bus.schedules().restore().await?;
/// bus.schedule(Event::of("report.due", ())).named("hourly").cron("0 0 * * * *").await?;
///
/// assert!(bus.shutdown(Duration::from_secs(1)).await.is_clean());
/// log.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// A write returns when its transaction is committed: it outlives a crash of
/// the process in any case, and a failure of the power as
/// [`Durability`](crate::Durability) says.
#[async_trait]
impl ScheduleStore for EventLog {
    async fn load(&self) -> Result<LoadedSchedules, ScheduleStoreError> {
        self.write(load).await.map_err(failed)
    }

    async fn write(&self, changes: &[ScheduleChange]) -> Result<(), ScheduleStoreError> {
        let rows = changes.iter().map(Change::of).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(failed)?;
        let write = move |conn: &Connection| rows.iter().try_for_each(|row| row.write(conn));
        EventLog::write(self, write).await.map_err(failed)
    }
}

fn failed(error: WriteError) -> ScheduleStoreError {
    ScheduleStoreError::Failed(Box::new(error))
}

/// A change with its event as bytes, made outside of the writer's thread.
enum Change {
    Save(Schedule, Bytes),
    Remove(ScheduleId),
}

impl Change {
    fn of(change: &ScheduleChange) -> Result<Self, WriteError> {
        match change {
            ScheduleChange::Remove(id) => Ok(Self::Remove(id.clone())),
            ScheduleChange::Save(schedule) => match codec::encode(&schedule.event) {
                Ok(frame) => Ok(Self::Save(schedule.clone(), frame)),
                Err(reason) => {
                    let event_type = schedule.event.ty().to_string();
                    Err(WriteError::Event { event_type, reason })
                }
            },
        }
    }

    fn write(&self, conn: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Save(schedule, frame) => save(conn, schedule, frame),
            Self::Remove(id) => conn
                .prepare_cached("DELETE FROM schedules WHERE id = ?1")?
                .execute([id.as_str()])
                .map(drop),
        }
    }
}

fn save(conn: &Connection, schedule: &Schedule, frame: &Bytes) -> rusqlite::Result<()> {
    let (plan, micros, cron) = match &schedule.plan {
        Plan::At(at) => ("at", Some(at.as_micros()), None),
        Plan::After(delay) => ("after", Some(whole_micros(*delay)), None),
        Plan::Every(period) => ("every", Some(whole_micros(*period)), None),
        Plan::Cron(cron) => ("cron", None, Some(cron.as_str())),
    };
    let (missed, limit) = match schedule.missed {
        Missed::FireOnce => ("fire_once", None),
        Missed::Skip => ("skip", None),
        Missed::FireAll { limit } => ("fire_all", Some(limit)),
    };
    let integer = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO schedules
             (id, plan, micros, cron, missed, missed_limit, next, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        schedule.id.as_str(),
        plan,
        micros.map(integer),
        cron,
        missed,
        limit,
        integer(schedule.next.as_micros()),
        &frame[..],
    ])
    .map(drop)
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn load(conn: &Connection) -> rusqlite::Result<LoadedSchedules> {
    let mut loaded = LoadedSchedules::default();
    let mut select = conn.prepare_cached(
        "SELECT id, plan, micros, cron, missed, missed_limit, next, event FROM schedules",
    )?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(schedule) => loaded.schedules.push(schedule),
            Err(damage) => {
                let id: Option<String> = row.get(0).optional().ok().flatten();
                let reason = damage.to_string();
                loaded.damaged.push(DamagedSchedule { id: id.unwrap_or_default(), reason });
            }
        }
    }
    Ok(loaded)
}

fn read(row: &Row<'_>) -> Result<Schedule, Damage> {
    let text = |at, name| row.get::<usize, String>(at).map_err(|_| Damage::Column(name));
    let number = |at, name| {
        let number = row.get::<usize, i64>(at).ok().and_then(|number| u64::try_from(number).ok());
        number.ok_or(Damage::Column(name))
    };
    let time = |at, name| Timestamp::from_micros(number(at, name)?).ok_or(Damage::Column(name));
    let id = ScheduleId::new(text(0, "id")?).map_err(|_| Damage::Column("id"))?;
    let plan = match text(1, "plan")?.as_str() {
        "at" => Plan::At(time(2, "micros")?),
        "after" => Plan::After(Duration::from_micros(number(2, "micros")?)),
        "every" => Plan::Every(
            Some(Duration::from_micros(number(2, "micros")?))
                .filter(|period| *period >= MIN_PERIOD)
                .ok_or(Damage::Column("micros"))?,
        ),
        "cron" => {
            Plan::Cron(CronExpression::new(&text(3, "cron")?).map_err(|_| Damage::Column("cron"))?)
        }
        _ => return Err(Damage::Column("plan")),
    };
    let missed = match text(4, "missed")?.as_str() {
        "fire_once" => Missed::FireOnce,
        "skip" => Missed::Skip,
        "fire_all" => Missed::FireAll {
            limit: u32::try_from(number(5, "missed_limit")?)
                .ok()
                .filter(|limit| (1..=MAX_FIRE_ALL).contains(limit))
                .ok_or(Damage::Column("missed_limit"))?,
        },
        _ => return Err(Damage::Column("missed")),
    };
    let frame = row.get::<_, Vec<u8>>(7).map_err(|_| Damage::Column("event"))?;
    Ok(Schedule { id, plan, missed, event: event(frame)?, next: time(6, "next")? })
}

fn event(frame: Vec<u8>) -> Result<Event, Damage> {
    let frame = Frame::parse(frame)?;
    let Some(view) = frame.iter().next() else { return Err(Damage::Column("event")) };
    Ok(view?.to_event()?)
}
