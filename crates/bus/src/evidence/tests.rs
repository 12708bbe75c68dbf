//! Several buses before one service, joined in memory, on the paused clock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use swarmbus_core::{
    Event,
    breaker::{Config, StateKind},
};
use tokio::time::{Instant, sleep, timeout}; // sleep: all of this is on the paused clock

use super::*;
use crate::{
    BreakerScope, Subscription,
    lease::{Grant, LeaseError, MemoryLeases},
    transport::MemoryTransport,
};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(120);

/// A bus whose handler calls the service.
struct Node {
    bus: Bus,
    calls: Arc<AtomicU64>,
    works: Arc<AtomicBool>,
    shared: SharedEvidence,
    _handler: Subscription,
}

impl Node {
    async fn new(transport: &MemoryTransport, leases: impl LeaseStore) -> Self {
        let bus = Bus::builder().build().unwrap();
        let (calls, works) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let (count, ask) = (Arc::clone(&calls), Arc::clone(&works));
        let config = Config::builder().count_successes(true).probes(1).build().unwrap();
        let handler = bus
            .subscribe("call")
            .breaker(BreakerScope::Service("db".into()))
            .breaker_config(config)
            .handle(move |_: &Event| {
                count.fetch_add(1, SeqCst);
                if ask.load(SeqCst) { Ok(()) } else { Err("down") }
            })
            .unwrap();
        let shared = SharedEvidence::builder(transport.clone(), leases).start(&bus).await.unwrap();
        Self { bus, calls, works, shared, _handler: handler }
    }

    async fn call(&self) {
        self.bus.dispatch(&Event::of("call", ())).await.unwrap();
    }

    fn kind(&self) -> StateKind {
        self.bus.breakers()[0].stats.state
    }

    fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }
}

async fn fleet(nodes: usize) -> Vec<Node> {
    let (transport, leases) = (MemoryTransport::new(), MemoryLeases::new());
    let mut fleet = Vec::new();
    for _ in 0..nodes {
        fleet.push(Node::new(&transport, leases.clone()).await);
    }
    fleet
}

fn works(fleet: &[Node], works: bool) {
    fleet.iter().for_each(|node| node.works.store(works, SeqCst));
}

/// Calls of all, ten times a second, until something is so.
async fn calling(fleet: &[Node], until: impl Fn() -> bool) -> Duration {
    let before = Instant::now();
    let calls = async {
        while !until() {
            for node in fleet {
                node.call().await;
            }
            sleep(SECOND / 10).await;
        }
    };
    timeout(LONG, calls).await.expect("it never came");
    before.elapsed()
}

fn all(fleet: &[Node], kind: StateKind) -> bool {
    fleet.iter().all(|node| node.kind() == kind)
}

#[tokio::test(start_paused = true)]
async fn who_has_not_called_opens_too_and_one_probe_closes_all() {
    let fleet = fleet(4).await;
    let (callers, idle) = fleet.split_at(3);
    calling(callers, || fleet[0].shared.services().first().is_some_and(|db| db.nodes == 3)).await;
    works(&fleet, false);
    let took = calling(callers, || all(&fleet, StateKind::Open)).await;
    assert!(took < 5 * SECOND, "{took:?}");
    assert_eq!(idle[0].calls(), 0, "it did not have to find out by itself");
    assert!(fleet.iter().all(|node| node.shared.services()[0].is_open));

    // One probe for all, after the open time, and another after that.
    let before: u64 = fleet.iter().map(Node::calls).sum();
    let probes = || fleet.iter().map(Node::calls).sum::<u64>() - before;
    let took = calling(&fleet, || probes() == 1).await;
    assert!((25 * SECOND..40 * SECOND).contains(&took), "{took:?}");
    let took = calling(&fleet, || probes() == 2).await;
    assert!((25 * SECOND..45 * SECOND).contains(&took), "{took:?}");

    works(&fleet, true);
    let took = calling(&fleet, || all(&fleet, StateKind::Closed)).await;
    assert!(took < 45 * SECOND, "{took:?}");
    let stays = async {
        sleep(20 * SECOND).await;
        all(&fleet, StateKind::Closed)
    };
    assert!(stays.await);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_alone_stays_alone() {
    let fleet = fleet(3).await;
    fleet[0].works.store(false, SeqCst);
    let before = Instant::now();
    calling(&fleet, || before.elapsed() > 60 * SECOND).await;
    assert_ne!(fleet[0].kind(), StateKind::Closed);
    for good in &fleet[1..] {
        assert_eq!(good.bus.breakers()[0].stats.opens, 0);
    }
}

/// Leases that nobody can get.
struct NoLeases;

#[async_trait::async_trait]
impl LeaseStore for NoLeases {
    async fn acquire(&self, _: &str, _: &str, _: Duration) -> Result<Grant, LeaseError> {
        Err(LeaseError::unavailable("down"))
    }

    async fn renew(&self, _: &str, _: &str, _: u64, _: Duration) -> Result<bool, LeaseError> {
        Err(LeaseError::unavailable("down"))
    }

    async fn release(&self, _: &str, _: &str, _: u64) -> Result<bool, LeaseError> {
        Err(LeaseError::unavailable("down"))
    }
}

#[tokio::test(start_paused = true)]
async fn without_leases_each_probes_for_itself() {
    let transport = MemoryTransport::new();
    let fleet = [Node::new(&transport, NoLeases).await, Node::new(&transport, NoLeases).await];
    works(&fleet, false);
    calling(&fleet, || all(&fleet, StateKind::Open)).await;
    works(&fleet, true);
    calling(&fleet, || all(&fleet, StateKind::Closed)).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_transport_each_is_on_its_own() {
    let transport = MemoryTransport::new();
    let fleet = [
        Node::new(&transport, MemoryLeases::new()).await,
        Node::new(&transport, MemoryLeases::new()).await,
    ];
    works(&fleet, false);
    calling(&fleet, || all(&fleet, StateKind::Open)).await;
    crate::transport::Transport::close(&transport).await;
    works(&fleet, true);
    calling(&fleet, || all(&fleet, StateKind::Closed)).await;
}

#[tokio::test(start_paused = true)]
async fn settings_are_checked_and_strange_events_ignored() {
    let transport = MemoryTransport::new();
    let node = Node::new(&transport, MemoryLeases::new()).await;
    let start = |interval| {
        SharedEvidence::builder(transport.clone(), MemoryLeases::new())
            .interval(interval)
            .start(&node.bus)
    };
    for interval in [Duration::ZERO, 4 * SECOND] {
        assert!(matches!(start(interval).await, Err(EvidenceError::Interval { .. })));
    }
    let channel = Channel::live("breaker-evidence").unwrap();
    for payload in ["", "what?"] {
        let event = Event::of("swarmbus.breaker.evidence", payload);
        transport.publish(&channel, event).await.unwrap();
    }
    calling(std::slice::from_ref(&node), || node.calls() > 50).await;
    assert_eq!(node.kind(), StateKind::Closed);
    assert_eq!(node.shared.services()[0].nodes, 1);
}
