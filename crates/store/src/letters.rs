//! Writing down dead letters.

use bytes::Bytes;
use rusqlite::{Connection, params};
use swarmbus::DeadLetter;
use swarmbus_core::{Event, EventId, codec};

use crate::event_row::{IdColumn, id_of};

/// A dead letter that is about to be written.
pub(crate) struct LetterRow {
    id: EventId,
    at: i64,
    handler: String,
    reason: String,
    error: String,
    attempts: u32,
    event: Event,
}

impl LetterRow {
    pub(crate) fn new(letter: &DeadLetter) -> Self {
        Self {
            id: id_of(&letter.event),
            at: i64::try_from(letter.at.as_micros()).unwrap_or(i64::MAX),
            handler: letter.handler.to_string(),
            reason: "failed".to_owned(),
            error: cut(letter.error.to_string()),
            attempts: 1,
            event: letter.event.clone(),
        }
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

/// Writes letters, and lets the oldest beyond `max` go.
pub(crate) fn write<'a>(
    conn: &Connection,
    letters: impl IntoIterator<Item = &'a LetterRow>,
    max: usize,
) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO dead_letters
             (at, event_id, event_type, handler, reason, error, attempts, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut written = false;
    for letter in letters {
        // An event that no frame can hold is in the table of events alone.
        let frame = codec::encode(&letter.event).unwrap_or_else(|_| Bytes::new());
        insert.execute(params![
            letter.at,
            IdColumn(&letter.id),
            letter.event.ty().as_str(),
            letter.handler,
            letter.reason,
            letter.error,
            letter.attempts,
            &frame[..],
        ])?;
        written = true;
    }
    if written {
        // Numbers only rise, so that counting takes no look at the table.
        conn.prepare_cached(
            "DELETE FROM dead_letters WHERE letter <=
                 (SELECT max(letter) FROM dead_letters) - ?1",
        )?
        .execute([i64::try_from(max).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}
