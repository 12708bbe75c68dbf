//! Dead letters: what they say, and list, retry and purge.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus::{
    BreakerScope, Bus, DeadLetter, DeadReason, Event, LetterFilter, Outcome, RetryError,
    Subscription, Timestamp,
};
use swarmbus_tests::{Count, Door, LONG, Seen, settle, within};

/// A bus whose handler `flaky` of `task.*` fails until it is told otherwise.
fn flaky() -> (Bus, Arc<AtomicBool>, Subscription) {
    let bus = Bus::builder().workers(1).build().unwrap();
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

async fn publish(bus: &Bus, types: &[&'static str]) {
    for ty in types {
        bus.publish(Event::of(ty, *ty)).await.unwrap();
    }
    settle(bus).await;
}

fn ids(bus: &Bus) -> Vec<u64> {
    bus.dead_letters().list().iter().map(|letter| letter.id).collect()
}

fn wall() -> Timestamp {
    Timestamp::from_unix(std::time::UNIX_EPOCH.elapsed().unwrap())
}

fn oh(_: &Event) {
    panic!("oh");
}

#[tokio::test]
async fn a_letter_says_why() {
    let bus = Bus::builder().build().unwrap();
    let _failed = bus.subscribe("x").name("a").handle(|_: &Event| Err("no luck")).unwrap();
    let _panicked = bus.subscribe("x").name("b").handle(oh).unwrap();
    let _typed = bus.subscribe("x").name("c").handle_typed(|_: u32| ()).unwrap();
    let before = wall();
    publish(&bus, &["x"]).await;
    let letters = bus.dead_letters().list();
    let reasons: Vec<_> = letters.iter().map(|l| (l.id, &*l.handler, l.reason)).collect();
    assert_eq!(
        reasons,
        [
            (1, "a", DeadReason::Failed),
            (2, "b", DeadReason::Panicked),
            (3, "c", DeadReason::PayloadMismatch)
        ]
    );
    for letter in &letters {
        assert_eq!(letter.attempts, 1);
        assert!(letter.at >= before);
        assert!(letter.event.id().is_some(), "a letter's event can be named");
    }
    assert_eq!(bus.dead_letters().get(2).unwrap().error.to_string(), "panicked: oh");
    assert!(bus.dead_letters().get(4).is_none());
}

#[tokio::test]
async fn a_retry_reaches_the_handler_that_failed_and_no_other() {
    let (bus, healthy, handler) = flaky();
    let others = Seen::default();
    let o = others.clone();
    let _other = bus.subscribe("task.*").handle(move |e: &Event| o.note(e)).unwrap();
    publish(&bus, &["task.a", "task.b"]).await;
    assert_eq!(ids(&bus), [1, 2]);

    // It fails again: the letter stays, with one attempt more.
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(
        matches!(error, RetryError::NotDelivered { id: 1, outcome: Outcome::DeadLettered }),
        "{error}"
    );
    let attempts: Vec<_> = bus.dead_letters().list().iter().map(|l| (l.id, l.attempts)).collect();
    assert_eq!(attempts, [(1, 2), (2, 1)]);

    healthy.store(true, SeqCst);
    bus.dead_letters().retry(1).await.unwrap();
    assert_eq!(ids(&bus), [2]);
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(matches!(error, RetryError::NotFound { id: 1 }), "{error}");

    assert_eq!(others.all(), ["task.a", "task.b"], "the other handler was not bothered again");
    let (ledger, outcomes) = (bus.ledger(), handler.outcomes());
    assert!(ledger.balances(), "{ledger}");
    assert_eq!((ledger.published, ledger.matches), (4, 6), "a retry is an event with one match");
    assert_eq!((outcomes.dead_lettered, outcomes.delivered), (3, 1));
}

#[tokio::test]
async fn all_letters_or_some_are_retried() {
    let (bus, healthy, _handler) = flaky();
    publish(&bus, &["task.a", "task.b", "task.a", "task.c"]).await;
    let report = bus.dead_letters().retry_all(&LetterFilter::all()).await;
    assert_eq!((report.delivered, report.left.len()), (0, 4), "each once, not for ever");

    healthy.store(true, SeqCst);
    let some = LetterFilter::all().event_type("task.a").unwrap().handler("flaky");
    let report = bus.dead_letters().retry_all(&some).await;
    assert_eq!((report.delivered, report.left.len()), (2, 0));
    assert_eq!(ids(&bus), [2, 4]);
    let nobody = LetterFilter::all().handler("somebody else");
    assert_eq!(bus.dead_letters().retry_all(&nobody).await.delivered, 0);
    assert_eq!(bus.dead_letters().retry_all(&LetterFilter::all()).await.delivered, 2);
    assert!(bus.dead_letters().is_empty());
    settle(&bus).await;
}

#[tokio::test]
async fn letters_are_purged_by_handler_type_reason_and_age() {
    let (bus, _healthy, _handler) = flaky();
    let _typed = bus.subscribe("task.b").name("typed").handle_typed(|_: u32| ()).unwrap();
    publish(&bus, &["task.a", "task.b", "task.c"]).await;
    assert_eq!(ids(&bus), [1, 2, 3, 4]);
    let all = LetterFilter::all;
    let letters = bus.dead_letters();
    let oldest = letters.get(1).unwrap().at;
    assert_eq!(letters.purge(&all().before(oldest)), 0);
    assert_eq!(letters.purge(&all().reason(DeadReason::PayloadMismatch)), 1);
    assert_eq!(letters.purge(&all().event_type("/task.[c-z]/").unwrap()), 1);
    assert_eq!(letters.purge(&all().handler("typed")), 0);
    let later = oldest.saturating_add(Duration::from_secs(60));
    assert_eq!(letters.purge(&all().before(later).handler("flaky")), 2);
    assert!(letters.is_empty());
    assert!(all().event_type("a b").is_err());
}

#[tokio::test]
async fn a_letter_whose_handler_is_gone_waits_for_one_of_its_name() {
    let (bus, _healthy, handler) = flaky();
    publish(&bus, &["task.a"]).await;
    drop(handler);
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(matches!(error, RetryError::HandlerGone { id: 1, .. }), "{error}");
    let _wrong_type = bus.subscribe("other").name("flaky").handle(|_: &Event| ()).unwrap();
    assert!(bus.dead_letters().retry(1).await.is_err());
    assert_eq!(ids(&bus), [1]);

    let mended = bus.subscribe("task.a").name("flaky").handle(|_: &Event| ()).unwrap();
    bus.dead_letters().retry(1).await.unwrap();
    assert_eq!(mended.outcomes().delivered, 1);
    settle(&bus).await;
}

#[tokio::test]
async fn a_session_handlers_letter_goes_back_to_the_session() {
    let bus = Bus::builder().build().unwrap();
    let session = bus.session("s");
    let fails = AtomicBool::new(true);
    let handler = session
        .subscribe("x")
        .handle(move |_: &Event| if fails.swap(false, SeqCst) { Err("once") } else { Ok(()) })
        .unwrap();
    session.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    bus.dead_letters().retry(1).await.unwrap();
    assert_eq!(handler.outcomes().delivered, 1);
    settle(&bus).await;
}

#[tokio::test]
async fn a_retry_that_the_pipeline_refuses_leaves_the_letter() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let handler = bus.subscribe("x").name("x").handle(|_: &Event| Err("down")).unwrap();
    // Five failures open the breaker.
    publish(&bus, &["x"; 5]).await;
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(
        matches!(error, RetryError::NotDelivered { outcome: Outcome::RejectedByBreaker, .. }),
        "{error}"
    );
    let letter = bus.dead_letters().get(1).unwrap();
    assert_eq!(letter.attempts, 1, "the handler was not called");
    assert_eq!(handler.outcomes().rejected_by_breaker, 1);
    settle(&bus).await;
}

#[tokio::test]
async fn a_letter_past_its_deadline_expires_and_stays() {
    let bus = Bus::builder().build().unwrap();
    let handler = bus
        .subscribe("x")
        .handle_async(|event: Event| async move {
            while event.deadline().is_some_and(|deadline| wall() <= deadline) {
                tokio::task::yield_now().await;
            }
            Err::<(), _>("that took long")
        })
        .unwrap();
    // On a machine that is busy, it may be late the first time.
    while bus.dead_letters().is_empty() {
        let soon = wall().saturating_add(Duration::from_millis(20));
        bus.publish(Event::of("x", ()).with_deadline(soon)).await.unwrap();
        settle(&bus).await;
    }
    let expired = handler.outcomes().expired;
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(matches!(error, RetryError::NotDelivered { outcome: Outcome::Expired, .. }), "{error}");
    assert_eq!((bus.dead_letters().len(), handler.outcomes().expired), (1, expired + 1));
}

#[tokio::test]
async fn a_closed_bus_keeps_its_letters() {
    let (bus, healthy, _handler) = flaky();
    publish(&bus, &["task.a"]).await;
    healthy.store(true, SeqCst);
    assert!(bus.shutdown(LONG).await.is_clean());
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(matches!(error, RetryError::Closed), "{error}");
    assert_eq!(ids(&bus), [1]);
}

#[tokio::test]
async fn a_retry_dropped_in_the_middle_loses_nothing() {
    let bus = Bus::builder().build().unwrap();
    let (first, begun) = (AtomicBool::new(true), Count::default());
    let b = begun.clone();
    let handler = bus
        .subscribe("x")
        .handle_async(move |_| {
            let (fails, begun) = (first.swap(false, SeqCst), b.clone());
            async move {
                if fails {
                    return Err("once");
                }
                begun.add();
                std::future::pending().await
            }
        })
        .unwrap();
    publish(&bus, &["x"]).await;
    let retry = tokio::spawn({
        let bus = bus.clone();
        async move { bus.dead_letters().retry(1).await }
    });
    begun.reaches(1).await;
    let busy = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(matches!(busy, RetryError::Busy { id: 1 }), "{busy}");
    retry.abort();
    assert!(within(retry).await.unwrap_err().is_cancelled());
    assert_eq!(ids(&bus), [1]);
    assert_eq!(handler.outcomes().cancelled, 1);
    assert!(bus.ledger().balances(), "{}", bus.ledger());

    // Nobody holds it any more. Purged in the middle, it is gone.
    let again = tokio::spawn({
        let bus = bus.clone();
        async move { bus.dead_letters().retry(1).await }
    });
    begun.reaches(2).await;
    assert_eq!(bus.dead_letters().purge(&LetterFilter::all()), 1);
    again.abort();
    assert!(within(again).await.is_err());
    assert!(bus.dead_letters().is_empty());
    settle(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_overflows_during_a_retry_stays_within_its_limit() {
    let bus = Bus::builder().workers(1).dead_letter_capacity(2).build().unwrap();
    let (door, begun) = (Door::default(), Count::default());
    let (d, b) = (door.clone(), begun.clone());
    let _handler = bus
        .subscribe(">")
        .breaker(BreakerScope::Off)
        .handle(move |event: &Event| {
            if event.ty().as_str() == "slow" {
                b.add();
                if b.get() == 2 {
                    d.wait();
                }
            }
            Err::<(), _>("no")
        })
        .unwrap();
    publish(&bus, &["slow"]).await;
    let retry = tokio::spawn({
        let bus = bus.clone();
        async move { bus.dead_letters().retry(1).await }
    });
    begun.reaches(2).await;
    for ty in ["a", "b", "c"] {
        bus.publish(Event::of(ty, ())).await.unwrap();
    }
    within(async {
        while bus.dead_letters().evicted() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ids(&bus), [3, 4], "the letter on loan made room too");
    door.open();
    assert!(within(retry).await.unwrap().is_err());
    // What failed again is put back, and the oldest makes room.
    assert_eq!(ids(&bus), [1, 4]);
    assert_eq!(bus.dead_letters().get(1).unwrap().attempts, 2);
    assert_eq!(bus.dead_letters().evicted(), 3);
    settle(&bus).await;
}

#[tokio::test]
async fn a_queue_without_room_counts_what_it_cannot_keep() {
    let bus = Bus::builder().dead_letter_capacity(0).build().unwrap();
    let _handler = bus.subscribe("x").handle(|_: &Event| Err("no")).unwrap();
    publish(&bus, &["x", "x"]).await;
    assert!(bus.dead_letters().is_empty());
    assert_eq!(bus.dead_letters().evicted(), 2);
    let error = bus.dead_letters().retry(1).await.unwrap_err();
    assert!(matches!(error, RetryError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn handlers_that_retry_inside_each_other_end() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (weak, deep) = (bus.downgrade(), Count::default());
    let d = deep.clone();
    let _first = bus.subscribe("x").handle(|_: &Event| Err("no")).unwrap();
    publish(&bus, &["x", "x"]).await;
    let _retries = bus
        .subscribe("again")
        .handle_async(move |_| {
            let (bus, deep) = (weak.upgrade(), d.clone());
            async move {
                let bus = bus.ok_or("gone")?;
                let report = bus.dead_letters().retry_all(&LetterFilter::all()).await;
                deep.add();
                if report.left.is_empty() { Ok(()) } else { Err("some are left") }
            }
        })
        .unwrap();
    // Its own letter is among those that it retries.
    publish(&bus, &["again"]).await;
    let report = within(bus.dead_letters().retry_all(&LetterFilter::all())).await;
    assert_eq!(report.left.len(), 3);
    assert!(deep.get() >= 2);
    settle(&bus).await;
}

#[tokio::test]
async fn a_letter_from_elsewhere_is_offered_to_the_handler_of_its_name() {
    let (bus, healthy, handler) = flaky();
    let at = wall();
    let event = Event::of("task.a", "old").with_id("of-an-earlier-run");
    let letter =
        || DeadLetter::restored(event.clone(), "flaky", DeadReason::Panicked, "was down", 3, at);
    assert_eq!(letter().error.to_string(), "was down");
    assert!(bus.dead_letters().offer(letter()).await.is_err());
    let kept = bus.dead_letters().list();
    assert_eq!(
        (kept.len(), kept[0].attempts, kept[0].reason),
        (1, 4, DeadReason::Failed),
        "it failed again, and is kept like any other"
    );

    // The queue's own one is retried: it is one letter, not two.
    assert!(bus.dead_letters().offer(letter()).await.is_err());
    assert_eq!(bus.dead_letters().list()[0].attempts, 5);
    healthy.store(true, SeqCst);
    bus.dead_letters().offer(letter()).await.unwrap();
    assert!(bus.dead_letters().is_empty());

    drop(handler);
    let error = bus.dead_letters().offer(letter()).await.unwrap_err();
    assert!(matches!(error, RetryError::HandlerGone { .. }), "{error}");
    assert!(bus.dead_letters().is_empty(), "it stays where it came from");
    settle(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_retries_and_purges_at_once_no_letter_is_handled_twice_at_a_time() {
    let bus = Bus::builder().workers(2).dead_letter_capacity(20).build().unwrap();
    let at_work = Arc::new(parking_lot::Mutex::new(std::collections::HashSet::new()));
    let (busy, n) = (at_work.clone(), Arc::new(std::sync::atomic::AtomicU32::new(0)));
    let _handler = bus
        .subscribe("x")
        .breaker(BreakerScope::Off)
        .handle_async(move |event: Event| {
            let (busy, n) = (busy.clone(), n.fetch_add(1, SeqCst));
            async move {
                let text = event.text().unwrap_or_default().to_owned();
                assert!(busy.lock().insert(text.clone()), "{text} is retried twice at once");
                for _ in 0..n % 5 {
                    tokio::task::yield_now().await;
                }
                busy.lock().remove(&text);
                if n.is_multiple_of(3) { Ok(()) } else { Err("no") }
            }
        })
        .unwrap();
    let tasks: Vec<_> = (0..5)
        .map(|task| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    match task {
                        0 => {
                            let event = Event::of("x", round.to_string());
                            bus.publish(event).await.unwrap();
                        }
                        1 => drop(bus.dead_letters().purge(&LetterFilter::all().before(wall()))),
                        _ => drop(bus.dead_letters().retry_all(&LetterFilter::all()).await),
                    }
                    assert!(bus.dead_letters().len() <= 20);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap();
    }
    settle(&bus).await;
    assert!(at_work.lock().is_empty());
    let letters = bus.dead_letters().list();
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::Failed), "{letters:?}");
}
