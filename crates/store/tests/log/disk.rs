//! A disk that fails in the middle: strace has the kernel answer a system call of the log
//! with an error, once. Where the system does not let it trace, nothing is tested here, and
//! the tests say so.

use std::{collections::HashSet, path::Path, process::Command, sync::Arc, time::Duration};

use parking_lot::Mutex;
use swarmbus::{Bus, Event, PublishCause};
use swarmbus_store::{EventLog, FaultKind, Status, WriteError};

use crate::{child, support::flushed};

const PUBLISHERS: usize = 8;

/// Plays a role whose calls fail. Calls are counted for each thread, and only the log's own
/// make so many.
fn play_with_failing(calls: &str, role: &str) {
    let strace = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null"];
    let allowed = Command::new(strace[0]).args(&strace[1..]).arg("true").status();
    if !allowed.expect("strace: `cargo xtask test` installs it").success() {
        eprintln!("not tested: this system does not let strace trace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (name, _) = calls.split_once(':').unwrap();
    let (trace, inject) = (format!("trace={name}"), format!("inject={calls}"));
    let call = ["-e", &trace, "-e", &inject, "sh", "-c", r#"exec "$@""#];
    let shell = [&strace[..], &call].concat();
    assert!(child::behind(&shell, role, dir.path()).status().unwrap().success());
}

#[test]
fn a_sync_that_fails() {
    play_with_failing("fdatasync:error=EIO:when=20", "failing-sync");
}

#[test]
fn a_commit_that_fails() {
    play_with_failing("pwrite64:error=EIO:when=100", "failing-commit");
}

#[test]
fn a_commit_that_finds_the_disk_full() {
    play_with_failing("pwrite64:error=ENOSPC:when=100", "failing-commit");
}

/// A bus that notes what its handler has seen.
fn bus(log: &EventLog) -> (Bus, Arc<Mutex<Vec<String>>>) {
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let note = move |event: &Event| notes.lock().push(event.source().to_owned());
    bus.subscribe("task").handle(note).unwrap().detach();
    (bus, seen)
}

fn event(publisher: usize, i: usize) -> Event {
    Event::of("task", vec![b'x'; 300]).with_source(format!("{publisher}-{i}"))
}

/// Each publishes until it is refused, or so often. Returns what was accepted, and what was
/// not.
async fn publish(bus: &Bus, most: usize) -> (HashSet<String>, Vec<Event>) {
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let mut accepted = Vec::new();
            for i in 0..most {
                match bus.publish(event(publisher, i)).await {
                    Ok(()) => accepted.push(format!("{publisher}-{i}")),
                    Err(refused) => {
                        assert!(matches!(refused.cause, PublishCause::Journal(_)), "{refused}");
                        assert_eq!(refused.event.source(), format!("{publisher}-{i}"));
                        return (accepted, Some(*refused.event));
                    }
                }
            }
            (accepted, None)
        })
    });
    let (mut accepted, mut refused) = (HashSet::new(), Vec::new());
    for publisher in publishers.collect::<Vec<_>>() {
        let (more, last) = publisher.await.unwrap();
        accepted.extend(more);
        refused.extend(last);
    }
    (accepted, refused)
}

/// After it the log takes nothing more, though all later syncs would succeed.
pub(crate) fn with_a_failing_sync(dir: &Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let path = dir.join("events.db");
        let log = EventLog::open(&path).unwrap();
        let (first_bus, seen) = bus(&log);
        let (accepted, refused) = publish(&first_bus, usize::MAX).await;
        assert!(accepted.len() > 10 && refused.len() == PUBLISHERS, "{}", accepted.len());
        let again = log.append(&refused[..1]).await.unwrap_err();
        let is_io = matches!(&again, WriteError::Fault(fault) if fault.kind() == FaultKind::Io);
        assert!(is_io && again.to_string().contains("events.db-wal"), "{again}");
        assert!(log.stats().failing);

        // The bus goes on: with what was accepted, and with what needs no journal.
        first_bus.publish(Event::of("task", ()).with_source("replay").replayed()).await.unwrap();
        assert_eq!(first_bus.drain(Duration::from_secs(60)).await, 0);
        assert!(first_bus.ledger().balances());
        let handled = seen.lock().iter().cloned().collect::<HashSet<_>>();
        assert!(accepted.is_subset(&handled) && handled.contains("replay"));
        assert!(first_bus.shutdown(Duration::from_secs(60)).await.is_clean());
        drop(first_bus);
        assert!(matches!(log.close().await, Err(WriteError::Fault(_))));
        drop(log);

        let log = EventLog::open(&path).unwrap();
        let (second_bus, seen) = bus(&log);
        log.recover(&second_bus).await.unwrap();
        assert_eq!(second_bus.drain(Duration::from_secs(60)).await, 0);
        let again = seen.lock().iter().cloned().collect::<HashSet<_>>();
        let records = flushed(&log).await;
        assert!(records.iter().all(|record| record.status == Status::Delivered));
        let kept: HashSet<_> =
            records.iter().map(|record| record.event.source().to_owned()).collect();
        assert!(accepted.is_subset(&kept), "accepted and lost");
        assert_eq!(kept.len(), records.len(), "no event twice");
        assert!(again.is_subset(&kept) && !again.is_empty(), "no settlement was written");
        second_bus.publish(event(0, usize::MAX)).await.unwrap();
    });
}

/// After it the log goes on.
pub(crate) fn with_a_failing_commit(dir: &Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let log = EventLog::open(dir.join("events.db")).unwrap();
        let (bus, seen) = bus(&log);
        let (mut accepted, refused) = publish(&bus, 50).await;
        assert!(!refused.is_empty(), "nothing has failed");
        for event in refused {
            accepted.insert(event.source().to_owned());
            bus.publish(event).await.unwrap();
        }
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
        assert!(bus.ledger().balances());
        let records = flushed(&log).await;
        assert!(records.iter().all(|record| record.status == Status::Delivered));
        assert_eq!((records.len(), seen.lock().len()), (accepted.len(), accepted.len()));
        let kept: HashSet<_> =
            records.iter().map(|record| record.event.source().to_owned()).collect();
        assert_eq!(kept, accepted);
        assert!(!log.stats().failing && log.stats().failures > 0);
        log.close().await.unwrap();
    });
}
