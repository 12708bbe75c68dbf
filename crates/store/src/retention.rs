//! Letting go of old events, in steps so small that nobody waits for them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, TransactionBehavior, params};

/// Rows that one step looks at.
const STEP: i64 = 1_000;

/// Bytes of payload after which a step ends: to free the pages of a large one,
/// SQLite reads them.
const STEP_BYTES: i64 = 4 << 20;

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
    let last = end_of_step(&tx, after, before)?;
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

/// Where a step ends that begins after this time and row; `None` if it ends
/// with the last row.
fn end_of_step(
    conn: &Connection,
    after: (i64, i64),
    before: i64,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut select = conn.prepare_cached(
        "SELECT timestamp, seq, length(payload) FROM events
         WHERE (timestamp, seq) > (?1, ?2) AND timestamp < ?3 ORDER BY timestamp, seq",
    )?;
    let mut rows = select.query(params![after.0, after.1, before])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        bytes += row.get::<_, i64>(2)?;
        if count >= STEP || bytes >= STEP_BYTES {
            return Ok(Some((row.get(0)?, row.get(1)?)));
        }
    }
    Ok(None)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn wall_micros() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_early_when_events_are_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        let mut conn = crate::schema::open_writer(&path, Duration::ZERO).unwrap();
        conn.execute_batch(
            "WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10)
             INSERT INTO events (id, timestamp, event_type, source, priority, status, retry_count,
                 content, payload)
             SELECT i, 7, 'a', 'b', 5, 1, 0, 0, zeroblob(1048576) FROM n",
        )
        .unwrap();
        let (mut deleted, mut after) = (Vec::new(), (i64::MIN, i64::MIN));
        loop {
            let (count, next) = delete(&mut conn, after, 8).unwrap();
            deleted.push(count);
            let Some(next) = next else { break };
            after = next;
        }
        assert_eq!(deleted, [4, 4, 2]);
    }
}
