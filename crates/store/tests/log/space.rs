//! No space: the log refuses, loses nothing, and goes on once there is some.

use std::{fs, path::Path, process::Command};

use swarmbus::{Bus, Event, PublishCause};
use swarmbus_store::{EventLog, FaultKind, OpenError, Options, Status, WriteError};

use crate::{child, support::flushed};

/// A file system of 4 MiB, in a mount namespace of its own. Where the system
/// does not allow for one, the other test has to do.
#[test]
fn on_a_full_disk() {
    let allowed = Command::new("unshare").args(["-Urm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount =
        format!(r#"mount -t tmpfs -o size=4m tmpfs "{}" && exec "$@""#, dir.path().display());
    let shell = ["unshare", "-Urm", "sh", "-c", &mount];
    assert!(child::behind(&shell, "small-disk", dir.path()).status().unwrap().success());
}

#[test]
fn at_the_limit_of_a_files_size() {
    let dir = tempfile::tempdir().unwrap();
    // In units of 512 bytes: 2 MiB. The signal would end the process.
    let shell = ["sh", "-c", r#"trap "" XFSZ; ulimit -S -f 4096; exec "$@""#];
    assert!(child::behind(&shell, "small-files", dir.path()).status().unwrap().success());
}

pub(crate) fn on_a_small_disk(dir: &Path) {
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![0_u8; 2 << 20]).unwrap();
    let free = || fs::remove_file(ballast).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(fill_then(dir, FaultKind::DiskFull, free));
}

pub(crate) fn with_small_files(dir: &Path) {
    let raise = || {
        let process = std::process::id().to_string();
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &process, "--fsize=unlimited"]);
        assert!(prlimit.status().unwrap().success());
    };
    tokio::runtime::Runtime::new().unwrap().block_on(fill_then(dir, FaultKind::Io, raise));
}

/// Publishes until there is no space, then again once there is.
async fn fill_then(dir: &Path, kind: FaultKind, free: impl FnOnce()) {
    let path = dir.join("events.db");
    let log = EventLog::open(&path).unwrap();
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let event = |i: usize| Event::of("task", vec![b'x'; 20_000]).with_source(i.to_string());
    let mut accepted = 0;
    let refused = loop {
        match bus.publish(event(accepted)).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 1_000, "there is no end of the space");
    };
    assert_eq!(refused.event.source(), accepted.to_string(), "the event is handed back");
    assert!(matches!(refused.cause, PublishCause::Journal(_)), "{refused}");
    assert!(accepted > 10);
    let again = log.append(&[*refused.event]).await.unwrap_err();
    assert!(matches!(&again, WriteError::Fault(fault) if fault.kind() == kind), "{again}");
    assert!(log.stats().failing);

    free();
    bus.publish(event(accepted)).await.unwrap();
    assert!(!log.stats().failing);
    assert!(bus.shutdown(std::time::Duration::from_secs(60)).await.is_clean());
    let records = flushed(&log).await;
    let sources: Vec<usize> =
        records.iter().map(|record| record.event.source().parse().unwrap()).collect();
    assert_eq!(sources, (0..=accepted).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.status == Status::Delivered));
    log.close().await.unwrap();
}

/// Where a log cannot even be made.
#[test]
fn without_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing").join("events.db");
    let error = Options::new().open(&path).unwrap_err();
    assert!(matches!(&error, OpenError::Fault(f) if f.kind() == FaultKind::CannotOpen), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");
}
