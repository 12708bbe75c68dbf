//! What a bus shows of itself.

use std::{collections::HashMap, time::Duration};

use metrics_util::{
    CompositeKey,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use swarmbus::{
    Bulkhead, Bus, Event, EventMiddleware, HandlerError, METRICS, Outcome, breaker::StateKind,
};
use swarmbus_tests::{Seen, settle};

/// What was recorded, by name and labels.
fn values(snapshotter: &Snapshotter) -> HashMap<(String, String), DebugValue> {
    let value = |(key, _, _, value): (CompositeKey, _, _, _)| {
        let labels: Vec<_> = key.key().labels().map(|l| l.value().to_owned()).collect();
        ((key.key().name().to_owned(), labels.join(" ")), value)
    };
    snapshotter.snapshot().into_vec().into_iter().map(value).collect()
}

/// Does `work` where its metrics are recorded, with a clock that stands still
/// while it works.
fn recorded<T>(work: impl AsyncFnOnce(&Snapshotter) -> T) -> T {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(work(&snapshotter)))
}

#[test]
fn metrics_carry_the_ledgers_totals() {
    let found = recorded(async |snapshotter| {
        let bus = Bus::builder().name("test").sample_every(1).build().unwrap();
        bus.subscribe("ok").name("good").handle(|_: &Event| ()).unwrap().detach();
        bus.subscribe("no").name("bad").handle(|_: &Event| Err("no")).unwrap().detach();
        for _ in 0..7 {
            bus.publish(Event::of("ok", ())).await.unwrap();
            bus.publish(Event::of("no", ())).await.unwrap();
        }
        settle(&bus).await;
        values(snapshotter)
    });
    let value = |name: &str, labels: &str| match &found[&(name.to_owned(), labels.to_owned())] {
        DebugValue::Counter(n) => *n as f64,
        DebugValue::Gauge(n) => n.0,
        DebugValue::Histogram(values) => values.len() as f64,
    };
    assert_eq!(value("events_published_total", "test"), 14.0);
    assert_eq!(value("events_processed_total", "test"), 7.0);
    assert_eq!(value("events_failed_total", "test"), 5.0);
    assert_eq!(value("events_rejected_total", "test"), 2.0);
    assert_eq!(value("dead_letter_queue_size", "test"), 5.0);
    assert_eq!(value("circuit_breaker_state", "test bad no"), 2.0);
    assert_eq!(value("event_processing_duration_seconds", "test"), 12.0);
    assert_eq!(value("event_queue_wait_seconds", "test"), 14.0);
    for metric in METRICS {
        assert!(found.keys().any(|(name, _)| name == metric.name), "{} is missing", metric.name);
    }
}

#[test]
fn no_breaker_of_a_handler_that_has_ended_is_shown_open() {
    let mut found = recorded(async |snapshotter| {
        let bus = Bus::builder().build().unwrap();
        let fails = bus.subscribe("x").handle(|_: &Event| Err("no")).unwrap();
        for _ in 0..5 {
            bus.publish(Event::of("x", ())).await.unwrap();
        }
        settle(&bus).await;
        assert_eq!(bus.breakers()[0].stats.state, StateKind::Open);
        drop(fails);
        while !bus.breakers().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(bus);
        values(snapshotter)
    });
    let state = found.remove(&("circuit_breaker_state".into(), "bus x x".into()));
    assert_eq!(state, Some(DebugValue::Gauge(0.0.into())));
}

#[test]
fn handlers_and_fallbacks_that_are_cut_off_are_counted() {
    let mut found = recorded(async |snapshotter| {
        let bus = Bus::builder().build().unwrap();
        let _handler = bus
            .subscribe("x")
            .timeout(Duration::from_secs(1))
            .fallback_async("hangs, too", |_| std::future::pending::<()>())
            .fallback("fails", |_: &Event| Err("no"))
            .handle_async(|_| std::future::pending::<()>())
            .unwrap();
        bus.publish(Event::of("x", ())).await.unwrap();
        settle(&bus).await;
        values(snapshotter)
    });
    for name in ["handler_timeouts_total", "handler_aborts_total"] {
        let counted = found.remove(&(name.to_owned(), "bus".to_owned()));
        assert_eq!(counted, Some(DebugValue::Counter(2)), "{name}");
    }
}

#[tokio::test]
async fn a_ledger_reads_well() {
    let bus = Bus::builder().build().unwrap();
    let _handler = bus.subscribe("x").name("worker").handle(|_: &Event| ()).unwrap();
    bus.publish(Event::of("x", ())).await.unwrap();
    bus.publish(Event::of("y", ())).await.unwrap();
    settle(&bus).await;
    let ledger = bus.ledger();
    assert_eq!(
        ledger.to_string(),
        "published 2 = resolved 2 + pending 0; matches 1 = outcomes 1, Delivered 1"
    );
    assert_eq!((ledger.handlers[0].name.as_str(), ledger.unmatched), ("worker", 1));
    assert!(format!("{bus:?}").contains("handlers: 1"), "{bus:?}");
}

struct Ends(Seen);

impl EventMiddleware for Ends {
    fn resolved(&self, event: &Event, handler: &str, outcome: Outcome) {
        self.0.push(&format!("{} {handler} {outcome:?}", event.ty()));
        assert_ne!(outcome, Outcome::Filtered, "a panic in here ends nothing");
    }
}

#[tokio::test]
async fn middleware_learns_what_became_of_every_match() {
    let ends = Seen::default();
    let middleware = Ends(ends.clone());
    let bus = Bus::builder().workers(1).event_middleware(middleware).build().unwrap();
    let fails = bus.subscribe("x").name("fails").handle(|_: &Event| Err("no")).unwrap();
    let _picky = bus
        .subscribe("x")
        .name("picky")
        .filter(swarmbus::Filter::custom(|_| false))
        .handle(|_: &Event| ())
        .unwrap();
    for ty in ["x", "x", "x", "x", "x", "x", "nobody"] {
        bus.publish(Event::of(ty, ())).await.unwrap();
    }
    settle(&bus).await;
    let ends = ends.all();
    assert_eq!(ends[..2], ["x fails DeadLettered", "x picky Filtered"]);
    assert_eq!(ends[10..], ["x fails RejectedByBreaker", "x picky Filtered"]);
    assert_eq!(fails.outcomes().total(), 6);
}

/// Notes what it hears of calls, and of matches.
struct Hears(Seen);

impl EventMiddleware for Hears {
    fn handled(&self, _: &Event, _: &str, error: Option<&HandlerError>, _: Duration) {
        self.0.push(&error.map_or("fine".to_owned(), HandlerError::to_string));
    }

    fn resolved(&self, _: &Event, _: &str, outcome: Outcome) {
        self.0.push(&format!("{outcome:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn middleware_hears_of_calls_that_are_dropped_and_of_no_match_that_is() {
    let heard = Seen::default();
    let bus = Bus::builder().event_middleware(Hears(heard.clone())).build().unwrap();
    let handler = bus
        .subscribe("x")
        .timeout(Duration::from_secs(1))
        .bulkhead(Bulkhead::new().concurrent(1))
        .handle_async(|_| std::future::pending::<()>())
        .unwrap();
    let event = Event::of("x", ());
    let unsubscribe = async {
        while bus.bulkheads()[0].waiting == 0 {
            tokio::task::yield_now().await;
        }
        drop(handler);
    };
    let _ = tokio::join!(bus.dispatch(&event), bus.dispatch(&event), unsubscribe);
    let outcomes = bus.ledger().outcomes;
    assert_eq!((outcomes.dead_lettered, outcomes.cancelled), (1, 1));
    assert_eq!(heard.all(), ["timed out and was dropped", "DeadLettered"]);
}

/// Spans as they begin: their names and fields.
struct Spans(Seen);

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {field}={value:?}"));
            }
        }
        let mut fields = Fields(span.metadata().name().to_owned());
        span.record(&mut fields);
        self.0.push(&fields.0);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn handler_calls_and_commands_have_spans_if_that_is_wanted() {
    for wanted in [true, false] {
        let seen = Seen::default();
        tracing::subscriber::with_default(Spans(seen.clone()), || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let bus = Bus::builder().tracing(wanted).build().unwrap();
                let _plain = bus.subscribe("x").name("indexer").handle(|_: &Event| ()).unwrap();
                let _command = bus.on_command("sum", |_| async { Ok::<_, String>("3") }).unwrap();
                bus.publish(Event::of("x", ())).await.unwrap();
                bus.execute(Event::of("sum", ())).await.unwrap();
                settle(&bus).await;
            });
        });
        let mut all = seen.all();
        all.sort();
        let expected = [r#"execute command="sum""#, r#"handle handler="indexer" ty="x""#];
        assert_eq!(all, if wanted { &expected[..] } else { &[] });
    }
}
