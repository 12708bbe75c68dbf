//! An event as a row of the table `events`, and back.

use std::sync::LazyLock;

use bytes::Bytes;
use rusqlite::{
    CachedStatement, Connection, Row, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use swarmbus_core::{
    Content, Event, EventId, EventType, Payload, Priority, Timestamp,
    codec::{self, EncodeError, Frame, limits::MAX_RECORD_LEN},
};

use crate::error::{Damage, WriteError};

/// An event that is about to be written.
pub(crate) struct EventRow {
    pub(crate) event: Event,
    pub(crate) id: EventId,
    pub(crate) timestamp: i64,
    /// A frame without the payload, if the event has more fields than the
    /// table has columns.
    header: Option<Bytes>,
}

impl EventRow {
    /// Fails before anything is written.
    pub(crate) fn new(event: &Event) -> Result<Self, WriteError> {
        let refused = |reason| WriteError::Event { event_type: event.ty().to_string(), reason };
        let (Some(id), Some(_)) = (event.id(), event.timestamp()) else {
            return Err(WriteError::Unstamped { event_type: event.ty().to_string() });
        };
        let (len, limit) = (event.payload().len(), MAX_RECORD_LEN);
        if len > limit {
            return Err(refused(EncodeError::RecordTooLong { len, limit }));
        }
        let header = if is_plain(event) {
            None
        } else {
            let empty = Payload::raw(event.content(), Bytes::new());
            Some(codec::encode(&event.clone().with_payload(empty)).map_err(refused)?)
        };
        Ok(Self { id, timestamp: micros(event), event: event.clone(), header })
    }

    /// Binds the columns that every event has, from this parameter on.
    fn bind(&self, insert: &mut CachedStatement<'_>, first: usize) -> rusqlite::Result<()> {
        let event = &self.event;
        insert.raw_bind_parameter(first, IdColumn(&self.id))?;
        insert.raw_bind_parameter(first + 1, self.timestamp)?;
        insert.raw_bind_parameter(first + 2, event.ty().as_str())?;
        insert.raw_bind_parameter(first + 3, event.source())?;
        insert.raw_bind_parameter(first + 4, event.priority().get())?;
        insert.raw_bind_parameter(first + 5, event.content() as u8)?;
        insert.raw_bind_parameter(first + 6, &event.payload()[..])
    }
}

/// Columns that [`EventRow::bind`] binds.
const COMMON: usize = 7;

/// Any row.
const INSERT: &str =
    "INSERT INTO events (id, timestamp, event_type, source, priority, content, payload,
         seq, session, correlation_id, header, status, retry_count)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)";

/// Rows that one statement inserts, if they follow the last row and have no header: as many of
/// the first as there are, then of the next. Each statement looks anew for the places in table
/// and indexes; together a row takes a fifth less time.
const TOGETHER: [usize; 2] = [16, 4];

/// SQLite numbers these rows itself, and a statement that fails ends the transaction. Otherwise
/// it would keep a copy of each page, to undo such a statement alone.
static INSERT_TOGETHER: LazyLock<[String; TOGETHER.len()]> = LazyLock::new(|| {
    TOGETHER.map(|rows| {
        let values = ["(?, ?, ?, ?, ?, ?, ?, 0, 0)"].repeat(rows).join(", ");
        format!(
            "INSERT OR ROLLBACK INTO events (id, timestamp, event_type, source, priority,
                 content, payload, status, retry_count)
             VALUES {values}"
        )
    })
});

/// Inserts events as pending, and never offered again so far.
pub(crate) struct Inserts<'a> {
    conn: &'a Connection,
    single: CachedStatement<'a>,
    together: [CachedStatement<'a>; TOGETHER.len()],
    /// Events without a header, whose rows follow each other.
    waiting: Vec<&'a EventRow>,
    /// Behind the last row so far.
    next: i64,
}

impl<'a> Inserts<'a> {
    pub(crate) fn new(conn: &'a Connection) -> rusqlite::Result<Self> {
        let [many, few] = &*INSERT_TOGETHER;
        Ok(Self {
            conn,
            single: conn.prepare_cached(INSERT)?,
            together: [conn.prepare_cached(many)?, conn.prepare_cached(few)?],
            waiting: Vec::with_capacity(TOGETHER[0]),
            next: i64::MIN,
        })
    }

    /// One of the rows that are added has to come behind all that are in the table, and be the
    /// first; or each is inserted by itself.
    pub(crate) fn add(&mut self, seq: i64, row: &'a EventRow) -> rusqlite::Result<()> {
        if row.header.is_some() || seq != self.next {
            self.finish()?;
            self.next = self.next.max(seq + 1);
            return self.insert(seq, row);
        }
        self.next = seq + 1;
        self.waiting.push(row);
        if self.waiting.len() == TOGETHER[0] { self.finish() } else { Ok(()) }
    }

    /// Inserts what was added and is not there yet.
    pub(crate) fn finish(&mut self) -> rusqlite::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut seq = self.next.saturating_sub_unsigned(waiting.len() as u64);
        let mut rest = &waiting[..];
        for (insert, rows) in self.together.iter_mut().zip(TOGETHER) {
            while let Some((together, behind)) = rest.split_at_checked(rows) {
                for (i, row) in together.iter().enumerate() {
                    row.bind(insert, i * COMMON + 1)?;
                }
                insert.raw_execute()?;
                rest = behind;
                seq += rows as i64;
                if self.conn.last_insert_rowid() != seq - 1 {
                    // Somebody else has written into the table, past all locks.
                    return Err(rusqlite::Error::StatementChangedRows(rows));
                }
            }
        }
        for (row, seq) in rest.iter().zip(seq..) {
            self.insert(seq, row)?;
        }
        self.waiting = waiting;
        self.waiting.clear();
        Ok(())
    }

    fn insert(&mut self, seq: i64, row: &EventRow) -> rusqlite::Result<()> {
        row.bind(&mut self.single, 1)?;
        self.single.raw_bind_parameter(COMMON + 1, seq)?;
        self.single.raw_bind_parameter(COMMON + 2, row.event.session())?;
        let correlation_id = row.event.correlation_id().map(IdColumn);
        self.single.raw_bind_parameter(COMMON + 3, correlation_id)?;
        self.single.raw_bind_parameter(COMMON + 4, row.header.as_deref())?;
        self.single.raw_execute().map(drop)
    }
}

/// The columns that [`read`] wants, in its order.
pub(crate) const COLUMNS: &str =
    "seq, id, timestamp, event_type, source, priority, content, header, payload";

/// The event of a row that begins with [`COLUMNS`], with a payload that is copied by
/// `copy`.
///
/// # Errors
///
/// What is wrong with the row.
pub(crate) fn read(row: &Row<'_>, copy: impl FnOnce(&[u8]) -> Bytes) -> Result<Event, Damage> {
    let column = |at, name| row.get_ref(at).map_err(|_| Damage::Column(name));
    let payload = column(8, "payload")?.as_blob().ok().filter(|p| p.len() <= MAX_RECORD_LEN);
    let payload = copy(payload.ok_or(Damage::Column("payload"))?);
    match column(7, "header")? {
        ValueRef::Null => from_columns(row, payload),
        ValueRef::Blob(header) => {
            let event = from_header(header, payload)?;
            // By these it is found when it is offered again.
            let id = id_from(column(1, "id")?)?;
            let same = event.id() == Some(id) && row.get(2) == Ok(micros(&event));
            if same { Ok(event) } else { Err(Damage::Column("header")) }
        }
        ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => {
            Err(Damage::Column("header"))
        }
    }
}

fn from_header(header: &[u8], payload: Bytes) -> Result<Event, Damage> {
    let frame = Frame::parse(Bytes::copy_from_slice(header))?;
    let Some(view) = frame.iter().next() else { return Err(Damage::Column("header")) };
    let event = view?.to_event()?;
    let content = event.content();
    Ok(event.with_payload(Payload::raw(content, payload)))
}

fn from_columns(row: &Row<'_>, payload: Bytes) -> Result<Event, Damage> {
    let text = |at: usize, name| match row.get_ref(at) {
        Ok(value) => value.as_str().map_err(|_| Damage::Column(name)),
        Err(_) => Err(Damage::Column(name)),
    };
    let number = |at: usize, name| {
        let number = row.get::<_, i64>(at).ok().and_then(|number| u64::try_from(number).ok());
        number.ok_or(Damage::Column(name))
    };
    let ty = EventType::new(text(3, "event_type")?).map_err(|_| Damage::Column("event_type"))?;
    let byte =
        |at, name| number(at, name).and_then(|n| u8::try_from(n).map_err(|_| Damage::Column(name)));
    let priority = Priority::new(byte(5, "priority")?).ok_or(Damage::Column("priority"))?;
    let content = Content::from_u8(byte(6, "content")?).ok_or(Damage::Column("content"))?;
    let at = Timestamp::from_micros(number(2, "timestamp")?).ok_or(Damage::Column("timestamp"))?;
    let id = id_from(row.get_ref(1).map_err(|_| Damage::Column("id"))?)?;
    let event = Event::new(ty, Payload::raw(content, payload))
        .with_source(text(4, "source")?)
        .with_priority(priority);
    Ok(stamped(event, at, id))
}

/// Ids are made from the stamp unless somebody chose one, so that the stamp
/// comes back from the id.
fn stamped(mut event: Event, at: Timestamp, id: EventId) -> Event {
    match nonce_of(at, &id) {
        Some(nonce) => {
            event.stamp(at, nonce);
            event
        }
        None => event.with_timestamp(at).with_id(id),
    }
}

pub(crate) fn id_from(value: ValueRef<'_>) -> Result<EventId, Damage> {
    match value {
        ValueRef::Blob(bytes) => {
            bytes.try_into().map(EventId::from_uuid_bytes).map_err(|_| Damage::Column("id"))
        }
        ValueRef::Text(text) => {
            std::str::from_utf8(text).map(EventId::from).map_err(|_| Damage::Column("id"))
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Err(Damage::Column("id")),
    }
}

/// Whether the table has a column for everything that this event has.
fn is_plain(event: &Event) -> bool {
    event.target().is_none()
        && event.session().is_none()
        && event.correlation_id().is_none()
        && event.causation_id().is_none()
        && event.traceparent().is_none()
        && event.deadline().is_none()
        && event.hops().is_empty()
        && event.attributes().len() == 0
        && event.timestamp().is_some_and(|at| nonce_of(at, &id_of(event)).is_some())
}

/// The number in an id that was made from a stamp of this time.
fn nonce_of(at: Timestamp, id: &EventId) -> Option<u64> {
    let low = id.as_uuid_bytes()?.last_chunk()?;
    let nonce = u64::from_be_bytes(*low) & (u64::MAX >> 2);
    (nonce != 0 && EventId::v7(at, nonce) == *id).then_some(nonce)
}

/// What a bus tells its journal of is stamped; any other event has an id that
/// nothing in the log has.
pub(crate) fn id_of(event: &Event) -> EventId {
    event.id().unwrap_or_else(|| EventId::from(""))
}

/// The event's time as the table has it. Timestamps end with the year 9999.
pub(crate) fn micros(event: &Event) -> i64 {
    event.timestamp().map_or(0, |at| i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}

/// An id as a column: 16 bytes or text.
pub(crate) struct IdColumn<'a>(pub(crate) &'a EventId);

impl ToSql for IdColumn<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0.as_uuid_bytes() {
            Some(bytes) => ValueRef::Blob(bytes),
            None => ValueRef::Text(self.0.as_text().unwrap_or_default().as_bytes()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    /// Whatever can be inserted together is, and whatever cannot is not.
    #[test]
    fn rows_get_the_numbers_they_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        let conn = crate::schema::open_writer(&path, std::time::Duration::ZERO).unwrap();
        // One that goes on, gaps, one that comes late, and so many that all statements are used.
        let seqs = [&[3, 4, 5, 9, 10][..], &[8, 11, 12], &Vec::from_iter(20..60), &[15]].concat();
        let row = |seq: &i64| {
            let mut event = Event::of("task", seq.to_string());
            event.stamp(Timestamp::from_micros(1_000).unwrap(), u64::try_from(*seq).unwrap());
            if seq % 10 == 2 {
                event = event.with_session("s");
            }
            (*seq, EventRow::new(&event).unwrap())
        };
        let rows: Vec<_> = seqs.iter().map(row).collect();
        let mut inserts = Inserts::new(&conn).unwrap();
        for (seq, row) in &rows {
            inserts.add(*seq, row).unwrap();
        }
        inserts.finish().unwrap();
        assert_eq!(conn.last_insert_rowid(), 15);
        let sql = "SELECT count(*) FROM events WHERE payload = CAST(seq AS BLOB) AND status = 0
             AND (session IS 's') = (seq % 10 = 2) AND id = ?2 OR seq <> ?1";
        for (seq, row) in &rows {
            let params = params![seq, IdColumn(&row.id)];
            let right: i64 = conn.query_row(sql, params, |row| row.get(0)).unwrap();
            assert_eq!(right, rows.len() as i64, "{seq}");
        }
    }
}
