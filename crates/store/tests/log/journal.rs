//! A log as the journal of a bus, and read back.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use swarmbus::{Bus, Event, EventType, Overflow, Payload, Priority, Target, Timestamp};
use swarmbus_core::router::Pattern;
use swarmbus_store::{Durability, EventLog, LogReader, OpenError, Query, Status};

use tokio::sync::Semaphore;

use crate::support::{all, flushed, open, options, path};

/// Longer than anything here takes; only a test that fails waits for it.
const LONG: Duration = Duration::from_secs(60);

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

#[tokio::test]
async fn what_a_bus_accepts_is_in_the_log_with_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let _ok = bus.subscribe("task.good").handle(|_: &Event| {}).unwrap();
    let _bad = bus
        .subscribe("task.bad")
        .handle(|_: &Event| Err::<(), _>(std::io::Error::other("no such task")))
        .unwrap();

    bus.publish(Event::of("task.good", "1")).await.unwrap();
    bus.publish(Event::of("task.bad", "2")).await.unwrap();
    bus.publish(Event::of("nobody.cares", "3")).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);

    let records = flushed(&log).await;
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r.event.ty().as_str(), r.event.text().unwrap(), r.status))
        .collect();
    assert_eq!(
        seen,
        [
            ("task.good", "1", Status::Delivered),
            ("task.bad", "2", Status::Dead),
            ("nobody.cares", "3", Status::Delivered),
        ]
    );
    assert_eq!(log.stats().pending, 0);
}

#[tokio::test]
async fn what_a_full_queue_drops_is_settled_as_failed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let bus = Bus::builder().workers(1).capacity(4).overflow(Overflow::DropOldest);
    let bus = bus.journal(log.clone()).build().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let _held = bus
        .subscribe("x")
        .handle_async(move |_| {
            let held = Arc::clone(&held);
            async move { held.acquire().await.map(drop) }
        })
        .unwrap();
    // Nothing leaves the queue for long, so that it overflows.
    let mut published = 0;
    while bus.ledger().outcomes.dropped_oldest < 3 {
        bus.publish(Event::of("x", ())).await.unwrap();
        published += 1;
    }
    gate.add_permits(1);
    assert_eq!(bus.drain(LONG).await, 0);

    assert!(bus.ledger().balances());
    let records = flushed(&log).await;
    let of = |status| records.iter().filter(|record| record.status == status).count();
    assert_eq!((of(Status::Failed), of(Status::Delivered)), (3, published - 3));
    assert_eq!((records.len(), log.stats().pending), (published, 0));
}

#[tokio::test]
async fn an_event_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let mut plain = Event::new(EventType::new("a.b").unwrap(), Payload::json(&[1, 2]).unwrap())
        .with_source("agent-1")
        .with_priority(Priority::new(8).unwrap());
    plain.stamp(at(1_700_000_000_000_001), 7);
    let full = Event::of("a.full", "text")
        .with_id("chosen by a stranger")
        .with_timestamp(at(1_700_000_000_000_002))
        .with_target(Target::agent("b"))
        .with_session("s")
        .with_correlation_id("c")
        .with_causation_id("0190a6e2-0000-7000-8000-000000000001")
        .with_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .with_deadline(at(1_800_000_000_000_000))
        .with_hop("h")
        .with_attribute("tenant", "t")
        .unwrap();
    let chosen = Event::of("a.chosen", vec![0_u8; 3])
        .with_id("0190a6e2-0000-7000-8000-000000000002")
        .with_timestamp(at(1_700_000_000_000_003));
    let events = [plain, full, chosen];

    log.append(&events).await.unwrap();

    let read: Vec<Event> = all(&log, &Query::new()).into_iter().map(|r| r.event).collect();
    assert_eq!(read, events);
}

#[tokio::test]
async fn an_event_that_the_log_cannot_take_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let good = Event::of("good", ()).with_id("1").with_timestamp(at(5));
    let unstamped = Event::of("bad", ());
    let long =
        Event::of("bad", ()).with_id("2").with_timestamp(at(5)).with_session("s".repeat(2_000));
    let large = Event::of("bad", vec![0; 9 << 20]).with_id("3").with_timestamp(at(5));
    for (bad, reason) in [(unstamped, "no id"), (long, "session"), (large, "limit is 8388608")] {
        let error = log.append(&[good.clone(), bad]).await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains(reason), "{error}");
    }
    assert!(flushed(&log).await.is_empty(), "all or none");
    assert_eq!(log.stats().pending, 0);
}

#[tokio::test]
async fn a_query_chooses_by_time_type_and_status() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let types = ["task.created", "task.done", "vote.cast"];
    let mut events = Vec::new();
    for i in 0..30 {
        let mut event = Event::of(types[i % 3], i.to_string());
        // Two of them at each time, and the batches in the wrong order.
        event.stamp(at(1_000 + (29 - i as u64) / 2), i as u64 + 1);
        events.push(event);
    }
    log.append(&events).await.unwrap();

    let texts = |query: &Query| -> Vec<String> {
        all(&log, query).iter().map(|r| r.event.text().unwrap().to_owned()).collect()
    };
    let naive = |wanted: &dyn Fn(&Event) -> bool| -> Vec<String> {
        let mut found: Vec<&Event> = events.iter().filter(|event| wanted(event)).collect();
        found.sort_by_key(|event| event.timestamp());
        found.iter().map(|event| event.text().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&Query::new()), naive(&|_| true));
    let range = Query::new().from(at(1_003)).to(at(1_010));
    let within = |e: &Event| (at(1_003)..at(1_010)).contains(&e.timestamp().unwrap());
    assert_eq!(texts(&range), naive(&within));
    for pattern in ["task.done", "task.*", ">", "nobody"] {
        let pattern = Pattern::parse(pattern).unwrap();
        let query = range.clone().types(pattern.clone());
        let expected = naive(&|e| within(e) && pattern.matches(e.ty().as_str()));
        assert_eq!(texts(&query), expected, "{pattern}");
        let counts = log.reader().unwrap().count(&query).unwrap();
        assert_eq!((counts.pending, counts.total()), (expected.len() as u64, counts.pending));
    }
    assert!(texts(&Query::new().status(Status::Dead)).is_empty());
}

#[tokio::test]
async fn events_of_one_time_are_read_in_pages_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    for (first, micros) in [(0, 1_000), (20, 999), (40, 1_000), (60, 1_001)] {
        let batch: Vec<_> = (first..first + 20)
            .map(|i| {
                let ty = if i % 2 == 0 { "even" } else { "odd" };
                Event::of(ty, i.to_string()).with_id(&*i.to_string()).with_timestamp(at(micros))
            })
            .collect();
        log.append(&batch).await.unwrap();
    }
    let seqs = |query: &Query| all(&log, query).iter().map(|r| r.seq - 1).collect::<Vec<_>>();
    let expected: Vec<i64> = (20..40).chain(0..20).chain(40..80).collect();
    assert_eq!(seqs(&Query::new()), expected);
    assert_eq!(seqs(&Query::new().from(at(1_000)).to(at(1_001))), expected[20..60]);
    let odd: Vec<i64> = expected.iter().copied().filter(|seq| seq % 2 == 1).collect();
    for pattern in [Pattern::parse("odd").unwrap(), Pattern::regex("odd").unwrap()] {
        assert_eq!(seqs(&Query::new().types(pattern)), odd);
    }
}

/// What no log of ours has, in files that are made to look like one.
#[tokio::test]
async fn a_damaged_row_is_told_and_does_not_hide_the_others() {
    for (damage, column) in [
        ("retry_count = -1", "retry_count"),
        ("status = 9", "status"),
        ("priority = 10", "priority"),
        ("timestamp = -5", "timestamp"),
        ("event_type = CAST(x'ff' AS TEXT)", "event_type"),
        ("id = 5", "id"),
        ("content = 77", "content"),
        ("header = x'00'", ""),
        // Somebody else's rare fields.
        ("header = (SELECT header FROM events WHERE seq = 3)", "header"),
        ("payload = zeroblob(8388609)", "payload"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir);
        let plain = |i: u64| {
            let mut event = Event::of("a", i.to_string());
            event.stamp(at(1_000 + i), i + 1);
            event
        };
        log.append(&[plain(0), plain(1), plain(2).with_session("s")]).await.unwrap();
        let other = rusqlite::Connection::open(path(&dir)).unwrap();
        other.execute(&format!("UPDATE events SET {damage} WHERE seq = 1"), ()).unwrap();
        let page = log.reader().unwrap().page(&Query::new(), None, 10).unwrap();
        assert_eq!((page.records.len(), page.damaged.len()), (2, 1), "{damage}");
        let (row, reason) = &page.damaged[0];
        assert!(*row == 1 && reason.to_string().contains(column), "{damage}: {reason}");
    }
}

#[tokio::test]
async fn publishers_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = options().durability(Durability::GROUP).open(path(&dir)).unwrap();
    let publishers: Vec<_> = (0..50_u64)
        .map(|publisher| {
            let log = log.clone();
            tokio::spawn(async move {
                for i in 0..40 {
                    let mut event =
                        Event::of("tick", i.to_string()).with_source(format!("agent-{publisher}"));
                    event.stamp(at(1_000), publisher * 1_000 + i + 1);
                    log.append(&[event]).await.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }

    let stats = log.stats();
    assert_eq!(stats.written, 2_000);
    let records = all(&log, &Query::new());
    for publisher in 0..50 {
        let source = format!("agent-{publisher}");
        let of = records.iter().filter(|r| r.event.source() == source);
        let order: Vec<u32> = of.map(|r| r.event.text().unwrap().parse().unwrap()).collect();
        assert_eq!(order, (0..40).collect::<Vec<_>>());
    }
    log.close().await.unwrap();
    assert!(log.stats().syncs > 0);
}

#[tokio::test]
async fn what_was_pending_is_offered_again_in_order() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(&dir);
        let events: Vec<Event> = (0..1_000)
            .map(|i| {
                let mut event = Event::of("task", i.to_string()).with_source("a");
                event.stamp(at(1_000 - i / 2), i + 1);
                event
            })
            .collect();
        log.append(&events).await.unwrap();
        // One of them was done before the crash.
        swarmbus::Journal::settle(&log, &events[500], swarmbus::Settlement::Delivered);
        log.flush().await.unwrap();
    }

    let log = open(&dir);
    let bus = Bus::builder().capacity(64).journal(log.clone()).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let _all = {
        let seen = Arc::clone(&seen);
        bus.subscribe(">").handle(move |event: &Event| {
            seen.lock().push(event.text().unwrap().parse::<u32>().unwrap());
        })
    }
    .unwrap();
    assert_eq!(log.recover(&bus).await.unwrap().offered, 999);
    assert_eq!(log.recover(&bus).await.unwrap().offered, 0);
    assert_eq!(bus.drain(LONG).await, 0);

    assert_eq!(*seen.lock(), (0..1_000).filter(|i| *i != 500).collect::<Vec<_>>());
    assert!(bus.ledger().balances());
    let records = flushed(&log).await;
    assert_eq!(records.len(), 1_000, "no row twice");
    assert!(records.iter().all(|r| r.status == Status::Delivered));
    assert_eq!(records.iter().filter(|r| r.retry_count == 1).count(), 999);
    assert_eq!(log.stats().offered_again, 999);

    // Nothing is left for the next time.
    assert!(bus.shutdown(LONG).await.is_clean());
    log.close().await.unwrap();
    let log = open(&dir);
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    assert_eq!(log.recover(&bus).await.unwrap().offered, 0);
}

#[tokio::test]
async fn a_second_journal_is_refused_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    assert!(matches!(EventLog::open(path(&dir)), Err(OpenError::InUse { .. })));
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(path(&dir), &link).unwrap();
    assert!(matches!(EventLog::open(link), Err(OpenError::InUse { .. })));
    log.append(&[Event::of("a", ()).with_id("1").with_timestamp(at(5))]).await.unwrap();
    assert_eq!(LogReader::open(path(&dir)).unwrap().count(&Query::new()).unwrap().pending, 1);
    log.close().await.unwrap();
    open(&dir);
}
