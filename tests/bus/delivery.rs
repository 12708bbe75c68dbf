//! Who gets what, in which order.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};
use swarmbus::{Bus, DispatchError, Event, Filter, Payload, Priority, SubscribeError, Timestamp};
use swarmbus_tests::{Count, Door, LONG, Seen, settle, within};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    id: u32,
    name: String,
}

#[tokio::test]
async fn every_kind_of_handler_gets_the_event() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    let note = |word: &'static str| {
        let seen = seen.clone();
        move || seen.push(word)
    };
    let (a, b, c, d) = (note("sync"), note("async"), note("typed"), note("typed async"));
    let _subscriptions = [
        bus.subscribe("task.created").priority(4).handle(move |_: &Event| a()).unwrap(),
        bus.subscribe("task.*")
            .priority(3)
            .handle_async(move |_: Event| {
                b();
                std::future::ready(())
            })
            .unwrap(),
        bus.subscribe("task.>")
            .priority(2)
            .handle_typed(move |task: Task| {
                assert_eq!(task, Task { id: 7, name: "x".into() });
                c();
            })
            .unwrap(),
        bus.subscribe(r"/task\.c.*/")
            .priority(1)
            .handle_typed_async(move |task: Task| {
                let d = d.clone();
                async move {
                    tokio::task::yield_now().await;
                    assert_eq!(task.id, 7);
                    d();
                }
            })
            .unwrap(),
    ];
    let task = Payload::msgpack(&Task { id: 7, name: "x".into() }).unwrap();
    bus.publish(Event::of("task.created", task)).await.unwrap();
    settle(&bus).await;
    assert_eq!(seen.all(), ["sync", "async", "typed", "typed async"]);
    assert_eq!(bus.ledger().outcomes.delivered, 4);
}

#[tokio::test]
async fn handlers_of_one_priority_run_in_the_order_of_subscription() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    for (name, priority) in [("b", 0), ("c", 0), ("a", 5), ("d", -1)] {
        let seen = seen.clone();
        let subscribe = bus.subscribe("x").priority(priority);
        subscribe.handle(move |_: &Event| seen.push(name)).unwrap().detach();
    }
    bus.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(seen.all(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn the_more_urgent_come_first_and_equals_keep_their_order() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (seen, door, busy) = (Seen::default(), Door::default(), Count::default());
    let (s, d, b) = (seen.clone(), door.clone(), busy.clone());
    let _all = bus
        .subscribe(">")
        .handle_async(move |event: Event| {
            let (s, d, b) = (s.clone(), d.clone(), b.clone());
            async move {
                b.add();
                if event.ty().as_str() == "first" {
                    tokio::task::spawn_blocking(move || d.wait()).await.unwrap();
                }
                s.note(&event);
            }
        })
        .unwrap();
    bus.publish(Event::of("first", "first")).await.unwrap();
    busy.reaches(1).await;
    for (text, priority) in [("l1", 0), ("m1", 5), ("h1", 9), ("l2", 0), ("m2", 5), ("h2", 9)] {
        let priority = Priority::new(priority).unwrap();
        bus.publish(Event::of("x", text).with_priority(priority)).await.unwrap();
    }
    door.open();
    settle(&bus).await;
    assert_eq!(seen.all(), ["first", "h1", "h2", "m1", "m2", "l1", "l2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_source_keep_their_order_among_many() {
    const SOURCES: usize = 20;
    const EACH: u64 = 2_000;
    let bus = Bus::builder().workers(4).capacity(256).build().unwrap();
    let next = std::sync::Arc::new(parking_lot::Mutex::new(vec![0_u64; SOURCES]));
    let expected = next.clone();
    let _check = bus
        .subscribe("n")
        .handle_typed(move |(source, n): (usize, u64)| {
            let mut expected = expected.lock();
            assert_eq!(expected[source], n, "source {source}");
            expected[source] += 1;
        })
        .unwrap();
    let publishers = (0..SOURCES).map(|source| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            for n in 0..EACH {
                let event = Event::of("n", Payload::msgpack(&(source, n)).unwrap())
                    .with_source(format!("source-{source}"));
                // All three ways to publish keep the order between them.
                match n % 10 {
                    0..5 => bus.publish(event).await.unwrap(),
                    5..8 => batch.push(event),
                    _ => {
                        batch.push(event);
                        bus.publish_batch(&mut batch).await.unwrap();
                    }
                }
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    settle(&bus).await;
    assert_eq!(bus.ledger().outcomes.delivered, SOURCES as u64 * EACH);
    assert!(next.lock().iter().all(|&n| n == EACH));
}

#[tokio::test]
async fn dropping_a_subscription_ends_it_and_lets_go_of_the_handler() {
    let bus = Bus::builder().build().unwrap();
    let count = Count::default();
    let held = std::sync::Arc::new(());
    let (c, h) = (count.clone(), held.clone());
    let subscription = bus
        .subscribe("x")
        .handle(move |_: &Event| {
            let _ = &h;
            c.add();
        })
        .unwrap();
    bus.publish(Event::of("x", ())).await.unwrap();
    bus.dispatch(&Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(subscription.outcomes().delivered, 2);
    drop(subscription);
    bus.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(count.get(), 2);
    let ledger = bus.ledger();
    assert_eq!((ledger.outcomes.delivered, ledger.unmatched), (2, 1), "counts outlive handlers");
    within(async {
        while std::sync::Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn dispatch_runs_handlers_in_the_caller() {
    let bus = Bus::builder().build().unwrap();
    let caller = std::thread::current().id();
    let _same = bus
        .subscribe("x")
        .handle(move |_: &Event| assert_eq!(std::thread::current().id(), caller))
        .unwrap();
    let _fails = bus.subscribe("x").handle(|_: &Event| Err("no")).unwrap();
    let delivery = bus.dispatch(&Event::of("x", ())).await.unwrap();
    assert_eq!((delivery.matched, delivery.delivered), (2, 1));
    let delivery = bus.dispatch(&Event::of("y", ())).await.unwrap();
    assert_eq!((delivery.matched, delivery.delivered), (0, 0));
    settle(&bus).await;
}

#[tokio::test]
async fn handlers_that_dispatch_without_end_are_stopped() {
    let bus = Bus::builder().build().unwrap();
    let (weak, too_deep) = (bus.downgrade(), Count::default());
    let count = too_deep.clone();
    let _loop = bus
        .subscribe("x")
        .handle_async(move |event: Event| {
            let (weak, count) = (weak.clone(), count.clone());
            async move {
                let bus = weak.upgrade().ok_or("gone")?;
                match Box::pin(bus.dispatch(&event)).await {
                    Err(DispatchError::TooDeep { .. }) => count.add(),
                    other => drop(other),
                }
                Ok::<_, &str>(())
            }
        })
        .unwrap();
    bus.dispatch(&Event::of("x", ())).await.unwrap();
    assert_eq!(too_deep.get(), 1);
    settle(&bus).await;
}

#[tokio::test]
async fn filters_and_deadlines_are_accounted_for() {
    let bus = Bus::builder().build().unwrap();
    let count = Count::default();
    let c = count.clone();
    let filtered = bus
        .subscribe("x")
        .filter(Filter::all([
            Filter::attribute("region", "eu"),
            Filter::rate(NonZeroU32::new(1_000).unwrap()),
        ]))
        .handle(move |_: &Event| c.add())
        .unwrap();
    bus.publish(Event::of("x", ())).await.unwrap();
    bus.publish(Event::of("x", ()).with_attribute("region", "eu").unwrap()).await.unwrap();
    let past = Timestamp::from_micros(1).unwrap();
    bus.publish(Event::of("x", ()).with_deadline(past)).await.unwrap();
    settle(&bus).await;
    let outcomes = filtered.outcomes();
    assert_eq!((outcomes.filtered, outcomes.delivered, outcomes.expired), (1, 1, 1));
    assert_eq!(count.get(), 1);
}

#[tokio::test]
async fn a_panic_in_a_filter_is_the_handlers_failure() {
    let bus = Bus::builder().build().unwrap();
    let panics = bus
        .subscribe("x")
        .filter(Filter::custom(|_| panic!("no idea")))
        .handle(|_: &Event| ())
        .unwrap();
    bus.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(panics.outcomes().dead_lettered, 1);
    assert_eq!(bus.dead_letters().list()[0].error.to_string(), "panicked: no idea");
}

#[tokio::test]
async fn events_get_a_time_and_an_id_on_publishing() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    let s = seen.clone();
    let _note = bus
        .subscribe("x")
        .handle(move |event: &Event| {
            assert!(event.timestamp().is_some());
            s.push(&event.id().map(|id| id.to_string()).unwrap_or_default());
        })
        .unwrap();
    bus.publish(Event::of("x", ())).await.unwrap();
    bus.publish(Event::of("x", ()).with_id("mine")).await.unwrap();
    settle(&bus).await;
    let ids = seen.all();
    assert_eq!((ids[0].len(), ids[1].as_str()), (36, "mine"));
}

#[tokio::test]
async fn there_is_a_limit_to_handlers_and_bad_patterns_say_why() {
    let bus = Bus::builder().max_handlers(1).build().unwrap();
    let one = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let two = bus.subscribe("x").handle(|_: &Event| ());
    assert!(matches!(two, Err(SubscribeError::TooMany { limit: 1 })));
    drop(one);
    assert!(bus.subscribe("x").handle(|_: &Event| ()).is_ok());
    let error = bus.subscribe("a.>.b").handle(|_: &Event| ()).unwrap_err();
    assert!(error.to_string().starts_with("\"a.>.b\": "), "{error}");
    assert!(bus.subscribe("/(/").handle(|_: &Event| ()).is_err());
}

#[tokio::test]
async fn a_dispatch_that_is_dropped_counts_as_cancelled() {
    let bus = Bus::builder().build().unwrap();
    let _stuck = bus.subscribe("x").handle_async(|_| std::future::pending::<()>()).unwrap();
    let _after = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let cut = tokio::time::timeout(Duration::ZERO, bus.dispatch(&Event::of("x", ()))).await;
    assert!(cut.is_err());
    let ledger = bus.ledger();
    assert_eq!(ledger.outcomes.cancelled, 2);
    assert!(ledger.balances(), "{ledger}");
    assert_eq!(bus.drain(LONG).await, 0);
}

#[tokio::test]
async fn dispatchers_do_what_dispatch_does_however_many_there_are() {
    let bus = Bus::builder().build().unwrap();
    let count = Count::default();
    let c = count.clone();
    let held = std::sync::Arc::new(());
    let h = held.clone();
    let sync = bus.subscribe("x").handle(move |_: &Event| {
        let _ = &h;
        c.add();
    });
    let sync = sync.unwrap();
    let _fails = bus.subscribe("x").handle_async(|_| async { Err("no") }).unwrap();
    // More than there are places for.
    let mut dispatchers: Vec<_> = (0..100).map(|_| bus.dispatcher()).collect();
    for dispatcher in &mut dispatchers {
        let delivery = dispatcher.dispatch(&Event::of("x", ())).await.unwrap();
        assert_eq!((delivery.matched, delivery.delivered), (2, 1));
    }
    assert_eq!(count.get(), 100);
    let ledger = bus.ledger();
    assert_eq!((ledger.published, ledger.matches), (100, 200));
    assert!(ledger.balances(), "{ledger}");

    drop(sync);
    for dispatcher in &mut dispatchers {
        assert_eq!(dispatcher.dispatch(&Event::of("x", ())).await.unwrap().matched, 1);
    }
    assert_eq!(std::sync::Arc::strong_count(&held), 1, "each has let go of the handler");

    let cut = tokio::time::timeout(Duration::ZERO, async {
        let _stuck = bus.subscribe("y").handle_async(|_| std::future::pending::<()>()).unwrap();
        dispatchers[0].dispatch(&Event::of("y", ())).await
    });
    assert!(cut.await.is_err());
    assert_eq!(bus.ledger().outcomes.cancelled, 1);

    let _ = bus.shutdown(LONG).await;
    let refused = dispatchers[0].dispatch(&Event::of("x", ())).await;
    assert!(matches!(refused, Err(DispatchError::Closed)), "{refused:?}");
    assert!(bus.ledger().balances(), "{}", bus.ledger());
}
