//! Ends: drained, shut down in mid-load, or simply dropped.

use std::time::Duration;

use swarmbus::{Bus, DispatchError, Event, PublishCause, SubscribeError};
use swarmbus_tests::{Count, Door, LONG, Seen, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_in_mid_load_loses_nothing_unreported() {
    for round in 0..20 {
        let bus = Bus::builder().workers(2).capacity(64).build().unwrap();
        let count = Count::default();
        let c = count.clone();
        let handler = bus
            .subscribe("x")
            .handle_async(move |_| {
                let c = c.clone();
                async move {
                    tokio::task::yield_now().await;
                    c.add();
                }
            })
            .unwrap();
        let publishers: Vec<_> = (0..8)
            .map(|n| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    let mut accepted = 0_u64;
                    loop {
                        let event = Event::of("x", ()).with_source(n.to_string());
                        match bus.publish(event).await {
                            Ok(()) => accepted += 1,
                            Err(error) => {
                                assert_eq!(error.cause, PublishCause::Closed);
                                return accepted;
                            }
                        }
                    }
                })
            })
            .collect();
        count.reaches(100).await;
        // Half of the rounds give the workers no time at all.
        let limit = if round % 2 == 0 { LONG } else { Duration::ZERO };
        let shutdown = within(bus.shutdown(limit)).await;
        let mut accepted = 0;
        for publisher in publishers {
            accepted += within(publisher).await.unwrap();
        }
        let (ledger, outcomes) = (bus.ledger(), handler.outcomes());
        assert!(ledger.balances(), "{ledger}");
        assert_eq!(ledger.published, accepted);
        assert_eq!(ledger.outcomes, outcomes);
        assert_eq!(outcomes.delivered, count.get());
        assert_eq!(outcomes.delivered + outcomes.cancelled, accepted, "{ledger}");
        // A handler that was cut off is cancelled; its event is not undelivered.
        let cut_off = outcomes.cancelled - shutdown.undelivered.len() as u64;
        assert!(cut_off <= 2, "{cut_off}");
        if limit == LONG {
            assert!(shutdown.is_clean(), "{shutdown:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_bus_says_so() {
    let bus = Bus::builder().build().unwrap();
    assert!(bus.shutdown(LONG).await.is_clean());
    assert_eq!(bus.publish(Event::of("x", ())).await.unwrap_err().cause, PublishCause::Closed);
    assert_eq!(bus.try_publish(Event::of("x", ())).unwrap_err().cause, PublishCause::Closed);
    let mut batch = vec![Event::of("x", ())];
    assert_eq!(bus.publish_batch(&mut batch).await.unwrap_err().cause, PublishCause::Closed);
    assert_eq!(batch.len(), 1);
    assert_eq!(bus.dispatch(&Event::of("x", ())).await, Err(DispatchError::Closed));
    assert!(bus.execute(Event::of("x", ())).await.is_err());
    let ended = bus.subscribe("x").handle(|_: &Event| ());
    assert!(matches!(ended, Err(SubscribeError::Ended)));
    assert!(bus.shutdown(LONG).await.is_clean(), "a second time is harmless");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_never_yields_is_reported() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (door, busy) = (Door::default(), Count::default());
    let (d, b) = (door.clone(), busy.clone());
    let _stuck = bus
        .subscribe("x")
        .handle(move |_: &Event| {
            b.add();
            d.wait();
        })
        .unwrap();
    for _ in 0..10 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    busy.reaches(1).await;
    assert!(bus.drain(Duration::from_millis(10)).await >= 9);
    let shutdown = bus.shutdown(Duration::from_millis(10)).await;
    assert_eq!(shutdown.stuck_workers, 1);
    assert!(!shutdown.is_clean());
    let ledger = bus.ledger();
    let accounted = ledger.resolved + ledger.pending();
    assert_eq!(accounted, 10, "{ledger}");
    door.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stuck_worker_had_taken_counts_as_cancelled() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (door, busy) = (Door::default(), Count::default());
    let (d, b) = (door.clone(), busy.clone());
    let handler = bus
        .subscribe("x")
        .handle(move |event: &Event| {
            if event.text() == Some("stick") {
                b.add();
                d.wait();
            }
        })
        .unwrap();
    // A worker takes more at once while handlers are quick.
    for _ in 0..2_000 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    let mut batch = vec![Event::of("x", "stick")];
    batch.resize(300, Event::of("x", ()));
    bus.publish_batch(&mut batch).await.unwrap();
    busy.reaches(1).await;
    let shutdown = bus.shutdown(Duration::from_millis(10)).await;
    assert_eq!(shutdown.stuck_workers, 1);
    door.open();
    within(async {
        while bus.ledger().pending() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (ledger, outcomes) = (bus.ledger(), handler.outcomes());
    assert!(ledger.balances(), "{ledger}");
    assert_eq!((ledger.unmatched, outcomes.delivered + outcomes.cancelled), (0, 2_300));
}

#[tokio::test]
async fn a_handler_may_shut_its_bus_down() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let weak = bus.downgrade();
    let _stop = bus
        .subscribe("x")
        .handle_async(move |_| {
            let bus = weak.upgrade();
            async move {
                if let Some(bus) = bus {
                    let _ = bus.shutdown(Duration::from_millis(10)).await;
                }
            }
        })
        .unwrap();
    for _ in 0..10 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    within(async {
        while !bus.ledger().balances() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(bus.ledger().outcomes.cancelled, 10);
}

#[tokio::test]
async fn a_shutdown_that_runs_out_of_time_ends_backpressure_and_is_final() {
    let seen = Seen::default();
    let (high, low) = (seen.clone(), seen.clone());
    let bus = Bus::builder()
        .workers(1)
        .capacity(10)
        .on_high_water(move || high.push("high"))
        .on_low_water(move || low.push("low"))
        .build()
        .unwrap();
    let _stuck = bus.subscribe("x").handle_async(|_| std::future::pending::<()>()).unwrap();
    for _ in 0..9 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    let shutdown = bus.shutdown(Duration::from_millis(10)).await;
    assert_eq!(shutdown.undelivered.len(), 8);
    assert_eq!(seen.all(), ["high", "low"]);
    assert_eq!(bus.drain(LONG).await, 0);
    assert!(bus.ledger().balances());
}

#[test]
fn a_bus_whose_runtime_is_gone_says_that_it_is_closed() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let bus = first.block_on(async { Bus::builder().workers(1).capacity(4).build().unwrap() });
    drop(first);
    runtime().block_on(async {
        let error = within(bus.publish(Event::of("x", ()))).await.unwrap_err();
        assert_eq!(error.cause, PublishCause::Closed);
    });
}

#[tokio::test]
async fn dropping_the_last_handle_empties_the_queue_and_ends_the_workers() {
    let bus = Bus::builder().build().unwrap();
    let count = Count::default();
    let c = count.clone();
    bus.subscribe("x").handle(move |_: &Event| c.add()).unwrap().detach();
    let weak = bus.downgrade();
    for _ in 0..100 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    drop(bus);
    count.reaches(100).await;
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_bus_needs_a_runtime_and_sensible_numbers() {
    let error = Bus::builder().build().unwrap_err();
    assert!(error.to_string().contains("tokio runtime"), "{error}");
    let error = Bus::builder().workers(0).build().unwrap_err();
    assert_eq!(error.to_string(), "workers must be 1 to 1,024");
    assert!(Bus::builder().capacity(0).build().is_err());
    assert!(Bus::builder().water_marks(0.2, 0.5).build().is_err());
    assert!(Bus::builder().water_marks(f64::NAN, 0.5).build().is_err());
}
