//! What a journal is told: of every event before it is accepted, and of what
//! became of it.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus::core::backoff::Backoff;
use swarmbus::{
    Bulkhead, Bus, DeadLetter, DispatchError, Event, EventId, Journal, JournalError, LetterEnd,
    LetterFilter, Overflow, PublishCause, Settlement,
};
use swarmbus_tests::{Count, Door, LONG, settle, within};
use tokio::sync::Semaphore;

/// Keeps what it is told, refuses or waits when asked to.
#[derive(Clone)]
struct Notes(Arc<Told>);

struct Told {
    lines: Mutex<Vec<String>>,
    broken: AtomicBool,
    /// A permit for each call that may go on.
    turns: Semaphore,
    asked: Count,
}

impl Notes {
    fn new() -> Self {
        let turns = Semaphore::new(Semaphore::MAX_PERMITS);
        let (lines, broken) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Told { lines, broken, turns, asked: Count::default() }))
    }

    /// Lets no `accept` return until permits are added.
    fn held() -> Self {
        let notes = Self::new();
        notes.0.turns.forget_permits(Semaphore::MAX_PERMITS);
        notes
    }

    fn broken() -> Self {
        let notes = Self::new();
        notes.0.broken.store(true, SeqCst);
        notes
    }

    fn lines(&self) -> Vec<String> {
        self.0.lines.lock().clone()
    }

    fn note(&self, what: &str, event: &Event) {
        assert!(event.is_stamped(), "{event:?}");
        self.0.lines.lock().push(format!("{what} {}", event.text().unwrap_or_default()));
    }

    fn take(&self, events: &[Event]) -> Result<(), JournalError> {
        if self.0.broken.load(SeqCst) {
            return Err(JournalError::Failed("no space left".into()));
        }
        events.iter().for_each(|event| self.note("accept", event));
        Ok(())
    }
}

#[async_trait]
impl Journal for Notes {
    async fn accept(&self, events: &[Event]) -> Result<(), JournalError> {
        self.0.asked.add();
        self.0.turns.acquire().await.expect("never closed").forget();
        self.take(events)
    }

    fn try_accept(&self, event: &Event) -> Result<(), JournalError> {
        if self.0.turns.available_permits() == 0 {
            return Err(JournalError::WouldWait);
        }
        self.take(std::slice::from_ref(event))
    }

    fn settle(&self, event: &Event, settlement: Settlement) {
        self.note(&format!("{settlement:?}"), event);
    }

    fn dead_letter(&self, letter: &DeadLetter) {
        self.note(&format!("letter of {}:", letter.handler), &letter.event);
    }

    fn letter_gone(&self, letter: &DeadLetter, end: LetterEnd) {
        self.note(&format!("{end:?} letter"), &letter.event);
    }
}

fn event(text: &'static str) -> Event {
    Event::of("x", text)
}

#[tokio::test]
async fn an_event_is_settled_by_the_worst_of_its_outcomes() {
    let notes = Notes::new();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let _works = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let _fails = bus
        .subscribe("x")
        .name("picky")
        .handle(|event: &Event| if event.text() == Some("dead") { Err("no") } else { Ok(()) })
        .unwrap();
    let _forgets = bus
        .subscribe("x")
        .dead_letters(false)
        .handle(|event: &Event| if event.text() == Some("good") { Ok(()) } else { Err("no") })
        .unwrap();
    for text in ["good", "dead", "bad"] {
        bus.publish(event(text)).await.unwrap();
    }
    bus.publish(Event::of("nobody.wants.it", "alone")).await.unwrap();
    settle(&bus).await;
    let mut lines = notes.lines();
    lines.sort();
    let mut expected = vec!["accept good", "accept dead", "accept bad", "accept alone"];
    expected.extend(["letter of picky: dead", "Delivered good", "Dead dead", "Failed bad"]);
    expected.push("Delivered alone");
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn every_way_in_is_written_down_first() {
    let notes = Notes::new();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let reader = notes.clone();
    let _handler = bus
        .subscribe("x")
        .handle(move |event: &Event| {
            let line = format!("accept {}", event.text().unwrap());
            assert!(reader.lines().contains(&line), "{line}");
        })
        .unwrap();
    bus.publish(event("publish")).await.unwrap();
    bus.try_publish(event("try_publish")).unwrap();
    bus.publish_batch(&mut vec![event("batch 1"), event("batch 2")]).await.unwrap();
    assert_eq!(bus.dispatch(&event("dispatch")).await.unwrap().delivered, 1);
    settle(&bus).await;
    let settled = notes.lines().iter().filter(|line| line.starts_with("Delivered")).count();
    assert_eq!(settled, 5, "{:?}", notes.lines());
    assert_eq!(bus.ledger().outcomes.delivered, 5);
}

#[tokio::test]
async fn what_the_journal_refuses_comes_back_and_is_not_withdrawn() {
    let notes = Notes::broken();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let _handler = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let cause = PublishCause::Journal("no space left".into());
    let error = bus.publish(event("a")).await.unwrap_err();
    assert_eq!((error.event.text(), &error.cause), (Some("a"), &cause));
    let error = bus.try_publish(event("b")).unwrap_err();
    assert_eq!((error.event.text(), &error.cause), (Some("b"), &cause));
    let mut batch = vec![event("c"), event("d")];
    let error = bus.publish_batch(&mut batch).await.unwrap_err();
    assert_eq!((error.accepted, error.cause, batch.len()), (0, cause, 2));
    let error = bus.dispatch(&event("e")).await.unwrap_err();
    assert_eq!(error, DispatchError::Journal("no space left".into()));
    settle(&bus).await;
    assert_eq!((bus.ledger().published, bus.ledger().refused), (0, 5));
    assert!(notes.lines().is_empty(), "{:?}", notes.lines());
}

#[tokio::test]
async fn a_closed_bus_says_so_and_asks_no_journal() {
    let bus = Bus::builder().journal(Notes::broken()).build().unwrap();
    let _ = within(bus.shutdown(LONG)).await;
    let closed = PublishCause::Closed;
    assert_eq!(bus.try_publish(event("a")).unwrap_err().cause, closed);
    assert_eq!(bus.publish(event("b")).await.unwrap_err().cause, closed);
    let mut batch = vec![event("c"), event("d")];
    assert_eq!(bus.publish_batch(&mut batch).await.unwrap_err().cause, closed);
    assert_eq!((batch.len(), bus.ledger().refused), (2, 4));
}

#[tokio::test]
async fn what_the_queue_refuses_is_withdrawn() {
    let notes = Notes::new();
    let bus = Bus::builder().workers(1).capacity(1).journal(notes.clone()).build().unwrap();
    let (door, begun) = (Door::default(), Count::default());
    let (waits, counts) = (door.clone(), begun.clone());
    let _stuck = bus
        .subscribe("x")
        .handle(move |_: &Event| {
            counts.add();
            waits.wait();
        })
        .unwrap();
    let publisher = bus.clone();
    let full = std::thread::spawn(move || {
        let mut taken = 0;
        // One is with the handler, one in the queue.
        while publisher.try_publish(event("fits")).is_ok() {
            taken += 1;
        }
        taken
    });
    // The handler blocks this runtime's only thread, so the rest happens there.
    let taken = full.join().unwrap();
    door.open();
    settle(&bus).await;
    let lines = notes.lines();
    let count = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("accept"), taken + 1);
    assert_eq!((count("Delivered"), count("Withdrawn")), (taken, 1));
}

#[tokio::test]
async fn a_publisher_that_gives_up_withdraws_its_event() {
    let notes = Notes::held();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let mut batch = vec![event("b"), event("c")];
    {
        let mut single = std::pin::pin!(bus.publish(event("a")));
        let mut several = std::pin::pin!(bus.publish_batch(&mut batch));
        let both = async { tokio::join!(&mut single, &mut several) };
        tokio::select! {
            biased;
            _ = both => unreachable!("the journal holds them"),
            () = notes.0.asked.reaches(2) => {}
        }
    }
    let texts: Vec<_> = batch.iter().map(|event| event.text().unwrap()).collect();
    assert_eq!(texts, ["b", "c"]);
    assert_eq!(notes.lines(), ["Withdrawn b", "Withdrawn c", "Withdrawn a"]);
    let cause = bus.try_publish(event("d")).unwrap_err().cause;
    assert_eq!(cause, PublishCause::JournalWouldWait);
    assert_eq!(bus.ledger().published, 0);
}

#[tokio::test]
async fn what_a_shutdown_cuts_off_stays_pending() {
    let notes = Notes::new();
    let bus = Bus::builder().workers(1).journal(notes.clone()).build().unwrap();
    let begun = Count::default();
    let counts = begun.clone();
    let _handler = bus
        .subscribe("x")
        .handle_async(move |_: Event| {
            counts.add();
            std::future::pending::<()>()
        })
        .unwrap();
    bus.publish(event("in the handler")).await.unwrap();
    bus.publish(event("in the queue")).await.unwrap();
    begun.reaches(1).await;
    let left = within(bus.shutdown(std::time::Duration::ZERO)).await;
    assert_eq!(left.undelivered.len(), 1);
    assert_eq!(notes.lines(), ["accept in the handler", "accept in the queue"]);
    assert_eq!(bus.ledger().outcomes.cancelled, 2);
}

#[tokio::test]
async fn a_dropped_event_has_failed_and_a_replayed_one_is_not_written_down() {
    let notes = Notes::new();
    let bus = Bus::builder()
        .workers(1)
        .capacity(1)
        .overflow(Overflow::DropOldest)
        .journal(notes.clone())
        .build()
        .unwrap();
    let _handler = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    // Nothing is taken from the queue before this task yields.
    bus.try_publish(event("old")).unwrap();
    bus.try_publish(event("new")).unwrap();
    assert_eq!(notes.lines(), ["accept old", "accept new", "Failed old"]);
    let replayed = event("again").replayed();
    let mut batch = vec![event("first"), replayed.clone()];
    bus.drain(LONG).await;
    bus.publish(replayed).await.unwrap();
    bus.drain(LONG).await;
    bus.publish_batch(&mut batch).await.unwrap();
    let asked = notes.0.asked.get();
    bus.drain(LONG).await;
    bus.publish_batch(&mut vec![event("again").replayed()]).await.unwrap();
    assert_eq!(notes.0.asked.get(), asked, "there was nothing to write");
    settle(&bus).await;
    assert!(!notes.lines().iter().any(|line| line.contains("again")), "{:?}", notes.lines());
    assert!(notes.lines().contains(&"accept first".to_owned()));
}

#[tokio::test]
async fn the_journal_learns_what_becomes_of_letters_and_of_no_event_twice() {
    let notes = Notes::new();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let calls = swarmbus_tests::Count::default();
    let _third_time = bus
        .subscribe("x")
        .name("slow to learn")
        .handle(move |_: &Event| {
            calls.add();
            if calls.get() < 4 { Err("no") } else { Ok(()) }
        })
        .unwrap();
    bus.publish(event("one")).await.unwrap();
    bus.publish(event("two")).await.unwrap();
    settle(&bus).await;
    let before = notes.lines().len();
    assert!(bus.dead_letters().retry(1).await.is_err());
    bus.dead_letters().retry(1).await.unwrap();
    assert_eq!(bus.dead_letters().purge(&LetterFilter::all()), 1);
    assert_eq!(
        notes.lines()[before..],
        ["letter of slow to learn: one", "Delivered letter one", "Purged letter two"]
    );
}

#[tokio::test]
async fn a_letter_is_gone_when_no_handler_of_its_name_has_it() {
    let notes = Notes::new();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let mended = Arc::new(AtomicBool::new(false));
    let subscribe = || {
        let mended = mended.clone();
        let works = move |_: &Event| if mended.load(SeqCst) { Ok(()) } else { Err("no") };
        // Both are called `x`.
        bus.subscribe("x").handle(works).unwrap()
    };
    let _both = [subscribe(), subscribe()];
    bus.publish(event("one")).await.unwrap();
    settle(&bus).await;
    let before = notes.lines().len();
    mended.store(true, SeqCst);
    bus.dead_letters().retry(1).await.unwrap();
    assert_eq!(notes.lines().len(), before, "the other has it still");
    bus.dead_letters().retry(2).await.unwrap();
    assert_eq!(notes.lines()[before..], ["Delivered letter one"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_settled_after_its_last_detached_call() {
    let notes = Notes::new();
    let bus = Bus::builder().workers(1).journal(notes.clone()).build().unwrap();
    let second = std::time::Duration::from_secs(1);
    let _fails = bus
        .subscribe("x")
        .name("tries")
        .retry(Backoff::fixed(second * 5).max_tries(1))
        .handle(|_: &Event| Err("no"))
        .unwrap();
    let _slow = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new())
        .handle_async(move |_| tokio::time::sleep(second * 6))
        .unwrap();
    bus.publish(event("a")).await.unwrap();
    assert!(bus.drain(second * 5 + second / 2).await > 0);
    assert_eq!(notes.lines(), ["accept a", "letter of tries: a"], "one still runs");
    settle(&bus).await;
    assert_eq!(notes.lines()[2..], ["Dead a"]);

    // One that a shutdown cuts off stays pending.
    bus.publish(event("b")).await.unwrap();
    let shutdown = bus.shutdown(second).await;
    assert_eq!(shutdown.undelivered.len(), 1);
    assert_eq!(notes.lines()[3..], ["accept b"]);
    assert!(bus.ledger().balances());
}

#[tokio::test]
async fn a_dispatch_that_the_bus_did_not_wait_for_is_withdrawn() {
    let notes = Notes::held();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let _handler = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let other = bus.clone();
    let dispatch = tokio::spawn(async move { other.dispatch(&event("a")).await });
    notes.0.asked.reaches(1).await;
    assert!(within(bus.shutdown(LONG)).await.is_clean());
    notes.0.turns.add_permits(1);
    assert_eq!(within(dispatch).await.unwrap(), Err(DispatchError::Closed));
    assert_eq!(notes.lines(), ["accept a", "Withdrawn a"]);
}

#[tokio::test]
async fn a_dispatch_whose_handlers_a_shutdown_takes_away_stays_pending() {
    let notes = Notes::new();
    let bus = Bus::builder().journal(notes.clone()).build().unwrap();
    let (begun, go_on) = (Count::default(), Arc::new(Semaphore::new(0)));
    let (counts, waits) = (begun.clone(), go_on.clone());
    let _first = bus
        .subscribe("x")
        .handle_async(move |_| {
            counts.add();
            let waits = waits.clone();
            async move { drop(waits.acquire().await) }
        })
        .unwrap();
    let _second = bus.subscribe("x").handle(|_: &Event| ()).unwrap();
    let other = bus.clone();
    let dispatch = tokio::spawn(async move { other.dispatch(&event("a")).await });
    begun.reaches(1).await;
    assert!(within(bus.shutdown(LONG)).await.is_clean());
    go_on.add_permits(1);
    assert_eq!(within(dispatch).await.unwrap().unwrap().delivered, 1);
    assert_eq!(notes.lines(), ["accept a"], "the second handler has not seen it");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_settled_when_its_handler_unsubscribes_before_its_turn() {
    let notes = Notes::new();
    let bus = Bus::builder().workers(1).journal(notes.clone()).build().unwrap();
    let second = std::time::Duration::from_secs(1);
    let slow = bus
        .subscribe("x")
        .bulkhead(Bulkhead::new().concurrent(1))
        .handle_async(move |_| tokio::time::sleep(second))
        .unwrap();
    bus.publish(event("a")).await.unwrap();
    bus.publish(event("b")).await.unwrap();
    while bus.bulkheads()[0].waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(slow);
    settle(&bus).await;
    assert_eq!(bus.ledger().outcomes.cancelled, 1);
    assert_eq!(notes.lines()[2..], ["Delivered a", "Failed b"]);
}

/// What became of each event that came.
#[derive(Clone, Default)]
struct Account(Arc<Mutex<HashMap<EventId, Vec<Settlement>>>>);

impl Account {
    fn write(&self, event: &Event) {
        self.0.lock().entry(event.id().unwrap()).or_default();
    }

    /// How many were settled, and how many are pending. None may be settled
    /// twice, whatever happened.
    fn totals(&self) -> (usize, usize) {
        let events = self.0.lock();
        assert!(events.values().all(|settled| settled.len() <= 1), "{events:?}");
        let settled = events.values().filter(|settled| settled.len() == 1).count();
        (settled, events.len() - settled)
    }
}

#[async_trait]
impl Journal for Account {
    async fn accept(&self, events: &[Event]) -> Result<(), JournalError> {
        events.iter().for_each(|event| self.write(event));
        tokio::task::yield_now().await;
        Ok(())
    }

    fn try_accept(&self, event: &Event) -> Result<(), JournalError> {
        self.write(event);
        Ok(())
    }

    fn settle(&self, event: &Event, settlement: Settlement) {
        // Whoever stops waiting withdraws what may not have come.
        if let Some(settled) = self.0.lock().get_mut(&event.id().unwrap()) {
            settled.push(settlement);
        }
    }

    fn dead_letter(&self, letter: &DeadLetter) {
        self.write(&letter.event);
    }
}

/// Fails, panics, hangs, waits and succeeds in turn.
fn moody() -> impl Fn() -> u32 + Clone {
    let n = Arc::new(AtomicU32::new(0));
    move || n.fetch_add(1, SeqCst) % 7
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_each_event_is_settled_once() {
    for round in 0..20 {
        let account = Account::default();
        let overflow = if round % 2 == 0 { Overflow::DropOldest } else { Overflow::Reject };
        let bus = Bus::builder()
            .workers(2)
            .capacity(40)
            .overflow(overflow)
            .detached_calls(30)
            .journal(account.clone())
            .build()
            .unwrap();
        let quick = Backoff::fixed(Duration::from_micros(100)).max_tries(2);
        let mood = moody();
        let subscribe = || {
            let mood = mood.clone();
            bus.subscribe("x")
                .retry(quick)
                .timeout(Duration::from_millis(2))
                .bulkhead(Bulkhead::new().concurrent(4).queue(20).wait(Duration::from_millis(5)))
                .handle_async(move |_| {
                    let mood = mood();
                    async move {
                        match mood {
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
                .unwrap()
        };
        let mut mixed = subscribe();
        let odd = moody();
        let _retried = bus
            .subscribe("x")
            .retry(quick)
            .dead_letters(false)
            .handle(move |_: &Event| if odd() < 3 { Err("no") } else { Ok(()) })
            .unwrap();
        let publishers: Vec<_> = (0..4)
            .map(|n| {
                let bus = bus.clone();
                tokio::spawn(async move {
                    for turn in 0..60 {
                        let event = Event::of("x", ()).with_source(n.to_string());
                        match (turn + n) % 5 {
                            0 => drop(bus.try_publish(event)),
                            1 => drop(bus.dispatch(&event).await),
                            2 => {
                                let mut batch = vec![event; 5];
                                let _ = bus.publish_batch(&mut batch).await;
                            }
                            3 => {
                                // Gives up at some point.
                                tokio::select! {
                                    _ = bus.publish(event) => {}
                                    () = tokio::task::yield_now() => {}
                                }
                            }
                            _ => drop(bus.publish(event).await),
                        }
                    }
                })
            })
            .collect();
        if round % 4 < 2 {
            while !publishers.iter().all(tokio::task::JoinHandle::is_finished) {
                tokio::task::yield_now().await;
                mixed = subscribe();
            }
            settle(&bus).await;
            assert_eq!(account.totals().1, 0, "{}", bus.ledger());
        } else {
            let left = within(bus.shutdown(Duration::from_millis(3))).await;
            for publisher in publishers {
                within(publisher).await.unwrap();
            }
            let (ledger, pending) = (bus.ledger(), account.totals().1 as u64);
            assert!(ledger.balances() && left.stuck_workers == 0, "{ledger}");
            // A shutdown takes the handlers away from those who still dispatch.
            let cut_off = ledger.outcomes.cancelled + 4;
            assert!(pending <= cut_off, "{pending} pending, {ledger}");
        }
        drop(mixed);
    }
}
