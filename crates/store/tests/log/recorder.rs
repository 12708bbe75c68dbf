//! Recording what handlers do, and playing it through other settings.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus::{BreakerScope, Bus, Event, LetterFilter};
use swarmbus_store::{
    Recorder, read_calls,
    what_if::{Settings, Tally},
};
use tempfile::TempDir;

use crate::support::{open, path};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_recording_says_what_handlers_did() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let bus = Bus::builder().workers(1).event_middleware(Recorder::new(&log)).build().unwrap();
    let healthy = Arc::new(AtomicBool::new(false));
    let h = healthy.clone();
    let flaky = bus
        .subscribe("x")
        .name("flaky")
        .handle(move |_: &Event| if h.load(SeqCst) { Ok(()) } else { Err("down") })
        .unwrap();
    let _forgets = bus
        .subscribe("x")
        .name("forgets")
        .breaker(BreakerScope::Off)
        .dead_letters(false)
        .handle(|_: &Event| Err("no"))
        .unwrap();
    let _picky = bus
        .subscribe("x")
        .name("picky")
        .filter(swarmbus::Filter::custom(|_| false))
        .handle(|_: &Event| ())
        .unwrap();
    for _ in 0..20 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    bus.publish(Event::of("x", ()).replayed()).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);
    healthy.store(true, SeqCst);
    let report = bus.dead_letters().retry_all(&LetterFilter::all()).await;
    assert_eq!(report.delivered, 0, "the breaker is open");
    let outcomes = flaky.outcomes();
    assert!(bus.shutdown(LONG).await.is_clean());
    drop(bus);
    log.flush().await.unwrap();

    let mut recording = read_calls(&log.reader().unwrap(), None, None).unwrap();
    let off = Settings { breaker: None, ..Settings::default() };
    let what_if = recording.what_if(&Settings::default(), &off);
    let of = |name: &str| what_if.services.iter().find(|s| s.handler == name).unwrap();
    let recorded = of("flaky").recorded;
    assert_eq!((recorded.dead_lettered, recorded.rejected_by_breaker), (5, 20));
    assert_eq!(outcomes.rejected_by_breaker, 21, "the replayed one is not in it");
    assert_eq!(of("forgets").recorded.failed, 20);
    assert_eq!(what_if.services.len(), 2, "what a filter kept away is no part of it");
    // The default settings were in force, except for `forgets`.
    let baseline = of("flaky").baseline;
    assert_eq!(Tally { opens: None, open_for: None, ..baseline }, recorded);
    assert_eq!(baseline.opens, Some(1));
    assert_eq!(of("flaky").changed.dead_lettered, 25);
    assert_eq!(of("forgets").changed.failed, 20);
}

#[tokio::test]
async fn calls_that_the_disk_does_not_take_are_counted() {
    let dir = TempDir::new().unwrap();
    let log = swarmbus_store::Options::new().busy_timeout(Duration::from_millis(20));
    let log = log.open(path(&dir)).unwrap();
    let bus = Bus::builder().event_middleware(Recorder::new(&log)).build().unwrap();
    let _handler = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let other = rusqlite::Connection::open(path(&dir)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..300 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    assert!(bus.shutdown(LONG).await.is_clean());
    drop(bus);
    assert!(log.flush().await.is_err());
    other.execute_batch("COMMIT").unwrap();
    log.flush().await.unwrap();
    let written = read_calls(&log.reader().unwrap(), None, None).unwrap().len() as u64;
    assert_eq!(written + log.stats().calls_lost, 300);
    assert!(log.stats().calls_lost > 0);
}

#[tokio::test]
async fn many_calls_are_written_and_let_go_of_with_their_time() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    let bus = Bus::builder().event_middleware(Recorder::new(&log)).build().unwrap();
    let _handler = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    for _ in 0..2_500 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    assert!(bus.shutdown(LONG).await.is_clean());
    drop(bus);
    log.flush().await.unwrap();
    let calls = || read_calls(&log.reader().unwrap(), None, None).unwrap().len();
    assert_eq!(calls(), 2_500);
    log.close().await.unwrap();

    let conn = rusqlite::Connection::open(path(&dir)).unwrap();
    conn.execute("UPDATE calls SET at = at - 3600 * 1000000", ()).unwrap();
    let log = swarmbus_store::Options::new().keep_for(Some(Duration::from_secs(60)));
    let log = log.open(path(&dir)).unwrap();
    let reader = log.reader().unwrap();
    tokio::time::timeout(LONG, async {
        while !read_calls(&reader, None, None).unwrap().is_empty() {
            log.flush().await.unwrap();
        }
    })
    .await
    .unwrap();
}
