//! Writing down dead letters, and that they are gone.

use bytes::Bytes;
use rusqlite::{Connection, params};
use swarmbus::{DeadLetter, DeadReason, LetterEnd};
use swarmbus_core::{Event, EventId, codec};

use crate::event_row::{IdColumn, id_of, micros};

/// What happened to a dead letter, and is about to be written. A letter is
/// known by its event and its handler.
pub(crate) struct LetterNews {
    event: Event,
    id: EventId,
    handler: String,
    news: News,
}

enum News {
    Died { at: i64, reason: DeadReason, error: String, attempts: u32 },
    Gone(LetterEnd),
}

impl LetterNews {
    pub(crate) fn died(letter: &DeadLetter) -> Self {
        Self::of(
            letter,
            News::Died {
                at: i64::try_from(letter.at.as_micros()).unwrap_or(i64::MAX),
                reason: letter.reason,
                error: cut(letter.error.to_string()),
                attempts: letter.attempts,
            },
        )
    }

    pub(crate) fn gone(letter: &DeadLetter, end: LetterEnd) -> Self {
        Self::of(letter, News::Gone(end))
    }

    fn of(letter: &DeadLetter, news: News) -> Self {
        let event = letter.event.clone();
        Self { id: id_of(&event), handler: letter.handler.to_string(), event, news }
    }
}

/// A handler's error may be as long as it likes.
const MAX_ERROR_LEN: usize = 4_096;

fn cut(mut text: String) -> String {
    if text.len() > MAX_ERROR_LEN {
        let end = (0..=MAX_ERROR_LEN).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Writes the news in their order, and lets the oldest letters beyond `max`
/// go.
pub(crate) fn write<'a>(
    conn: &Connection,
    news: impl IntoIterator<Item = &'a LetterNews>,
    max: usize,
) -> rusqlite::Result<()> {
    let mut grown = false;
    for letter in news {
        match &letter.news {
            News::Died { at, reason, error, attempts } => {
                died(conn, letter, (*at, *reason, error, *attempts))?;
                grown = true;
            }
            News::Gone(end) => gone(conn, letter, *end)?,
        }
    }
    if grown { trim(conn, max) } else { Ok(()) }
}

fn died(
    conn: &Connection,
    letter: &LetterNews,
    (at, reason, error, attempts): (i64, DeadReason, &str, u32),
) -> rusqlite::Result<()> {
    // An event that no frame can hold is in the table of events alone.
    let frame = codec::encode(&letter.event).unwrap_or_else(|_| Bytes::new());
    conn.prepare_cached(
        "INSERT INTO dead_letters
             (at, event_id, event_type, handler, reason, error, attempts, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (event_id, handler) DO UPDATE SET
             at = ?1, reason = ?5, error = ?6, attempts = ?7, retry_at = NULL",
    )?
    .execute(params![
        at,
        IdColumn(&letter.id),
        letter.event.ty().as_str(),
        letter.handler,
        reason.as_str(),
        error,
        attempts,
        &frame[..],
    ])
    .map(drop)
}

fn gone(conn: &Connection, letter: &LetterNews, end: LetterEnd) -> rusqlite::Result<()> {
    let id = IdColumn(&letter.id);
    conn.prepare_cached("DELETE FROM dead_letters WHERE event_id = ?1 AND handler = ?2")?
        .execute(params![id, letter.handler])?;
    match end {
        LetterEnd::Purged => Ok(()),
        // The last handler that had not handled the event now has.
        LetterEnd::Delivered => conn
            .prepare_cached(
                "UPDATE events SET status = 1, retry_count = retry_count + 1
                 WHERE timestamp = ?1 AND id = ?2 AND status = 3
                     AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE event_id = ?2)",
            )?
            .execute(params![micros(&letter.event), id])
            .map(drop),
    }
}

/// Of a full table one letter in so many goes at once.
const TRIM: i64 = 64;

fn trim(conn: &Connection, max: usize) -> rusqlite::Result<()> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    // Counting goes through a whole index, so only when the numbers allow for
    // too many. Two queries, or that would do the same.
    let (first, last): (i64, i64) = conn
        .prepare_cached(
            "SELECT coalesce((SELECT min(letter) FROM dead_letters), 0),
                 coalesce((SELECT max(letter) FROM dead_letters), 0)",
        )?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    if last.saturating_sub(first) < max {
        return Ok(());
    }
    let count: i64 = conn
        .prepare_cached("SELECT count(*) FROM dead_letters")?
        .query_row((), |row| row.get(0))?;
    if count <= max {
        return Ok(());
    }
    conn.prepare_cached(
        "DELETE FROM dead_letters WHERE letter IN
             (SELECT letter FROM dead_letters ORDER BY letter LIMIT ?1)",
    )?
    .execute([count - max + max / TRIM])
    .map(drop)
}
