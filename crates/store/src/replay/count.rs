//! Counting what a replay would find.

use rusqlite::params;
use serde::Serialize;
use swarmbus_core::Timestamp;

use crate::{
    error::ReadError,
    reader::{LogReader, Query},
};

/// Events of one type that a replay would find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TypeCount {
    /// The type; `None` for all types beyond the first 10,000.
    pub event_type: Option<String>,
    /// How many events.
    pub events: u64,
    /// The first timestamp, in microseconds since 1970.
    pub first: u64,
    /// The last timestamp, in microseconds since 1970.
    pub last: u64,
}

impl TypeCount {
    /// The first timestamp and the last.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        Timestamp::from_micros(self.first).zip(Timestamp::from_micros(self.last))
    }
}

/// The most types that are told apart.
const MAX_TYPES: usize = 10_000;

/// By type, in the order of their names.
pub(super) fn by_type(reader: &LogReader, query: &Query) -> Result<Vec<TypeCount>, ReadError> {
    reader.read(|conn| {
        let by_type = if query.exact().is_some() { "event_type = ?3" } else { "?3 IS NULL" };
        // From the beginning on, the index by type has all and in order. The
        // plus keeps SQLite from the one by time, which leads to the rows.
        let time = if query.first() == i64::MIN { "+timestamp" } else { "timestamp" };
        let mut statement = conn.prepare(&format!(
            "SELECT event_type, count(*), min(timestamp), max(timestamp) FROM events
             WHERE {by_type} AND {time} >= ?1 AND {time} < ?2
             GROUP BY event_type ORDER BY event_type"
        ))?;
        let mut rows = statement.query(params![query.first(), query.last(), query.exact()])?;
        let mut counts: Vec<TypeCount> = Vec::new();
        while let Some(row) = rows.next()? {
            let ty = row.get_ref(0)?.as_str().unwrap_or_default();
            if !query.wants_type(ty) {
                continue;
            }
            let number = |at| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
            let (events, first, last) = (number(1)?, number(2)?, number(3)?);
            match counts.get_mut(MAX_TYPES) {
                Some(others) => {
                    others.events += events;
                    others.first = others.first.min(first);
                    others.last = others.last.max(last);
                }
                None => {
                    let event_type = (counts.len() < MAX_TYPES).then(|| ty.to_owned());
                    counts.push(TypeCount { event_type, events, first, last });
                }
            }
        }
        Ok(counts)
    })
}
