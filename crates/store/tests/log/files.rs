//! Which files are logs.

use rusqlite::Connection;
use swarmbus::{Event, Timestamp};
use swarmbus_store::{Durability, EventLog, LogReader, OpenError, Query};

use crate::support::{open, options, path};

#[test]
fn the_database_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let other = Connection::open(path(&dir)).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    assert!(matches!(EventLog::open(path(&dir)), Err(OpenError::Foreign { .. })));
    assert!(matches!(LogReader::open(path(&dir)), Err(OpenError::Foreign { .. })));
    let mode: String = other.query_row("PRAGMA journal_mode", (), |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "nothing was changed in it");
}

#[test]
fn a_log_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let other = Connection::open(path(&dir)).unwrap();
    other.execute_batch("PRAGMA user_version = 1000").unwrap();
    for error in [EventLog::open(path(&dir)).err(), LogReader::open(path(&dir)).err()] {
        let error = error.unwrap();
        assert!(matches!(error, OpenError::Newer { found: 1_000, .. }), "{error}");
        assert!(error.to_string().contains("use a newer swarmbus"), "{error}");
    }
}

#[test]
fn there_is_nothing_to_read_before_the_log_is_made() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(LogReader::open(path(&dir)), Err(OpenError::Fault(_))));
    Connection::open(path(&dir)).unwrap().execute_batch("VACUUM").unwrap();
    assert!(matches!(LogReader::open(path(&dir)), Err(OpenError::Empty { .. })));
}

/// A link whose file is not made yet is the same log as the file.
#[tokio::test]
async fn a_log_that_is_made_through_a_link_has_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink("data/events.db", &link).unwrap();
    let log = options().durability(Durability::GROUP).open(&link).unwrap();
    for name in [&link, &folder.join("events.db")] {
        assert!(matches!(EventLog::open(name), Err(OpenError::InUse { .. })), "{name:?}");
    }
    assert_eq!(log.path(), folder.join("events.db").canonicalize().unwrap());
    std::os::unix::fs::symlink("loop.db", dir.path().join("loop.db")).unwrap();
    assert!(EventLog::open(dir.path().join("loop.db")).is_err());
}

/// What the README of a log would say: any SQLite shell can look.
#[tokio::test]
async fn the_tables_can_be_read_with_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let at = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    log.append(&[Event::of("task.created", "17").with_id("1").with_timestamp(at)]).await.unwrap();
    assert_eq!(log.reader().unwrap().count(&Query::new()).unwrap().total(), 1);
    let shell = Connection::open(path(&dir)).unwrap();
    let sql = "SELECT datetime(timestamp / 1000000, 'unixepoch') || ' ' || event_type || ' '
        || CAST(payload AS TEXT) || ' ' || status || ' ' || retry_count FROM events";
    let line: String = shell.query_row(sql, (), |row| row.get(0)).unwrap();
    assert_eq!(line, "2023-11-14 22:13:20 task.created 17 0 0");
}
