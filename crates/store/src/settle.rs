//! Writing down what became of events.

use rusqlite::{Connection, params};
use swarmbus::Settlement;
use swarmbus_core::EventId;

use crate::{event_row::IdColumn, reader::Status};

/// What became of an event that is in the log.
pub(crate) struct Settled {
    event: Named,
    settlement: Settlement,
}

enum Named {
    Seq(i64),
    /// The log does not know where it is.
    Id(EventId, i64),
}

impl Settled {
    pub(crate) fn at(seq: i64, settlement: Settlement) -> Self {
        Self { event: Named::Seq(seq), settlement }
    }

    pub(crate) fn named(id: EventId, timestamp: i64, settlement: Settlement) -> Self {
        Self { event: Named::Id(id, timestamp), settlement }
    }

    pub(crate) fn seq(&self) -> Option<i64> {
        match self.event {
            Named::Seq(seq) => Some(seq),
            Named::Id(..) => None,
        }
    }
}

/// Sorts settlements, and tells those of earlier transactions from those of
/// events that are about to be written, `first_new` and later.
pub(crate) fn split(settled: &mut [Settled], first_new: i64) -> (&[Settled], &[Settled]) {
    let is_new = |s: &Settled| s.seq().is_some_and(|seq| seq >= first_new);
    // Who is settled twice keeps the first settlement, and only the first
    // knew the place.
    settled.sort_by_key(|s| (is_new(s), s.seq().is_none(), s.seq()));
    let old = settled.partition_point(|s| !is_new(s));
    settled.split_at(old)
}

/// Writes sorted settlements. Events that lie beside each other and ended alike, as
/// most do, are one statement.
pub(crate) fn write(conn: &Connection, settled: &[Settled]) -> rusqlite::Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    let mut update = conn.prepare_cached(
        "UPDATE OR ROLLBACK events SET status = ?3 WHERE seq BETWEEN ?1 AND ?2 AND status = 0",
    )?;
    let mut withdraw =
        conn.prepare_cached("DELETE FROM events WHERE seq BETWEEN ?1 AND ?2 AND status = 0")?;
    let mut by_id = conn.prepare_cached(
        "UPDATE events SET status = ?3 WHERE timestamp = ?1 AND id = ?2 AND status = 0",
    )?;
    for run in settled.chunk_by(follows) {
        let [first, ..] = run else { continue };
        match (&first.event, status(first.settlement)) {
            (Named::Seq(from), Some(status)) => {
                update.execute(params![from, last(*from, run.len()), status as u8])?;
            }
            (Named::Seq(from), None) => {
                withdraw.execute(params![from, last(*from, run.len())])?;
            }
            (Named::Id(id, timestamp), Some(status)) => {
                by_id.execute(params![timestamp, IdColumn(id), status as u8])?;
            }
            (Named::Id(..), None) => {}
        }
    }
    Ok(())
}

fn follows(a: &Settled, b: &Settled) -> bool {
    match (&a.event, &b.event) {
        (Named::Seq(a_seq), Named::Seq(b_seq)) => {
            *b_seq == *a_seq + 1 && a.settlement == b.settlement
        }
        _ => false,
    }
}

fn last(first: i64, count: usize) -> i64 {
    first + i64::try_from(count).unwrap_or(i64::MAX) - 1
}

/// `None` for an event that is to be forgotten.
fn status(settlement: Settlement) -> Option<Status> {
    match settlement {
        Settlement::Delivered => Some(Status::Delivered),
        Settlement::Failed => Some(Status::Failed),
        Settlement::Dead => Some(Status::Dead),
        Settlement::Withdrawn => None,
    }
}
