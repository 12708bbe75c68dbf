//! Dead letters in a file: list, retry, purge, with and without a bus.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus::{BreakerScope, Bus, DeadReason, Event, LetterFilter, Subscription};
use swarmbus_store::{EventLog, LetterFile, OpenError, Retries, Status, StoredLetter};
use tempfile::TempDir;

use crate::support::{flushed, open, options, path};

const LONG: Duration = Duration::from_secs(60);

/// A bus on this log, with a handler `flaky` that fails until it is told
/// otherwise.
fn flaky(log: &EventLog) -> (Bus, Arc<AtomicBool>, Subscription) {
    let bus = Bus::builder().workers(1).journal(log.clone()).build().unwrap();
    let healthy = Arc::new(AtomicBool::new(false));
    let h = healthy.clone();
    let handler = bus
        .subscribe("task.*")
        .name("flaky")
        .breaker(BreakerScope::Off)
        .handle(move |_: &Event| if h.load(SeqCst) { Ok(()) } else { Err("down") })
        .unwrap();
    (bus, healthy, handler)
}

async fn publish(bus: &Bus, log: &EventLog, types: &[&'static str]) {
    for ty in types {
        bus.publish(Event::of(ty, *ty)).await.unwrap();
    }
    assert_eq!(bus.drain(LONG).await, 0);
    log.flush().await.unwrap();
}

fn letters(dir: &TempDir) -> Vec<StoredLetter> {
    let file = LetterFile::open_to_read(path(dir)).unwrap();
    let (mut letters, mut after) = (Vec::new(), None);
    loop {
        let page = file.page(&LetterFilter::all(), after, 2).unwrap();
        assert!(page.damaged.is_empty());
        letters.extend(page.letters);
        after = page.next;
        if after.is_none() {
            return letters;
        }
    }
}

#[tokio::test]
async fn letters_are_listed_shown_and_purged_beside_the_bus() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let (bus, _healthy, _handler) = flaky(&log);
    publish(&bus, &log, &["task.a", "task.b", "task.c"]).await;
    let found = letters(&dir);
    assert_eq!(found.len(), 3);
    let first = &found[0];
    assert_eq!(
        (&*first.handler, first.reason, &*first.error),
        ("flaky", DeadReason::Failed, "down")
    );
    assert_eq!((first.attempts, first.retry_at), (1, None));
    let event = first.event.clone().unwrap();
    assert_eq!((event.text(), event.id()), (Some("task.a"), Some(first.event_id.clone())));

    let mut file = LetterFile::open(path(&dir)).unwrap();
    assert_eq!(file.get(first.number).unwrap().unwrap().event_type, *event.ty());
    assert!(file.get(99).unwrap().is_none());
    assert_eq!(file.len().unwrap(), 3);
    let b = LetterFilter::all().event_type("*.b").unwrap();
    assert_eq!(file.page(&b, None, 100).unwrap().letters.len(), 1);
    assert_eq!(file.purge_all(&b).unwrap(), 1);
    assert!(file.purge(first.number).unwrap());
    assert!(!file.purge(first.number).unwrap());
    assert_eq!(letters(&dir).len(), 1);
    assert_eq!(file.purge_all(&LetterFilter::all().before(first.at)).unwrap(), 0);
    assert_eq!(file.purge_all(&LetterFilter::all()).unwrap(), 1);
    assert!(file.is_empty().unwrap());
    let statuses: Vec<_> = flushed(&log).await.iter().map(|record| record.status).collect();
    assert_eq!(statuses, [Status::Dead; 3], "what happened to the events is not forgotten");
}

#[tokio::test]
async fn a_retry_that_is_asked_for_is_made_by_the_program_that_runs() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let (bus, healthy, handler) = flaky(&log);
    let other = bus.subscribe("task.*").name("other").handle(|_: &Event| ()).unwrap();
    publish(&bus, &log, &["task.a", "task.b", "task.c"]).await;
    let mut file = LetterFile::open(path(&dir)).unwrap();
    let numbers: Vec<_> = letters(&dir).iter().map(|letter| letter.number).collect();
    assert!(file.retry(numbers[0]).unwrap());
    assert!(!file.retry(99).unwrap());
    assert!(letters(&dir)[0].retry_at.is_some());
    assert_eq!(log.make_retries(&bus).await.unwrap(), retries(0, 1, 0));
    log.flush().await.unwrap();
    let found = letters(&dir);
    assert_eq!((found[0].attempts, found[0].retry_at), (2, None), "it failed again");
    assert_eq!(log.make_retries(&bus).await.unwrap(), retries(0, 0, 0), "once is enough");

    healthy.store(true, SeqCst);
    assert_eq!(file.retry_all(&LetterFilter::all().event_type("task.[ab]").unwrap()).unwrap(), 0);
    let two = LetterFilter::all().event_type("/task.[ab]/").unwrap();
    assert_eq!(file.retry_all(&two).unwrap(), 2);
    assert_eq!(log.make_retries(&bus).await.unwrap(), retries(2, 0, 0));
    assert_eq!(letters(&dir).len(), 1);
    assert_eq!(bus.dead_letters().len(), 1, "the bus's own letter went with it");
    assert_eq!((handler.outcomes().delivered, other.outcomes().delivered), (2, 3));
    let records = flushed(&log).await;
    let states: Vec<_> = records.iter().map(|r| (r.status, r.retry_count)).collect();
    assert_eq!(states, [(Status::Delivered, 1), (Status::Delivered, 1), (Status::Dead, 0)]);
    assert!(bus.ledger().balances());
}

fn retries(delivered: u64, failed: u64, waiting: u64) -> Retries {
    let mut retries = Retries::default();
    (retries.delivered, retries.failed, retries.waiting) = (delivered, failed, waiting);
    retries
}

#[tokio::test]
async fn a_retry_is_made_by_the_next_run_of_the_program() {
    let dir = TempDir::new().unwrap();
    {
        let log = open(&dir);
        let (bus, _healthy, _handler) = flaky(&log);
        publish(&bus, &log, &["task.a"]).await;
        assert!(bus.shutdown(LONG).await.is_clean());
        drop(bus);
        log.close().await.unwrap();
    }
    let mut file = LetterFile::open(path(&dir)).unwrap();
    assert_eq!(file.retry_all(&LetterFilter::all()).unwrap(), 1);

    let log = open(&dir);
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    assert_eq!(log.make_retries(&bus).await.unwrap(), retries(0, 0, 1), "nobody is there yet");
    assert!(letters(&dir)[0].retry_at.is_some(), "it waits");
    let handler = bus.subscribe("task.a").name("flaky").handle(|_: &Event| ()).unwrap();
    assert_eq!(log.make_retries(&bus).await.unwrap(), retries(1, 0, 0));
    assert_eq!(handler.outcomes().delivered, 1);
    assert!(letters(&dir).is_empty());
    assert_eq!(flushed(&log).await[0].status, Status::Delivered);
}

#[tokio::test(start_paused = true)]
async fn a_program_looks_now_and_then() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let (bus, healthy, handler) = flaky(&log);
    publish(&bus, &log, &["task.a"]).await;
    healthy.store(true, SeqCst);
    let service = tokio::spawn(log.serve_retries(&bus, Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(handler.outcomes().delivered, 0);
    assert_eq!(LetterFile::open(path(&dir)).unwrap().retry_all(&LetterFilter::all()).unwrap(), 1);
    // The clock runs ahead while the log's thread works, so that the service may
    // have looked before it was asked: it looks again.
    while handler.outcomes().delivered == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(bus);
    tokio::time::timeout(LONG, service).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bus_without_this_journal_makes_each_retry_once_too() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let (bus, _healthy, _handler) = flaky(&log);
    publish(&bus, &log, &["task.a", "task.b"]).await;
    LetterFile::open(path(&dir)).unwrap().retry_all(&LetterFilter::all()).unwrap();
    let other = Bus::builder().build().unwrap();
    let picky = |event: &Event| if event.text() == Some("task.a") { Ok(()) } else { Err("no") };
    let handler = other.subscribe("task.*").name("flaky").handle(picky).unwrap();
    assert_eq!(log.make_retries(&other).await.unwrap(), retries(1, 1, 0));
    assert_eq!(log.make_retries(&other).await.unwrap(), retries(0, 0, 0));
    assert_eq!(handler.outcomes().total(), 2);
    assert_eq!(letters(&dir).len(), 1);
    assert!(other.shutdown(LONG).await.is_clean());
    LetterFile::open(path(&dir)).unwrap().retry_all(&LetterFilter::all()).unwrap();
    let stopped = log.make_retries(&other).await.unwrap_err();
    assert!(stopped.to_string().contains("shutting down"), "{stopped}");
    assert!(letters(&dir)[0].retry_at.is_some());
}

#[tokio::test]
async fn what_is_no_log_is_refused() {
    let dir = TempDir::new().unwrap();
    let error = LetterFile::open(path(&dir)).unwrap_err();
    assert!(matches!(error, OpenError::Fault(_)), "{error}");
    assert!(!path(&dir).exists(), "no file is made");
    std::fs::write(path(&dir), "").unwrap();
    let error = LetterFile::open_to_read(path(&dir)).unwrap_err();
    assert!(matches!(error, OpenError::Empty { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_row_is_told_and_does_not_hide_the_others() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let (bus, _healthy, _handler) = flaky(&log);
    publish(&bus, &log, &["task.a", "task.b"]).await;
    let conn = rusqlite::Connection::open(path(&dir)).unwrap();
    conn.execute("UPDATE dead_letters SET event = x'00' WHERE letter = 1", ()).unwrap();
    let file = LetterFile::open(path(&dir)).unwrap();
    let page = file.page(&LetterFilter::all(), None, 100).unwrap();
    assert_eq!((page.letters.len(), page.damaged.len(), page.damaged[0].0), (1, 1, 1));
    assert!(file.get(1).unwrap_err().to_string().contains("row 1 of the table dead_letters"));
    for sql in [
        "UPDATE dead_letters SET event = (SELECT event FROM dead_letters WHERE letter = 2),
             error = CAST(x'ff' AS TEXT) WHERE letter = 1",
        "UPDATE dead_letters SET error = '', handler = CAST(x'ff' AS TEXT) WHERE letter = 1",
        "UPDATE dead_letters SET handler = 'flaky', attempts = -1 WHERE letter = 1",
    ] {
        conn.execute(sql, ()).unwrap();
        let page = file.page(&LetterFilter::all(), None, 100).unwrap();
        assert_eq!((page.letters.len(), page.damaged.len()), (1, 1), "{sql}");
    }
}

#[tokio::test]
async fn the_oldest_letters_go_when_there_are_too_many() {
    for (max, failures, least) in [(3, 5_usize, 3), (128, 399, 126)] {
        let dir = TempDir::new().unwrap();
        let log = options().max_letters(max).open(path(&dir)).unwrap();
        let bus = Bus::builder().workers(1).journal(log.clone()).build().unwrap();
        let _fails =
            bus.subscribe(">").breaker(BreakerScope::Off).handle(|_: &Event| Err("no")).unwrap();
        for i in 1..=failures {
            bus.publish(Event::of("task.a", i.to_string())).await.unwrap();
            assert_eq!(bus.drain(LONG).await, 0);
            if i % 50 == 0 {
                // Holes do not count.
                let mut file = LetterFile::open(path(&dir)).unwrap();
                log.flush().await.unwrap();
                file.purge(i64::try_from(i).unwrap()).unwrap();
            }
        }
        log.flush().await.unwrap();
        let file = LetterFile::open(path(&dir)).unwrap();
        let letters = file.page(&LetterFilter::all(), None, 1_000).unwrap().letters;
        assert!((least..=max).contains(&letters.len()), "{} of {max}", letters.len());
        let numbers: Vec<_> = letters.iter().map(|letter| letter.number).collect();
        let newest: Vec<_> = (1..=failures as i64).filter(|n| n % 50 != 0).collect();
        assert!(newest.ends_with(&numbers), "{numbers:?}");
    }
}
