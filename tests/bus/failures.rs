//! Handlers that fail, panic, recover, or publish to a full bus.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus::{
    BreakerOrder, Bus, CommandError, Event, Priority, PublishCause,
    breaker::{Config, StateKind},
};
use swarmbus_tests::{Count, LONG, settle, within};

#[tokio::test]
async fn failures_and_panics_become_dead_letters() {
    let bus = Bus::builder().build().unwrap();
    let _error = bus.subscribe("x").name("fails").handle(|_: &Event| Err("no luck")).unwrap();
    let _panic = bus
        .subscribe("x")
        .name("panics")
        .handle_async(|event: Event| async move {
            assert!(event.text().is_none(), "a surprise");
        })
        .unwrap();
    let _typed = bus.subscribe("x").name("decodes").handle_typed(|_: u32| ()).unwrap();
    let _drops = bus.subscribe("x").dead_letters(false).handle(|_: &Event| Err("no")).unwrap();
    bus.publish(Event::of("x", "text")).await.unwrap();
    settle(&bus).await;
    let letters: Vec<_> = bus
        .dead_letters()
        .list()
        .iter()
        .map(|letter| (letter.handler.to_string(), letter.error.to_string()))
        .collect();
    assert_eq!(letters[0], ("fails".into(), "no luck".into()));
    assert_eq!(letters[1], ("panics".into(), "panicked: a surprise".into()));
    assert_eq!(letters[2].0, "decodes");
    let outcomes = bus.ledger().outcomes;
    assert_eq!((outcomes.dead_lettered, outcomes.failed), (3, 1));
}

#[tokio::test]
async fn a_full_dead_letter_queue_drops_its_oldest() {
    let bus = Bus::builder().dead_letter_capacity(3).build().unwrap();
    // Five failures in a row would open the breaker.
    let subscribe = bus.subscribe("x").breaker(swarmbus::BreakerScope::Off);
    let _fails = subscribe.handle(|_: &Event| Err("no")).unwrap();
    for n in 0..10 {
        bus.publish(Event::of("x", n.to_string())).await.unwrap();
    }
    settle(&bus).await;
    let kept: Vec<_> =
        bus.dead_letters().list().iter().map(|l| l.event.text().unwrap().to_owned()).collect();
    assert_eq!(kept, ["7", "8", "9"]);
    assert_eq!(bus.dead_letters().evicted(), 7);
    assert_eq!(bus.dead_letters().take_all().len(), 3);
    assert!(bus.dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_lets_urgent_events_pass_and_recovers() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let healthy = Arc::new(AtomicBool::new(false));
    let h = healthy.clone();
    let handler = bus
        .subscribe("x")
        .name("flaky")
        .handle(move |_: &Event| if h.load(SeqCst) { Ok(()) } else { Err("down") })
        .unwrap();
    let other_type = Event::of("y", ());
    let _other = bus.subscribe("y").handle(|_: &Event| ()).unwrap();
    let publish = async |n: usize, priority: Priority| {
        for _ in 0..n {
            bus.publish(Event::of("x", ()).with_priority(priority)).await.unwrap();
        }
        settle(&bus).await;
        handler.outcomes()
    };
    let state = || {
        let reports = bus.breakers();
        reports.iter().find(|r| &*r.name == "flaky").unwrap().stats.state
    };

    let outcomes = publish(12, Priority::DEFAULT).await;
    assert_eq!((outcomes.dead_lettered, outcomes.rejected_by_breaker), (5, 7));
    assert_eq!(state(), StateKind::Open);

    // Critical events pass, fail, and change nothing.
    let outcomes = publish(2, Priority::CRITICAL).await;
    assert_eq!((outcomes.dead_lettered, outcomes.rejected_by_breaker), (7, 7));
    assert_eq!(state(), StateKind::Open);
    bus.publish(other_type).await.unwrap();
    settle(&bus).await;

    // The open time passes; the handler is still down: one probe fails.
    tokio::time::advance(Duration::from_secs(30)).await;
    let outcomes = publish(4, Priority::DEFAULT).await;
    assert_eq!((outcomes.dead_lettered, outcomes.rejected_by_breaker), (8, 10));

    // It recovers: three probes close the breaker.
    healthy.store(true, SeqCst);
    tokio::time::advance(Duration::from_secs(30)).await;
    let outcomes = publish(10, Priority::DEFAULT).await;
    assert_eq!(outcomes.delivered, 10);
    assert_eq!(state(), StateKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn breakers_are_set_by_hand() {
    let bus = Bus::builder().build().unwrap();
    let _handler = bus.subscribe("a").name("mailer").handle(|_: &Event| ()).unwrap();
    let _other = bus.subscribe("a").name("log").handle(|_: &Event| ()).unwrap();
    let _command = bus.on_command("sum", |_| async { Ok::<_, String>("3") }).unwrap();
    let delivered = async || bus.dispatch(&Event::of("a", ())).await.unwrap().delivered;
    let state = || {
        let mut breakers = bus.breakers().into_iter();
        breakers.find(|breaker| &*breaker.name == "mailer").unwrap().stats.state
    };
    assert_eq!(bus.set_breakers("mailer", BreakerOrder::Trip), 0, "no event has come yet");
    assert_eq!(delivered().await, 2);
    for (order, then, passes) in [
        (BreakerOrder::Trip, StateKind::Open, 1),
        (BreakerOrder::ForceOpen, StateKind::ForcedOpen, 1),
        (BreakerOrder::MetricsOnly, StateKind::MetricsOnly, 2),
        (BreakerOrder::Disable, StateKind::Disabled, 2),
        (BreakerOrder::Isolate, StateKind::Isolated, 1),
        (BreakerOrder::Disable, StateKind::Isolated, 1),
        (BreakerOrder::Reset, StateKind::Closed, 2),
    ] {
        assert_eq!(bus.set_breakers("mailer", order), 1);
        assert_eq!((state(), delivered().await), (then, passes), "{order:?}");
    }
    assert_eq!(bus.set_breakers("command sum", BreakerOrder::ForceOpen), 1);
    let rejected = bus.execute(Event::of("sum", ())).await.unwrap_err();
    assert!(matches!(rejected, CommandError::Rejected { .. }), "{rejected}");
    assert_eq!(bus.set_breakers("nobody", BreakerOrder::Reset), 0);
    settle(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_handler_recovers_under_sustained_load() {
    let open = Duration::from_millis(20);
    let config = Config::builder().open_for(open).build().unwrap();
    let bus = Bus::builder().breaker(config).dead_letter_capacity(100).build().unwrap();
    let healthy = Arc::new(AtomicBool::new(false));
    let h = healthy.clone();
    let handler = bus
        .subscribe("x")
        .handle(move |_: &Event| if h.load(SeqCst) { Ok(()) } else { Err("down") })
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..8)
        .map(|n| {
            let (bus, stop) = (bus.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    bus.publish(Event::of("x", ()).with_source(format!("{n}"))).await.unwrap();
                }
            })
        })
        .collect();
    within(async {
        while handler.outcomes().rejected_by_breaker < 10_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let spent = handler.outcomes();
    assert!(
        spent.dead_lettered < spent.rejected_by_breaker / 10,
        "an open breaker spares the handler: {spent:?}"
    );
    healthy.store(true, SeqCst);
    within(async {
        while handler.outcomes().delivered < 10_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, SeqCst);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    settle(&bus).await;
    let stats = bus.breakers()[0].stats;
    assert_eq!(stats.state, StateKind::Closed);
    assert!(stats.opens >= 1 && stats.recoveries >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_publish_to_a_full_bus_do_not_deadlock() {
    let bus = Bus::builder().workers(1).capacity(8).build().unwrap();
    let (weak, full) = (bus.downgrade(), Count::default());
    let f = full.clone();
    // Each event makes two more, three generations deep: far more than fit.
    let _grow = bus
        .subscribe("grow.*")
        .handle_async(move |event: Event| {
            let (bus, f) = (weak.upgrade(), f.clone());
            async move {
                let bus = bus.ok_or("gone")?;
                let generation: u32 = event.ty().as_str()[5..].parse()?;
                for _ in 0..if generation < 3 { 2 } else { 0 } {
                    let ty = swarmbus::EventType::new(format!("grow.{}", generation + 1))?;
                    match bus.publish(Event::new(ty, ())).await {
                        Ok(()) => {}
                        Err(error) => {
                            assert_eq!(error.cause, PublishCause::Full);
                            f.add();
                        }
                    }
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }
        })
        .unwrap();
    for _ in 0..100 {
        within(bus.publish(Event::of("grow.0", ()))).await.unwrap();
    }
    settle(&bus).await;
    let ledger = bus.ledger();
    assert_eq!(ledger.refused, full.get(), "every event that did not fit came back");
    assert!(ledger.published > 100, "some found room: {ledger}");
}

#[tokio::test]
async fn a_handler_that_comes_back_through_another_bus_does_not_wait_for_itself() {
    let (a, b) = (Bus::builder().workers(1).capacity(4), Bus::builder());
    let (a, b) = (a.build().unwrap(), b.build().unwrap());
    let (weak_a, weak_b) = (a.downgrade(), b.downgrade());
    let _back = b
        .subscribe("x")
        .handle_async(move |_| {
            let a = weak_a.upgrade();
            async move {
                let a = a.ok_or("gone")?;
                for _ in 0..10 {
                    // Some find no room, and come back instead of waiting.
                    let _ = a.publish(Event::of("leaf", ())).await;
                }
                Ok::<_, &str>(())
            }
        })
        .unwrap();
    let _there = a
        .subscribe("x")
        .handle_async(move |event| {
            let b = weak_b.upgrade();
            async move { b.ok_or("gone")?.dispatch(&event).await.map(drop).map_err(|_| "closed") }
        })
        .unwrap();
    a.publish(Event::of("x", ())).await.unwrap();
    settle(&a).await;
    assert_eq!(a.ledger().outcomes.delivered, 1);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on the way out");
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_when_dropped_ends_nobody() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let bomb = PanicsWhenDropped;
    let bad = bus
        .subscribe("x")
        .handle(move |_: &Event| {
            let _ = &bomb;
        })
        .unwrap();
    let good = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    bus.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    drop(bad);
    bus.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(good.outcomes().delivered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_handlers_that_publish_get_the_reserve_and_then_the_event_back() {
    let bus = Bus::builder().workers(1).capacity(8).build().unwrap();
    let weak = bus.downgrade();
    let results = swarmbus_tests::Seen::default();
    let r = results.clone();
    let _fan_out = bus
        .subscribe("out")
        .handle(move |_: &Event| {
            let Some(bus) = weak.upgrade() else { return };
            for _ in 0..12 {
                r.push(if bus.try_publish(Event::of("in", ())).is_ok() { "in" } else { "back" });
            }
        })
        .unwrap();
    bus.publish(Event::of("out", ())).await.unwrap();
    settle(&bus).await;
    let results = results.all();
    // The capacity of 8, and a quarter more for handlers.
    assert_eq!(results.iter().filter(|r| *r == "in").count(), 10, "{results:?}");
    assert_eq!(bus.drain(LONG).await, 0);
}

/// An error whose every part is a trap.
#[derive(Debug)]
struct Trap;

impl std::fmt::Display for Trap {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("when shown")
    }
}

impl std::error::Error for Trap {}

impl Drop for Trap {
    fn drop(&mut self) {
        // Once is enough: two at a time would end the test.
        assert!(std::thread::panicking(), "when dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_panic_when_they_are_shown_or_dropped_end_nobody() {
    let bus = Bus::builder().workers(1).dead_letter_capacity(1).build().unwrap();
    let off = || bus.subscribe("x").breaker(swarmbus::BreakerScope::Off);
    let tries = std::sync::atomic::AtomicU32::new(0);
    let retry = swarmbus::core::backoff::Backoff::fixed(Duration::from_secs(1)).max_tries(1);
    let _all =
        [
            off().dead_letters(false).handle(|_: &Event| Err(Trap)).unwrap(),
            // Makes room for the next.
            off().handle(|_: &Event| Err(Trap)).unwrap(),
            // Is forgotten when the next try succeeds.
            off()
                .retry(retry)
                .handle(move |_: &Event| {
                    if tries.fetch_add(1, SeqCst).is_multiple_of(2) { Err(Trap) } else { Ok(()) }
                })
                .unwrap(),
            off()
                .fallback("fails, too", |_: &Event| Err(Trap))
                .fallback("works", |_: &Event| ())
                .handle(|_: &Event| Err(Trap))
                .unwrap(),
            off()
                .dead_letters(false)
                .handle_async(|_| async {
                    if true {
                        std::panic::panic_any(Trap)
                    }
                })
                .unwrap(),
        ];
    for _ in 0..3 {
        bus.publish(Event::of("x", ())).await.unwrap();
        settle(&bus).await;
    }
    let outcomes = bus.ledger().outcomes;
    assert_eq!((outcomes.failed, outcomes.dead_lettered), (6, 3));
    assert_eq!((outcomes.delivered, outcomes.fell_back, outcomes.total()), (3, 3, 15));
    let letter = &bus.dead_letters().list()[0];
    assert_eq!(letter.error.to_string(), "an error that panics when it is shown");
}

#[tokio::test]
async fn a_command_that_panics_when_dropped_spoils_no_report() {
    let bus = Bus::builder().workers(1).build().unwrap();
    for command in ["a", "b"] {
        let bomb = PanicsWhenDropped;
        let subscription = bus
            .on_command(command, move |_| {
                let _ = &bomb;
                async { Ok::<_, &str>(()) }
            })
            .unwrap();
        if command == "a" { drop(subscription) } else { subscription.detach() }
    }
    let _hangs = bus.subscribe("x").handle_async(|_| std::future::pending::<()>()).unwrap();
    for _ in 0..2 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    let report = within(bus.shutdown(Duration::ZERO)).await;
    assert!(!report.undelivered.is_empty(), "{report:?}");
}
