//! A process that is killed in the middle of its work loses no event that it
//! has accepted.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{Bus, Event};
use swarmbus_store::{Options, Status};

use crate::{
    child,
    support::{flushed, open},
};

/// `SWARMBUS_CRASHES` says how often; 3 times without.
fn crashes() -> usize {
    std::env::var("SWARMBUS_CRASHES").map_or(3, |times| times.parse().unwrap())
}

#[test]
fn nothing_is_lost_when_every_commit_is_synced() {
    (0..crashes()).for_each(|round| crash("publish", 50 + 100 * round));
}

#[test]
fn nothing_is_lost_with_group_commit() {
    (0..crashes()).for_each(|round| crash("publish-group", 50 + 300 * round));
}

/// Kills a publishing process once it has told of `after` events, and of the
/// first one that its handler never ends with.
fn crash(role: &str, after: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child::command(role, dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut accepted = HashSet::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What it wrote before its end is read after it.
        if let Some(text) = line.unwrap().strip_prefix("accepted ") {
            accepted.insert(text.to_owned());
        }
        if !killed && accepted.len() >= after && accepted.contains("0-0") {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {} events", accepted.len());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(check(&dir, &accepted));
}

/// Every accepted event was done before the crash, or is done now.
async fn check(dir: &tempfile::TempDir, accepted: &HashSet<String>) {
    let log = open(dir);
    let before: HashMap<String, Status> =
        flushed(&log).await.iter().map(|r| (r.event.text().unwrap().into(), r.status)).collect();
    let lost: Vec<_> = accepted.iter().filter(|text| !before.contains_key(*text)).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");

    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let _all = bus.subscribe(">").handle({
        let seen = Arc::clone(&seen);
        move |event: &Event| {
            seen.lock().insert(event.text().unwrap().to_owned());
        }
    });
    let recovered = log.recover(&bus).await.unwrap();
    assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
    assert!(bus.ledger().balances());
    assert_eq!(bus.ledger().published, recovered.offered);
    assert!(recovered.offered > 0, "the child leaves events behind");
    for text in accepted {
        let done = before[text] == Status::Delivered || seen.lock().contains(text);
        assert!(done, "{text} was {:?} and not offered again", before[text]);
    }
    let after = flushed(&log).await;
    assert!(after.iter().all(|record| record.status == Status::Delivered));
    assert_eq!(after.len(), before.len(), "no event twice");
    log.close().await.unwrap();
}

/// Publishes from many tasks, and tells of each event once it is accepted.
pub(crate) fn publish_for_ever(dir: &Path, options: Options) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = options.open(dir.join("events.db")).unwrap();
        let bus = Bus::builder().workers(16).capacity(1_600).journal(log).build().unwrap();
        let _done = bus.subscribe("task.easy").handle(|_: &Event| {}).unwrap();
        let _stuck = bus
            .subscribe("task.stuck")
            .handle_async(|_: Event| async {
                std::future::pending::<()>().await;
            })
            .unwrap();
        let publishers = (0..16).map(|publisher| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let ty = if publisher == 0 { "task.stuck" } else { "task.easy" };
                for i in 0.. {
                    let text = format!("{publisher}-{i}");
                    let event = Event::of(ty, text.clone()).with_source(format!("s{publisher}"));
                    bus.publish(event).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "accepted {text}").unwrap();
                }
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await.unwrap();
        }
    });
}
