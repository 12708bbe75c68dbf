//! The rivals of the queued bus: channels, each in its best form.
//!
//! 100 tasks send, one consumer calls the handlers. Capacity is 10,000
//! throughout, and who finds the channel full waits. A consumer that can take
//! many events at once does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use swarmbus::Event;
use tokio::sync::{broadcast, mpsc};

use super::{AGENTS, Agent, CAPACITY, Handler, Swarm, runtime};

/// An event and the index of its handler.
type Sent = (usize, Event);

/// The most that a consumer takes at once.
const TAKE: usize = 256;

/// `recv_many`.
pub(super) fn tokio_mpsc(events: u64) -> Duration {
    carry(events, |handlers| {
        let (sender, mut receiver) = mpsc::channel::<Sent>(CAPACITY);
        let publish = move |n, agent: Arc<Agent>, each| {
            let sender = sender.clone();
            async move {
                for _ in 0..each {
                    sender.send((n, agent.event())).await.expect("received");
                }
            }
        };
        let consume = async move {
            let mut received = Vec::with_capacity(TAKE);
            while receiver.recv_many(&mut received, TAKE).await > 0 {
                handle_all(&handlers, received.drain(..));
            }
        };
        (publish, consume)
    })
}

/// Has no async form: tasks block their thread while it is full, which is
/// safe because the consumer has a thread of its own.
pub(super) fn crossbeam(events: u64) -> Duration {
    carry(events, |handlers| {
        let (sender, receiver) = crossbeam_channel::bounded::<Sent>(CAPACITY);
        let publish = move |n, agent: Arc<Agent>, each| {
            let sender = sender.clone();
            async move {
                for _ in 0..each {
                    sender.send((n, agent.event())).expect("received");
                }
            }
        };
        let consume = async move {
            let consume = move || handle_all(&handlers, receiver.iter());
            tokio::task::spawn_blocking(consume).await.expect("no panic");
        };
        (publish, consume)
    })
}

/// `recv` for the first event, `drain_into` for those behind it, as its
/// documentation advises.
pub(super) fn kanal(events: u64) -> Duration {
    carry(events, |handlers| {
        let (sender, receiver) = kanal::bounded_async::<Sent>(CAPACITY);
        let publish = move |n, agent: Arc<Agent>, each| {
            let sender = sender.clone();
            async move {
                for _ in 0..each {
                    sender.send((n, agent.event())).await.expect("received");
                }
            }
        };
        let consume = async move {
            let mut received = Vec::with_capacity(CAPACITY);
            while let Ok(first) = receiver.recv().await {
                received.push(first);
                receiver.drain_into(&mut received).expect("open at this end");
                handle_all(&handlers, received.drain(..));
            }
        };
        (publish, consume)
    })
}

/// `recv_async` for the first event, `drain` for those behind it.
pub(super) fn flume(events: u64) -> Duration {
    carry(events, |handlers| {
        let (sender, receiver) = flume::bounded::<Sent>(CAPACITY);
        let publish = move |n, agent: Arc<Agent>, each| {
            let sender = sender.clone();
            async move {
                for _ in 0..each {
                    sender.send_async((n, agent.event())).await.expect("received");
                }
            }
        };
        let consume = async move {
            while let Ok(first) = receiver.recv_async().await {
                handle_all(&handlers, std::iter::once(first).chain(receiver.drain()));
            }
        };
        (publish, consume)
    })
}

/// Never waits: a slow receiver loses events. So that none is lost here,
/// agents look at the length before every 32nd event, and yield while it is
/// near the capacity.
pub(super) fn tokio_broadcast(events: u64) -> Duration {
    const LOOK_EVERY: u64 = 32;
    // It rounds the capacity up to a power of two.
    let near_full = CAPACITY.next_power_of_two() - AGENTS * LOOK_EVERY as usize;
    carry(events, |handlers| {
        let (sender, mut receiver) = broadcast::channel::<Sent>(CAPACITY);
        let publish = move |n, agent: Arc<Agent>, each| {
            let sender = sender.clone();
            async move {
                for count in 0..each {
                    while count % LOOK_EVERY == 0 && sender.len() >= near_full {
                        tokio::task::yield_now().await;
                    }
                    sender.send((n, agent.event())).expect("received");
                }
            }
        };
        let consume = async move {
            loop {
                match receiver.recv().await {
                    Ok((handler, event)) => handlers[handler](&event),
                    Err(broadcast::error::RecvError::Closed) => break,
                    Err(broadcast::error::RecvError::Lagged(n)) => panic!("lost {n} events"),
                }
            }
        };
        (publish, consume)
    })
}

fn handle_all(handlers: &[Handler], received: impl Iterator<Item = Sent>) {
    for (handler, event) in received {
        handlers[handler](&event);
    }
}

/// Runs a channel's two ends until all events are handled. `ends` gives the
/// life of agent n, and the consumer, which ends with the last sender.
fn carry<P, F, C>(events: u64, ends: impl FnOnce(Vec<Handler>) -> (P, C)) -> Duration
where
    P: Fn(usize, Arc<Agent>, u64) -> F,
    F: Future<Output = ()> + Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    runtime().block_on(async {
        let swarm = Swarm::of(events);
        let (publish, consume) = ends(swarm.handlers());
        let started = Instant::now();
        let consumer = tokio::spawn(consume);
        for (n, agent) in swarm.agents.iter().enumerate() {
            tokio::spawn(publish(n, Arc::clone(agent), swarm.each));
        }
        // It holds a sender.
        drop(publish);
        consumer.await.expect("no panic");
        swarm.finish(events, started.elapsed())
    })
}
