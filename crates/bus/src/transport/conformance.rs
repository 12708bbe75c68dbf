//! What every transport must pass. Call [`check`] in a test of its crate: it
//! tries every mode that [`Transport::features`] names.
//!
//! A suite of its own for each mode is there for those who look for a fault:
//! [`live`], [`durable`], [`group`].

pub mod durable;
pub mod group;
pub mod live;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use swarmbus_core::{Event, Payload, Priority, Target, Timestamp};

use super::{
    Channel, Gap, Inbox, Incoming, Mode, Received, Start, SubscribeOptions, Transport,
    TransportError,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// After this long without an event, none is under way.
const QUIET: Duration = Duration::from_millis(100);

/// Holds an implementation to the contract on [`Transport`]. `make` gives one
/// each time, and all that it needs. They may share a server: each check uses
/// channels of its own.
///
/// # Panics
///
/// With what was broken.
pub async fn check<T, F>(make: impl Fn() -> F)
where
    T: Transport,
    F: Future<Output = T>,
{
    let features = make().await.features();
    for mode in [Mode::Live, Mode::Durable, Mode::Group] {
        if !features.has(mode) {
            modes_that_are_missing_are_refused(&make().await, mode).await;
            continue;
        }
        events_are_carried_unchanged(&make().await, mode).await;
        channels_do_not_mix(&make().await, mode).await;
        order_is_kept(Arc::new(make().await), mode).await;
        a_batch_arrives_in_order(&make().await, mode).await;
        what_is_confirmed_is_there(&make().await, mode).await;
        a_next_that_is_dropped_loses_nothing(&make().await, mode).await;
        what_a_mode_cannot_do_is_refused(&make().await, mode).await;
        closing_ends_everything(&make().await, mode).await;
    }
    if features.live {
        live::check(&make).await;
    }
    if features.durable {
        durable::check(&make).await;
    }
    if features.group {
        group::check(&make).await;
    }
}

/// A channel that nobody used before.
fn fresh(mode: Mode) -> Channel {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Relaxed);
    let name = format!("conformance:{:x}:{number}", fastrand::u64(..));
    Channel::new(mode, &name).expect("a legal name")
}

async fn inbox(transport: &impl Transport, channel: &Channel) -> Inbox {
    inbox_with(transport, channel, SubscribeOptions::new()).await
}

async fn inbox_with(
    transport: &impl Transport,
    channel: &Channel,
    options: SubscribeOptions,
) -> Inbox {
    transport.subscribe(channel, options).await.expect("subscribe works")
}

async fn publish(transport: &impl Transport, channel: &Channel, text: impl ToString) {
    transport.publish(channel, event(text)).await.expect("publish works");
}

async fn next(inbox: &mut Inbox) -> Option<Incoming> {
    tokio::time::timeout(LONG, inbox.next()).await.expect("nothing came")
}

async fn received(inbox: &mut Inbox) -> Received {
    match next(inbox).await {
        Some(Incoming::Event(received)) => received,
        other => panic!("an event was expected, not {other:?}"),
    }
}

async fn gap(inbox: &mut Inbox) -> Gap {
    match next(inbox).await {
        Some(Incoming::Gap(gap)) => gap,
        other => panic!("a gap was expected, not {other:?}"),
    }
}

/// The text of the next event, which is acknowledged.
async fn text(inbox: &mut Inbox) -> String {
    let received = received(inbox).await;
    let text = received.event.text().expect("text").to_owned();
    received.ack();
    text
}

fn event(text: impl ToString) -> Event {
    Event::of("conformance", text.to_string())
}

async fn quiet(inbox: &mut Inbox) {
    if let Ok(incoming) = tokio::time::timeout(QUIET, inbox.next()).await {
        panic!("nothing was expected, not {incoming:?}");
    }
}

async fn modes_that_are_missing_are_refused(transport: &impl Transport, mode: Mode) {
    let channel = fresh(mode);
    let refused = transport.publish(&channel, event("x")).await.expect_err("no such mode");
    assert!(matches!(refused.cause, TransportError::Unsupported(_)), "{refused}");
    let refused = transport.subscribe(&channel, SubscribeOptions::new()).await;
    assert!(matches!(refused, Err(TransportError::Unsupported(_))));
}

async fn events_are_carried_unchanged(transport: &impl Transport, mode: Mode) {
    let channel = fresh(mode);
    let mut inbox = inbox(transport, &channel).await;
    let now = Timestamp::from_micros(1_700_000_000_000_000).expect("a time");
    let mut event =
        Event::of("task.created", Payload::raw(crate::Content::MessagePack, vec![0xc3]))
            .with_source("agent-1")
            .with_priority(Priority::MAX)
            .with_target(Target::swarm("b"))
            .with_correlation_id("c-1")
            .with_deadline(now.saturating_add(LONG))
            .with_hop("here")
            .with_attribute("region", "eu")
            .expect("a legal name");
    event.stamp(now, 42);
    transport.publish(&channel, event.clone()).await.expect("publish works");
    let received = received(&mut inbox).await;
    assert_eq!(received.event, event, "carried unchanged");
    assert_eq!(received.position().is_some(), mode == Mode::Durable, "positions");
    assert!(!received.redelivered());
    received.ack();
}

async fn channels_do_not_mix(transport: &impl Transport, mode: Mode) {
    let (channel_a, channel_b) = (fresh(mode), fresh(mode));
    let mut a = inbox(transport, &channel_a).await;
    let mut b = inbox(transport, &channel_b).await;
    publish(transport, &fresh(mode), "nobody listens, which is no error").await;
    publish(transport, &channel_b, "for b").await;
    publish(transport, &channel_a, "for a").await;
    assert_eq!(text(&mut a).await, "for a");
    assert_eq!(text(&mut b).await, "for b");
}

async fn order_is_kept(transport: Arc<impl Transport>, mode: Mode) {
    const EACH: usize = 200;
    let channel = fresh(mode);
    let mut inbox = inbox(&*transport, &channel).await;
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let (transport, channel) = (Arc::clone(&transport), channel.clone());
            tokio::spawn(async move {
                for n in 0..EACH {
                    publish(&*transport, &channel, format!("{publisher} {n}")).await;
                }
            })
        })
        .collect();
    let mut expected = [0; 4];
    for _ in 0..4 * EACH {
        let text = text(&mut inbox).await;
        let (publisher, n) = text.split_once(' ').expect("two words");
        let publisher: usize = publisher.parse().expect("a number");
        assert_eq!(n, expected[publisher].to_string(), "order of publisher {publisher}");
        expected[publisher] += 1;
    }
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
}

async fn a_batch_arrives_in_order(transport: &impl Transport, mode: Mode) {
    const EVENTS: usize = 200;
    let channel = fresh(mode);
    let mut inbox = inbox(transport, &channel).await;
    let mut batch: Vec<_> = (0..EVENTS).map(event).collect();
    transport.publish_batch(&channel, &mut batch).await.expect("publish works");
    assert!(batch.is_empty(), "all were taken");
    transport.flush().await.expect("flush works");
    let mut came = Vec::new();
    while came.len() < EVENTS {
        let waited = tokio::time::timeout(LONG, inbox.next_batch(&mut came)).await;
        assert!(waited.expect("something came") > 0, "the inbox ended");
    }
    for (n, incoming) in came.into_iter().enumerate() {
        let received = incoming.event().expect("no gap");
        assert_eq!(received.event.text(), Some(&*n.to_string()));
        received.ack();
    }
}

async fn what_is_confirmed_is_there(transport: &impl Transport, mode: Mode) {
    let channel = fresh(mode);
    let mut inbox = inbox(transport, &channel).await;
    let mut batch: Vec<_> = (0..3).map(event).collect();
    transport.publish_confirmed(&channel, &mut batch).await.expect("publish works");
    assert!(batch.is_empty(), "all got there");
    if mode == Mode::Durable {
        assert_eq!(transport.history(&channel, 9).await.expect("history works").len(), 3);
    }
    for n in 0..3 {
        assert_eq!(text(&mut inbox).await, n.to_string());
    }
    transport.close().await;
    let mut batch = vec![event("late")];
    let refused = transport.publish_confirmed(&channel, &mut batch).await;
    assert!(matches!(refused, Err(TransportError::Closed)));
    assert_eq!(batch.len(), 1, "handed back");
}

async fn a_next_that_is_dropped_loses_nothing(transport: &impl Transport, mode: Mode) {
    let channel = fresh(mode);
    let mut inbox = inbox(transport, &channel).await;
    for n in 0..20 {
        assert!(tokio::time::timeout(Duration::ZERO, inbox.next()).await.is_err());
        publish(transport, &channel, n).await;
        assert_eq!(text(&mut inbox).await, n.to_string());
    }
}

async fn what_a_mode_cannot_do_is_refused(transport: &impl Transport, mode: Mode) {
    let channel = fresh(mode);
    let unsupported = |error| matches!(error, TransportError::Unsupported(_));
    if mode != Mode::Durable {
        assert!(transport.history(&channel, 1).await.is_err_and(unsupported), "history");
    }
    if mode != Mode::Group {
        assert!(transport.dead_letters(&channel, 1).await.is_err_and(unsupported), "dead letters");
    }
    if mode == Mode::Live {
        let refused = transport.publish_once(&channel, "key", event("x")).await;
        assert!(refused.is_err_and(|refused| unsupported(refused.cause)), "publish once");
        let options = SubscribeOptions::new().start(Start::Beginning);
        assert!(transport.subscribe(&channel, options).await.is_err_and(unsupported), "start");
    }
    let options = SubscribeOptions::new().group("two words");
    let refused = transport.subscribe(&channel, options).await;
    assert!(matches!(refused, Err(TransportError::Name(_))), "names of groups");
}

async fn closing_ends_everything(transport: &impl Transport, mode: Mode) {
    let channel = fresh(mode);
    let mut inbox = inbox(transport, &channel).await;
    assert!(transport.state().borrow().is_connected());
    publish(transport, &channel, "last").await;
    if transport.features().crosses_processes {
        assert_eq!(text(&mut inbox).await, "last");
        transport.close().await;
    } else {
        transport.close().await;
        assert_eq!(text(&mut inbox).await, "last", "an inbox gives what it holds");
    }
    assert!(next(&mut inbox).await.is_none());
    assert!(inbox.error().is_none(), "the end is no error");
    let error = transport.publish(&channel, event("late")).await.expect_err("closed");
    assert!(matches!(error.cause, TransportError::Closed));
    assert_eq!(error.event.text(), Some("late"));
    let mut batch = vec![event("late")];
    let refused = transport.publish_batch(&channel, &mut batch).await;
    assert!(matches!(refused, Err(TransportError::Closed)));
    assert_eq!(batch.len(), 1, "handed back");
    let refused = transport.subscribe(&channel, SubscribeOptions::new()).await;
    assert!(matches!(refused, Err(TransportError::Closed)));
    assert!(matches!(transport.flush().await, Err(TransportError::Closed)));
    let closed = super::ConnectionState::Closed;
    assert_eq!(format!("{:?}", *transport.state().borrow()), format!("{closed:?}"));
    transport.close().await;
}
