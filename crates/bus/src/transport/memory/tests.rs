//! What the conformance suite cannot ask: the limits, and the end.

use super::*;
use crate::transport::{GapReason, Incoming, conformance};

#[tokio::test]
async fn it_keeps_the_contract() {
    conformance::check(|| async { MemoryTransport::new() }).await;
}

#[tokio::test]
async fn dropped_inboxes_make_room_for_new_ones() {
    let transport = MemoryTransport::new();
    let quiet = Channel::live("quiet").unwrap();
    for _ in 0..=MemoryTransport::MAX_SUBSCRIPTIONS {
        drop(transport.subscribe(&quiet, SubscribeOptions::new()).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_no_longer_kept_is_a_gap_of_its_size() {
    let three = NonZeroUsize::new(3).unwrap();
    let transport = MemoryTransport::builder().retention(three).build();
    let channel = Channel::durable("log").unwrap();
    let mut events = (1..=10).map(|n| Event::of("n", n.to_string())).collect();
    let first = SubscribeOptions::new().capacity(NonZeroUsize::MIN);
    let mut inbox = transport.subscribe(&channel, first).await.unwrap();
    transport.publish_batch(&channel, &mut events).await.unwrap();
    let Some(Incoming::Gap(gap)) = inbox.next().await else { panic!("a gap comes first") };
    assert_eq!((gap.missed, gap.reason), (Some(7), GapReason::Trimmed));
    assert_eq!(gap.position.map(|position| position.offset), Some(7));
    for n in 8..=10 {
        let received = inbox.next().await.and_then(Incoming::event).unwrap();
        assert_eq!(received.event.text(), Some(&*n.to_string()));
    }
}

#[tokio::test]
async fn a_group_that_is_too_far_behind_refuses_tasks() {
    let two = NonZeroUsize::new(2).unwrap();
    let transport = MemoryTransport::builder().tasks(two).build();
    let channel = Channel::group("tasks").unwrap();
    let mut events = (1..=3).map(|n| Event::of("n", n.to_string())).collect();
    let refused = transport.publish_batch(&channel, &mut events).await;
    assert!(matches!(refused, Err(TransportError::Full)));
    assert_eq!(events.len(), 1, "the others were taken");

    let mut worker = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
    worker.next().await.and_then(Incoming::event).unwrap().ack();
    transport.publish_batch(&channel, &mut events).await.unwrap();
    assert!(events.is_empty());
}

#[tokio::test]
async fn inboxes_end_when_nobody_holds_the_transport() {
    for mode in [Mode::Live, Mode::Durable, Mode::Group] {
        let transport = MemoryTransport::new();
        let channel = Channel::new(mode, "c").unwrap();
        let mut inbox = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
        drop(transport);
        assert!(inbox.next().await.is_none(), "{mode}");
    }
}
