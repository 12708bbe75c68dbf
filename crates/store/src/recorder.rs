//! [`Recorder`]: writes down what handlers did, for
//! [what-if replays](crate::what_if).

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rusqlite::{Connection, Row, params};
use swarmbus::{EventMiddleware, HandlerError, Outcome};
use swarmbus_core::{Event, EventId, EventType, Priority, Str, Timestamp};

use crate::{
    error::{Damage, ReadError, WriteError},
    event_row::{IdColumn, id_from, id_of},
    intake::{Intake, Job},
    log::EventLog,
    reader::LogReader,
    stats::Counters,
    what_if::{CallEnd, CallRecord, Recording},
};

/// Middleware that writes each handler call of a bus into an event log: when,
/// how long, and how it ended.
///
/// Off unless a program adds it. A bus with middleware takes the longer way
/// for every event, and each call is one more row: record when you want to
/// know, not always. Replayed events are not recorded.
///
/// Rows go to the log's writer 256 at a time, or after a second with the next
/// one; up to 65,536 wait while the disk is slow, and what comes then is
/// counted in [`LogStats::calls_lost`](crate::LogStats::calls_lost). They are
/// kept for as long as events are.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use swarmbus::{Bus, Event};
/// use swarmbus_store::{EventLog, Recorder, read_calls, what_if::Settings};
///
/// # let dir = tempfile::tempdir()?;
/// let log = EventLog::open(dir.path().join("events.db"))?;
/// let bus = Bus::builder().event_middleware(Recorder::new(&log)).build()?;
/// let _payment = bus.subscribe("order.*").name("payment").handle(|_: &Event| Err("down"))?;
/// for _ in 0..20 {
///     bus.publish(Event::of("order.placed", ())).await?;
/// }
/// let _ = bus.shutdown(Duration::from_secs(1)).await;
/// drop(bus);
/// log.flush().await?;
///
/// let mut recording = read_calls(&log.reader()?, None, None)?;
/// let off = Settings { breaker: None, ..Settings::default() };
/// let what_if = recording.what_if(&Settings::default(), &off);
/// assert_eq!(what_if.recorded.rejected_by_breaker, 15);
/// assert_eq!(what_if.changed.dead_lettered, 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Recorder {
    log: EventLog,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    rows: Vec<CallRow>,
    since: Instant,
}

#[derive(Debug)]
struct CallRow {
    at: i64,
    took: i64,
    event: EventId,
    event_type: EventType,
    priority: Priority,
    handler: Str,
    end: CallEnd,
}

/// Rows that are written together.
const BATCH: usize = 256;

/// The most rows that wait for the disk: about 10 MB.
const MAX_WAITING: usize = 65_536;

/// Rows wait at most so long for others, if others come.
const WITHIN: Duration = Duration::from_secs(1);

impl Recorder {
    /// A recorder that writes into this log. It holds a handle of the log.
    pub fn new(log: &EventLog) -> Self {
        let waiting = Waiting { rows: Vec::new(), since: Instant::now() };
        Self { log: log.clone(), waiting: Mutex::new(waiting) }
    }

    fn note(&self, event: &Event, handler: &str, took: Duration, end: CallEnd) {
        if event.is_replayed() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let row = CallRow {
            at: micros(now.saturating_sub(took)),
            took: micros(took),
            event: id_of(event),
            event_type: event.ty().clone(),
            priority: event.priority(),
            handler: handler.into(),
            end,
        };
        let mut waiting = self.waiting.lock();
        if waiting.rows.is_empty() {
            waiting.since = Instant::now();
        }
        if waiting.rows.len() < MAX_WAITING {
            waiting.rows.push(row);
        } else {
            self.lose(1);
        }
        let due = waiting.rows.len() >= BATCH || waiting.since.elapsed() >= WITHIN;
        if due {
            self.hand_over(&mut waiting);
        }
    }

    /// Leaves what waits for the log's writer, if it has room.
    fn hand_over(&self, waiting: &mut Waiting) {
        if let Ok(Some(room)) = self.log.intake().try_room(1) {
            let rows = mem::take(&mut waiting.rows);
            let count = rows.len();
            let batch = Batch { rows, intake: Arc::clone(self.log.intake()) };
            if self.log.intake().job(Box::new(batch), room).is_err() {
                self.lose(count);
            }
        }
    }

    fn lose(&self, rows: usize) {
        Counters::add(&self.log.intake().counters.calls_lost, rows);
    }
}

/// Rows on their way to the disk.
struct Batch {
    rows: Vec<CallRow>,
    intake: Arc<Intake>,
}

impl Job for Batch {
    fn run(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        insert(conn, &self.rows)
    }

    fn done(self: Box<Self>, result: Result<(), WriteError>) {
        if result.is_err() {
            Counters::add(&self.intake.counters.calls_lost, self.rows.len());
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut waiting = mem::replace(
            self.waiting.get_mut(),
            Waiting { rows: Vec::new(), since: Instant::now() },
        );
        if !waiting.rows.is_empty() {
            self.hand_over(&mut waiting);
            self.lose(waiting.rows.len());
        }
    }
}

impl EventMiddleware for Recorder {
    fn handled(&self, event: &Event, handler: &str, error: Option<&HandlerError>, took: Duration) {
        let end = if error.is_none() { CallEnd::Succeeded } else { CallEnd::Failed };
        self.note(event, handler, took, end);
    }

    fn resolved(&self, event: &Event, handler: &str, outcome: Outcome) {
        let end = match outcome {
            // The call itself says so; a filter is no part of what is played
            // through.
            Outcome::Delivered | Outcome::Filtered => return,
            Outcome::DeadLettered => CallEnd::DeadLettered,
            Outcome::Failed => CallEnd::GivenUp,
            Outcome::RejectedByBreaker => CallEnd::Rejected,
            _ => CallEnd::Elsewhere,
        };
        self.note(event, handler, Duration::ZERO, end);
    }
}

fn insert(conn: &Connection, rows: &[CallRow]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO calls (at, took, event_id, event_type, priority, handler, result)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for row in rows {
        insert.execute(params![
            row.at,
            row.took,
            IdColumn(&row.event),
            row.event_type.as_str(),
            row.priority.get(),
            row.handler.as_str(),
            code(row.end),
        ])?;
    }
    Ok(())
}

/// Reads what a [`Recorder`] wrote of calls that began at or after `from` and
/// before `to`: the first [`Recording::MAX_CALLS`] lines of it, as
/// [`Recording::is_full`] then says. Blocks.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read_calls(
    reader: &LogReader,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Recording, ReadError> {
    let limit = |at: Option<Timestamp>, or| {
        at.map_or(or, |at| i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
    };
    let (from, to) = (limit(from, i64::MIN), limit(to, i64::MAX));
    let mut recording = Recording::new();
    let mut damage = None;
    reader.read(|conn| {
        let mut select = conn.prepare(
            "SELECT call, at, took, event_id, event_type, priority, handler, result FROM calls
             WHERE at >= ?1 AND at < ?2 ORDER BY call LIMIT ?3",
        )?;
        // Without a limit SQLite sorts all there are.
        let mut rows = select.query(params![from, to, Recording::MAX_CALLS as i64])?;
        while let Some(row) = rows.next()? {
            match record(row) {
                Ok(record) => {
                    if !recording.push(record) {
                        break;
                    }
                }
                Err(reason) => {
                    damage = Some(ReadError::Damaged { table: "calls", row: row.get(0)?, reason });
                    break;
                }
            }
        }
        Ok(())
    })?;
    match damage {
        Some(damage) => Err(damage),
        None => Ok(recording),
    }
}

fn record(row: &Row<'_>) -> Result<CallRecord, Damage> {
    let number = |at: usize, name| {
        let number = row.get::<_, i64>(at).ok().and_then(|number| u64::try_from(number).ok());
        number.ok_or(Damage::Column(name))
    };
    let text = |at: usize, name| {
        let column = row.get_ref(at).map_err(|_| Damage::Column(name))?;
        column.as_str().map_err(|_| Damage::Column(name))
    };
    let priority = u8::try_from(number(5, "priority")?).ok().and_then(Priority::new);
    Ok(CallRecord {
        at: Timestamp::from_micros(number(1, "at")?).ok_or(Damage::Column("at"))?,
        took: Duration::from_micros(number(2, "took")?),
        event: row.get_ref(3).map_err(|_| Damage::Column("event_id")).and_then(id_from)?,
        event_type: EventType::new(text(4, "event_type")?)
            .map_err(|_| Damage::Column("event_type"))?,
        priority: priority.ok_or(Damage::Column("priority"))?,
        handler: text(6, "handler")?.into(),
        end: end_of(number(7, "result")?).ok_or(Damage::Column("result"))?,
    })
}

fn code(end: CallEnd) -> i64 {
    match end {
        CallEnd::Succeeded => 0,
        CallEnd::Failed => 1,
        CallEnd::DeadLettered => 2,
        CallEnd::GivenUp => 3,
        CallEnd::Rejected => 4,
        CallEnd::Elsewhere => 5,
    }
}

fn end_of(code: u64) -> Option<CallEnd> {
    Some(match code {
        0 => CallEnd::Succeeded,
        1 => CallEnd::Failed,
        2 => CallEnd::DeadLettered,
        3 => CallEnd::GivenUp,
        4 => CallEnd::Rejected,
        5 => CallEnd::Elsewhere,
        _ => return None,
    })
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
