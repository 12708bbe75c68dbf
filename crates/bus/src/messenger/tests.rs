//! Messengers over the in-process transport, with a clock that stands still
//! while there is something to do.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus_core::{Event, Payload, Timestamp, backoff::Backoff};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::transport::{Channel, GapReason, MemoryTransport, SubscribeOptions};

const LONG: Duration = Duration::from_secs(3_600);

async fn join(transport: &Arc<MemoryTransport>, swarm: &str, agent: &str) -> Messenger {
    Messenger::join(transport.clone(), swarm, agent).await.unwrap()
}

/// What a messenger hears, as texts.
fn hear(messenger: &Messenger) -> UnboundedReceiver<String> {
    let (told, heard) = unbounded_channel();
    let handler = move |message: &Message| {
        let (scope, text) = (message.scope, message.event.text().unwrap_or_default());
        told.send(format!("{scope:?} {text}"))
    };
    messenger.on(">").handle(handler).unwrap().detach();
    heard
}

async fn next(heard: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(LONG, heard.recv()).await.expect("nothing came").expect("an end")
}

fn said(text: &str) -> Event {
    Event::of("said", text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn messages_reach_those_they_are_for_and_nobody_else() {
    let transport = Arc::new(MemoryTransport::new());
    let a1 = join(&transport, "a", "a1").await;
    let mut members = Vec::new();
    for (swarm, agent) in [("a", "a2"), ("b", "b1"), ("b", "b2"), ("c", "c1")] {
        members.push(join(&transport, swarm, agent).await);
    }
    let mut heard: Vec<_> = std::iter::once(&a1).chain(&members).map(hear).collect();

    a1.broadcast(said("all")).await.unwrap();
    a1.send(&To::swarm("b").unwrap(), said("b")).await.unwrap();
    a1.send(&To::swarm("a").unwrap(), said("a")).await.unwrap();
    a1.send(&To::agent("b2").unwrap(), said("b2")).await.unwrap();
    let expected = [
        &[][..],
        &["Swarm a"],
        &["Broadcast all", "Swarm b"],
        &["Agent b2", "Broadcast all", "Swarm b"],
        &["Broadcast all"],
    ];
    for (heard, expected) in heard.iter_mut().zip(expected) {
        let mut came = Vec::new();
        for _ in expected {
            came.push(next(heard).await);
        }
        came.sort();
        assert_eq!(came, expected);
    }
    // All tasks have run: nothing else is under way.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(heard.iter_mut().all(|heard| heard.try_recv().is_err()));
    assert_eq!((a1.stats().sent, a1.stats().own, a1.stats().received), (4, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_says_who_sent_it_and_has_an_id() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    let (told, mut heard) = unbounded_channel();
    let _listening = b.on("said").handle(move |message: &Message| {
        told.send(message.clone()).unwrap();
    });
    a.send(&To::agent("b1").unwrap(), said("x")).await.unwrap();
    let message = heard.recv().await.unwrap();
    assert_eq!((message.swarm(), message.agent()), (Some("a"), Some("a1")));
    assert!(message.event.id().is_some());
    assert_eq!(message.event.target(), Some(&crate::Target::agent("b1")));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_or_is_gone_does_no_harm() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    let bad = || -> Result<(), String> { panic!("on purpose") };
    let _bad = b.on("said").handle(move |_: &Message| bad()).unwrap();
    let _worse = b.on("said").handle_async(move |_| async move { bad() }).unwrap();
    let gone = b.on("said").handle(move |_: &Message| bad()).unwrap();
    drop(gone);
    let mut heard = hear(&b);
    let to = To::agent("b1").unwrap();
    for text in ["1", "2"] {
        a.send(&to, said(text)).await.unwrap();
        assert_eq!(next(&mut heard).await, format!("Agent {text}"));
    }
    assert_eq!(b.stats().failed, 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_in_an_answer_or_in_the_reason_why_not() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    b.respond("sum.*", async |m: Message| {
        let numbers: Vec<u32> = m.event.decode()?;
        Ok::<_, crate::core::event::PayloadError>(numbers.iter().sum::<u32>().to_string())
    })
    .unwrap()
    .detach();
    b.respond("bad", async |_| Err::<(), _>("no paper")).unwrap().detach();
    b.respond("worse", async |_| -> Result<(), String> { panic!("on purpose") }).unwrap().detach();

    let to = To::agent("b1").unwrap();
    let ask = async |event| a.request(&to, event).await;
    let numbers = Payload::json(&[1, 2, 3]).unwrap();
    let question = Event::of("sum.asked", numbers).with_correlation_id("c").with_id("q");
    let answer = ask(question).await.unwrap();
    assert_eq!(answer.text(), Some("6"));
    assert_eq!(answer.correlation_id(), Some(&"c".into()));
    assert_eq!(answer.causation_id(), Some(&"q".into()));

    let failed = ask(Event::of("bad", ())).await;
    assert!(matches!(failed, Err(RequestError::Failed(why)) if why == "no paper"));
    let failed = ask(Event::of("worse", ())).await;
    assert!(matches!(failed, Err(RequestError::Failed(why)) if why.contains("on purpose")));
    let refused = ask(Event::of("unknown", ())).await;
    assert!(matches!(refused, Err(RequestError::Refused(Refusal::NoResponder))));
    let past = Timestamp::from_micros(1).unwrap();
    let expired = ask(said("late").with_deadline(past)).await;
    assert!(matches!(expired, Err(RequestError::Expired(_))));
    let tasks = a.request(&To::tasks("q").unwrap(), said("x")).await;
    assert!(matches!(tasks, Err(RequestError::Tasks(_))));

    let asked = tokio::time::Instant::now();
    let nobody = a.request(&To::agent("nobody").unwrap(), said("hello?")).await;
    assert!(matches!(nobody, Err(RequestError::NoAnswer { .. })));
    assert_eq!(asked.elapsed().as_secs(), 30);
    let stats = a.stats();
    assert_eq!((stats.requests, stats.answered, stats.refused, stats.unanswered), (5, 3, 1, 1));
    assert_eq!(a.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_swarm_the_first_answer_counts_and_the_others_are_late() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let mut members = Vec::new();
    for n in 1..=3 {
        let b = join(&transport, "b", &format!("b{n}")).await;
        b.respond("who", move |_| async move {
            tokio::time::sleep(Duration::from_secs(n)).await;
            Ok::<_, String>(n.to_string())
        })
        .unwrap()
        .detach();
        members.push(b);
    }
    // One that cannot answer must not spoil it.
    members.push(join(&transport, "b", "b4").await);
    let answer = a.request(&To::swarm("b").unwrap(), Event::of("who", ())).await.unwrap();
    assert_eq!(answer.text(), Some("1"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(a.stats().late_answers, 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_is_forgotten() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    b.respond("slow", async |_| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, String>(())
    })
    .unwrap()
    .detach();
    let to = To::agent("b1").unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(1), a.request(&to, Event::of("slow", ())));
    assert!(asked.await.is_err());
    assert_eq!(a.waiting(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(a.stats().late_answers, 1);
}

#[tokio::test(start_paused = true)]
async fn requests_and_answers_at_once_are_bounded() {
    let transport = Arc::new(MemoryTransport::new());
    let identity = Identity::new("a", "a1").unwrap();
    let a = Messenger::builder(transport.clone(), identity).max_requests(2).join().await.unwrap();
    let identity = Identity::new("b", "b1").unwrap();
    let b = Messenger::builder(transport.clone(), identity).max_answers(1).join().await.unwrap();
    b.respond("slow", async |_| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, String>(())
    })
    .unwrap()
    .detach();
    let to = To::agent("b1").unwrap();
    let ask = || a.request(&to, Event::of("slow", ()));
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    first.unwrap();
    assert!(matches!(second, Err(RequestError::Refused(Refusal::Busy))));
    assert!(matches!(third, Err(RequestError::TooMany { limit: 2, .. })));
}

#[tokio::test(start_paused = true)]
async fn the_history_keeps_the_newest() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    let mut heard = hear(&b);
    for n in 0..150 {
        a.send(&To::agent("b1").unwrap(), said(&n.to_string())).await.unwrap();
        next(&mut heard).await;
    }
    for (messenger, sent) in [(&a, true), (&b, false)] {
        let history = messenger.history();
        assert_eq!(history.len(), 100);
        assert!(history.iter().all(|passed| passed.sent == sent));
        let ends = [history.first(), history.last()].map(|passed| passed.unwrap().event.text());
        assert_eq!(ends, [Some("50"), Some("149")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_and_counted() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let (told, mut gaps) = unbounded_channel();
    let b = Messenger::builder(transport.clone(), Identity::new("b", "b1").unwrap())
        .capacity(NonZeroUsize::MIN)
        .on_gap(move |channel, gap| {
            told.send((channel.clone(), gap.clone())).unwrap();
            panic!("on purpose");
        })
        .join()
        .await
        .unwrap();
    let mut heard = hear(&b);
    for n in 0..5 {
        // The reader does not get to run in between.
        a.send(&To::agent("b1").unwrap(), said(&n.to_string())).await.unwrap();
    }
    assert_eq!(next(&mut heard).await, "Agent 0");
    let (channel, gap) = gaps.recv().await.unwrap();
    assert_eq!(channel, Channel::live("agent:b1").unwrap());
    assert_eq!((gap.missed, gap.reason), (Some(4), GapReason::Slow));
    assert_eq!((b.stats().gaps, b.stats().missed), (1, 4));
    a.send(&To::agent("b1").unwrap(), said("5")).await.unwrap();
    assert_eq!(next(&mut heard).await, "Agent 5");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_tried_until_it_is_done_and_a_worker_finishes_what_it_has() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    let tries = Arc::new(AtomicU32::new(0));
    let (begun, mut beginnings) = unbounded_channel();
    let worker = {
        let tries = Arc::clone(&tries);
        let options = WorkOptions::new().backoff(Backoff::fixed(Duration::from_secs(1)));
        let work = move |_: Message| {
            let (n, begun) = (tries.fetch_add(1, SeqCst), begun.clone());
            async move {
                begun.send(()).unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
                match n {
                    0 => Err("not yet"),
                    1 => panic!("on purpose"),
                    _ => Ok(()),
                }
            }
        };
        b.work("q", options, work).await.unwrap()
    };
    a.send(&To::tasks("q").unwrap(), Event::of("task", ())).await.unwrap();
    for _ in 0..3 {
        beginnings.recv().await.unwrap();
    }
    worker.stop().await;
    assert_eq!((b.stats().tasks_done, b.stats().tasks_failed), (1, 2));
    // It is done for good.
    let queue = Channel::group("tasks:q").unwrap();
    let mut inbox = transport.subscribe(&queue, SubscribeOptions::new()).await.unwrap();
    assert!(tokio::time::timeout(LONG, inbox.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_requests_and_lets_handlers_finish() {
    let transport = Arc::new(MemoryTransport::new());
    let a = join(&transport, "a", "a1").await;
    let b = join(&transport, "b", "b1").await;
    let (told, mut done) = unbounded_channel();
    let slowly = move |_: Message| {
        let told = told.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            told.send("done".to_owned())
        }
    };
    b.on("said").handle_async(slowly).unwrap().detach();
    a.send(&To::agent("b1").unwrap(), said("x")).await.unwrap();
    while b.stats().received == 0 {
        tokio::task::yield_now().await;
    }
    let topic = b.topic("t").await.unwrap();
    assert!(b.close(LONG).await);
    assert_eq!(done.try_recv().unwrap(), "done");
    assert!(topic.send(said("x")).await.is_err());

    let asking = {
        let a = a.clone();
        tokio::spawn(async move { a.request(&To::agent("b1").unwrap(), said("?")).await })
    };
    while a.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(a.close(LONG).await);
    assert!(matches!(asking.await.unwrap(), Err(RequestError::Closed)));
    let refused = a.broadcast(said("x")).await.unwrap_err();
    assert!(matches!(refused.cause, TransportError::Closed));
    assert!(transport.flush().await.is_ok(), "the transport stays open");
}

#[tokio::test(start_paused = true)]
async fn durable_messages_wait_for_one_who_comes_back() {
    let transport = Arc::new(MemoryTransport::new());
    let durable = |agent| {
        let identity = Identity::new("s", agent).unwrap();
        Messenger::builder(transport.clone(), identity).durable()
    };
    let a = durable("a").join().await.unwrap();
    let b = durable("b").join().await.unwrap();
    let mut heard = hear(&b);
    let to = To::agent("b").unwrap();
    a.send(&to, said("1")).await.unwrap();
    assert_eq!(next(&mut heard).await, "Agent 1");
    assert!(b.close(LONG).await);
    let saved = serde_json::to_string(&b.positions()).unwrap();
    drop(b);
    a.send(&to, said("2")).await.unwrap();

    let (told, mut heard) = unbounded_channel();
    let back = durable("b").resume(serde_json::from_str(&saved).unwrap());
    let back = back.join_with(move |b| {
        let handler = move |m: &Message| told.send(m.event.text().unwrap_or_default().to_owned());
        b.on("said").handle(handler).map(Listening::detach)
    });
    let _b = back.await.unwrap();
    assert_eq!(next(&mut heard).await, "2");
}
