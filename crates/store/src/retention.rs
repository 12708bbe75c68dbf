//! Letting go of old events, in steps so small that nobody waits for them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, TransactionBehavior, params};

/// Rows that one step looks at.
const STEP: i64 = 1_000;

/// Between two steps while publishers wait.
const PAUSE: Duration = Duration::from_millis(50);

/// Between two runs.
const RUN_EVERY: Duration = Duration::from_secs(600);

/// Deletes what is older than the window, and settled.
pub(crate) struct Retention {
    keep_for: Option<Duration>,
    state: State,
}

enum State {
    Resting {
        until: Instant,
    },
    /// Everything up to this time and row has been looked at.
    Running {
        after: (i64, i64),
        last_step: Instant,
    },
}

impl Retention {
    pub(crate) fn new(keep_for: Option<Duration>, now: Instant) -> Self {
        Self { keep_for, state: State::Resting { until: now } }
    }

    /// When the writer is to look here again, if nothing else wakes it.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.keep_for?;
        Some(match self.state {
            State::Resting { until } => until,
            State::Running { last_step, .. } => last_step,
        })
    }

    /// Whether a step may be made now; `idle` if nobody waits.
    pub(crate) fn may_step(&self, idle: bool) -> bool {
        let pause = if idle { Duration::ZERO } else { PAUSE };
        let due = match self.state {
            State::Resting { until } => until,
            State::Running { last_step, .. } => last_step + pause,
        };
        self.keep_for.is_some() && due <= Instant::now()
    }

    /// One step, in a transaction of its own. Returns how many events went.
    pub(crate) fn step(&mut self, conn: &mut Connection) -> rusqlite::Result<usize> {
        let now = Instant::now();
        let Some(keep_for) = self.keep_for else { return Ok(0) };
        let after = match self.state {
            State::Resting { .. } => (i64::MIN, i64::MIN),
            State::Running { after, .. } => after,
        };
        // A step that fails ends the run; the next one begins anew.
        self.state = State::Resting { until: now + RUN_EVERY };
        let (deleted, next) = delete(conn, after, wall_micros().saturating_sub(micros(keep_for)))?;
        if let Some(after) = next {
            self.state = State::Running { after, last_step: now };
        }
        Ok(deleted)
    }
}

/// Looks at the rows that come next by time, and deletes those that are not
/// pending. Returns where to go on, if there is more.
fn delete(
    conn: &mut Connection,
    after: (i64, i64),
    before: i64,
) -> rusqlite::Result<(usize, Option<(i64, i64)>)> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let last = tx
        .prepare_cached(
            "SELECT timestamp, seq FROM events
             WHERE (timestamp, seq) > (?1, ?2) AND timestamp < ?3
             ORDER BY timestamp, seq LIMIT 1 OFFSET ?4",
        )?
        .query_row(params![after.0, after.1, before, STEP - 1], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
    let last = match last {
        Ok(last) => Some(last),
        Err(rusqlite::Error::QueryReturnedNoRows) => None,
        Err(error) => return Err(error),
    };
    let (until, seq) = last.unwrap_or((before, i64::MIN));
    let deleted = tx
        .prepare_cached(
            "DELETE FROM events
             WHERE (timestamp, seq) > (?1, ?2) AND (timestamp, seq) <= (?3, ?4) AND status <> 0",
        )?
        .execute(params![after.0, after.1, until, seq])?;
    let calls = tx
        .prepare_cached(
            "DELETE FROM calls WHERE call IN (SELECT call FROM calls WHERE at < ?1 LIMIT ?2)",
        )?
        .execute(params![before, STEP])?;
    tx.commit()?;
    // There may be more calls than events.
    let more_calls = (calls as i64 == STEP).then_some((until, seq));
    Ok((deleted, last.or(more_calls)))
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn wall_micros() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
