//! What every transport must pass. Call [`check`] in a test of its crate.

use std::{future::Future, sync::Arc, time::Duration};

use swarmbus_core::{Event, Payload, Priority, Target, Timestamp};

use super::{Inbox, Incoming, Transport, TransportError};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// After this long without an event, none is under way.
const QUIET: Duration = Duration::from_millis(100);

/// Holds an implementation to the contract on [`Transport`]. `make` gives a
/// fresh one each time, and all that it needs.
///
/// # Panics
///
/// With what was broken.
pub async fn check<T, F>(make: impl Fn() -> F)
where
    T: Transport,
    F: Future<Output = T>,
{
    everybody_gets_everything_unchanged(&make().await).await;
    channels_do_not_mix(&make().await).await;
    order_is_kept(Arc::new(make().await)).await;
    a_dropped_inbox_is_gone(&make().await).await;
    a_next_that_is_dropped_loses_nothing(&make().await).await;
    slow_subscribers_hold_nobody_up(Arc::new(make().await)).await;
    closing_ends_everything(&make().await).await;
}

async fn next(inbox: &mut Inbox) -> Option<Incoming> {
    tokio::time::timeout(LONG, inbox.next()).await.expect("nothing came")
}

async fn text(inbox: &mut Inbox) -> String {
    match next(inbox).await {
        Some(Incoming::Event(event)) => event.text().expect("text").to_owned(),
        other => panic!("an event was expected, not {other:?}"),
    }
}

fn event(text: impl ToString) -> Event {
    Event::of("conformance", text.to_string())
}

fn subscribed(result: Result<Inbox, TransportError>) -> Inbox {
    result.expect("subscribe works")
}

async fn everybody_gets_everything_unchanged(transport: &impl Transport) {
    let mut first = subscribed(transport.subscribe("a").await);
    let mut second = subscribed(transport.subscribe("a").await);
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
    transport.publish("a", event.clone()).await.expect("publish works");
    for inbox in [&mut first, &mut second] {
        assert_eq!(next(inbox).await, Some(Incoming::Event(event.clone())), "carried unchanged");
    }
}

async fn channels_do_not_mix(transport: &impl Transport) {
    let mut a = subscribed(transport.subscribe("a").await);
    let mut b = subscribed(transport.subscribe("b").await);
    transport.publish("nobody", event("x")).await.expect("nobody listens, which is no error");
    transport.publish("b", event("for b")).await.expect("publish works");
    transport.publish("a", event("for a")).await.expect("publish works");
    assert_eq!(text(&mut a).await, "for a");
    assert_eq!(text(&mut b).await, "for b");
}

async fn order_is_kept(transport: Arc<impl Transport>) {
    const EACH: usize = 200;
    let mut inbox = subscribed(transport.subscribe("a").await);
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let transport = Arc::clone(&transport);
            tokio::spawn(async move {
                for n in 0..EACH {
                    let event = event(format!("{publisher} {n}"));
                    transport.publish("a", event).await.expect("publish works");
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

async fn a_dropped_inbox_is_gone(transport: &impl Transport) {
    let mut stays = subscribed(transport.subscribe("a").await);
    drop(subscribed(transport.subscribe("a").await));
    for n in 0..3 {
        transport.publish("a", event(n)).await.expect("publish works");
        assert_eq!(text(&mut stays).await, n.to_string());
    }
}

async fn a_next_that_is_dropped_loses_nothing(transport: &impl Transport) {
    let mut inbox = subscribed(transport.subscribe("a").await);
    for n in 0..20 {
        assert!(tokio::time::timeout(Duration::ZERO, inbox.next()).await.is_err());
        transport.publish("a", event(n)).await.expect("publish works");
        assert_eq!(text(&mut inbox).await, n.to_string());
    }
}

async fn slow_subscribers_hold_nobody_up(transport: Arc<impl Transport>) {
    const EVENTS: u64 = 5_000;
    let mut slow = subscribed(transport.subscribe("a").await);
    let mut quick = subscribed(transport.subscribe("a").await);
    let features = transport.features();
    let publisher = {
        let transport = Arc::clone(&transport);
        tokio::spawn(async move {
            for n in 0..EVENTS {
                transport.publish("a", event(n)).await.expect("publish works");
                tokio::task::yield_now().await;
            }
        })
    };
    if !features.waits_for_slow {
        for n in 0..EVENTS {
            assert_eq!(text(&mut quick).await, n.to_string(), "the quick one misses nothing");
        }
        publisher.await.expect("no panic");
    }
    if !features.reports_gaps {
        return;
    }
    let (mut sent, mut expected) = (EVENTS, 0);
    while expected < sent {
        match tokio::time::timeout(QUIET, slow.next()).await {
            Ok(Some(Incoming::Gap { missed })) => expected += missed,
            Ok(Some(Incoming::Event(event))) => {
                assert_eq!(event.text(), Some(&*expected.to_string()), "a hole without a gap");
                expected += 1;
            }
            Ok(None) => panic!("the inbox ended"),
            // What is missing at the end shows with the next event.
            Err(_) => {
                transport.publish("a", event(sent)).await.expect("publish works");
                sent += 1;
            }
        }
    }
    assert_eq!(expected, sent, "a gap is not larger than what was missed");
}

async fn closing_ends_everything(transport: &impl Transport) {
    let mut inbox = subscribed(transport.subscribe("a").await);
    transport.publish("a", event("last")).await.expect("publish works");
    if !transport.features().crosses_processes {
        transport.close().await;
        assert_eq!(text(&mut inbox).await, "last", "an inbox gives what it holds");
    } else {
        assert_eq!(text(&mut inbox).await, "last");
        transport.close().await;
    }
    assert_eq!(next(&mut inbox).await, None);
    let error = transport.publish("a", event("late")).await.expect_err("closed");
    assert_eq!((error.cause, error.event.text()), (TransportError::Closed, Some("late")));
    assert!(matches!(transport.subscribe("a").await, Err(TransportError::Closed)));
    transport.close().await;
}
