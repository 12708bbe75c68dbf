//! A database that cannot be used: read-only, damaged, locked.

use std::time::Duration;
use std::{fs, os::unix::fs::PermissionsExt, os::unix::process::CommandExt, path::Path};

use rusqlite::Connection;
use swarmbus::{Bus, Event, PublishCause, Timestamp};
use swarmbus_store::{
    EventLog, FaultKind, OnFailure, OpenError, Query, ReadError, Status, WriteError,
};

use crate::{
    child,
    support::{flushed, open, options, path},
};

fn event(i: u64) -> Event {
    let mut event = Event::of("task", vec![b'x'; 500]);
    event.stamp(Timestamp::from_micros(1_000 + i).unwrap(), i + 1);
    event
}

async fn filled(dir: &tempfile::TempDir, events: u64) {
    let log = open(dir);
    log.append(&(0..events).map(event).collect::<Vec<_>>()).await.unwrap();
    log.close().await.unwrap();
}

fn is(error: &OpenError, kind: FaultKind) -> bool {
    matches!(error, OpenError::Fault(fault) if fault.kind() == kind)
}

#[tokio::test]
async fn a_locked_database_is_waited_for_and_then_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = options().busy_timeout(Duration::from_millis(20)).open(path(&dir)).unwrap();
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    bus.publish(event(0)).await.unwrap();
    log.flush().await.unwrap();

    let other = Connection::open(path(&dir)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = log.append(&[event(1)]).await.unwrap_err();
    assert!(matches!(&error, WriteError::Fault(f) if f.kind() == FaultKind::Locked), "{error}");
    let refused = bus.publish(event(2)).await.unwrap_err();
    assert!(matches!(refused.cause, PublishCause::Journal(_)));
    assert_eq!(*refused.event, event(2));
    other.execute_batch("COMMIT").unwrap();

    bus.publish(*refused.event).await.unwrap();
    assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
    let records = flushed(&log).await;
    assert_eq!(records.iter().map(|r| r.event.clone()).collect::<Vec<_>>(), [event(0), event(2)]);
    assert!(records.iter().all(|r| r.status == Status::Delivered));
}

#[tokio::test]
async fn a_best_effort_log_counts_what_it_could_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let log = options()
        .on_failure(OnFailure::GoOn)
        .busy_timeout(Duration::from_millis(20))
        .open(path(&dir))
        .unwrap();
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let other = Connection::open(path(&dir)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    bus.publish(event(0)).await.unwrap();
    assert_eq!(log.stats().lost, 1);
    other.execute_batch("COMMIT").unwrap();

    bus.try_publish(event(1)).unwrap();
    assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
    assert!(bus.ledger().balances());
    assert_eq!(flushed(&log).await.len(), 1);
    assert_eq!(log.stats().lost, 1);
}

#[tokio::test]
async fn a_bus_goes_on_without_a_best_effort_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = options().on_failure(OnFailure::GoOn).open(path(&dir)).unwrap();
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    // Too large for a frame, and so for the log.
    bus.publish(Event::of("task", vec![0; 9 << 20])).await.unwrap();
    bus.try_publish(Event::of("task", vec![0; 9 << 20])).unwrap();
    log.close().await.unwrap();
    bus.publish(event(0)).await.unwrap();
    bus.publish_batch(&mut vec![event(1), event(2)]).await.unwrap();
    bus.try_publish(event(3)).unwrap();
    assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
    assert!(bus.ledger().balances());
    assert_eq!(log.stats().lost, 6);
}

#[tokio::test]
async fn damaged_pages_are_named_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir, 2_000).await;
    let mut bytes = fs::read(path(&dir)).unwrap();
    let page = 4_096;
    // A page of rows from the middle, found by what is in it.
    let damaged = (100..bytes.len() / page)
        .find(|n| bytes[n * page..(n + 1) * page].windows(9).any(|w| w == b"xxxxxxxxx"))
        .unwrap();
    bytes[damaged * page..(damaged + 1) * page].fill(0xff);
    fs::write(path(&dir), &bytes).unwrap();

    let log = open(&dir);
    let reader = log.reader().unwrap();
    let (mut after, mut read) = (None, 0);
    let error = loop {
        match reader.page(&Query::new(), after, 10) {
            Ok(page) => {
                read += page.records.len();
                after = page.next;
                assert!(after.is_some(), "the damage was not met");
            }
            Err(error) => break error,
        }
    };
    let ReadError::Fault(fault) = &error else { panic!("{error}") };
    assert_eq!(fault.kind(), FaultKind::Corrupt);
    assert!(error.to_string().contains("events.db") && error.to_string().contains(".recover"));
    assert!(read >= 100, "{read}");
    // The end of the log is whole, and the bus goes on.
    log.append(&[event(5_000)]).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_damaged_all_over_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir, 100).await;
    let mut bytes = fs::read(path(&dir)).unwrap();
    bytes[4_096..].fill(0xff);
    fs::write(path(&dir), &bytes).unwrap();
    let error = EventLog::open(path(&dir)).unwrap_err();
    assert!(is(&error, FaultKind::Corrupt), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = "to do: buy milk\n".repeat(100);
    fs::write(path(&dir), &text).unwrap();
    let error = EventLog::open(path(&dir)).unwrap_err();
    assert!(is(&error, FaultKind::NotADatabase), "{error}");
    assert_eq!(fs::read_to_string(path(&dir)).unwrap(), text);
}

#[tokio::test]
async fn a_read_only_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir, 10).await;
    for file in ["events.db", "events.db-lock"] {
        let mode = if file == "events.db" { 0o444 } else { 0o666 };
        fs::set_permissions(dir.path().join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    let privileged = fs::File::options().write(true).open(path(&dir)).is_ok();
    if !privileged {
        return in_a_read_only_file(dir.path());
    }
    // The superuser may write what is read-only: another user has to try,
    // with a copy of this program that it can reach.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let role = child::command("read-only", dir.path());
    let mut child = std::process::Command::new(program);
    child.args(role.get_args()).uid(65_534).gid(65_534);
    child.envs(role.get_envs().filter_map(|(key, value)| Some((key, value?))));
    assert!(child.current_dir("/").status().unwrap().success());
}

pub(crate) fn in_a_read_only_file(dir: &Path) {
    let file = dir.join("events.db");
    let error = EventLog::open(&file).unwrap_err();
    assert!(is(&error, FaultKind::ReadOnly), "{error}");
    // Reading goes on.
    let reader = swarmbus_store::LogReader::open(&file).unwrap();
    assert_eq!(reader.count(&Query::new()).unwrap().pending, 10);
}
