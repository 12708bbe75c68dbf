//! A queue that is full, or nearly.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use swarmbus::{Bus, Event, Overflow, Priority, PublishCause};
use swarmbus_tests::{Count, Door, Seen, settle, within};

/// A bus whose one worker is stuck in a handler until the door opens.
async fn stuck_bus(overflow: Overflow, capacity: usize) -> (Bus, Door, Seen) {
    let bus = Bus::builder().workers(1).capacity(capacity).overflow(overflow).build().unwrap();
    let (door, busy, seen) = (Door::default(), Count::default(), Seen::default());
    let (d, b, s) = (door.clone(), busy.clone(), seen.clone());
    bus.subscribe(">")
        .handle_async(move |event: Event| {
            let (d, b, s) = (d.clone(), b.clone(), s.clone());
            async move {
                b.add();
                if event.text() == Some("stick") {
                    tokio::task::spawn_blocking(move || d.wait()).await.unwrap();
                } else {
                    s.note(&event);
                }
            }
        })
        .unwrap()
        .detach();
    bus.publish(Event::of("x", "stick")).await.unwrap();
    busy.reaches(1).await;
    (bus, door, seen)
}

fn event(n: usize, priority: u8) -> Event {
    Event::of("x", n.to_string()).with_priority(Priority::new(priority).unwrap())
}

#[tokio::test]
async fn publish_waits_and_try_publish_gives_the_event_back() {
    let (bus, door, seen) = stuck_bus(Overflow::Reject, 3).await;
    for n in 0..3 {
        bus.try_publish(event(n, 5)).unwrap();
    }
    let error = bus.try_publish(event(3, 9)).unwrap_err();
    assert_eq!((error.cause, error.event.text()), (PublishCause::Full, Some("3")));
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish(event(4, 5)).await })
    };
    let cancelled = tokio::time::timeout(Duration::from_millis(5), bus.publish(event(5, 5))).await;
    assert!(cancelled.is_err());
    assert!(!waiting.is_finished());
    door.open();
    within(waiting).await.unwrap().unwrap();
    settle(&bus).await;
    assert_eq!(seen.all(), ["0", "1", "2", "4"]);
    assert_eq!(bus.ledger().refused, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_waiting_publishers_all_get_their_turn() {
    let (bus, door, seen) = stuck_bus(Overflow::Reject, 2).await;
    bus.try_publish(event(0, 5)).unwrap();
    bus.try_publish(event(0, 5)).unwrap();
    let publishers: Vec<_> = (0..50)
        .map(|n| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    bus.publish(event(n, 5)).await.unwrap();
                }
            })
        })
        .collect();
    // Some give up while they wait: nobody else may miss a wake-up for it.
    for _ in 0..20 {
        let gave_up = tokio::time::timeout(Duration::ZERO, bus.publish(event(99, 5))).await;
        assert!(gave_up.is_err());
    }
    door.open();
    for publisher in publishers {
        within(publisher).await.unwrap();
    }
    settle(&bus).await;
    assert_eq!(seen.all().len(), 1_002);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_sees_events_that_hop_between_workers() {
    let bus = Bus::builder().workers(64).build().unwrap();
    let weak = bus.downgrade();
    let _hop = bus
        .subscribe("hop")
        .breaker(swarmbus::BreakerScope::Off)
        .handle(move |event: &Event| {
            let n: u32 = event.text().unwrap_or("0").parse()?;
            if n > 0 {
                let next = Event::of("hop", (n - 1).to_string()).with_source(format!("s{n}"));
                weak.upgrade().ok_or("gone")?.try_publish(next)?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })
        .unwrap();
    for n in 0..300 {
        let event = Event::of("hop", "40").with_source(format!("x{n}"));
        bus.publish(event).await.unwrap();
        settle(&bus).await;
    }
    assert_eq!(bus.ledger().outcomes.delivered, 300 * 41);
}

#[tokio::test]
async fn batches_go_in_whole_whatever_is_in_the_way() {
    for overflow in [Overflow::Reject, Overflow::DropOldest] {
        let bus = Bus::builder().workers(4).capacity(1_000).overflow(overflow).build().unwrap();
        let _all = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
        // Quadratic work would show: this is a second's worth of it and more.
        let mut batch: Vec<_> = (0..100_000).map(|n| event(n, (n % 10) as u8)).collect();
        for (n, event) in batch.iter_mut().enumerate() {
            *event = event.clone().with_source(format!("{}", n % 7));
        }
        within(bus.publish_batch(&mut batch)).await.unwrap();
        assert!(batch.is_empty());
        settle(&bus).await;
        assert_eq!(bus.ledger().published, 100_000);
    }
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest() {
    let (bus, door, seen) = stuck_bus(Overflow::DropOldest, 4).await;
    for n in 0..10 {
        bus.publish(event(n, (n % 3) as u8)).await.unwrap();
    }
    door.open();
    settle(&bus).await;
    let mut kept = seen.all();
    kept.sort();
    assert_eq!(kept, ["6", "7", "8", "9"]);
    assert_eq!(bus.ledger().outcomes.dropped_oldest, 6);
}

#[tokio::test]
async fn drop_lowest_gives_up_the_least_urgent() {
    let (bus, door, seen) = stuck_bus(Overflow::DropLowestPriority, 4).await;
    for (n, priority) in [(0, 5), (1, 1), (2, 7), (3, 1)] {
        bus.publish(event(n, priority)).await.unwrap();
    }
    bus.publish(event(4, 9)).await.unwrap();
    bus.publish(event(5, 6)).await.unwrap();
    let error = bus.publish(event(6, 5)).await.unwrap_err();
    assert_eq!(error.cause, PublishCause::Outranked);
    door.open();
    settle(&bus).await;
    assert_eq!(seen.all(), ["4", "2", "5", "0"]);
    let ledger = bus.ledger();
    assert_eq!((ledger.outcomes.dropped_lowest, ledger.refused), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_adaptive_rate_limit_ends_with_the_overload() {
    let policy = Overflow::AdaptiveRate(swarmbus::core::overflow::AdaptiveRateConfig::default());
    let (bus, door, seen) = stuck_bus(policy, 100).await;
    let error = async {
        loop {
            tokio::time::advance(Duration::from_millis(10)).await;
            if let Err(error) = bus.try_publish(event(0, 5)) {
                return error;
            }
        }
    };
    let error = error.await;
    assert!(matches!(error.cause, PublishCause::RateLimited { .. }), "{error}");
    assert!((80..100).contains(&bus.depth()), "not yet full");
    let queued = bus.depth();
    bus.try_publish(event(1, 8)).expect("critical events pass the limit");
    // `publish` waits for its turn instead.
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish(event(2, 5)).await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    tokio::time::advance(Duration::from_secs(1)).await;
    waiting.await.unwrap().unwrap();
    door.open();
    settle(&bus).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    for n in 0..1_000 {
        bus.try_publish(event(n, 5)).expect("no limit any more");
        settle(&bus).await;
    }
    assert_eq!(seen.all().len(), queued + 2 + 1_000);
}

#[tokio::test]
async fn water_marks_call_once_for_each_crossing() {
    let seen = Seen::default();
    let (high, low) = (seen.clone(), seen.clone());
    let door = Door::default();
    let bus = Bus::builder()
        .workers(1)
        .capacity(10)
        .on_high_water(move || {
            high.push("high");
            panic!("ignored");
        })
        .on_low_water(move || low.push("low"))
        .build()
        .unwrap();
    let (d, busy) = (door.clone(), Count::default());
    let b = busy.clone();
    bus.subscribe("x")
        .handle_async(move |_| {
            b.add();
            let d = d.clone();
            async move { tokio::task::spawn_blocking(move || d.wait()).await.unwrap() }
        })
        .unwrap()
        .detach();
    bus.publish(event(0, 5)).await.unwrap();
    busy.reaches(1).await;
    for n in 0..7 {
        bus.publish(event(n, 5)).await.unwrap();
    }
    assert!(seen.all().is_empty());
    for n in 7..10 {
        bus.publish(event(n, 5)).await.unwrap();
    }
    assert_eq!(seen.all(), ["high"]);
    door.open();
    settle(&bus).await;
    assert_eq!(seen.all(), ["high", "low"]);
}

#[tokio::test]
async fn a_flood_of_urgent_events_does_not_starve_the_others() {
    let (bus, door, seen) = stuck_bus(Overflow::Reject, 10_000).await;
    for n in 0..5_000 {
        bus.publish(event(n, 9)).await.unwrap();
    }
    bus.publish(event(9_999, 0)).await.unwrap();
    door.open();
    settle(&bus).await;
    let place = seen.all().iter().position(|text| text == "9999").unwrap();
    assert!(place < 264, "the fairness rule gives priority 0 a turn in each round: {place}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is published in whatever way, nothing is lost or made up.
    #[test]
    fn the_ledger_balances_whatever_happens(
        capacity in 1_usize..40,
        workers in 1_usize..4,
        policy in 0_usize..3,
        events in prop::collection::vec((0_u8..10, 0_u8..4, 0_u8..6), 1..200),
    ) {
        let overflow = [Overflow::Reject, Overflow::DropOldest, Overflow::DropLowestPriority];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bus = Bus::builder()
                .workers(workers)
                .capacity(capacity.max(workers))
                .overflow(overflow[policy])
                .build()
                .unwrap();
            let panics = Arc::new(|event: &Event| {
                assert!(event.source() != "2", "a panic");
                if event.source() == "3" { Err("an error") } else { Ok(()) }
            });
            let p = panics.clone();
            bus.subscribe("x.*").handle(move |event: &Event| p(event)).unwrap().detach();
            bus.subscribe("x.1").handle_async(|_| tokio::task::yield_now()).unwrap().detach();
            let (mut accepted, mut batch) = (0, Vec::new());
            for (priority, source, how) in events {
                let ty = ["x.0", "x.1", "none"][usize::from(how % 3)];
                let event = Event::of(ty, ())
                    .with_source(source.to_string())
                    .with_priority(Priority::new(priority).unwrap());
                match how {
                    0 | 1 => accepted += u64::from(bus.publish(event).await.is_ok()),
                    2 => accepted += u64::from(bus.try_publish(event).is_ok()),
                    3 => accepted += u64::from(bus.dispatch(&event).await.is_ok()),
                    _ => {
                        batch.push(event);
                        let before = batch.len();
                        if batch.len() > 5 {
                            let _ = bus.publish_batch(&mut batch).await;
                            accepted += (before - batch.len()) as u64;
                            batch.clear();
                        }
                    }
                }
            }
            settle(&bus).await;
            assert_eq!(bus.ledger().published, accepted);
        });
    }
}
