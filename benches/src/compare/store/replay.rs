//! Reading a log: replayed as fast as possible, and by hand.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use swarmbus::{Bus, Event};
use swarmbus_store::{Durability, Replay};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{BATCH, PAYLOAD, batch, new_file, open, rows};

/// Every event goes through a bus to a handler, which counts it and the bytes
/// of its payload.
pub(super) fn into_handler() -> impl FnMut(u64) -> Duration {
    with_log(|path, n| {
        Runtime::new().expect("a runtime").block_on(async {
            let bus = Bus::builder().build().expect("a bus");
            let (count, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (c, b) = (Arc::clone(&count), Arc::clone(&bytes));
            let counting = move |event: &Event| {
                c.fetch_add(1, Relaxed);
                b.fetch_add(event.payload().len() as u64, Relaxed);
            };
            let _handler = bus.subscribe(">").handle(counting).expect("a handler");
            let started = Instant::now();
            let replayed = Replay::of(path).into_bus(&bus).await.expect("a replay");
            let took = started.elapsed();
            assert_eq!((replayed.events, replayed.delivered), (n, n), "lost events");
            assert_eq!((count.load(Relaxed), bytes.load(Relaxed)), (n, n * PAYLOAD.len() as u64));
            took
        })
    })
}

/// Every column that a replay needs of every row, in this order.
pub(super) fn select(order: &'static str) -> impl FnMut(u64) -> Duration {
    with_log(move |path, n| {
        let (count, bytes, took) = rows::select(path, order);
        assert_eq!((count, bytes), (n, n * PAYLOAD.len() as u64));
        took
    })
}

/// Has a log with so many settled events, and keeps it for the next run.
fn with_log(run: impl Fn(&Path, u64) -> Duration) -> impl FnMut(u64) -> Duration {
    let mut kept: Option<(u64, TempDir, PathBuf)> = None;
    move |n| {
        if kept.as_ref().is_none_or(|(events, ..)| *events != n) {
            kept = None;
            let (dir, path) = new_file();
            fill(&path, n);
            kept = Some((n, dir, path));
        }
        kept.as_ref().map_or(Duration::ZERO, |(_, _, path)| run(path, n))
    }
}

fn fill(path: &Path, n: u64) {
    let written = async {
        let log = open(path, Durability::GROUP);
        let mut left = n;
        while left > 0 {
            let events = batch(left % 50, left.min(BATCH));
            log.append(&events).await.expect("appended");
            for event in &events {
                swarmbus::Journal::settle(&log, event, swarmbus::Settlement::Delivered);
            }
            left -= events.len() as u64;
        }
        log.close().await.expect("closed");
    };
    Runtime::new().expect("a runtime").block_on(written);
    assert_eq!(rows::count(path), n);
}
