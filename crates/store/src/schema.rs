//! The tables of a log, and how an older log gets them.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Fault, OpenError};

/// What `PRAGMA application_id` says of a log: `SWBL`.
pub(crate) const APPLICATION_ID: i64 = 0x5357_424c;

/// Each takes the schema from the version that is its index to the next. What
/// is released is never changed: a change is one more at the end.
///
/// Version 1, the events. One row is one insert into a table and two indexes,
/// and each further index would cost every event. So what is pending is not
/// indexed: `settled_below` says from where on to look. Nor are ids: an event
/// is found by its time, then by its id.
///
/// Version 2, the schedules.
///
/// Version 3, retries that are asked for, and what handlers did.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1_events.sql"),
    include_str!("schema/2_schedules.sql"),
    include_str!("schema/3_replay.sql"),
];

/// The version that this code writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Opens the writer's connection: creates, checks or migrates.
pub(crate) fn open_writer(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let fault = |error| Fault::new(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(fault)?;
    conn.busy_timeout(busy_timeout).map_err(fault)?;
    // Before anything is changed, journal mode included.
    check(&conn, path, true)?;
    // For a new file. Events are small and come in order: half as many pages to split,
    // to look through and to write take a tenth less time than with SQLite's own 4 KiB.
    conn.execute_batch("PRAGMA page_size = 8192").map_err(fault)?;
    let mode: String =
        conn.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0)).map_err(fault)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned() });
    }
    // FULL at least until the first commit, for that one also syncs the
    // folder's entry of the write-ahead log. `fullfsync` is for macOS, where a sync is none without.
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;
         PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 2000;
         PRAGMA journal_size_limit = 67108864; PRAGMA trusted_schema = OFF;",
    )
    .map_err(fault)?;
    migrate(&mut conn, path, MIGRATIONS)?;
    // More than the writer has.
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let fault = |error| Fault::new(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fault)?;
    conn.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF").map_err(fault)?;
    check(&conn, path, false)?;
    Ok(conn)
}

/// Opens a connection that changes a log beside the one that writes it.
pub(crate) fn open_editor(path: &Path) -> Result<Connection, OpenError> {
    let fault = |error| Fault::new(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fault)?;
    conn.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    conn.execute_batch("PRAGMA trusted_schema = OFF").map_err(fault)?;
    check(&conn, path, false)?;
    Ok(conn)
}

/// Refuses what is no log. A file without tables may become one.
fn check(conn: &Connection, path: &Path, may_be_empty: bool) -> Result<i64, OpenError> {
    let fault = |error| Fault::new(path, &error);
    let number = |sql| conn.query_row(sql, (), |row| row.get::<_, i64>(0)).map_err(fault);
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let path = path.to_owned();
    if application == APPLICATION_ID {
        if version > VERSION {
            return Err(OpenError::Newer { path, found: version, known: VERSION });
        }
        // A reader knows the tables of this version only.
        if version < VERSION && !may_be_empty {
            return Err(OpenError::Older { path, found: version, known: VERSION });
        }
        return Ok(version);
    }
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if application != 0 || version != 0 || tables != 0 {
        return Err(OpenError::Foreign { path });
    }
    if may_be_empty { Ok(0) } else { Err(OpenError::Empty { path }) }
}

/// Brings the schema to the newest version: wholly, or not at all.
fn migrate(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let fault = |error| Fault::new(path, &error);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    // Asked again under the lock: another process may have been faster.
    let version = check(&tx, path, true)?;
    let done = usize::try_from(version).unwrap_or(0);
    apply(&tx, migrations.get(done..).unwrap_or_default(), migrations.len()).map_err(fault)?;
    tx.commit().map_err(fault)?;
    Ok(())
}

fn apply(tx: &Transaction<'_>, steps: &[&str], version: usize) -> rusqlite::Result<()> {
    for step in steps {
        tx.execute_batch(step)?;
    }
    tx.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};
         UPDATE log_state SET opened = opened + 1;"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(path: &Path) -> i64 {
        let conn = Connection::open(path).unwrap();
        conn.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap()
    }

    /// A log as the program of this version left it, with one event.
    fn old_log(path: &Path, version: usize) {
        let mut conn = Connection::open(path).unwrap();
        migrate(&mut conn, path, &MIGRATIONS[..version]).unwrap();
        conn.execute_batch(
            "INSERT INTO events (id, timestamp, event_type, source, priority, status, retry_count,
                 content, payload)
             VALUES ('old', 5, 'task.created', 'a', 5, 0, 0, 3, CAST('17' AS BLOB))",
        )
        .unwrap();
    }

    #[test]
    fn a_log_of_each_older_version_is_brought_up_to_date_with_what_is_in_it() {
        for old in 1..=MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("events.db");
            old_log(&path, old);
            assert_eq!(version(&path), old as i64);
            let read = crate::LogReader::open(&path).err();
            assert_eq!(matches!(read, Some(OpenError::Older { .. })), old < MIGRATIONS.len());
            drop(open_writer(&path, Duration::ZERO).unwrap());
            assert_eq!(version(&path), VERSION);
            let page = crate::LogReader::open(&path)
                .unwrap()
                .page(&crate::Query::new(), None, 10)
                .unwrap();
            assert_eq!(page.records[0].event.text(), Some("17"));
        }
    }

    #[test]
    fn a_migration_is_made_wholly_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        old_log(&path, MIGRATIONS.len());
        let mut conn = Connection::open(&path).unwrap();
        let mut migrations = MIGRATIONS.to_vec();
        migrations.push("CREATE TABLE extra (a INTEGER); INSERT INTO nowhere VALUES (1);");
        assert!(migrate(&mut conn, &path, &migrations).is_err());
        assert_eq!(version(&path), VERSION);
        let extra = "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'";
        assert_eq!(conn.query_row(extra, (), |row| row.get::<_, i64>(0)).unwrap(), 0);

        *migrations.last_mut().unwrap() = "CREATE TABLE extra (a INTEGER);";
        migrate(&mut conn, &path, &migrations).unwrap();
        assert_eq!(version(&path), VERSION + 1);
        // To this program that is a log from the future.
        assert!(matches!(open_writer(&path, Duration::ZERO), Err(OpenError::Newer { .. })));
    }
}
