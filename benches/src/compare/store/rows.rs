//! SQLite by hand: the columns of the event log that every log must have, its
//! two indexes, and nothing around them.

use std::{
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
