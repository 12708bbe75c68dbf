//! Random faults behind random layers: each event comes to an end that the
//! model allows, once, and all books agree on it.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use swarmbus::{
    BreakerScope, Bulkhead, Bus, DeadLetter, DeadReason, Event, EventMiddleware, Journal,
    JournalError, Outcome, Overflow, Settlement,
    core::backoff::{Backoff, Jitter},
};
use tokio::time::{sleep, timeout}; // sleep: under the paused clock, see the foot of this file

use crate::case::{Case, Expected, Fault, Layers, TIMEOUT, Way, any_case};

/// Longer than all tries of all events.
const LONG: Duration = Duration::from_secs(3_600);

const RETRY: Backoff = Backoff::exponential(Duration::from_millis(10)).jitter(Jitter::None);

/// What became of one event at one handler, and of what the journal was told.
#[derive(Clone, Default)]
struct Books(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    ends: HashMap<(usize, usize), Vec<Outcome>>,
    letters: HashMap<(usize, usize), DeadReason>,
    settled: HashMap<usize, Vec<Settlement>>,
}

fn number(event: &Event) -> usize {
    event.text().unwrap().parse().unwrap()
}

impl EventMiddleware for Books {
    fn resolved(&self, event: &Event, handler: &str, outcome: Outcome) {
        let pair = (number(event), handler.parse().unwrap());
        self.0.lock().ends.entry(pair).or_default().push(outcome);
    }
}

#[async_trait]
impl Journal for Books {
    async fn accept(&self, _: &[Event]) -> Result<(), JournalError> {
        Ok(())
    }

    fn try_accept(&self, _: &Event) -> Result<(), JournalError> {
        Ok(())
    }

    fn settle(&self, event: &Event, settlement: Settlement) {
        self.0.lock().settled.entry(number(event)).or_default().push(settlement);
    }

    fn dead_letter(&self, letter: &DeadLetter) {
        let pair = (number(&letter.event), letter.handler.parse().unwrap());
        self.0.lock().letters.insert(pair, letter.reason);
    }
}

fn subscribe(bus: &Bus, number: usize, case: &Arc<Case>) {
    let Layers { retries, timeout, bulkhead, breaker, fallback, dead_letters, in_order } =
        case.handlers[number];
    let mut subscribe = bus.subscribe("x").name(number.to_string()).dead_letters(dead_letters);
    if retries > 0 {
        // The budget is tested elsewhere.
        subscribe = subscribe.retry(RETRY.max_tries(retries)).retry_budget(100, 10_000);
    }
    if timeout {
        subscribe = subscribe.timeout(TIMEOUT);
    }
    if let Some((concurrent, queue)) = bulkhead {
        let wait = Duration::from_millis(100);
        subscribe =
            subscribe.bulkhead(Bulkhead::new().concurrent(concurrent).queue(queue).wait(wait));
    }
    if !breaker {
        subscribe = subscribe.breaker(BreakerScope::Off);
    }
    if fallback {
        subscribe = subscribe.fallback("stand-in", |_: &Event| ());
    }
    if in_order {
        subscribe = subscribe.in_order();
    }
    let (case, tries) = (Arc::clone(case), Arc::new(Mutex::new(HashMap::<usize, u32>::new())));
    let handler = move |event: Event| {
        let attempt = {
            let mut tries = tries.lock();
            let tries = tries.entry(self::number(&event)).or_default();
            *tries += 1;
            *tries - 1
        };
        let fault = case.sendings[self::number(&event)].fault(number, attempt);
        async move {
            match fault {
                Fault::None => Ok(()),
                Fault::Fails => Err("on purpose"),
                Fault::Panics => std::panic::resume_unwind(Box::new("on purpose")),
                Fault::Waits(ms) => {
                    sleep(Duration::from_millis(ms)).await;
                    Ok(())
                }
                Fault::Hangs => pending().await,
            }
        }
    };
    subscribe.handle_async(handler).unwrap().detach();
}

/// Sends all events. Returns those that the bus took.
async fn send(bus: &Bus, case: &Case) -> HashSet<usize> {
    let mut accepted = HashSet::new();
    for (number, sending) in case.sendings.iter().enumerate() {
        sleep(Duration::from_millis(sending.pause)).await;
        let event = Event::of("x", number.to_string()).with_source((number % 3).to_string());
        let taken = match sending.way {
            // A publisher that waits for long gives up.
            Way::Publish => {
                timeout(Duration::from_secs(1), bus.publish(event)).await.is_ok_and(|r| r.is_ok())
            }
            Way::TryPublish => bus.try_publish(event).is_ok(),
            // One that is dropped in the middle was dispatched.
            Way::Dispatch(ms) => timeout(Duration::from_millis(ms), bus.dispatch(&event))
                .await
                .map_or(true, |dispatched| dispatched.is_ok()),
        };
        if taken {
            accepted.insert(number);
        }
    }
    accepted
}

async fn run(case: Case) {
    let case = Arc::new(case);
    let books = Books::default();
    let overflow = if case.drop_oldest { Overflow::DropOldest } else { Overflow::Reject };
    let bus = Bus::builder()
        .workers(case.workers)
        .capacity(case.capacity)
        .overflow(overflow)
        .event_middleware(books.clone())
        .journal(books.clone())
        .build()
        .unwrap();
    (0..case.handlers.len()).for_each(|handler| subscribe(&bus, handler, &case));
    let cut = case.shutdown.map(|(after, limit)| {
        let bus = bus.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            bus.shutdown(Duration::from_millis(limit)).await
        })
    });
    let accepted = send(&bus, &case).await;
    match cut {
        Some(cut) => assert_eq!(cut.await.unwrap().stuck_workers, 0),
        None => {
            bus.drain(LONG).await;
            assert_eq!(bus.shutdown(Duration::ZERO).await.stuck_workers, 0);
        }
    }
    check(&case, &bus, &accepted, &books.0.lock());
}

fn check(case: &Case, bus: &Bus, accepted: &HashSet<usize>, books: &Written) {
    let ledger = bus.ledger();
    assert!(ledger.balances(), "{ledger}");
    assert_eq!(ledger.published, accepted.len() as u64, "{ledger}");
    let (mut without_end, mut may_be_skipped) = (0, 0);
    for event in 0..case.sendings.len() {
        let ends: Vec<_> =
            (0..case.handlers.len()).map(|handler| books.ends.get(&(event, handler))).collect();
        if !accepted.contains(&event) {
            assert!(ends.iter().all(Option::is_none), "{event} was refused: {ends:?}");
            continue;
        }
        let ends: Vec<_> = ends.into_iter().map(|ends| ends.map(|ends| one(ends))).collect();
        for (handler, end) in ends.iter().enumerate() {
            without_end += u64::from(end.is_none());
            may_be_skipped += u64::from(end.is_none() && case.may_be_skipped(event));
            assert!(case.allows(event, handler, *end), "{event} at {handler}: {end:?}");
            letter(case, (event, handler), *end, books);
        }
        let settled = books.settled.get(&event).map(|settled| one(settled));
        if !case.may_be_skipped(event) {
            assert_eq!(settled, settlement(&ends), "{event}: {ends:?}");
        }
    }
    let matches = (accepted.len() * case.handlers.len()) as u64;
    let skipped = matches - ledger.matches;
    assert!(skipped <= may_be_skipped, "{skipped}: {ledger}");
    assert_eq!(ledger.outcomes.cancelled + skipped, without_end, "{ledger}");
}

/// The only thing in a list.
fn one<T: Copy + std::fmt::Debug>(list: &[T]) -> T {
    assert_eq!(list.len(), 1, "{list:?}");
    list[0]
}

/// A dead letter has the reason of the last try, and only a dead letter has.
fn letter(case: &Case, pair: (usize, usize), end: Option<Outcome>, books: &Written) {
    let reason = books.letters.get(&pair).copied();
    if end.is_some() {
        assert_eq!(reason.is_some(), end == Some(Outcome::DeadLettered), "{pair:?}: {end:?}");
    }
    let layers = case.handlers[pair.1];
    if let (Some(_), false, None, true) = (reason, layers.breaker, layers.bulkhead, case.is_exact())
        && let Expected::Ends(Outcome::DeadLettered, expected) = case.expected(pair.0, pair.1)
    {
        assert_eq!(reason, expected, "{pair:?}");
    }
}

/// What the journal must be told of an event with these ends.
fn settlement(ends: &[Option<Outcome>]) -> Option<Settlement> {
    let ends = ends.iter().copied().collect::<Option<Vec<_>>>()?;
    Some(if ends.contains(&Outcome::DeadLettered) {
        Settlement::Dead
    } else if ends.iter().all(|end| matches!(end, Outcome::Delivered | Outcome::FellBack)) {
        Settlement::Delivered
    } else {
        Settlement::Failed
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_event_has_one_end_and_its_reason(case in any_case()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(case));
    }
}
