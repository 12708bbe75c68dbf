//! [`LetterFile`]: the dead letters of a log, also while a bus has it open.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use swarmbus::{DeadLetter, DeadReason, LetterFilter};
use swarmbus_core::{Event, EventId, EventType, Timestamp, codec::Frame};

use crate::{
    error::{Damage, Fault, OpenError, ReadError, WriteError},
    event_row::id_from,
    log::resolved,
    schema,
};

/// A dead letter in a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredLetter {
    /// Its number in this file. It stays the same however often the letter is
    /// retried.
    pub number: i64,
    /// The id of its event.
    pub event_id: EventId,
    /// The type of its event.
    pub event_type: EventType,
    /// The handler's name.
    pub handler: String,
    /// The kind of failure.
    pub reason: DeadReason,
    /// What the handler said the last time, at most 4,096 bytes of it.
    pub error: String,
    /// How often the handler was called with the event, retries included.
    pub attempts: u32,
    /// When the handler gave up the last time.
    pub at: Timestamp,
    /// When somebody asked for a retry that has not been made yet.
    pub retry_at: Option<Timestamp>,
    /// The event; `None` if it was beyond the limits of the wire format.
    pub event: Option<Event>,
}

impl StoredLetter {
    /// The letter as a bus takes it: see
    /// [`DeadLetters::offer`](swarmbus::DeadLetters::offer).
    pub fn to_letter(&self) -> Option<DeadLetter> {
        let event = self.event.clone()?;
        let (reason, attempts) = (self.reason, self.attempts);
        Some(DeadLetter::restored(event, &self.handler, reason, &*self.error, attempts, self.at))
    }
}

/// Some letters, and where to go on.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct LetterPage {
    /// The letters, by number.
    pub letters: Vec<StoredLetter>,
    /// Rows in between that are no letters, with what is wrong with them.
    pub damaged: Vec<(i64, Damage)>,
    /// The number to go on after; `None` after the last page. A page may be
    /// empty and not be the last.
    pub next: Option<i64>,
}

/// The dead letters of a log.
///
/// It is opened beside the bus that has the log as its journal, in this
/// process or another, or when there is none.
///
/// A retry is not made here, where there are no handlers: it is asked for. The
/// letter stays, and the program that has the log as its journal makes the
/// retry when it looks the next time: [`EventLog::serve_retries`]. So the
/// letter outlives every crash on the way, and the event goes to the handler
/// that failed and to no other.
///
/// Everything blocks: in async code use `tokio::task::spawn_blocking`.
///
/// ```
/// use swarmbus::LetterFilter;
/// use swarmbus_store::{EventLog, LetterFile};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.db");
/// # drop(EventLog::open(&path)?);
/// let mut file = LetterFile::open(&path)?;
/// let page = file.page(&LetterFilter::all(), None, 100)?;
/// for letter in &page.letters {
///     println!("{} {} {}: {}", letter.number, letter.event_type, letter.handler, letter.error);
/// }
/// let asked = file.retry_all(&LetterFilter::all().handler("payment"))?;
/// # assert_eq!(asked, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`EventLog::serve_retries`]: crate::EventLog::serve_retries
#[derive(Debug)]
pub struct LetterFile {
    conn: Connection,
    path: PathBuf,
}

/// The most letters of one page.
const MAX_PAGE: usize = 1_000;

/// Rows that one page looks at, at the most.
const MAX_SCAN: usize = 10_000;

/// Bytes of events after which a page ends.
const MAX_PAGE_BYTES: usize = 16 << 20;

const COLUMNS: &str =
    "letter, at, event_id, event_type, handler, reason, error, attempts, retry_at, event";

impl LetterFile {
    /// Opens a log that is there, to list, retry and purge.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = resolved(path.as_ref());
        Ok(Self { conn: schema::open_editor(&path)?, path })
    }

    /// Opens a log that is there, to list only: the file need not be writable.
    /// See [`LogReader::open`](crate::LogReader::open).
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_to_read(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = resolved(path.as_ref());
        Ok(Self { conn: schema::open_reader(&path)?, path })
    }

    /// The letters after a number, at most `limit` and 1,000 of them, and
    /// fewer if they are large.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn page(
        &self,
        which: &LetterFilter,
        after: Option<i64>,
        limit: usize,
    ) -> Result<LetterPage, ReadError> {
        Ok(self.read("letter > ?1", which, after, limit)?)
    }

    /// The same of those that somebody wants retried.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn to_retry(&self, after: Option<i64>, limit: usize) -> Result<LetterPage, ReadError> {
        let asked = "letter > ?1 AND retry_at IS NOT NULL";
        Ok(self.read(asked, &LetterFilter::all(), after, limit)?)
    }

    /// How many letters there are.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn len(&self) -> Result<u64, ReadError> {
        let count = |conn: &Connection| {
            conn.query_row("SELECT count(*) FROM dead_letters", (), |row| row.get::<_, i64>(0))
        };
        let count = count(&self.conn).map_err(|error| self.fault(&error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Whether there are none.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn is_empty(&self) -> Result<bool, ReadError> {
        Ok(self.len()? == 0)
    }

    /// The letter of a number.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn get(&self, number: i64) -> Result<Option<StoredLetter>, ReadError> {
        let get = || {
            let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE letter = ?1");
            self.conn.prepare_cached(&sql)?.query_row([number], |row| Ok(letter(row))).optional()
        };
        let found = get().map_err(|error| self.fault(&error))?;
        found.transpose().map_err(|reason| ReadError::Damaged {
            table: "dead_letters",
            row: number,
            reason,
        })
    }

    /// Asks for a letter to be retried. Returns whether it is there, with an
    /// event.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub fn retry(&mut self, number: i64) -> Result<bool, WriteError> {
        Ok(self.change(ASK, &[number])? > 0)
    }

    /// Asks for letters to be retried. Returns how many.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. What was asked for before stays so.
    pub fn retry_all(&mut self, which: &LetterFilter) -> Result<u64, WriteError> {
        self.change_all(ASK, which)
    }

    /// Throws a letter away. Returns whether it was there.
    ///
    /// Of its event the log keeps the status `dead`. The bus that has the log
    /// as its journal may still have the letter in memory, and writes it down
    /// again if it retries it and fails.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub fn purge(&mut self, number: i64) -> Result<bool, WriteError> {
        Ok(self.change(PURGE, &[number])? > 0)
    }

    /// Throws letters away. Returns how many.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. What was thrown away before is gone.
    pub fn purge_all(&mut self, which: &LetterFilter) -> Result<u64, WriteError> {
        self.change_all(PURGE, which)
    }

    /// Writes down that retries were made: these were delivered, those failed
    /// again.
    pub(crate) fn retried(&mut self, delivered: &[i64], failed: &[i64]) -> Result<(), WriteError> {
        self.change(PURGE, delivered)?;
        self.change(ASK_NO_MORE, failed).map(drop)
    }

    /// A page at a time, so that the bus that writes need not wait long. What
    /// comes meanwhile is left alone, or a handler that fails all the time
    /// would have no end.
    fn change_all(&mut self, sql: &str, which: &LetterFilter) -> Result<u64, WriteError> {
        let newest = self
            .conn
            .query_row("SELECT coalesce(max(letter), 0) FROM dead_letters", (), |row| row.get(0))
            .map_err(|error| self.fault(&error))?;
        let (mut changed, mut after) = (0, None);
        while after < Some(newest) {
            let page = self.read("letter > ?1", which, after, MAX_PAGE)?;
            let numbers = page.letters.iter().map(|letter| letter.number);
            let numbers: Vec<i64> = numbers.filter(|number| *number <= newest).collect();
            changed += self.change(sql, &numbers)?;
            after = Some(page.next.unwrap_or(newest));
        }
        Ok(changed)
    }

    fn change(&mut self, sql: &str, numbers: &[i64]) -> Result<u64, WriteError> {
        if numbers.is_empty() {
            return Ok(0);
        }
        let change = |conn: &mut Connection| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut changed = 0;
            {
                let mut statement = tx.prepare_cached(sql)?;
                for number in numbers {
                    changed += statement.execute(params![number])?;
                }
            }
            tx.commit()?;
            Ok(changed as u64)
        };
        change(&mut self.conn).map_err(|error| self.fault(&error).into())
    }

    fn read(
        &self,
        condition: &str,
        which: &LetterFilter,
        after: Option<i64>,
        limit: usize,
    ) -> Result<LetterPage, Fault> {
        let limit = limit.clamp(1, MAX_PAGE);
        let read = || {
            let sql =
                format!("SELECT {COLUMNS} FROM dead_letters WHERE {condition} ORDER BY letter");
            let mut statement = self.conn.prepare_cached(&sql)?;
            let mut rows = statement.query([after.unwrap_or(i64::MIN)])?;
            let (mut page, mut scanned, mut bytes) = (LetterPage::default(), 0, 0);
            while let Some(row) = rows.next()? {
                scanned += 1;
                match letter(row) {
                    Ok(letter)
                        if which.wants_parts(
                            &letter.handler,
                            &letter.event_type,
                            letter.reason,
                            letter.at,
                        ) =>
                    {
                        bytes += letter.event.as_ref().map_or(0, |event| event.payload().len());
                        page.letters.push(letter);
                    }
                    Ok(_) => {}
                    Err(damage) => page.damaged.push((row.get(0)?, damage)),
                }
                if page.letters.len() >= limit || scanned >= MAX_SCAN || bytes >= MAX_PAGE_BYTES {
                    page.next = Some(row.get(0)?);
                    break;
                }
            }
            Ok(page)
        };
        read().map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &rusqlite::Error) -> Fault {
        Fault::new(&self.path, error)
    }
}

/// Only a letter with an event can be retried.
const ASK: &str =
    "UPDATE dead_letters SET retry_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
     WHERE letter = ?1 AND length(event) > 0";

const ASK_NO_MORE: &str = "UPDATE dead_letters SET retry_at = NULL WHERE letter = ?1";

const PURGE: &str = "DELETE FROM dead_letters WHERE letter = ?1";

/// The letter of a row with [`COLUMNS`].
fn letter(row: &Row<'_>) -> Result<StoredLetter, Damage> {
    let time = |micros: i64| u64::try_from(micros).ok().and_then(Timestamp::from_micros);
    let event_type = row.get_ref(3).ok().and_then(|column| column.as_str().ok());
    let reason = row.get_ref(5).ok().and_then(|column| column.as_str().ok());
    let frame = row.get_ref(9).ok().and_then(|column| column.as_blob().ok());
    Ok(StoredLetter {
        number: row.get(0).map_err(|_| Damage::Column("letter"))?,
        event_id: row.get_ref(2).map_err(|_| Damage::Column("event_id")).and_then(id_from)?,
        event_type: event_type
            .and_then(|ty| EventType::new(ty).ok())
            .ok_or(Damage::Column("event_type"))?,
        handler: row.get(4).map_err(|_| Damage::Column("handler"))?,
        reason: reason.and_then(DeadReason::from_name).ok_or(Damage::Column("reason"))?,
        error: row.get(6).map_err(|_| Damage::Column("error"))?,
        attempts: row.get(7).map_err(|_| Damage::Column("attempts"))?,
        at: row.get(1).ok().and_then(time).ok_or(Damage::Column("at"))?,
        retry_at: row.get::<_, Option<i64>>(8).ok().flatten().and_then(time),
        event: event(frame.ok_or(Damage::Column("event"))?)?,
    })
}

fn event(frame: &[u8]) -> Result<Option<Event>, Damage> {
    if frame.is_empty() {
        return Ok(None);
    }
    let frame = Frame::parse(bytes::Bytes::copy_from_slice(frame))?;
    let Some(view) = frame.iter().next() else { return Err(Damage::Column("event")) };
    Ok(Some(view?.to_event()?))
}
