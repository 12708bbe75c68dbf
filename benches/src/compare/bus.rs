//! The bus against channels: what does it cost to have everything on?
//!
//! Every event reaches a handler that reads its whole payload and counts.
//! Ours has routing, breaker, ledger and metrics on. The rivals only carry
//! the same event to the same handler, found by an index that is sent along.
//! Each of the 100 agents has a payload, a type and a handler of its own.

mod channels;
mod inline;
mod limits;

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

use crate::harness::Case;

pub use limits::limits;

const AGENTS: usize = 100;
const PAYLOAD: usize = 200;
const CAPACITY: usize = 10_000;
const BATCH: usize = 64;

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let queued =
        [
            Case::per_second("queued, 100 agents, publish", |n| queued(n, false))
                .against("tokio mpsc", 2.5, channels::tokio_mpsc)
                .against("crossbeam-channel", None, channels::crossbeam)
                .against("kanal", None, channels::kanal)
                .against("flume", None, channels::flume)
                .against("tokio broadcast", None, channels::tokio_broadcast),
            Case::per_second("queued, 100 agents, publish_batch of 64", |n| queued(n, true))
                .against("tokio mpsc", 4.0, channels::tokio_mpsc),
        ];
    queued.into_iter().chain(inline::cases()).collect()
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
    fn new(n: usize) -> Self {
        Self {
            name: format!("agent-{n}").into(),
            ty: EventType::new(format!("agent.{n}.reading")).expect("a type"),
            payload: Bytes::from(vec![n as u8; PAYLOAD]),
            handled: Arc::default(),
        }
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

/// All agents, and how many events each publishes.
struct Swarm {
    agents: Vec<Arc<Agent>>,
    each: u64,
}

impl Swarm {
    /// Publishes at least this many events together.
    fn of(events: u64) -> Self {
        let agents = (0..AGENTS).map(|n| Arc::new(Agent::new(n))).collect();
        Self { agents, each: events.div_ceil(AGENTS as u64) }
    }

    fn handlers(&self) -> Vec<Handler> {
        self.agents.iter().map(|agent| agent.handler()).collect()
    }

    fn subscribe(&self, bus: &Bus) {
        for agent in &self.agents {
            let subscription = bus.subscribe(agent.ty.as_str()).handle(agent.handler());
            subscription.expect("a subscription").detach();
        }
    }

    fn published(&self) -> u64 {
        self.each * AGENTS as u64
    }

    /// Checks that nothing was lost. Returns the time that `events` took.
    fn finish(&self, events: u64, took: Duration) -> Duration {
        for agent in &self.agents {
            assert_eq!(agent.handled.load(Relaxed), self.each, "{} lost events", agent.name);
        }
        took.mul_f64(events as f64 / self.published() as f64)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn queued(events: u64, batched: bool) -> Duration {
    runtime().block_on(async {
        let bus = Bus::builder().capacity(CAPACITY).build().expect("a bus");
        let swarm = Swarm::of(events);
        swarm.subscribe(&bus);
        let started = Instant::now();
        let publish = |agent: &Arc<Agent>| {
            tokio::spawn(publish(bus.clone(), Arc::clone(agent), swarm.each, batched))
        };
        let publishers: Vec<_> = swarm.agents.iter().map(publish).collect();
        for publisher in publishers {
            publisher.await.expect("no panic");
        }
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
        let took = started.elapsed();
        let ledger = bus.ledger();
        assert!(ledger.balances() && ledger.outcomes.delivered == swarm.published());
        swarm.finish(events, took)
    })
}

/// The life of one agent.
async fn publish(bus: Bus, agent: Arc<Agent>, each: u64, batched: bool) {
    if batched {
        let mut batch = Vec::with_capacity(BATCH);
        for n in (0..each).step_by(BATCH) {
            batch.extend((n..each.min(n + BATCH as u64)).map(|_| agent.event()));
            bus.publish_batch(&mut batch).await.expect("published");
        }
    } else {
        for _ in 0..each {
            bus.publish(agent.event()).await.expect("published");
        }
    }
}
