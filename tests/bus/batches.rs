//! Handlers that get events several at a time.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{
    Batching, Bulkhead, Bus, DeadReason, Event, LetterFilter, Policy, PolicyError, PublishCause,
    SubscribeError, Subscription,
    breaker::{Config, StateKind},
    core::backoff::Backoff,
};
use swarmbus_tests::{LONG, settle, within};
use tokio::{sync::Semaphore, time::Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Batches as they came: the texts of their events.
#[derive(Clone, Default)]
struct Batches(Arc<Mutex<Vec<Vec<String>>>>);

impl Batches {
    fn note(&self, events: &[Event]) {
        let texts = events.iter().map(|event| event.text().unwrap().to_owned());
        self.0.lock().push(texts.collect());
    }

    fn all(&self) -> Vec<Vec<String>> {
        self.0.lock().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.0.lock().iter().map(Vec::len).collect()
    }
}

fn one_worker() -> Bus {
    let breaker = Config::builder().consecutive_failures(2).build().unwrap();
    Bus::builder().workers(1).breaker(breaker).build().unwrap()
}

fn noting(bus: &Bus, batching: Batching) -> (Batches, Subscription) {
    let batches = Batches::default();
    let note = batches.clone();
    let handler = bus.subscribe("x").handle_batch(batching, move |events| {
        note.note(&events);
        async {}
    });
    (batches, handler.unwrap())
}

async fn publish(bus: &Bus, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        bus.publish(Event::of("x", number.to_string())).await.unwrap();
    }
}

fn event(text: &'static str) -> Event {
    Event::of("x", text)
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_full_or_its_first_event_has_waited() {
    let bus = one_worker();
    let (batches, handler) = noting(&bus, Batching::new());
    let began = Instant::now();
    publish(&bus, 0..23).await;
    settle(&bus).await;
    assert_eq!(batches.sizes(), [10, 10, 3]);
    let all: Vec<_> = batches.all().into_iter().flatten().collect();
    assert_eq!(all, (0..23).map(|n: u32| n.to_string()).collect::<Vec<_>>());
    let took = began.elapsed().as_millis();
    assert!((10..15).contains(&took), "only the last had to wait: {took}");
    // Those that come later wait by themselves.
    publish(&bus, 0..2).await;
    settle(&bus).await;
    assert_eq!(batches.sizes(), [10, 10, 3, 2]);
    assert_eq!(handler.outcomes().delivered, 25);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_result_makes_a_batch_of_one() {
    let bus = one_worker();
    let (batches, _handler) = noting(&bus, Batching::new().wait(LONG));
    let began = Instant::now();
    assert_eq!(bus.dispatch(&event("a")).await.unwrap().delivered, 1);
    assert_eq!((batches.sizes(), began.elapsed()), (vec![1], Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_a_dead_letter_for_each_and_one_failure() {
    let bus = one_worker();
    let mended = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&mended);
    let _handler = bus
        .subscribe("x")
        .name("rows")
        .handle_batch(Batching::new().size(3), move |_| {
            let works = works.load(SeqCst);
            async move { if works { Ok(()) } else { Err("no database") } }
        })
        .unwrap();
    publish(&bus, 0..3).await;
    settle(&bus).await;
    assert_eq!(bus.breakers()[0].stats.failures, 1);
    let letters = bus.dead_letters().list();
    assert_eq!(letters.len(), 3);
    for letter in letters {
        assert_eq!((letter.reason, letter.attempts), (DeadReason::Failed, 1));
        assert_eq!(letter.error.to_string(), "no database");
    }
    // The second opens the breaker, and what comes then is rejected.
    publish(&bus, 0..5).await;
    settle(&bus).await;
    assert_eq!(bus.breakers()[0].stats.state, StateKind::Open);
    let outcomes = bus.ledger().outcomes;
    assert_eq!((outcomes.dead_lettered, outcomes.rejected_by_breaker), (6, 2));

    mended.store(true, SeqCst);
    tokio::time::advance(SECOND * 30).await;
    let report = bus.dead_letters().retry_all(&LetterFilter::all()).await;
    assert_eq!((report.delivered, bus.dead_letters().len()), (6, 0));
    settle(&bus).await;
}

#[tokio::test(start_paused = true)]
async fn panics_and_time_outs_are_failures() {
    let bus = one_worker();
    let _panics = bus
        .subscribe("x")
        .name("panics")
        .handle_batch(Batching::new(), |events| async move {
            assert!(events.is_empty(), "on purpose");
        })
        .unwrap();
    let _hangs = bus
        .subscribe("x")
        .name("hangs")
        .timeout(SECOND)
        .handle_batch(Batching::new(), |_| pending::<()>())
        .unwrap();
    publish(&bus, 0..2).await;
    settle(&bus).await;
    let mut reasons: Vec<_> = bus
        .dead_letters()
        .list()
        .iter()
        .map(|letter| (letter.handler.to_string(), letter.error.to_string()))
        .collect();
    reasons.sort();
    let said = |handler: &str, error: &str| (handler.to_owned(), error.to_owned());
    let hung = said("hangs", "timed out and was dropped");
    let panicked = said("panics", "panicked: on purpose");
    assert_eq!(reasons, [hung.clone(), hung, panicked.clone(), panicked]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_holds_publishers_back_and_loses_nothing() {
    let bus = Bus::builder().workers(1).capacity(8).build().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let handler = bus
        .subscribe("x")
        .handle_batch(Batching::new().size(4), move |_| {
            let pass = Arc::clone(&pass);
            async move { pass.acquire().await.unwrap().forget() }
        })
        .unwrap();
    let mut accepted = 0;
    let refused = loop {
        // Lets the worker go on as far as it can.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        match bus.try_publish(event("a")) {
            Ok(()) => accepted += 1,
            Err(error) => break error.cause,
        }
    };
    assert_eq!(refused, PublishCause::Full);
    // One batch at work, one full, some with the worker, and the queue.
    assert!((16..24).contains(&accepted), "{accepted}");
    gate.add_permits(100);
    settle(&bus).await;
    assert_eq!(handler.outcomes().delivered, accepted);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_publishes_to_its_full_bus_does_not_wait_for_itself() {
    let bus = Bus::builder().workers(1).capacity(4).build().unwrap();
    let weak = bus.downgrade();
    let _echo = bus
        .subscribe("x")
        .handle_batch(Batching::new().size(2), move |events| {
            let bus = weak.upgrade().unwrap();
            async move {
                for event in events {
                    // Refused when the reserve is full, too.
                    let _ = bus.publish(Event::of("y", event.payload().clone())).await;
                }
            }
        })
        .unwrap();
    within(publish(&bus, 0..50)).await;
    settle(&bus).await;
    assert_eq!(bus.ledger().outcomes.delivered, 50);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_dispatches_to_itself_does_not_wait_for_itself() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (weak, begun) = (bus.downgrade(), AtomicBool::new(false));
    let handler = bus
        .subscribe("x")
        .handle_batch(Batching::new().size(2), move |_| {
            let first = !begun.swap(true, SeqCst);
            let bus = weak.upgrade().filter(|_| first);
            async move {
                let Some(bus) = bus else { return };
                while bus.ledger().detached < 4 {
                    tokio::task::yield_now().await;
                }
                // Now the next batch is full.
                bus.dispatch(&event("dispatched")).await.unwrap();
            }
        })
        .unwrap();
    publish(&bus, 0..4).await;
    settle(&bus).await;
    assert_eq!(handler.outcomes().delivered, 5);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_and_reports_what_waits_and_what_is_at_work() {
    for hangs in [true, false] {
        let bus = one_worker();
        let handler = bus
            .subscribe("x")
            .handle_batch(Batching::new().size(2).wait(LONG), move |_| async move {
                if hangs {
                    pending::<()>().await;
                }
            })
            .unwrap();
        publish(&bus, 0..3).await;
        let shutdown = bus.shutdown(SECOND).await;
        let ledger = bus.ledger();
        assert!(ledger.balances() && ledger.detached == 0, "{ledger}");
        let undelivered = if hangs { 3 } else { 1 };
        assert_eq!(shutdown.undelivered.len(), undelivered);
        assert_eq!(handler.outcomes().cancelled, undelivered as u64);
        assert_eq!((shutdown.stuck_workers, shutdown.stuck_calls), (0, 0));
    }
}

#[test]
fn a_runtime_that_ends_cancels_what_waits() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bus, handler) = runtime.block_on(async {
        let bus = one_worker();
        let (_, handler) = noting(&bus, Batching::new().wait(LONG));
        publish(&bus, 0..3).await;
        within(async {
            while bus.ledger().detached < 3 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        (bus, handler)
    });
    drop(runtime);
    let ledger = bus.ledger();
    assert!(ledger.balances() && ledger.detached == 0, "{ledger}");
    assert_eq!(handler.outcomes().cancelled, 3);
}

#[tokio::test(start_paused = true)]
async fn who_unsubscribes_or_is_too_late_is_in_no_batch() {
    let bus = one_worker();
    let (batches, handler) = noting(&bus, Batching::new().wait(SECOND));
    publish(&bus, 0..2).await;
    within(async {
        while bus.ledger().detached < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(handler);
    settle(&bus).await;
    assert_eq!((batches.sizes().len(), bus.ledger().outcomes.cancelled), (0, 2));
}

#[tokio::test]
async fn what_is_for_one_event_at_a_time_is_refused() {
    let service = Policy::new().bulkhead(Bulkhead::new());
    let bus = Bus::builder().service("db", service).build().unwrap();
    let batches = |subscribe: swarmbus::Subscribe<'_>, batching: Batching| {
        let error = subscribe.handle_batch(batching, |_| async {}).unwrap_err();
        let SubscribeError::Policy(error) = error else { panic!("{error}") };
        error
    };
    let new = Batching::new();
    for (subscribe, setting) in [
        (bus.subscribe("x").retry(Backoff::RETRY), "retry"),
        (bus.subscribe("x").service("db"), "bulkhead"),
        (bus.subscribe("x").fallback("f", |_: &Event| ()), "fallback"),
    ] {
        assert_eq!(batches(subscribe, new), PolicyError::Batched { setting });
    }
    for wrong in [new.size(0), new.size(65_537), new.wait(Duration::MAX)] {
        assert!(matches!(batches(bus.subscribe("x"), wrong), PolicyError::Batching { .. }));
    }
}
