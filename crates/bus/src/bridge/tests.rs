//! Bridges over a transport that fails when it is told to.

use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus_core::{Event, Priority, backoff::Backoff, overflow::Overflow};
use tokio::sync::{
    Notify,
    mpsc::{UnboundedReceiver, unbounded_channel},
    watch,
};

use super::*;
use crate::{
    DeadReason, HandlerError,
    messenger::To,
    transport::{
        Channel, ConnectionState, DeadTask, Features, Inbox, MemoryTransport, Received,
        SubscribeOptions, Transport, TransportError, TransportPublishError,
    },
};

const LONG: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Refuses everything.
    Fail,
    /// Never answers.
    Hang,
    /// Fails now and then, having sent nothing, a part, or all.
    Flaky,
}

/// The in-process transport behind a bad line.
struct Line {
    transport: MemoryTransport,
    fault: Mutex<Fault>,
    /// Rings when something is to be sent.
    tried: Notify,
}

impl Line {
    fn new() -> Arc<Self> {
        let transport = MemoryTransport::new();
        Arc::new(Self { transport, fault: Mutex::new(Fault::None), tried: Notify::new() })
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }
}

#[async_trait]
impl Transport for Line {
    fn features(&self) -> Features {
        self.transport.features()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.transport.state()
    }

    async fn publish(&self, channel: &Channel, event: Event) -> Result<(), TransportPublishError> {
        self.transport.publish(channel, event).await
    }

    async fn publish_batch(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.transport.publish_batch(channel, batch).await
    }

    async fn publish_confirmed(
        &self,
        channel: &Channel,
        batch: &mut Vec<Event>,
    ) -> Result<(), TransportError> {
        self.tried.notify_one();
        let fault = *self.fault.lock();
        match fault {
            Fault::Fail => return Err(TransportError::TimedOut),
            Fault::Hang => std::future::pending().await,
            Fault::Flaky if fastrand::bool() => {
                let sent = fastrand::usize(0..=batch.len());
                let mut some = batch[..sent].to_vec();
                self.transport.publish_batch(channel, &mut some).await?;
                batch.drain(..fastrand::usize(0..=sent));
                return Err(TransportError::TimedOut);
            }
            Fault::None | Fault::Flaky => {}
        }
        self.transport.publish_batch(channel, batch).await
    }

    async fn publish_once(
        &self,
        channel: &Channel,
        key: &str,
        event: Event,
    ) -> Result<bool, TransportPublishError> {
        self.transport.publish_once(channel, key, event).await
    }

    async fn flush(&self) -> Result<(), TransportError> {
        self.transport.flush().await
    }

    async fn subscribe(
        &self,
        channel: &Channel,
        options: SubscribeOptions,
    ) -> Result<Inbox, TransportError> {
        self.transport.subscribe(channel, options).await
    }

    async fn history(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<Received>, TransportError> {
        self.transport.history(channel, count).await
    }

    async fn dead_letters(
        &self,
        channel: &Channel,
        count: usize,
    ) -> Result<Vec<DeadTask>, TransportError> {
        self.transport.dead_letters(channel, count).await
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

/// A bus with its messenger, agent `NAME1` of swarm `NAME`.
struct Side {
    bus: Bus,
    messenger: Messenger,
}

impl Side {
    async fn new(line: &Arc<Line>, name: &str) -> Self {
        let messenger = Messenger::join(line.clone(), name, &format!("{name}1")).await.unwrap();
        Self { bus: Bus::builder().workers(1).build().unwrap(), messenger }
    }

    fn bridge(&self, rules: BridgeRules) -> Bridge {
        self.bus.bridge(&self.messenger, rules).unwrap()
    }

    /// What the bus handles, as texts.
    fn hear(&self, pattern: &str) -> UnboundedReceiver<String> {
        let (told, heard) = unbounded_channel();
        let handler = move |event: &Event| told.send(event.text().unwrap_or_default().to_owned());
        self.bus.subscribe(pattern).name("ear").handle(handler).unwrap().detach();
        heard
    }

    async fn say(&self, text: impl ToString) {
        self.bus.publish(said(text)).await.unwrap();
    }

    /// Waits until nothing is under way; the account must be settled.
    async fn settle(&self) {
        assert_eq!(self.bus.drain(LONG).await, 0);
        let ledger = self.bus.ledger();
        assert!(ledger.balances(), "{ledger}");
    }

    fn outcomes(&self) -> crate::Outcomes {
        let ledger = self.bus.ledger();
        let bridge = ledger.handlers.iter().find(|handler| handler.name.starts_with("bridge"));
        bridge.unwrap().outcomes
    }
}

fn said(text: impl ToString) -> Event {
    Event::of("said", text.to_string())
}

fn to(swarm: &str) -> To {
    To::swarm(swarm).unwrap()
}

fn sending() -> BridgeRules {
    BridgeRules::new().send("said", to("b"))
}

async fn pair() -> (Arc<Line>, Side, Side) {
    let line = Line::new();
    let (a, b) = (Side::new(&line, "a").await, Side::new(&line, "b").await);
    (line, a, b)
}

async fn next(heard: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(LONG, heard.recv()).await.expect("nothing came").expect("an end")
}

#[tokio::test(start_paused = true)]
async fn an_event_crosses_once_however_many_ways_lead_there_and_does_not_come_back() {
    let (_line, a, b) = pair().await;
    let both = |swarm| BridgeRules::new().send("said", to(swarm)).receive("*").receive("said");
    let from_a = a.bridge(both("b").send("said", To::broadcast()));
    let from_b = b.bridge(both("a").send("said", To::broadcast()));
    let mut heard = b.hear("said");
    a.say("hello").await;
    assert_eq!(next(&mut heard).await, "hello");
    a.settle().await;
    b.settle().await;
    tokio::time::sleep(LONG).await;
    assert!(heard.try_recv().is_err(), "twice");
    assert_eq!((from_a.stats().sent, from_b.stats().sent), (2, 0));
    assert_eq!((from_b.stats().received, from_b.stats().duplicates), (1, 1));
    assert_eq!((a.bus.ledger().outcomes.delivered, a.bus.ledger().published), (2, 1));
    assert_eq!(b.bus.ledger().outcomes.looped, 2, "both rules of b matched it");
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_back_but_not_go_round_for_ever() {
    let (_line, a, b) = pair().await;
    let answering = |side: &Side, other: &str, hears: &str, says: &'static str| {
        let weak = side.bus.downgrade();
        let handler = move |event: &Event| {
            let answer = Event::of(says, "").caused_by(event, says)?;
            weak.upgrade().unwrap().try_publish(answer)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        // Without the handlers' own guards, only the bridges' are left.
        side.bus.subscribe(hears).name(says).loop_guard(None).handle(handler).unwrap().detach();
        side.bridge(BridgeRules::new().send(says, to(other)).receive(hears))
    };
    let from_a = answering(&a, "b", "pong", "ping");
    let from_b = answering(&b, "a", "ping", "pong");
    a.bus.publish(Event::of("ping", "")).await.unwrap();
    while from_b.stats().looped == 0 {
        tokio::task::yield_now().await;
    }
    // ping, pong, and the ping that the pong caused.
    assert_eq!((from_a.stats().received, from_b.stats().received), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_then_is_a_dead_letter() {
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let patient = breaker::Config::builder().consecutive_failures(None).build().unwrap();
    let out = a.bridge(sending().breaker(patient));
    line.set(Fault::Fail);
    a.say("1").await;
    line.tried.notified().await;
    line.set(Fault::None);
    assert_eq!(next(&mut heard).await, "1");
    a.settle().await;
    assert_eq!((a.outcomes().delivered, out.stats().failed), (1, 1));

    line.set(Fault::Hang);
    a.say("2").await;
    a.settle().await;
    let letter = a.bus.dead_letters().list().pop().unwrap();
    assert_eq!((letter.reason, letter.attempts), (DeadReason::TimedOut, 4));
    assert_eq!(a.outcomes().dead_lettered, 1);

    line.set(Fault::None);
    a.bus.dead_letters().retry(letter.id).await.unwrap();
    assert_eq!(next(&mut heard).await, "2");
    a.settle().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_events_wait_and_urgent_ones_are_tried() {
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let out = a.bridge(sending());
    line.set(Fault::Fail);
    for n in 0..10 {
        a.say(n).await;
    }
    // All have failed once, and the breaker is open.
    while out.stats().failed < 10 {
        tokio::task::yield_now().await;
    }
    for n in 10..20 {
        a.say(n).await;
    }
    line.set(Fault::None);
    a.bus.publish(said("urgent").with_priority(Priority::MAX)).await.unwrap();
    assert_eq!(next(&mut heard).await, "urgent");
    assert_eq!(out.stats().waiting, 20);
    let mut came = Vec::new();
    for _ in 0..20 {
        came.push(next(&mut heard).await.parse::<u32>().unwrap());
    }
    // What was not tried kept its order, and so did what was.
    let (tried, waited): (Vec<u32>, Vec<u32>) = came.into_iter().partition(|n| *n < 10);
    assert!(waited.is_sorted(), "{waited:?}");
    assert_eq!((tried.len(), waited.len()), (10, 10));
    a.settle().await;
    assert_eq!(a.outcomes().delivered, 21);
}

#[tokio::test(start_paused = true)]
async fn urgent_events_overtake() {
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let _out = a.bridge(sending().timeout(Duration::from_secs(1)).retry(None).dead_letters(false));
    line.set(Fault::Hang);
    a.say("first").await;
    line.tried.notified().await;
    for n in 0..600 {
        a.say(n).await;
    }
    a.bus.publish(said("urgent").with_priority(Priority::MAX)).await.unwrap();
    line.set(Fault::None);
    assert_eq!(next(&mut heard).await, "urgent");
    for n in 0..600 {
        assert_eq!(next(&mut heard).await, n.to_string());
    }
    a.settle().await;
    assert_eq!((a.outcomes().failed, a.outcomes().delivered), (1, 601));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_does_what_its_policy_says() {
    let expected = [
        (Overflow::Reject, vec!["0", "1"], (0, 0, 2)),
        (Overflow::DropOldest, vec!["2", "3"], (2, 0, 0)),
        (Overflow::DropLowestPriority, vec!["0", "1"], (0, 2, 0)),
    ];
    for (policy, crossed, dropped) in expected {
        let (line, a, b) = pair().await;
        let _in = b.bridge(BridgeRules::new().receive("said"));
        let mut heard = b.hear("said");
        let two = NonZeroUsize::new(2).unwrap();
        let out =
            a.bridge(sending().capacity(two).overflow(policy).timeout(Duration::from_secs(60)));
        line.set(Fault::Hang);
        a.bus.publish(Event::of("said", "stuck").with_source("x")).await.unwrap();
        line.tried.notified().await;
        for n in 0..4 {
            a.say(n).await;
        }
        while a.bus.depth() > 0 || a.bus.ledger().pending() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(out.stats().waiting, 2);
        line.set(Fault::None);
        for text in crossed {
            assert_eq!(next(&mut heard).await, text);
        }
        assert_eq!(next(&mut heard).await, "stuck", "tried again after its time-out");
        a.settle().await;
        let outcomes = a.outcomes();
        let counted = (outcomes.dropped_oldest, outcomes.dropped_lowest, outcomes.dead_lettered);
        assert_eq!(counted, dropped, "{policy:?}");
        assert_eq!(outcomes.delivered, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_held_back_loses_nothing() {
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let _out = a.bridge(sending().capacity(NonZeroUsize::MIN).hold_back());
    line.set(Fault::Hang);
    a.say("stuck").await;
    line.tried.notified().await;
    for n in 0..1_000 {
        a.say(n).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(a.bus.ledger().pending() > 900, "they wait in the bus");
    line.set(Fault::None);
    for _ in 0..=1_000 {
        next(&mut heard).await;
    }
    a.settle().await;
    assert_eq!(a.outcomes().delivered, 1_001);
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_ends_sends_what_waits_or_says_that_it_did_not() {
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let out = a.bridge(sending());
    a.say("1").await;
    while a.bus.ledger().pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(out.shutdown(LONG).await, 0);
    assert_eq!(next(&mut heard).await, "1");
    a.say("nobody sends this").await;
    a.settle().await;
    assert_eq!(a.bus.ledger().unmatched, 1);

    let out = a.bridge(sending());
    line.set(Fault::Hang);
    a.say("2").await;
    line.tried.notified().await;
    a.say("3").await;
    while a.bus.ledger().pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(out.shutdown(Duration::from_secs(1)).await, 2);
    a.settle().await;
    let letters = a.bus.dead_letters().list();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        let HandlerError::Failed(why) = &*letter.error else { panic!("{:?}", letter.error) };
        assert!(matches!(why.downcast_ref(), Some(BridgeSendError::Closed)), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_ends_reports_what_was_not_sent() {
    let (line, a, _b) = pair().await;
    let _out = a.bridge(sending());
    line.set(Fault::Hang);
    a.say("1").await;
    line.tried.notified().await;
    a.say("2").await;
    let left = a.bus.shutdown(Duration::from_secs(1)).await;
    let mut texts: Vec<_> = left.undelivered.iter().filter_map(Event::text).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["1", "2"]);
    let ledger = a.bus.ledger();
    assert!(ledger.balances(), "{ledger}");
    assert_eq!(ledger.outcomes.cancelled, 2);
}

#[tokio::test(start_paused = true)]
async fn one_who_dispatches_learns_how_it_went() {
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let _out = a.bridge(sending().retry(None));
    assert_eq!(a.bus.dispatch(&said("1")).await.unwrap().delivered, 1);
    assert_eq!(next(&mut heard).await, "1");
    line.set(Fault::Fail);
    assert_eq!(a.bus.dispatch(&said("2")).await.unwrap().delivered, 0);
    a.settle().await;
    assert_eq!(a.outcomes().dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn over_a_line_that_fails_at_random_all_events_cross_once() {
    const EVENTS: usize = 2_000;
    let (line, a, b) = pair().await;
    let _in = b.bridge(BridgeRules::new().receive("said"));
    let mut heard = b.hear("said");
    let stubborn = Backoff::fixed(Duration::from_millis(10)).max_tries(u32::MAX);
    let out = a.bridge(sending().retry(stubborn));
    line.set(Fault::Flaky);
    for n in 0..EVENTS {
        a.say(n).await;
    }
    let mut seen = HashSet::new();
    for _ in 0..EVENTS {
        assert!(seen.insert(next(&mut heard).await), "twice");
    }
    a.settle().await;
    tokio::time::sleep(LONG).await;
    assert!(heard.try_recv().is_err(), "too many");
    assert_eq!(a.outcomes().delivered, EVENTS as u64);
    assert!(out.stats().failed > 0);
}

#[tokio::test(start_paused = true)]
async fn gaps_are_counted_and_told() {
    let (line, a, _b) = pair().await;
    let told = Arc::new(AtomicBool::new(false));
    let rules = {
        let told = Arc::clone(&told);
        BridgeRules::new().receive("said").on_gap(move |_, _| told.store(true, SeqCst))
    };
    let bridge = a.bridge(rules);
    // More than the messenger's inbox holds, before its reader can run.
    let other = Messenger::join(line.clone(), "c", "c1").await.unwrap();
    let mut events = (0..10_000).map(said).collect();
    other.send_confirmed(&to("a"), &mut events).await.unwrap();
    while bridge.stats().gaps == 0 {
        tokio::task::yield_now().await;
    }
    let stats = bridge.stats();
    assert_eq!((stats.missed, stats.received), (10_000 - 8_192, 8_192));
    assert!(told.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn names_that_cannot_travel_are_refused() {
    let (_line, a, _b) = pair().await;
    for name in [String::new(), "x".repeat(256)] {
        let refused = a.bus.bridge(&a.messenger, BridgeRules::new().name(name.clone()));
        assert!(matches!(refused, Err(BridgeError::Name(len)) if len == name.len()));
    }
    let refused = a.bus.bridge(&a.messenger, BridgeRules::new().send("a..b", to("b")));
    assert!(matches!(refused, Err(BridgeError::Send(_))));
    let refused = a.bus.bridge(&a.messenger, BridgeRules::new().receive("a..b"));
    assert!(matches!(refused, Err(BridgeError::Receive(_))));
}
