//! What the tests of commands on an event log share: a log, and the program.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use swarmbus::{Bus, Event, Payload, Timestamp};
use swarmbus_store::{EventLog, Options, Recorder};
use tempfile::TempDir;

pub(crate) fn swarmbus(dir: &TempDir, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmbus"));
    command
        .args(args.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn output(dir: &TempDir, args: &str) -> Output {
    swarmbus(dir, args).output().unwrap()
}

/// What it prints when all is well.
pub(crate) fn prints(dir: &TempDir, args: &str) -> String {
    let output = output(dir, args);
    assert!(output.status.success(), "{args}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What it says when something is wrong, and the exit code.
pub(crate) fn fails(dir: &TempDir, args: &str) -> (String, i32) {
    let output = output(dir, args);
    assert!(!output.status.success(), "{args}: {}", text(&output.stdout));
    (text(&output.stderr), output.status.code().unwrap())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// 2026-01-01T00:00:00Z and so many seconds.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros((1_767_225_600 + seconds) * 1_000_000).unwrap()
}

pub(crate) fn open(dir: &TempDir) -> EventLog {
    Options::new().keep_for(None).open(dir.path().join("events.db")).unwrap()
}

/// A log with so many events, one a second.
pub(crate) async fn events(dir: &TempDir, count: u64) {
    let log = open(dir);
    for n in 0..count {
        let ty = if n % 2 == 0 { "task.created" } else { "task.done" };
        let payload = Payload::json(&serde_json::json!({"n": n})).unwrap();
        let event = Event::of(ty, payload).with_source("agent-1").with_timestamp(at(n));
        log.append(&[event.with_id(format!("id-{n}").as_str())]).await.unwrap();
    }
    log.close().await.unwrap();
}

/// A log with dead letters 1 to 3, and the calls that led to them.
pub(crate) async fn letters(dir: &TempDir) {
    let log = open(dir);
    let bus = Bus::builder()
        .workers(1)
        .journal(log.clone())
        .event_middleware(Recorder::new(&log))
        .build()
        .unwrap();
    bus.subscribe("order.*")
        .name("payment")
        .handle(|_: &Event| Err("bank\nis \u{1b}[31mdown"))
        .unwrap()
        .detach();
    bus.subscribe("order.b").name("typed").handle_typed(|_: u32| ()).unwrap().detach();
    for ty in ["order.a", "order.b"] {
        bus.publish(Event::of(ty, "text")).await.unwrap();
    }
    assert!(bus.shutdown(Duration::from_secs(60)).await.is_clean());
    drop(bus);
    log.close().await.unwrap();
}
