//! What durable channels promise: everything once, in order, and resumable.

use std::num::NonZeroUsize;

use super::{
    Future, LONG, Mode, Received, Start, SubscribeOptions, Transport, event, fresh, gap, inbox,
    inbox_with, publish, quiet, received, text,
};
use crate::transport::{GapReason, Position};

/// Runs the checks of this mode.
///
/// # Panics
///
/// With what was broken.
pub async fn check<T, F>(make: impl Fn() -> F)
where
    T: Transport,
    F: Future<Output = T>,
{
    a_subscriber_may_begin_anywhere(&make().await).await;
    a_saved_position_is_resumed(&make().await).await;
    a_slow_subscriber_misses_nothing(&make().await).await;
    all_see_one_order(&make().await).await;
    a_position_of_another_life_is_a_gap(&make().await).await;
    history_is_the_newest(&make().await).await;
    a_key_is_published_once(&make().await).await;
}

async fn a_subscriber_may_begin_anywhere(transport: &impl Transport) {
    let channel = fresh(Mode::Durable);
    publish(transport, &channel, 1).await;
    publish(transport, &channel, 2).await;
    transport.flush().await.expect("flush works");
    let mut new = inbox(transport, &channel).await;
    let mut all = inbox_with(transport, &channel, SubscribeOptions::new().from_beginning()).await;
    publish(transport, &channel, 3).await;
    assert_eq!(text(&mut new).await, "3");
    for n in 1..=3 {
        assert_eq!(text(&mut all).await, n.to_string());
    }
}

async fn a_saved_position_is_resumed(transport: &impl Transport) {
    let channel = fresh(Mode::Durable);
    let mut inbox = inbox(transport, &channel).await;
    for n in 1..=3 {
        publish(transport, &channel, n).await;
    }
    let mut saved = None;
    for n in 1..=3 {
        let received = received(&mut inbox).await;
        let position = received.position().expect("durable events have a position");
        assert_eq!(position.offset, n, "offsets count from 1");
        saved = saved.or(Some(position));
    }
    drop(inbox);
    publish(transport, &channel, 4).await;
    let saved: Position = saved.expect("one").to_string().parse().expect("it is read back");
    let mut inbox = inbox_with(transport, &channel, SubscribeOptions::new().after(saved)).await;
    for n in 2..=4 {
        assert_eq!(text(&mut inbox).await, n.to_string());
    }
    publish(transport, &channel, 5).await;
    assert_eq!(text(&mut inbox).await, "5");
}

async fn a_slow_subscriber_misses_nothing(transport: &impl Transport) {
    const EVENTS: usize = 500;
    let channel = fresh(Mode::Durable);
    let small = NonZeroUsize::new(16).expect("not 0");
    let mut slow = inbox_with(transport, &channel, SubscribeOptions::new().capacity(small)).await;
    for n in 0..EVENTS {
        publish(transport, &channel, n).await;
    }
    transport.flush().await.expect("flush works");
    for n in 0..EVENTS {
        assert_eq!(text(&mut slow).await, n.to_string());
    }
}

async fn all_see_one_order(transport: &impl Transport) {
    let channel = fresh(Mode::Durable);
    let mut first = inbox(transport, &channel).await;
    let mut second = inbox(transport, &channel).await;
    let publisher = async |name: &str| {
        for n in 0..100 {
            publish(transport, &channel, format!("{name} {n}")).await;
        }
    };
    tokio::join!(publisher("a"), publisher("b"));
    for _ in 0..200 {
        assert_eq!(text(&mut first).await, text(&mut second).await);
    }
}

async fn a_position_of_another_life_is_a_gap(transport: &impl Transport) {
    let channel = fresh(Mode::Durable);
    publish(transport, &channel, 1).await;
    transport.flush().await.expect("flush works");
    let elsewhere = Start::After(Position { epoch: 0x0bad, term: 0, offset: 7 });
    let mut inbox = inbox_with(transport, &channel, SubscribeOptions::new().start(elsewhere)).await;
    let gap = gap(&mut inbox).await;
    assert_eq!((gap.missed, gap.reason), (None, GapReason::NewEpoch));
    let resumed = gap.position.expect("where it goes on");
    let received = received(&mut inbox).await;
    assert_eq!(received.event.text(), Some("1"), "what is kept follows");
    let position = received.position().expect("durable events have a position");
    assert_eq!(position, Position { offset: resumed.offset + 1, ..resumed });
}

async fn history_is_the_newest(transport: &impl Transport) {
    let channel = fresh(Mode::Durable);
    assert!(transport.history(&channel, 5).await.expect("history works").is_empty());
    for n in 1..=5 {
        publish(transport, &channel, n).await;
    }
    transport.flush().await.expect("flush works");
    let history = transport.history(&channel, 2).await.expect("history works");
    let texts: Vec<_> = history.iter().filter_map(|received| received.event.text()).collect();
    assert_eq!(texts, ["4", "5"]);
    let last = history.last().and_then(Received::position).expect("a position");
    let mut inbox = inbox_with(transport, &channel, SubscribeOptions::new().after(last)).await;
    publish(transport, &channel, 6).await;
    assert_eq!(text(&mut inbox).await, "6", "history and subscription join");
    assert_eq!(transport.history(&channel, 100).await.expect("history works").len(), 6);
}

async fn a_key_is_published_once(transport: &impl Transport) {
    let channel = fresh(Mode::Durable);
    let mut inbox = inbox(transport, &channel).await;
    let once = async |key| {
        let published = transport.publish_once(&channel, key, event(key));
        tokio::time::timeout(LONG, published).await.expect("an answer").expect("publish works")
    };
    assert!(once("a").await);
    assert!(!once("a").await, "known");
    assert!(once("b").await);
    assert_eq!(text(&mut inbox).await, "a");
    assert_eq!(text(&mut inbox).await, "b");
    quiet(&mut inbox).await;
}
