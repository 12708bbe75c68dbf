//! SQLite by hand: the columns of the event log that every log must have, its
//! two indexes, and nothing around them.

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{PAYLOAD, new_file};

const TABLE: &str = "CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    timestamp INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    source TEXT NOT NULL,
    status INTEGER NOT NULL,
    retry_count INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events (timestamp);
CREATE INDEX events_by_type ON events (event_type, timestamp);";

const INSERT: &str = "INSERT INTO events
    (id, timestamp, event_type, source, status, retry_count, payload)
    VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)";

/// One transaction for every 1,000 rows, given to the operating system.
pub(super) fn insert(n: u64) -> Duration {
    insert_by(n, 1_000, "NORMAL")
}

/// One transaction for every row, synced to the disk.
pub(super) fn insert_one_by_one(n: u64) -> Duration {
    insert_by(n, 1, "FULL")
}

fn insert_by(n: u64, rows: u64, synchronous: &str) -> Duration {
    let (_dir, path) = new_file();
    let mut conn = Connection::open(&path).expect("a new file");
    conn.pragma_update(None, "journal_mode", "WAL").expect("a write-ahead log");
    conn.pragma_update(None, "synchronous", synchronous).expect("a pragma");
    conn.execute_batch(TABLE).expect("a table");
    let started = Instant::now();
    let mut done = 0;
    while done < n {
        let transaction = conn.transaction().expect("a transaction");
        let mut insert = transaction.prepare_cached(INSERT).expect("a statement");
        for i in done..n.min(done + rows) {
            let id = [i.to_be_bytes(), random().to_be_bytes()].concat();
            insert
                .execute(params![id, i as i64, "task.created", "agent-1", &PAYLOAD[..]])
                .expect("a row");
        }
        drop(insert);
        transaction.commit().expect("a commit");
        done += rows;
    }
    let took = started.elapsed();
    drop(conn);
    assert_eq!(count(&path), n);
    took
}

/// The order in which a replay has them.
pub(super) const BY_TIME: &str = "ORDER BY timestamp, seq";

/// Whatever SQLite finds fastest: the order of the table.
pub(super) const AS_THEY_LIE: &str = "";

/// Reads a log's rows with all that makes an event. Returns how many there
/// are, the bytes of their payloads, and how long that took.
pub(super) fn select(path: &Path, order: &str) -> (u64, u64, Duration) {
    let conn = Connection::open(path).expect("the file");
    let started = Instant::now();
    let sql = format!(
        "SELECT seq, id, timestamp, event_type, source, priority, content, header, payload
         FROM events {order}"
    );
    let mut statement = conn.prepare(&sql).expect("a statement");
    let mut rows = statement.query(()).expect("rows");
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next().expect("a row") {
        for number in [0, 2, 5, 6] {
            black_box(row.get::<_, i64>(number).expect("a number"));
        }
        for text in [3, 4] {
            black_box(row.get_ref(text).expect("a column").as_str().expect("text"));
        }
        black_box(row.get_ref(1).expect("a column").as_blob().expect("an id"));
        black_box(row.get_ref(7).expect("a column").as_blob_or_null().expect("a header"));
        let payload = row.get_ref(8).expect("a column").as_blob().expect("a payload");
        count += 1;
        bytes += black_box(payload).len() as u64;
    }
    (count, bytes, started.elapsed())
}

/// The events in a file, ours or by hand.
pub(super) fn count(path: &Path) -> u64 {
    let conn = Connection::open(path).expect("the file");
    let count = conn.query_row("SELECT count(*) FROM events", (), |row| row.get::<_, i64>(0));
    count.expect("a count") as u64
}

/// Like the second half of an id.
pub(super) fn random() -> u64 {
    use std::cell::Cell;
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) });
    let mut state = STATE.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.set(state);
    state
}
