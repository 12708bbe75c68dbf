//! Replays: which events, in which order, how fast, and what they leave alone.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::Duration,
};

use swarmbus::{Bus, Event, EventMiddleware, Timestamp};
use swarmbus_core::router::Pattern;
use swarmbus_store::{EventLog, Replay, ReplayError, Via};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{flushed, open, path};

const SECOND: u64 = 1_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * SECOND).unwrap()
}

fn event(ty: &'static str, seconds: u64) -> Event {
    Event::of(ty, seconds.to_string())
        .with_id(format!("{ty} {seconds}").as_str())
        .with_timestamp(at(seconds))
}

/// `count` events a second apart, `a` and `b` in turn.
async fn log(dir: &TempDir, count: u64) -> EventLog {
    let log = open(dir);
    let events: Vec<_> =
        (1..=count).map(|n| event(if n % 2 == 1 { "a" } else { "b" }, n)).collect();
    for events in events.chunks(500) {
        log.append(events).await.unwrap();
    }
    log
}

type Texts = Arc<Mutex<Vec<String>>>;

/// A bus whose handler remembers the texts it gets.
fn listener() -> (Bus, Texts) {
    let bus = Bus::builder().workers(1).build().unwrap();
    let texts = Texts::default();
    let t = texts.clone();
    let seen = move |event: &Event| t.lock().unwrap().push(event.text().unwrap().to_owned());
    bus.subscribe(">").handle(seen).unwrap().detach();
    (bus, texts)
}

#[tokio::test]
async fn events_come_back_in_order_by_time_and_type() {
    let dir = TempDir::new().unwrap();
    let _log = log(&dir, 10).await;
    for via in [Via::Dispatch, Via::Queue] {
        let (bus, texts) = listener();
        let all = Replay::of(path(&dir)).via(via).into_bus(&bus).await.unwrap();
        let some = Replay::of(path(&dir)).from(at(3)).to(at(8)).via(via);
        let odd = some.clone().types(Pattern::parse("a").unwrap());
        let either = some.clone().types(Pattern::regex("[ab]").unwrap());
        let progress = odd.progress();
        assert_eq!(odd.into_bus(&bus).await.unwrap().events, 3);
        assert_eq!((progress.events(), progress.at()), (3, Some(at(7))));
        assert_eq!(either.into_bus(&bus).await.unwrap().events, 5);
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
        assert_eq!(all.events, 10);
        assert_eq!(all.delivered, if via == Via::Dispatch { 10 } else { 0 });
        let texts = texts.lock().unwrap();
        let expected: Vec<_> =
            (1..=10).chain([3, 5, 7]).chain(3..8).map(|n| n.to_string()).collect();
        assert_eq!(*texts, expected);
    }
}

#[tokio::test]
async fn a_replay_is_marked_and_leaves_its_own_journal_alone() {
    let dir = TempDir::new().unwrap();
    let log = log(&dir, 1_000).await;
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let weak = bus.downgrade();
    bus.subscribe("*")
        .handle(move |event: &Event| {
            assert!(event.is_replayed());
            let answer = Event::of("answer.x", ()).caused_by(event, "it").unwrap();
            // Would wait for the disk, if it were written down.
            weak.upgrade().unwrap().try_publish(answer).unwrap();
        })
        .unwrap()
        .detach();
    let before = flushed(&log).await;
    let done = Replay::of(path(&dir)).into_bus(&bus).await.unwrap();
    assert_eq!((done.events, done.delivered), (1_000, 1_000));
    assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
    let after = flushed(&log).await;
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.event, after.event);
        assert_eq!((before.status, before.retry_count), (after.status, after.retry_count));
    }
    assert_eq!(log.stats().written, 1_000);
}

#[tokio::test(start_paused = true)]
async fn the_recorded_gaps_are_kept_divided_by_the_speed() {
    let dir = TempDir::new().unwrap();
    let log = open(&dir);
    // The third is accepted late, the fourth after a long time.
    log.append(&[event("a", 10), event("a", 20), event("b", 20), event("a", 110)]).await.unwrap();
    for (speed, expected) in [(1.0, [0, 10_000, 10_000, 100_000]), (4.0, [0, 2_500, 2_500, 25_000])]
    {
        let start = Instant::now();
        let times = Arc::new(Mutex::new(Vec::new()));
        let t = times.clone();
        let (bus, _) = listener();
        let note = move |_: &Event| t.lock().unwrap().push(start.elapsed().as_millis() as u64);
        bus.subscribe(">").handle(note).unwrap().detach();
        Replay::of(path(&dir)).speed(speed).into_bus(&bus).await.unwrap();
        let times = times.lock().unwrap();
        let first = times[0];
        for (time, expected) in times.iter().zip(expected) {
            // tokio's timers are 1 ms wide.
            assert!((expected..=expected + 2).contains(&(time - first)), "{times:?}");
        }
    }
}

#[tokio::test]
async fn a_speed_that_is_none_is_refused() {
    let dir = TempDir::new().unwrap();
    let _log = log(&dir, 1).await;
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let replay = Replay::of(path(&dir)).speed(speed);
        let error = replay.for_each(|_| ControlFlow::Continue(())).await.unwrap_err();
        assert!(matches!(error, ReplayError::Speed(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_dropped_ends_and_says_where() {
    let dir = TempDir::new().unwrap();
    let _log = log(&dir, 5_000).await;
    let (bus, texts) = listener();
    let replay = Replay::of(path(&dir)).speed(1.0);
    let progress = replay.progress();
    let running = tokio::spawn({
        let bus = bus.clone();
        async move { replay.into_bus(&bus).await }
    });
    // The log is read by a thread that knows nothing of a paused clock.
    while progress.events() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let got = texts.lock().unwrap().clone();
    let so_far = got.len() as u64;
    assert!((1..=3).contains(&so_far), "{got:?}");
    assert_eq!((progress.events(), progress.at()), (so_far, Some(at(so_far))));
    assert!(bus.ledger().balances());
}

#[tokio::test]
async fn a_function_gets_events_as_they_were_until_it_breaks_off() {
    let dir = TempDir::new().unwrap();
    let log = log(&dir, 2_000).await;
    let originals = flushed(&log).await;
    let mut got = Vec::new();
    let done = Replay::of(path(&dir))
        .for_each(|event| {
            got.push(event);
            if got.len() == 1_500 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
        .unwrap();
    assert_eq!((done.events, got.len()), (1_499, 1_500));
    assert!(got.iter().zip(&originals).all(|(got, original)| *got == original.event));
}

#[tokio::test]
async fn a_dry_run_counts_types() {
    let dir = TempDir::new().unwrap();
    let _log = log(&dir, 7).await;
    let all = Replay::of(path(&dir)).dry_run().unwrap();
    let found: Vec<_> = all.iter().map(|t| (t.event_type.as_deref(), t.events)).collect();
    assert_eq!(found, [(Some("a"), 4), (Some("b"), 3)]);
    assert_eq!(all[1].span(), Some((at(2), at(6))));
    let some = Replay::of(path(&dir)).types(Pattern::regex("[b-z]").unwrap()).to(at(6));
    assert_eq!(some.dry_run().unwrap()[0].events, 2);
    assert!(Replay::of(dir.path().join("none.db")).dry_run().is_err());
}

struct OnlyA;

impl EventMiddleware for OnlyA {
    fn publishing(&self, event: &mut Event) -> Result<(), String> {
        if event.ty().as_str() == "a" { Ok(()) } else { Err("only a".to_owned()) }
    }
}

#[tokio::test]
async fn refused_and_damaged_events_are_counted_and_end_nothing() {
    let dir = TempDir::new().unwrap();
    let log = log(&dir, 10).await;
    log.flush().await.unwrap();
    let conn = rusqlite::Connection::open(path(&dir)).unwrap();
    conn.execute("UPDATE events SET header = x'00' WHERE seq = 5", ()).unwrap();
    for via in [Via::Dispatch, Via::Queue] {
        let bus = Bus::builder().event_middleware(OnlyA).build().unwrap();
        let done = Replay::of(path(&dir)).via(via).into_bus(&bus).await.unwrap();
        assert_eq!((done.events, done.refused, done.damaged), (4, 5, 1), "{via:?}");
        let left = bus.shutdown(Duration::from_secs(60)).await;
        assert!(left.is_clean());
        let error = Replay::of(path(&dir)).via(via).into_bus(&bus).await.unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }
}

#[tokio::test]
async fn what_is_accepted_during_a_replay_is_no_part_of_it() {
    let dir = TempDir::new().unwrap();
    let log = log(&dir, 1_000).await;
    let (mut count, mut more) = (0, Vec::new());
    let done = Replay::of(path(&dir))
        .for_each(|_| {
            count += 1;
            if count == 1 {
                // Written while the replay is at its first event.
                more.push(event("late", 999));
                let (log, more) = (log.clone(), more.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(log.append(&more)).unwrap();
                })
                .join()
                .unwrap();
            }
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert_eq!(done.events, 1_000);
}
