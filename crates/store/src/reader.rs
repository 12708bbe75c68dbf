//! [`LogReader`]: reading a log, a bounded page at a time.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::{Connection, Row, Rows, params, types::ValueRef};
use serde::Serialize;
use swarmbus_core::{Event, EventType, Timestamp, router::Pattern};

use crate::{
    error::{Damage, Fault, OpenError, ReadError},
    event_row,
    log::resolved,
    schema,
};

/// The most events of one page.
pub const MAX_PAGE: usize = 1_000;

/// Payload bytes after which a page ends.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// Rows that one page looks at, at the most, to find what is asked for.
const MAX_SCAN: usize = 100_000;

/// What became of an event so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Status {
    /// Accepted, and its handlers are not done with it.
    Pending = 0,
    /// Every handler that wanted it has handled it, or there was none.
    Delivered = 1,
    /// A handler failed, rejected or dropped it.
    Failed = 2,
    /// It is a dead letter of at least one handler.
    Dead = 3,
}

impl Status {
    fn from_column(value: i64) -> Option<Self> {
        match value {
            0 => Some(Self::Pending),
            1 => Some(Self::Delivered),
            2 => Some(Self::Failed),
            3 => Some(Self::Dead),
            _ => None,
        }
    }
}

/// Which events to read; all of them by default.
///
/// ```
/// use swarmbus_core::router::Pattern;
/// use swarmbus_store::{Query, Status};
///
/// let failed = Query::new().types(Pattern::parse("task.*")?).status(Status::Failed);
/// # let _ = failed;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Query {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    types: Option<Pattern>,
    status: Option<Status>,
    last_seq: Option<i64>,
}

/// What makes a [`Record`].
const RECORD: &str = "seq, id, timestamp, event_type, source, priority, content, header, payload,
     status, retry_count";

impl Query {
    /// All events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of this time or later.
    pub fn from(mut self, from: Timestamp) -> Self {
        self.from = Some(from);
        self
    }

    /// Those before this time.
    pub fn to(mut self, to: Timestamp) -> Self {
        self.to = Some(to);
        self
    }

    /// Those whose type matches. One exact type is read from an index; any
    /// other pattern looks at all events of the time range.
    pub fn types(mut self, pattern: Pattern) -> Self {
        self.types = Some(pattern);
        self
    }

    /// Those with this status.
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// The same of a column of a row.
    pub(crate) fn wants_column(&self, ty: ValueRef<'_>) -> bool {
        self.types.is_none() || self.wants_type(ty.as_str().unwrap_or_default())
    }

    pub(crate) fn wants_type(&self, ty: &str) -> bool {
        self.types.as_ref().is_none_or(|pattern| pattern.matches(ty))
    }

    fn wants(&self, ty: &str, status: Status) -> bool {
        self.status.is_none_or(|wanted| wanted == status) && self.wants_type(ty)
    }

    pub(crate) fn exact(&self) -> Option<&str> {
        self.types.as_ref()?.as_exact().map(EventType::as_str)
    }

    /// Those that were accepted up to this one.
    pub(crate) fn up_to(mut self, last_seq: i64) -> Self {
        self.last_seq = Some(last_seq);
        self
    }

    fn last_seq(&self) -> i64 {
        self.last_seq.unwrap_or(i64::MAX)
    }

    pub(crate) fn first(&self) -> i64 {
        self.from.map_or(i64::MIN, micros)
    }

    /// Not included.
    pub(crate) fn last(&self) -> i64 {
        self.to.map_or(i64::MAX, micros)
    }
}

fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    timestamp: i64,
    seq: i64,
}

impl Cursor {
    pub(crate) fn seq(self) -> i64 {
        self.seq
    }
}

/// An event of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// As it was accepted.
    pub event: Event,
    /// What became of it so far.
    pub status: Status,
    /// How often it was offered again.
    pub retry_count: u32,
}

/// Some events, and where to go on.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// In the order of their timestamps; those of one timestamp in the order
    /// of acceptance.
    pub records: Vec<Record>,
    /// Rows in between that are no events, with what is wrong with them.
    pub damaged: Vec<(i64, Damage)>,
    /// `None` after the last page. A page may be empty and not be the last,
    /// when few of many events are wanted.
    pub next: Option<Cursor>,
}

/// How many events there are, by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// With [`Status::Pending`].
    pub pending: u64,
    /// With [`Status::Delivered`].
    pub delivered: u64,
    /// With [`Status::Failed`].
    pub failed: u64,
    /// With [`Status::Dead`].
    pub dead: u64,
}

/// Reads a log, whether a bus has it open or not, in this process or another.
///
/// Everything blocks: in async code use `tokio::task::spawn_blocking`. Each
/// page sees the log as it is at that moment; nothing is locked in between.
#[derive(Debug)]
pub struct LogReader {
    conn: Connection,
    path: PathBuf,
}

impl LogReader {
    /// Opens a log that is there, only to read.
    ///
    /// If no program has it open, SQLite makes two files beside it and leaves
    /// them there, so the folder must be writable then. Read as the user whose
    /// log it is, or that one may not be able to write these files.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = resolved(path.as_ref());
        Ok(Self { conn: schema::open_reader(&path)?, path })
    }

    /// The events that come after a cursor, at most `limit` and
    /// [`MAX_PAGE`] of them, and fewer if they are large.
    ///
    /// ```
    /// # use swarmbus_store::{EventLog, Query};
    /// # let dir = tempfile::tempdir()?;
    /// # let log = EventLog::open(dir.path().join("events.db"))?;
    /// let reader = log.reader()?;
    /// let mut after = None;
    /// loop {
    ///     let page = reader.page(&Query::new(), after, 100)?;
    ///     for record in &page.records {
    ///         println!("{} {} {:?}", record.seq, record.event.ty(), record.status);
    ///     }
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn page(
        &self,
        query: &Query,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let mut page = Page::default();
        let limits = (limit.clamp(1, MAX_PAGE), MAX_PAGE_BYTES);
        page.next = self.fill(query, after, limits, &mut page)?;
        Ok(page)
    }

    /// Fills a page with what comes after a cursor, up to so many events or
    /// bytes of payload. Returns where to go on.
    pub(crate) fn fill<P: FromRows>(
        &self,
        query: &Query,
        after: Option<Cursor>,
        limits: (usize, usize),
        page: &mut P,
    ) -> Result<Option<Cursor>, ReadError> {
        self.scan(query, after, Scan { page, limits, scanned: 0, bytes: 0, next: None })
            .map_err(|error| self.fault(&error))
    }

    fn scan<P: FromRows>(
        &self,
        query: &Query,
        after: Option<Cursor>,
        mut scan: Scan<'_, P>,
    ) -> rusqlite::Result<Option<Cursor>> {
        let columns = P::COLUMNS;
        let by_type = if query.exact().is_some() { "event_type = ?1" } else { "?1 IS NULL" };
        let mut from = query.first();
        // Two searches: for `(timestamp, seq) > (?, ?)` SQLite would go through
        // all events of that time on each page.
        if let Some(Cursor { timestamp, seq }) = after {
            let mut rest_of_time = self.conn.prepare_cached(&format!(
                "SELECT {columns} FROM events
                 WHERE {by_type} AND timestamp = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq"
            ))?;
            let bounds = params![query.exact(), timestamp, seq, query.last_seq()];
            scan.take(rest_of_time.query(bounds)?, query)?;
            from = timestamp.saturating_add(1);
        }
        if scan.next.is_none() {
            let mut later = self.conn.prepare_cached(&format!(
                "SELECT {columns} FROM events
                 WHERE {by_type} AND timestamp >= ?2 AND timestamp < ?3 AND seq <= ?4
                 ORDER BY timestamp, seq"
            ))?;
            let bounds = params![query.exact(), from, query.last(), query.last_seq()];
            scan.take(later.query(bounds)?, query)?;
        }
        Ok(scan.next)
    }

    /// How many events a query would find, by status. Looks at an index entry
    /// and a row for each event of the time range.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn count(&self, query: &Query) -> Result<Counts, ReadError> {
        self.tally(query).map_err(|error| self.fault(&error))
    }

    fn tally(&self, query: &Query) -> rusqlite::Result<Counts> {
        let by_type = if query.exact().is_some() { "event_type = ?3" } else { "?3 IS NULL" };
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT event_type, status, count(*) FROM events
             WHERE {by_type} AND timestamp >= ?1 AND timestamp < ?2 GROUP BY event_type, status"
        ))?;
        let mut rows = statement.query(params![query.first(), query.last(), query.exact()])?;
        let mut counts = Counts::default();
        while let Some(row) = rows.next()? {
            let Some(status) = Status::from_column(row.get(1)?) else { continue };
            if query.wants(row.get_ref(0)?.as_str().unwrap_or_default(), status) {
                *counts.of(status) += u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
            }
        }
        Ok(counts)
    }

    /// Pending events with `from <= seq < below`, in the order of acceptance.
    pub(crate) fn pending(&self, from: i64, below: i64, limit: usize) -> Result<Page, ReadError> {
        let pending = || {
            let mut statement = self.conn.prepare_cached(&format!(
                "SELECT {RECORD} FROM events
                 WHERE seq >= ?1 AND seq < ?2 AND status = 0 ORDER BY seq"
            ))?;
            let mut rows = statement.query(params![from, below])?;
            let mut page = Page::default();
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                bytes += page.push(row, &Query::default())?;
                if page.records.len() >= limit || bytes >= MAX_PAGE_BYTES {
                    page.next = Some(Cursor { timestamp: row.get(2)?, seq: row.get(0)? });
                    break;
                }
            }
            Ok(page)
        };
        pending().map_err(|error| self.fault(&error))
    }

    /// Runs a read of the crate's own.
    pub(crate) fn read<T>(
        &self,
        f: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        f(&self.conn).map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &rusqlite::Error) -> ReadError {
        Fault::new(&self.path, error).into()
    }
}

/// What rows are made into.
pub(crate) trait FromRows {
    /// What it wants of a row, beginning with `event_row::COLUMNS`.
    const COLUMNS: &'static str;
    /// Takes a row, if it is wanted. Returns how many bytes it took.
    fn push(&mut self, row: &Row<'_>, query: &Query) -> rusqlite::Result<usize>;
    /// How many events there are.
    fn len(&self) -> usize;
}

/// A page in the making.
struct Scan<'a, P> {
    page: &'a mut P,
    limits: (usize, usize),
    scanned: usize,
    bytes: usize,
    next: Option<Cursor>,
}

impl<P: FromRows> Scan<'_, P> {
    /// Takes rows until there are no more, or the page is full.
    fn take(&mut self, mut rows: Rows<'_>, query: &Query) -> rusqlite::Result<()> {
        while let Some(row) = rows.next()? {
            self.bytes += self.page.push(row, query)?;
            self.scanned += 1;
            let full = self.page.len() >= self.limits.0
                || self.bytes >= self.limits.1
                || self.scanned >= MAX_SCAN;
            if full {
                self.next = Some(Cursor { timestamp: row.get(2)?, seq: row.get(0)? });
                break;
            }
        }
        Ok(())
    }
}

impl FromRows for Page {
    const COLUMNS: &'static str = RECORD;

    fn push(&mut self, row: &Row<'_>, query: &Query) -> rusqlite::Result<usize> {
        let seq = row.get(0)?;
        let Some(status) = row.get(9).ok().and_then(Status::from_column) else {
            self.damaged.push((seq, Damage::Column("status")));
            return Ok(0);
        };
        if !query.wants(row.get_ref(3)?.as_str().unwrap_or_default(), status) {
            return Ok(0);
        }
        let retry_count = row.get(10).map_err(|_| Damage::Column("retry_count"));
        match event_row::read(row, Bytes::copy_from_slice)
            .and_then(|event| Ok((event, retry_count?)))
        {
            Ok((event, retry_count)) => {
                let bytes = event.payload().len();
                self.records.push(Record { seq, event, status, retry_count });
                Ok(bytes)
            }
            Err(damage) => {
                self.damaged.push((seq, damage));
                Ok(0)
            }
        }
    }

    fn len(&self) -> usize {
        self.records.len()
    }
}

impl Counts {
    fn of(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Pending => &mut self.pending,
            Status::Delivered => &mut self.delivered,
            Status::Failed => &mut self.failed,
            Status::Dead => &mut self.dead,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.pending + self.delivered + self.failed + self.dead
    }
}
