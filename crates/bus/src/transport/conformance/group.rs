//! What group channels promise: each task to one of each group, until it is
//! done or given up.

use std::{collections::BTreeSet, num::NonZeroUsize};

use super::{
    Duration, Future, Incoming, LONG, Mode, SubscribeOptions, Transport, event, fresh, inbox_with,
    publish, quiet, received, text,
};
use crate::transport::{Channel, DeadTask};

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
    each_group_gets_each_task_once(&make().await).await;
    tasks_wait_for_the_first_worker(&make().await).await;
    a_member_holds_no_more_than_it_may(&make().await).await;
    a_refused_task_comes_again_after_its_delay(&make().await).await;
    a_task_without_an_answer_goes_to_another(&make().await).await;
    a_task_that_always_fails_is_given_up(&make().await).await;
    what_is_done_does_not_come_back(&make().await).await;
    a_key_is_published_once(&make().await).await;
}

fn group(name: &str) -> SubscribeOptions {
    SubscribeOptions::new().group(name)
}

async fn each_group_gets_each_task_once(transport: &impl Transport) {
    const TASKS: usize = 100;
    let channel = fresh(Mode::Group);
    let mut alone = inbox_with(transport, &channel, group("alone")).await;
    let mut first = inbox_with(transport, &channel, group("two")).await;
    let mut second = inbox_with(transport, &channel, group("two")).await;
    for n in 0..TASKS {
        publish(transport, &channel, n).await;
    }
    for n in 0..TASKS {
        assert_eq!(text(&mut alone).await, n.to_string());
    }
    let mut seen = BTreeSet::new();
    while seen.len() < TASKS {
        let next = async {
            tokio::select! { a = first.next() => a, b = second.next() => b }
        };
        let next = tokio::time::timeout(LONG, next).await.expect("nothing came");
        let received = next.and_then(Incoming::event).expect("a task");
        assert!(!received.redelivered());
        assert!(seen.insert(received.event.text().expect("text").to_owned()), "twice");
        received.ack();
    }
    quiet(&mut first).await;
    quiet(&mut second).await;
}

async fn tasks_wait_for_the_first_worker(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    publish(transport, &channel, "early").await;
    transport.flush().await.expect("flush works");
    let mut worker = inbox_with(transport, &channel, group("g")).await;
    assert_eq!(text(&mut worker).await, "early");
}

async fn a_member_holds_no_more_than_it_may(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    let two = NonZeroUsize::new(2).expect("not 0");
    let mut worker = inbox_with(transport, &channel, group("g").capacity(two)).await;
    for n in 0..3 {
        publish(transport, &channel, n).await;
    }
    let first = received(&mut worker).await;
    let second = received(&mut worker).await;
    quiet(&mut worker).await;
    first.ack();
    assert_eq!(text(&mut worker).await, "2");
    second.ack();
}

async fn a_refused_task_comes_again_after_its_delay(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    let mut worker = inbox_with(transport, &channel, group("g")).await;
    publish(transport, &channel, "a").await;
    let delay = Duration::from_millis(300);
    let refused = tokio::time::Instant::now();
    received(&mut worker).await.nack(delay);
    publish(transport, &channel, "b").await;
    assert_eq!(text(&mut worker).await, "b", "others need not wait");
    let again = received(&mut worker).await;
    // Its clock may not be ours to the millisecond.
    assert!(refused.elapsed() + Duration::from_millis(5) >= delay, "{:?}", refused.elapsed());
    assert_eq!((again.event.text(), again.deliveries()), (Some("a"), 2));
    assert!(again.redelivered());
    again.ack();
}

async fn a_task_without_an_answer_goes_to_another(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    let options = group("g").redeliver_after(Duration::from_millis(300));
    let mut first = inbox_with(transport, &channel, options.clone()).await;
    publish(transport, &channel, "a").await;
    publish(transport, &channel, "b").await;
    // One is taken and forgotten, one waits in the inbox of a dead worker.
    drop(received(&mut first).await);
    drop(first);
    let mut second = inbox_with(transport, &channel, options).await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let again = received(&mut second).await;
        seen.insert(again.event.text().expect("text").to_owned());
        again.ack();
    }
    assert_eq!(seen, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
}

async fn a_task_that_always_fails_is_given_up(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    let mut worker = inbox_with(transport, &channel, group("g").max_deliveries(3)).await;
    publish(transport, &channel, "poison").await;
    for delivery in 1..=3 {
        let task = received(&mut worker).await;
        assert_eq!(task.deliveries(), delivery);
        task.nack(Duration::ZERO);
    }
    publish(transport, &channel, "good").await;
    assert_eq!(text(&mut worker).await, "good", "others flow");
    transport.flush().await.expect("flush works");
    let dead = dead_letter(transport, &channel).await;
    assert_eq!((dead.event.text(), dead.group.as_str()), (Some("poison"), "g"));
    assert_eq!(dead.deliveries, 3);
}

/// Waits for the one that there must be.
async fn dead_letter(transport: &impl Transport, channel: &Channel) -> DeadTask {
    let look = async {
        loop {
            let mut dead = transport.dead_letters(channel, 10).await.expect("it works");
            assert!(dead.len() < 2, "one was given up, not {dead:?}");
            if let Some(dead) = dead.pop() {
                return dead;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, look).await.expect("a dead letter")
}

async fn what_is_done_does_not_come_back(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    let options = group("g").redeliver_after(Duration::from_millis(100));
    let mut worker = inbox_with(transport, &channel, options.clone()).await;
    for n in 0..10 {
        publish(transport, &channel, n).await;
        assert_eq!(text(&mut worker).await, n.to_string());
    }
    transport.flush().await.expect("flush works");
    drop(worker);
    let mut worker = inbox_with(transport, &channel, options).await;
    quiet(&mut worker).await;
    quiet(&mut worker).await;
}

async fn a_key_is_published_once(transport: &impl Transport) {
    let channel = fresh(Mode::Group);
    let once = async || transport.publish_once(&channel, "k", event("a")).await;
    assert!(once().await.expect("publish works"));
    assert!(!once().await.expect("publish works"), "known");
    let mut worker = inbox_with(transport, &channel, group("g")).await;
    assert_eq!(text(&mut worker).await, "a");
    quiet(&mut worker).await;
}
