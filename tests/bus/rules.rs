//! Routing rules at work on a bus.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use swarmbus::{
    Bus, Event, EventMiddleware, Priority,
    rules::{Routing, Rules},
};
use swarmbus_tests::{LONG, Seen};

fn rules(json: &str) -> Rules {
    json.parse().unwrap()
}

fn use_rules(bus: &Bus, json: &str) -> Routing {
    bus.use_rules(rules(json)).unwrap()
}

#[tokio::test]
async fn copies_go_to_their_targets_and_the_ledger_balances() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    let note = || {
        let seen = seen.clone();
        move |event: &Event| seen.push(event.ty().as_str())
    };
    let _all = bus.subscribe(">").handle(note()).unwrap();
    let routing = use_rules(&bus, r#"{"routing": {"down": ["alert", "agent:ops"], ">": ["log"]}}"#);
    bus.publish(Event::of("down", ())).await.unwrap();
    bus.dispatch(&Event::of("up", ())).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);

    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["agent.ops", "alert", "down", "log", "log", "up"]);
    let ledger = bus.ledger();
    assert!(ledger.balances(), "{ledger}");
    assert_eq!(ledger.published, 6);
    // `log` is matched by `>` and not copied again.
    assert_eq!(routing.report().iter().map(|rule| rule.made).sum::<u64>(), 4);

    drop(routing);
    bus.publish(Event::of("down", ())).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);
    assert_eq!(seen.all().len(), 7);
}

#[tokio::test]
async fn types_that_no_rule_wants_stay_unmatched() {
    let bus = Bus::builder().build().unwrap();
    let _routing = use_rules(&bus, r#"{"routing": {"a.*": ["x"]}}"#);
    bus.publish(Event::of("b", ())).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);
    assert_eq!((bus.ledger().unmatched, bus.ledger().matches), (1, 0));
}

#[tokio::test]
async fn a_loop_of_rules_and_handlers_ends() {
    let bus = Bus::builder().build().unwrap();
    let weak = bus.downgrade();
    let _ponger = bus
        .subscribe("pong")
        .handle(move |event: &Event| {
            let ping = Event::of("ping", ()).caused_by(event, "ponger").unwrap();
            weak.upgrade().unwrap().try_publish(ping).unwrap();
        })
        .unwrap();
    let routing = use_rules(&bus, r#"{"routing": {"ping": ["pong"], ">": ["ping"]}}"#);
    bus.publish(Event::of("ping", ())).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);
    assert!(bus.ledger().balances());
    assert!(bus.ledger().published < 10, "{}", bus.ledger());
    assert!(routing.report().iter().any(|rule| rule.cut > 0));
}

#[tokio::test]
async fn a_copy_without_room_is_a_dead_letter() {
    let bus = Bus::builder().workers(1).capacity(4).build().unwrap();
    let to: Vec<String> = (0..20).map(|n| format!("\"t{n}\"")).collect();
    let _routing = use_rules(&bus, &format!("{{\"routing\": {{\"a\": [{}]}}}}", to.join(",")));
    bus.publish(Event::of("a", ())).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);
    assert!(bus.ledger().balances(), "{}", bus.ledger());
    assert_eq!(bus.ledger().outcomes.dead_lettered, 1);
    assert_eq!(bus.dead_letters().len(), 1);
}

struct RefusesAlerts;

impl EventMiddleware for RefusesAlerts {
    fn publishing(&self, event: &mut Event) -> Result<(), String> {
        if event.ty().as_str() == "alert" { Err("not now".into()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_copy_that_middleware_refuses_keeps_no_other_back() {
    let bus = Bus::builder().event_middleware(RefusesAlerts).build().unwrap();
    let seen = Seen::default();
    let note = seen.clone();
    let _all = bus.subscribe(">").handle(move |event: &Event| note.push(event.ty().as_str()));
    let _routing = use_rules(&bus, r#"{"routing": {"down": ["log", "alert", "recovery"]}}"#);
    bus.publish(Event::of("down", ())).await.unwrap();
    assert_eq!(bus.drain(LONG).await, 0);
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["down", "log", "recovery"]);
    let ledger = bus.ledger();
    assert!(ledger.balances(), "{ledger}");
    assert_eq!((ledger.refused, ledger.outcomes.dead_lettered), (1, 1), "{ledger}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_sees_one_set_of_rules_while_they_change() {
    let bus = Bus::builder().workers(2).capacity(100_000).build().unwrap();
    let old = r#"{"routing": {"event": ["old"], "ev*": ["old2"]}}"#.replace("ev*", "*");
    let new = r#"{"routing": {"*": ["new"], "event": ["new2"]}}"#;
    let count = |pattern: &str| {
        let counted = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&counted);
        let counting = move |_: &Event| {
            seen.fetch_add(1, SeqCst);
        };
        bus.subscribe(pattern).handle(counting).unwrap().detach();
        counted
    };
    let counts = ["old", "old2", "new", "new2"].map(count);
    let routing = Arc::new(use_rules(&bus, &old));
    let done = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (routing, done) = (Arc::clone(&routing), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(SeqCst) {
                for json in [new, &old] {
                    routing.replace(rules(json)).unwrap();
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    for _ in 0..5_000 {
        bus.publish(Event::of("event", ())).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(bus.drain(LONG).await, 0);
    done.store(true, SeqCst);
    swapping.await.unwrap();

    let [old, old2, new, new2] = counts.map(|count| count.load(SeqCst));
    assert_eq!((old, new), (old2, new2), "half of a set");
    assert_eq!(old + new, 5_000, "an event was routed by both or by none");
    assert!(bus.ledger().balances());
}

#[tokio::test]
async fn rules_end_with_their_bus_and_obey_its_limits() {
    let bus = Bus::builder().max_handlers(3).build().unwrap();
    let routing = use_rules(&bus, r#"{"routing": {"a": ["x"], "b": ["x"], "c": ["x"]}}"#);
    assert!(bus.subscribe("d").handle(|_: &Event| ()).is_err());
    let four = rules(r#"{"routing": {"a": ["x"], "b": ["x"], "c": ["x"], "d": ["x"]}}"#);
    assert!(routing.replace(four).is_err());
    assert_eq!(routing.rules().len(), 3, "the old ones stay");
    routing.replace(rules(r#"{"routing": {"a": ["y"]}}"#)).unwrap();
    let _two = [(); 2].map(|()| bus.subscribe("y").handle(|_: &Event| ()).unwrap());
    let event = Event::of("a", ()).with_priority(Priority::MAX);
    assert_eq!(routing.rules().routed(&event)[0].priority, Priority::MAX);
    assert!(bus.shutdown(LONG).await.is_clean());
    assert!(routing.replace(rules("{}")).is_ok(), "nothing to route needs no bus");
    assert!(routing.replace(rules(r#"{"routing": {"a": ["x"]}}"#)).is_err());
}
