//! Buses that judge a service together, over one Redis server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use swarmbus::{
    BreakerScope, Bus, Event, Subscription,
    breaker::{Config, StateKind, evidence::EvidenceConfig},
    evidence::SharedEvidence,
};
use swarmbus_redis::{RedisLeases, RedisTransport, Settings, local::Server};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const OPEN: Duration = Duration::from_secs(1);
const WORKS: &str = "nothing stands in the way";

struct Node {
    bus: Bus,
    _shared: SharedEvidence,
    _handler: Subscription,
}

impl Node {
    async fn new(server: &Server, works: &Arc<AtomicBool>) -> Self {
        let bus = Bus::builder().build().expect(WORKS);
        let works = Arc::clone(works);
        let config = Config::builder().count_successes(true).probes(1).open_for(OPEN);
        let handler = bus
            .subscribe("call")
            .breaker(BreakerScope::Service("db".into()))
            .breaker_config(config.build().expect(WORKS))
            .handle(move |_: &Event| if works.load(SeqCst) { Ok(()) } else { Err("down") })
            .expect(WORKS);
        let url = server.url();
        let transport = RedisTransport::connect(&url).await.expect(WORKS);
        let leases =
            RedisLeases::connect(Settings::new(&url).expect(WORKS), "evidence").await.expect(WORKS);
        let shared = SharedEvidence::builder(transport, leases)
            .interval(Duration::from_millis(100))
            .config(EvidenceConfig { fresh_for: OPEN, open_for: OPEN, ..EvidenceConfig::default() })
            .start(&bus)
            .await
            .expect(WORKS);
        Self { bus, _shared: shared, _handler: handler }
    }

    fn kind(&self) -> StateKind {
        self.bus.breakers()[0].stats.state
    }
}

/// Calls until all breakers are as they should be.
async fn until(fleet: &[Node], callers: &[Node], kind: StateKind) {
    let calls = async {
        while fleet.iter().any(|node| node.kind() != kind) {
            for node in callers {
                node.bus.dispatch(&Event::of("call", ())).await.expect(WORKS);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, calls).await.unwrap_or_else(|_| {
        let kinds: Vec<_> = fleet.iter().map(Node::kind).collect();
        panic!("{kinds:?} are not all {kind}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_down_is_found_out_by_some_and_left_alone_by_all() {
    let server = Server::start().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(Node::new(&server, &works).await);
    }
    works.store(false, SeqCst);
    until(&fleet, &fleet[..2], StateKind::Open).await;
    assert_eq!(fleet[2].bus.breakers()[0].stats.failures, 0, "it did not have to try");
    works.store(true, SeqCst);
    until(&fleet, &fleet, StateKind::Closed).await;
}
