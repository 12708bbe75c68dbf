//! What the event log costs on top of SQLite.
//!
//! All events have 200 bytes of payload. Every run works on a new file, in the
//! folder for temporary files; what is in it is counted afterwards. Opening and
//! closing are not measured. Only what reads uses its file again.

mod replay;
mod rows;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use swarmbus::{Bus, Content, Event, Payload};
use swarmbus_store::{Durability, EventLog, Options};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::harness::Case;

/// Tasks that append batches.
const APPENDERS: u64 = 8;

/// Events of one batch.
const BATCH: u64 = 64;

/// Tasks that publish one event after the other.
const PUBLISHERS: u64 = 100;

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let bare = "bare inserts, 1,000 a transaction";
    vec![
        Case::per_second("append, group commit", append).against(bare, 0.8, rows::insert),
        Case::per_second("publish_batch and settle, group commit", publish_batches).against(
            bare,
            None,
            rows::insert,
        ),
        Case::per_second("publish, commit before accept, 100 publishers", publish).against(
            "a commit for each event",
            20.0,
            rows::insert_one_by_one,
        ),
        Case::per_second("replay into a counting handler", replay::into_handler())
            .against("SELECT of the same rows by time", 0.5, replay::select(rows::BY_TIME))
            .against(
                "SELECT of the same rows as they lie",
                None,
                replay::select(rows::AS_THEY_LIE),
            ),
    ]
}

/// A file nobody has used, and the folder that goes with it.
fn new_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("events.db");
    (dir, file)
}

fn event(source: u64) -> Event {
    let payload = Payload::raw(Content::Binary, Bytes::from_static(&PAYLOAD));
    Event::of("task.created", payload).with_source(format!("agent-{source}"))
}

static PAYLOAD: [u8; 200] = [7; 200];

/// Stamped events, as a bus gives them to its log.
fn batch(source: u64, len: u64) -> Vec<Event> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = swarmbus::Timestamp::from_unix(now.expect("a clock that was set"));
    let stamped = |_| {
        let mut event = event(source);
        event.stamp(now, rows::random());
        event
    };
    (0..len).map(stamped).collect()
}

/// Straight to the log, in batches from several tasks.
fn append(n: u64) -> Duration {
    with_log(n, Durability::GROUP, async |log| {
        spread(n, APPENDERS, |task, mut left| {
            let log = log.clone();
            async move {
                while left > 0 {
                    let events = batch(task, left.min(BATCH));
                    log.append(&events).await.expect("appended");
                    left -= events.len() as u64;
                }
            }
        })
        .await
    })
}

/// Through a bus that has the log as its journal, with a handler; each event
/// is settled too, within what is measured as long as others are appended.
fn publish_batches(n: u64) -> Duration {
    with_bus(n, Durability::GROUP, async |bus| {
        spread(n, APPENDERS, |task, mut left| {
            let bus = bus.clone();
            async move {
                let mut events = Vec::new();
                while left > 0 {
                    let len = left.min(BATCH);
                    events.extend((0..len).map(|_| event(task)));
                    bus.publish_batch(&mut events).await.expect("published");
                    left -= len;
                }
            }
        })
        .await
    })
}

/// Each publisher waits for the commit of its event.
fn publish(n: u64) -> Duration {
    with_bus(n, Durability::CommitBeforeAccept, async |bus| {
        spread(n, PUBLISHERS, |task, left| {
            let bus = bus.clone();
            async move {
                for _ in 0..left {
                    bus.publish(event(task)).await.expect("published");
                }
            }
        })
        .await
    })
}

fn with_bus(n: u64, durability: Durability, run: impl AsyncFnOnce(Bus) -> Duration) -> Duration {
    with_log(n, durability, async |log| {
        let bus = Bus::builder().journal(log).build().expect("a bus");
        let handler = bus.subscribe(">").handle(|_: &Event| ()).expect("a handler");
        let took = run(bus.clone()).await;
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
        assert!(bus.ledger().balances() && handler.outcomes().delivered == n);
        took
    })
}

fn with_log(
    n: u64,
    durability: Durability,
    run: impl AsyncFnOnce(EventLog) -> Duration,
) -> Duration {
    let (_dir, path) = new_file();
    let took = Runtime::new().expect("a runtime").block_on(async {
        let log = open(&path, durability);
        let took = run(log.clone()).await;
        log.close().await.expect("closed");
        took
    });
    assert_eq!(rows::count(&path), n, "lost events");
    took
}

fn open(path: &Path, durability: Durability) -> EventLog {
    Options::new().durability(durability).open(path).expect("a new log")
}

/// Runs so many tasks, each with its share of `n`, and waits for all.
async fn spread<F>(n: u64, tasks: u64, task: impl Fn(u64, u64) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let started = Instant::now();
    let share = |i| n / tasks + u64::from(i < n % tasks);
    let running: Vec<_> = (0..tasks).map(|i| tokio::spawn(task(i, share(i)))).collect();
    for task in running {
        task.await.expect("no panic");
    }
    started.elapsed()
}
