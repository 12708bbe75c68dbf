//! Retries, time-outs, bulkheads, limits and fallbacks: what they do, and that
//! the ledger balances whatever becomes of them.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus::{
    BreakerScope, Bulkhead, Bus, DeadReason, Event, HandlerError, Outcome, Policy, PolicyError,
    RateLimit, Sampling, SubscribeError,
    breaker::{Config, StateKind},
    core::{
        backoff::{Backoff, Jitter},
        hops::LoopGuard,
        timeout::Tier,
    },
};
use swarmbus_tests::{Count, LONG, Seen, settle, within};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// 1 s, 2 s, 4 s.
fn steady() -> Backoff {
    Backoff::exponential(SECOND).jitter(Jitter::None)
}

/// A handler that fails `n` times, then succeeds.
fn fails(n: u32) -> impl Fn(&Event) -> Result<(), &'static str> {
    let tries = AtomicU32::new(0);
    move |_| if tries.fetch_add(1, SeqCst) < n { Err("not yet") } else { Ok(()) }
}

async fn publish(bus: &Bus, texts: impl IntoIterator<Item = &'static str>) {
    for text in texts {
        bus.publish(Event::of("x", text)).await.unwrap();
    }
}

/// Waits until so many matches go on in tasks of their own.
async fn detached(bus: &Bus, n: u64) {
    within(async {
        while bus.ledger().detached != n {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_beside_its_worker_and_the_books_show_it() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let seen = Seen::default();
    let s = seen.clone();
    let flaky = fails(2);
    let _first = bus
        .subscribe("x")
        .retry(steady())
        .handle(move |event: &Event| {
            if event.text() == Some("a") {
                flaky(event)?;
            }
            s.note(event);
            Ok::<_, &str>(())
        })
        .unwrap();
    let began = Instant::now();
    publish(&bus, ["a", "b", "c"]).await;
    detached(&bus, 1).await;
    let ledger = bus.ledger();
    assert_eq!((ledger.pending(), ledger.detached, ledger.outcomes.delivered), (0, 1, 2));
    assert!(!ledger.balances(), "{ledger}");
    assert!(bus.drain(Duration::from_millis(1)).await == 1, "it waits for what is detached");
    settle(&bus).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(seen.all(), ["b", "c", "a"], "it gives up its place");
    assert_eq!(bus.ledger().outcomes.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn in_order_means_that_all_wait() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let seen = Seen::default();
    let s = seen.clone();
    let flaky = fails(2);
    let _handler = bus
        .subscribe("x")
        .retry(steady())
        .in_order()
        .handle(move |event: &Event| flaky(event).map(|()| s.note(event)))
        .unwrap();
    publish(&bus, ["a", "b", "c"]).await;
    settle(&bus).await;
    assert_eq!(seen.all(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_try_helps_is_a_dead_letter_with_its_attempts() {
    let bus = Bus::builder().build().unwrap();
    let _fails = bus
        .subscribe("x")
        .name("fails")
        .retry(steady())
        .handle(|_: &Event| Err("no luck"))
        .unwrap();
    let _slow = bus
        .subscribe("x")
        .name("slow")
        .retry(steady().max_tries(1))
        .timeout(SECOND)
        .handle_async(|_| pending::<()>())
        .unwrap();
    let _picky = bus
        .subscribe("x")
        .name("picky")
        .retry(steady())
        .retry_if(|error| !matches!(error, HandlerError::Failed(_)))
        .handle(|_: &Event| Err("not worth it"))
        .unwrap();
    let _wrong =
        bus.subscribe("x").name("wrong type").retry(steady()).handle_typed(|_: u32| ()).unwrap();
    publish(&bus, ["a"]).await;
    settle(&bus).await;
    let mut letters: Vec<_> = bus
        .dead_letters()
        .list()
        .iter()
        .map(|letter| (letter.handler.to_string(), letter.reason, letter.attempts))
        .collect();
    letters.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("fails", DeadReason::Failed, 4),
        ("picky", DeadReason::Failed, 1),
        ("slow", DeadReason::TimedOut, 2),
        ("wrong type", DeadReason::PayloadMismatch, 1),
    ];
    assert_eq!(letters, expected.map(|(name, reason, n)| (name.to_owned(), reason, n)));
    assert_eq!(bus.ledger().outcomes.dead_lettered, 4);
}

#[tokio::test(start_paused = true)]
async fn a_dispatch_waits_for_its_result() {
    let bus = Bus::builder().build().unwrap();
    let one = Bulkhead::new().concurrent(1);
    let handler = bus.subscribe("x").retry(steady()).bulkhead(one).handle(fails(2)).unwrap();
    let began = Instant::now();
    let delivery = bus.dispatch(&Event::of("x", ())).await.unwrap();
    assert_eq!((delivery.matched, delivery.delivered), (1, 1));
    assert_eq!(began.elapsed().as_secs(), 3);
    assert!(bus.ledger().balances());
    // Dropped while it waits for its next try, it is cancelled.
    drop(handler);
    let handler = bus.subscribe("x").retry(steady()).handle(fails(2)).unwrap();
    let event = Event::of("x", ());
    assert!(tokio::time::timeout(SECOND / 2, bus.dispatch(&event)).await.is_err());
    assert_eq!(handler.outcomes().cancelled, 1);
    assert!(bus.ledger().balances());
}

#[tokio::test(start_paused = true)]
async fn no_retry_begins_after_the_events_deadline() {
    let bus = Bus::builder().build().unwrap();
    let handler = bus.subscribe("x").retry(steady()).handle(fails(9)).unwrap();
    let soon = swarmbus::Timestamp::from_unix(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + SECOND / 2,
    );
    bus.publish(Event::of("x", ()).with_deadline(soon)).await.unwrap();
    settle(&bus).await;
    assert_eq!(handler.outcomes().dead_lettered, 1);
    assert_eq!(bus.dead_letters().list()[0].attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_in_its_bulkhead_does_not_hold_the_worker() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (r, m) = (running.clone(), most.clone());
    let slow = bus
        .subscribe("slow")
        .name("slow")
        .bulkhead(Bulkhead::new().concurrent(3).queue(4).wait(SECOND * 6))
        .handle_async(move |_| {
            let (r, m) = (r.clone(), m.clone());
            async move {
                m.fetch_max(r.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(SECOND * 4).await;
                r.fetch_sub(1, SeqCst);
            }
        })
        .unwrap();
    let quick = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    for _ in 0..10 {
        bus.publish(Event::of("slow", ())).await.unwrap();
    }
    publish(&bus, ["a", "b"]).await;
    detached(&bus, 7).await;
    assert_eq!(quick.outcomes().delivered, 2, "nobody waits for the slow one");
    let report = &bus.bulkheads()[0];
    assert_eq!((&*report.name, report.running, report.waiting), ("slow", 3, 4));
    settle(&bus).await;
    // 3 at once, 4 wait: of these, 3 get a place after 4 s, and one gives up
    // after 6 s; 3 found the queue full.
    let outcomes = slow.outcomes();
    assert_eq!((outcomes.delivered, outcomes.rejected_by_bulkhead), (6, 4));
    assert_eq!(most.load(SeqCst), 3);
    let report = &bus.bulkheads()[0];
    assert_eq!((report.rejected, report.timed_out, report.running), (3, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn more_than_may_be_detached_hold_their_worker() {
    let bus = Bus::builder().workers(1).capacity(4).detached_calls(2).build().unwrap();
    let wide = Bulkhead::new().concurrent(100);
    let handler =
        bus.subscribe("x").bulkhead(wide).handle_async(|_| tokio::time::sleep(SECOND)).unwrap();
    publish(&bus, ["a", "b", "c"]).await;
    detached(&bus, 2).await;
    publish(&bus, ["d", "e", "f", "g"]).await;
    // The third is with the worker, and four fill the queue.
    assert!(bus.try_publish(Event::of("x", ())).is_err());
    assert_eq!(bus.ledger().detached, 2);
    settle(&bus).await;
    assert_eq!(handler.outcomes().delivered, 7);
}

#[tokio::test(start_paused = true)]
async fn a_time_out_asks_then_drops() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let seen = Seen::default();
    let s = seen.clone();
    let handler = bus
        .subscribe("x")
        .timeout(Tier::Fast)
        .handle_async(move |event| {
            let s = s.clone();
            async move {
                if event.text() == Some("polite") {
                    swarmbus::cancelled().await;
                    s.push("stopped");
                } else {
                    pending::<()>().await;
                }
            }
        })
        .unwrap();
    let began = Instant::now();
    publish(&bus, ["polite", "deaf"]).await;
    settle(&bus).await;
    let took = began.elapsed();
    assert!(took >= SECOND * 10 + SECOND / 2 && took < SECOND * 11, "{took:?}");
    assert_eq!(seen.all(), ["stopped"]);
    assert_eq!((handler.outcomes().delivered, handler.outcomes().dead_lettered), (1, 1));
    let error = &bus.dead_letters().list()[0].error;
    assert!(matches!(**error, HandlerError::TimedOut { aborted: true }));
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_when_it_is_dropped_ends_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on the way out");
        }
    }
    let bus = Bus::builder().workers(1).build().unwrap();
    let hang = |_| async {
        let _bomb = Bomb;
        pending::<()>().await;
    };
    let here = bus.subscribe("x").timeout(SECOND).handle_async(hang).unwrap();
    let there =
        bus.subscribe("x").timeout(SECOND).bulkhead(Bulkhead::new()).handle_async(hang).unwrap();
    publish(&bus, ["a", "b"]).await;
    settle(&bus).await;
    assert_eq!((here.outcomes().dead_lettered, there.outcomes().dead_lettered), (2, 2));
    // Cut off by a shutdown, too.
    publish(&bus, ["c"]).await;
    detached(&bus, 0).await;
    let _ = bus.shutdown(SECOND / 2).await;
    assert!(bus.ledger().balances() && bus.ledger().detached == 0, "{}", bus.ledger());
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_causes_is_over_before_the_handler() {
    let bus = Bus::builder().build().unwrap();
    let weak = bus.downgrade();
    let inner_took = Seen::default();
    let took = inner_took.clone();
    let _inner = bus
        .subscribe("inner")
        .timeout(SECOND * 100)
        .handle_async(move |event: Event| {
            let (began, took) = (Instant::now(), took.clone());
            async move {
                assert!(event.deadline().is_some());
                swarmbus::cancelled().await;
                took.push(&began.elapsed().as_millis().to_string()[..3]);
            }
        })
        .unwrap();
    let outer = bus
        .subscribe("outer")
        .timeout(SECOND * 10)
        .handle_async(move |event: Event| {
            let bus = weak.upgrade();
            async move {
                let caused = Event::of("inner", ()).caused_by(&event, "outer")?;
                assert_eq!(caused.deadline(), event.deadline());
                bus.ok_or("gone")?.dispatch(&caused).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }
        })
        .unwrap();
    bus.publish(Event::of("outer", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(outer.outcomes().delivered, 1, "it had time to see the end of what it called");
    // Nine tenths of ten seconds.
    assert_eq!(inner_took.all().len(), 1);
    assert!(inner_took.all()[0].starts_with("90") || inner_took.all()[0].starts_with("89"));
}

#[tokio::test(start_paused = true)]
async fn rates_and_samples_are_counted_apart() {
    let bus = Bus::builder().build().unwrap();
    let limited =
        bus.subscribe("x").rate_limit(RateLimit::per_second(10)).handle(|_: &Event| ()).unwrap();
    let sampled = bus
        .subscribe("x")
        .sample(Sampling::above(RateLimit::per_second(10), 10))
        .handle(|_: &Event| ())
        .unwrap();
    publish(&bus, ["a"; 110]).await;
    settle(&bus).await;
    let (limited, sampled) = (limited.outcomes(), sampled.outcomes());
    assert_eq!((limited.delivered, limited.rejected_by_rate_limit), (10, 100));
    assert_eq!((sampled.delivered, sampled.sampled_out), (20, 90));
}

#[tokio::test(start_paused = true)]
async fn a_sample_is_fair_to_those_who_take_turns() {
    let sample = Sampling::above(RateLimit::per_second(1), 4);
    let bus = Bus::builder().service("chart", Policy::new().sample(sample)).build().unwrap();
    let seen = Seen::default();
    let handlers = ["first", "second"].map(|name| {
        let seen = seen.clone();
        let subscribe = bus.subscribe("x").name(name).service("chart");
        subscribe.handle(move |event: &Event| seen.note(event)).unwrap()
    });
    for _ in 0..1_000 {
        publish(&bus, ["left", "right"]).await;
    }
    settle(&bus).await;
    let left = seen.all().iter().filter(|text| *text == "left").count() as u64;
    let [first, second] = handlers.map(|handler| handler.outcomes().delivered);
    assert!((999..=1_001).contains(&(first + second)), "one in four of 4,000, not {first}");
    for share in [left, first, second] {
        assert!((300..=700).contains(&share), "{left} left, {first} first, {second} second");
    }
}

#[tokio::test]
async fn an_event_that_comes_back_is_cut() {
    let bus = Bus::builder().workers(1).build().unwrap();
    // Each hands on to the next: a → b → c → a, for ever.
    let handlers = [("a", "b"), ("b", "c"), ("c", "a")].map(|(from, to)| {
        let weak = bus.downgrade();
        bus.subscribe(from)
            .name(from)
            .handle(move |event: &Event| {
                let next = Event::of(to, ()).caused_by(event, from).map_err(|e| e.to_string())?;
                let bus = weak.upgrade().ok_or("gone")?;
                bus.try_publish(next).map_err(|e| e.to_string())
            })
            .unwrap()
    });
    let free = bus.subscribe("a").name("a").loop_guard(None).handle(|_: &Event| ()).unwrap();
    let twice = LoopGuard::DEFAULT.max_visits(2);
    let twice = bus.subscribe("a").name("a").loop_guard(twice).handle(|_: &Event| ()).unwrap();
    bus.publish(Event::of("a", ())).await.unwrap();
    settle(&bus).await;
    let outcomes = handlers.each_ref().map(|h| (h.outcomes().delivered, h.outcomes().looped));
    assert_eq!(outcomes, [(1, 1), (1, 0), (1, 0)]);
    assert_eq!((free.outcomes().delivered, twice.outcomes().delivered), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn fallbacks_take_over_and_the_bus_says_so() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let healthy = Arc::new(AtomicBool::new(false));
    let (h, seen) = (healthy.clone(), Seen::default());
    let s = seen.clone();
    let handler = bus
        .subscribe("x")
        .name("primary")
        .retry(steady().max_tries(1))
        .fallback("second", |_: &Event| Err::<(), _>("down, too"))
        .fallback_async("third", move |event| {
            let s = s.clone();
            async move { s.note(&event) }
        })
        .breaker_config(Config::builder().consecutive_failures(2).build().unwrap())
        .handle(move |_: &Event| if h.load(SeqCst) { Ok(()) } else { Err("down") })
        .unwrap();
    publish(&bus, ["a"]).await;
    settle(&bus).await;
    // Two tries have opened the breaker: it serves for a refusal as well.
    publish(&bus, ["b"]).await;
    settle(&bus).await;
    assert_eq!(seen.all(), ["a", "b"]);
    let degraded = bus.degraded();
    assert_eq!((&*degraded[0].name, &*degraded[0].serving), ("primary", "third"));
    assert_eq!((handler.outcomes().fell_back, bus.dead_letters().len()), (2, 0));
    healthy.store(true, SeqCst);
    tokio::time::advance(SECOND * 30).await;
    publish(&bus, ["c"]).await;
    settle(&bus).await;
    assert!(bus.degraded().is_empty());
    drop(handler);
}

#[tokio::test(start_paused = true)]
async fn when_the_fallbacks_fail_too_it_is_as_without_them() {
    let bus = Bus::builder().build().unwrap();
    let _handler = bus
        .subscribe("x")
        .timeout(SECOND)
        .fallback("panics", |event: &Event| assert!(event.text().is_none(), "no help"))
        .fallback_async("hangs", |_| pending::<()>())
        .handle_async(|_| async { Err("the cause") })
        .unwrap();
    publish(&bus, ["a"]).await;
    settle(&bus).await;
    assert_eq!(bus.dead_letters().list()[0].error.to_string(), "the cause");
    assert!(bus.degraded().is_empty());
}

#[tokio::test(start_paused = true)]
async fn handlers_of_a_service_share_its_layers() {
    let policy = Policy::new()
        .breaker(Config::builder().consecutive_failures(3).build().unwrap())
        .bulkhead(Bulkhead::new().concurrent(1).queue(0))
        .retry_budget(0, 1)
        .retry(Backoff::fixed(SECOND).max_tries(100));
    let bus = Bus::builder().service("payments", policy).build().unwrap();
    let bad = bus.subscribe("bad").service("payments").handle(|_: &Event| Err("down")).unwrap();
    let good = bus.subscribe("good").service("payments").handle(|_: &Event| ()).unwrap();
    let own = bus
        .subscribe("good")
        .service("payments")
        .breaker(BreakerScope::Off)
        .bulkhead(Bulkhead::new())
        .handle(|_: &Event| ())
        .unwrap();
    assert_eq!(bus.breakers().iter().map(|b| &*b.name).collect::<Vec<_>>(), ["payments"]);
    assert_eq!(bus.bulkheads().len(), 2);
    bus.publish(Event::of("bad", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(bad.outcomes().dead_lettered, 1);
    assert_eq!(bus.dead_letters().list()[0].attempts, 3, "then the breaker was open");
    assert_eq!(bus.breakers()[0].stats.state, StateKind::Open);
    bus.publish(Event::of("good", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!((good.outcomes().rejected_by_breaker, own.outcomes().delivered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_what_is_detached_and_reports_it() {
    for patient in [true, false] {
        let bus = Bus::builder().workers(1).build().unwrap();
        let waits = bus.subscribe("x").retry(steady()).handle(fails(2)).unwrap();
        let hangs = bus
            .subscribe("x")
            .bulkhead(Bulkhead::new().concurrent(1))
            .handle_async(|_| tokio::time::sleep(SECOND * 2))
            .unwrap();
        publish(&bus, ["a"]).await;
        detached(&bus, 2).await;
        let limit = if patient { LONG } else { SECOND / 2 };
        let shutdown = bus.shutdown(limit).await;
        let ledger = bus.ledger();
        assert!(ledger.balances() && ledger.detached == 0, "{ledger}");
        if patient {
            assert!(shutdown.is_clean());
            assert_eq!(ledger.outcomes.delivered, 2);
        } else {
            assert_eq!(shutdown.undelivered.len(), 1, "an event with two matches comes once");
            assert_eq!((waits.outcomes().cancelled, hangs.outcomes().cancelled), (1, 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_call_that_never_yields_is_reported() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (door, busy) = (swarmbus_tests::Door::default(), Count::default());
    let (d, b) = (door.clone(), busy.clone());
    let handler = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new())
        .handle(move |_: &Event| {
            b.add();
            d.wait();
        })
        .unwrap();
    publish(&bus, ["a"]).await;
    busy.reaches(1).await;
    let shutdown = bus.shutdown(Duration::from_millis(10)).await;
    assert_eq!((shutdown.stuck_workers, shutdown.stuck_calls), (0, 1));
    door.open();
    detached(&bus, 0).await;
    assert!(bus.ledger().balances());
    assert_eq!(handler.outcomes().total(), 1);
}

#[tokio::test]
async fn a_runtime_that_ends_cancels_what_is_detached() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let (bus, handler) = runtime
        .spawn(async {
            let bus = Bus::builder().workers(1).build().unwrap();
            let slow = Bulkhead::new().concurrent(1);
            let handler =
                bus.subscribe("x").bulkhead(slow).handle_async(|_| pending::<()>()).unwrap();
            publish(&bus, ["a", "b", "c"]).await;
            detached(&bus, 3).await;
            (bus, handler)
        })
        .await
        .unwrap();
    runtime.shutdown_background();
    within(async {
        while bus.ledger().detached > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(handler.outcomes().cancelled, 3);
    assert!(bus.ledger().balances(), "{}", bus.ledger());
}

#[tokio::test(start_paused = true)]
async fn who_unsubscribes_is_not_called_by_what_still_waits() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let calls = Count::default();
    let c = calls.clone();
    let slow = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new().concurrent(1))
        .handle_async(move |_| {
            c.add();
            tokio::time::sleep(SECOND)
        })
        .unwrap();
    let retried = bus.subscribe("y").retry(steady()).handle(fails(9)).unwrap();
    publish(&bus, ["a", "b", "c"]).await;
    bus.publish(Event::of("y", ())).await.unwrap();
    detached(&bus, 4).await;
    drop((slow, retried));
    settle(&bus).await;
    assert_eq!(calls.get(), 1, "one had begun");
    let outcomes = bus.ledger().outcomes;
    assert_eq!((outcomes.delivered, outcomes.cancelled, outcomes.dead_lettered), (1, 2, 1));
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_bulkhead_is_kept() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (free, held) = (Arc::new(tokio::sync::Semaphore::new(0)), Count::default());
    let (f, h) = (free.clone(), held.clone());
    let handler = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new().concurrent(1))
        .fallback("never", |_: &Event| ())
        .handle_async(move |_| {
            let f = f.clone();
            h.add();
            async move { f.acquire_owned().await.map(drop) }
        })
        .unwrap();
    publish(&bus, ["a"]).await;
    held.reaches(1).await;
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // On a machine that is busy, it may be late before it gets there.
    let mut wait = Duration::from_millis(50);
    let soon = loop {
        let soon = swarmbus::Timestamp::from_unix(now() + wait);
        let late = handler.outcomes().expired;
        bus.publish(Event::of("x", "b").with_deadline(soon)).await.unwrap();
        within(async {
            while bus.ledger().detached < 2 && handler.outcomes().expired == late {
                tokio::task::yield_now().await;
            }
        })
        .await;
        if bus.ledger().detached == 2 {
            break soon;
        }
        wait *= 2;
    };
    let late = handler.outcomes().expired;
    within(async {
        while swarmbus::Timestamp::from_unix(now()) <= soon {
            tokio::task::yield_now().await;
        }
    })
    .await;
    free.add_permits(1);
    settle(&bus).await;
    let outcomes = handler.outcomes();
    assert_eq!((outcomes.delivered, outcomes.expired, held.get()), (1, late + 1, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_in_the_bulkhead_beyond_the_deadline() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let handler = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new().concurrent(1).queue(1))
        .fallback("too late for this, too", |_: &Event| ())
        .handle_async(|_| tokio::time::sleep(SECOND * 60))
        .unwrap();
    publish(&bus, ["a"]).await;
    detached(&bus, 1).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = swarmbus::Timestamp::from_unix(now + SECOND * 5);
    bus.publish(Event::of("x", "b").with_deadline(soon)).await.unwrap();
    detached(&bus, 2).await;
    while bus.bulkheads()[0].waiting == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(SECOND * 5).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bus.ledger().detached, 1, "it left the queue, though its wait is longer");
    settle(&bus).await;
    assert_eq!((handler.outcomes().delivered, handler.outcomes().expired), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_detached_call_is_a_failure_like_any_other() {
    let bus = Bus::builder().build().unwrap();
    let handler = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new().concurrent(1))
        .retry(steady().max_tries(1))
        .retry_if(|_| panic!("this, too"))
        .handle_async(|event: Event| async move { assert!(event.text().is_none(), "a surprise") })
        .unwrap();
    publish(&bus, ["a", "b"]).await;
    settle(&bus).await;
    assert_eq!(handler.outcomes().dead_lettered, 2);
    assert_eq!(bus.bulkheads()[0].running, 0);
    assert!(bus.dead_letters().list().iter().all(|l| l.reason == DeadReason::Panicked));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_cut_off_frees_its_slot() {
    let config = Config::builder().consecutive_failures(1).probes(1).successes_to_close(1);
    let bus = Bus::builder().breaker(config.build().unwrap()).build().unwrap();
    let mode = Arc::new(AtomicU32::new(0));
    let m = mode.clone();
    let _handler = bus
        .subscribe("x")
        .timeout(SECOND * 100)
        .bulkhead(Bulkhead::new())
        .handle_async(move |_| {
            let mode = m.load(SeqCst);
            async move {
                match mode {
                    0 => Err("down"),
                    1 => pending().await,
                    _ => Ok(()),
                }
            }
        })
        .unwrap();
    let event = Event::of("x", ());
    bus.dispatch(&event).await.unwrap();
    tokio::time::advance(SECOND * 30).await;
    mode.store(1, SeqCst);
    assert!(tokio::time::timeout(SECOND, bus.dispatch(&event)).await.is_err());
    mode.store(2, SeqCst);
    assert_eq!(bus.dispatch(&event).await.unwrap().delivered, 1);
    assert_eq!(bus.breakers()[0].stats.state, StateKind::Closed);
    assert!(bus.ledger().balances());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_balances() {
    for round in 0..10 {
        let quick = Backoff::fixed(Duration::from_micros(100)).max_tries(2);
        let bus = Bus::builder().workers(2).detached_calls(50).build().unwrap();
        let n = AtomicU32::new(0);
        let _mixed = bus
            .subscribe("x")
            .retry(quick)
            .timeout(Duration::from_millis(2))
            .bulkhead(Bulkhead::new().concurrent(4).queue(20).wait(Duration::from_millis(5)))
            .handle_async(move |_| {
                let n = n.fetch_add(1, SeqCst);
                async move {
                    match n % 7 {
                        0 => Err("no"),
                        1 => panic!("on purpose"),
                        2 => pending().await,
                        3 => {
                            tokio::task::yield_now().await;
                            Ok(())
                        }
                        _ => Ok(()),
                    }
                }
            })
            .unwrap();
        let odd = AtomicU32::new(0);
        let _retried = bus
            .subscribe("x")
            .breaker(BreakerScope::Off)
            .retry(quick)
            .handle(
                move |_: &Event| {
                    if odd.fetch_add(1, SeqCst).is_multiple_of(2) { Ok(()) } else { Err("no") }
                },
            )
            .unwrap();
        let publishers: Vec<_> = (0..4)
            .map(|n| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    for _ in 0..100 {
                        let event = Event::of("x", ()).with_source(n.to_string());
                        if bus.publish(event).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            for publisher in publishers {
                within(publisher).await.unwrap();
            }
            settle(&bus).await;
        } else {
            let _ = within(bus.shutdown(Duration::from_millis(3))).await;
        }
        let ledger = bus.ledger();
        assert!(ledger.balances() && ledger.detached == 0, "{ledger}");
        assert_eq!(ledger.outcomes.get(Outcome::Failed), 0);
    }
}

#[tokio::test]
async fn nonsense_is_refused() {
    let policy = |result: Result<swarmbus::Subscription, SubscribeError>| match result {
        Err(SubscribeError::Policy(error)) => error,
        other => panic!("{other:?}"),
    };
    let bus = Bus::builder().build().unwrap();
    let new = || bus.subscribe("x");
    let handle = |subscribe: swarmbus::Subscribe<'_>| policy(subscribe.handle(|_: &Event| ()));
    assert_eq!(handle(new().timeout(SECOND)), PolicyError::TimeoutOfPlainFunction);
    assert_eq!(handle(new().retry(steady().max_tries(0))), PolicyError::NoTries);
    assert_eq!(handle(new().retry_if(|_| true)), PolicyError::WithoutRetry { setting: "retry_if" });
    let off = new().breaker(BreakerScope::Off).breaker_config(Config::default());
    assert_eq!(handle(off), PolicyError::BreakerOff);
    assert_eq!(
        handle(new().service("paymants")),
        PolicyError::UnknownService { name: "paymants".to_owned() }
    );
    assert!(matches!(
        handle(new().bulkhead(Bulkhead::new().concurrent(0))),
        PolicyError::Bulkhead { .. }
    ));
    let twice = Bus::builder().service("a", Policy::new()).service("a", Policy::new());
    assert!(twice.build().unwrap_err().to_string().contains("twice"));
    let zero = Bus::builder().service("a", Policy::new().timeout(Duration::ZERO));
    assert!(zero.build().is_err());
}
