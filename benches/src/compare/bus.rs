//! The bus against channels: what does it cost to have everything on?
//!
//! Every event reaches a handler that reads its whole payload and counts.
//! Ours has routing, breaker, ledger and metrics on. The rivals only carry
//! the same event to the same handler, found by an index that is sent along.
//! Each of the 100 agents has a payload, a type and a handler of its own.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use swarmbus::{Bus, Event, EventType, Str};
use tokio::runtime::Runtime;

use crate::harness::{Effort, Row, Unit, duel};

const AGENTS: usize = 100;
const PAYLOAD: usize = 200;
const CAPACITY: usize = 10_000;
const BATCH: usize = 64;

/// Runs the group.
pub fn run(effort: Effort) -> Vec<Row> {
    let events = effort.of(4_000_000);
    let single = || queued(events, false);
    let batch = || queued(events, true);
    let vs = |case, asked, name, ours: &dyn Fn() -> f64, rival: &dyn Fn() -> f64| {
        duel(effort, case, Unit::PerSecond, asked, name, ours, rival)
    };
    let one = "queued, 100 agents, publish";
    let many = "queued, 100 agents, publish_batch of 64";
    vec![
        vs(one, Some(2.5), "tokio mpsc", &single, &|| tokio_mpsc(events)),
        vs(many, Some(4.0), "tokio mpsc", &batch, &|| tokio_mpsc(events)),
    ]
}

type Handler = Box<dyn Fn(&Event) + Send + Sync>;

/// One agent of the swarm, with the handler for what it publishes.
struct Agent {
    name: Str,
    ty: EventType,
    payload: Bytes,
    handled: Arc<CachePadded<AtomicU64>>,
}

impl Agent {
    fn all() -> Vec<Self> {
        (0..AGENTS)
            .map(|n| Self {
                name: format!("agent-{n}").into(),
                ty: EventType::new(format!("agent.{n}.reading")).expect("a type"),
                payload: Bytes::from(vec![n as u8; PAYLOAD]),
                handled: Arc::default(),
            })
            .collect()
    }

    /// A new event: what is measured includes making it, on both sides.
    #[inline]
    fn event(&self) -> Event {
        Event::new(self.ty.clone(), self.payload.clone()).with_source(self.name.clone())
    }

    fn handler(&self) -> Handler {
        let handled = Arc::clone(&self.handled);
        Box::new(move |event| handle(event, &handled))
    }
}

/// What both sides do with an event: read all of its payload, and count.
#[inline]
fn handle(event: &Event, handled: &AtomicU64) {
    black_box(event.payload().iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
    handled.fetch_add(1, Relaxed);
}

fn check(agents: &[Arc<Agent>], each: usize) {
    for agent in agents {
        assert_eq!(agent.handled.load(Relaxed), each as u64, "{} lost events", agent.name);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn queued(events: usize, batched: bool) -> f64 {
    runtime().block_on(async {
        let bus = Bus::builder().capacity(CAPACITY).build().expect("a bus");
        let agents: Vec<_> = Agent::all().into_iter().map(Arc::new).collect();
        let each = events / AGENTS;
        for agent in &agents {
            let handler = agent.handler();
            bus.subscribe(agent.ty.as_str()).handle(handler).expect("a subscription").detach();
        }
        let started = Instant::now();
        let publishers: Vec<_> = agents
            .iter()
            .map(|agent| {
                let (bus, agent) = (bus.clone(), Arc::clone(agent));
                tokio::spawn(async move {
                    if batched {
                        let mut batch = Vec::with_capacity(BATCH);
                        for n in (0..each).step_by(BATCH) {
                            batch.extend((n..each.min(n + BATCH)).map(|_| agent.event()));
                            bus.publish_batch(&mut batch).await.expect("published");
                        }
                    } else {
                        for _ in 0..each {
                            bus.publish(agent.event()).await.expect("published");
                        }
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.expect("no panic");
        }
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
        let took = started.elapsed();
        assert!(bus.ledger().balances());
        check(&agents, each);
        (each * AGENTS) as f64 / took.as_secs_f64()
    })
}

fn tokio_mpsc(events: usize) -> f64 {
    runtime().block_on(async {
        let agents: Vec<_> = Agent::all().into_iter().map(Arc::new).collect();
        let handlers: Vec<_> = agents.iter().map(|agent| agent.handler()).collect();
        let each = events / AGENTS;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<(usize, Event)>(CAPACITY);
        let started = Instant::now();
        let consumer = tokio::spawn(async move {
            let mut received = Vec::with_capacity(256);
            while receiver.recv_many(&mut received, 256).await > 0 {
                for (handler, event) in received.drain(..) {
                    handlers[handler](&event);
                }
            }
        });
        for (n, agent) in agents.iter().enumerate() {
            let (sender, agent) = (sender.clone(), Arc::clone(agent));
            tokio::spawn(async move {
                for _ in 0..each {
                    sender.send((n, agent.event())).await.expect("received");
                }
            });
        }
        drop(sender);
        consumer.await.expect("no panic");
        let took = started.elapsed();
        check(&agents, each);
        (each * AGENTS) as f64 / took.as_secs_f64()
    })
}
