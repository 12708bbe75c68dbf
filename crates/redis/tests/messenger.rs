//! Messengers and bridges over real servers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use swarmbus::{
    Bus, Event,
    bridge::{Bridge, BridgeRules},
    core::backoff::Backoff,
    messenger::{Identity, Message, Messenger, Refusal, RequestError, To, WorkOptions},
    transport::Transport,
};
use swarmbus_redis::{
    RedisTransport, Settings,
    local::{Fsync, Proxy, Server},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

async fn connect(url: &str) -> Arc<RedisTransport> {
    let settings = Settings::new(url)
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(2))
        .probe_every(Duration::from_millis(100));
    Arc::new(RedisTransport::builder(settings).connect().await.unwrap())
}

async fn next<T>(heard: &mut UnboundedReceiver<T>) -> T {
    timeout(LONG, heard.recv()).await.expect("nothing came").expect("an end")
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

#[tokio::test]
async fn agents_of_several_processes_talk() {
    let server = Server::start().unwrap();
    // A connection of its own is what another process has.
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    let a = Messenger::join(here.clone(), "a", "a1").await.unwrap();
    let b = Messenger::join(there.clone(), "b", "b1").await.unwrap();
    let c = Messenger::join(there.clone(), "c", "c1").await.unwrap();
    let (mut at_b, mut at_c) = (hear(&b), hear(&c));

    a.broadcast(Event::of("said", "all")).await.unwrap();
    assert_eq!(
        (next(&mut at_b).await, next(&mut at_c).await),
        ("Broadcast all".into(), "Broadcast all".into())
    );
    a.send(&To::swarm("b").unwrap(), Event::of("said", "b")).await.unwrap();
    assert_eq!(next(&mut at_b).await, "Swarm b");
    a.send(&To::agent("c1").unwrap(), Event::of("said", "c1")).await.unwrap();
    assert_eq!(next(&mut at_c).await, "Agent c1");

    b.respond("stock.*", async |_| Ok::<_, String>("12 planks")).unwrap().detach();
    let to = To::agent("b1").unwrap();
    let answer = a.request(&to, Event::of("stock.asked", ())).await.unwrap();
    assert_eq!(answer.text(), Some("12 planks"));
    let refused = a.request(&to, Event::of("weather.asked", ())).await;
    assert!(matches!(refused, Err(RequestError::Refused(Refusal::NoResponder))));

    let election = b.topic("election").await.unwrap();
    let (cast, mut votes) = unbounded_channel();
    let voted = move |message: &Message| cast.send(message.agent().map(str::to_owned));
    election.on("vote").handle(voted).unwrap().detach();
    a.topic("election").await.unwrap().send(Event::of("vote", ())).await.unwrap();
    assert_eq!(next(&mut votes).await.as_deref(), Some("a1"));

    let (done, mut results) = unbounded_channel();
    let worker = c.work("images", WorkOptions::new(), move |task: Message| {
        let done = done.clone();
        async move { done.send(task.event.text().map(str::to_owned)) }
    });
    let worker = worker.await.unwrap();
    a.send(&To::tasks("images").unwrap(), Event::of("resize", "17")).await.unwrap();
    assert_eq!(next(&mut results).await.as_deref(), Some("17"));
    worker.stop().await;

    for messenger in [a, b, c] {
        assert!(messenger.close(LONG).await);
    }
    here.close().await;
}

async fn durable(transport: &Arc<RedisTransport>, swarm: &str) -> Messenger {
    let identity = Identity::new(swarm, &format!("{swarm}1")).unwrap();
    Messenger::builder(transport.clone(), identity).durable().join().await.unwrap()
}

/// Two buses and a bridge between them, over durable channels.
struct Crossing {
    from: Bus,
    to: Bus,
    going: Bridge,
    coming: Bridge,
    heard: UnboundedReceiver<String>,
    seen: HashSet<String>,
}

impl Crossing {
    async fn over(url: &str) -> Self {
        let (here, there) = (connect(url).await, connect(url).await);
        let (a, b) = (durable(&here, "a").await, durable(&there, "b").await);
        let (from, to) = (Bus::builder().build().unwrap(), Bus::builder().build().unwrap());
        let (told, heard) = unbounded_channel();
        let ear = move |event: &Event| told.send(event.text().unwrap_or_default().to_owned());
        to.subscribe("said").handle(ear).unwrap().detach();
        let coming = to.bridge(&b, BridgeRules::new().receive("said")).unwrap();
        let stubborn = Backoff::fixed(Duration::from_millis(50)).max_tries(10_000);
        let rules = BridgeRules::new()
            .send("said", To::swarm("b").unwrap())
            .hold_back()
            .timeout(Duration::from_secs(2))
            .retry(stubborn);
        let going = from.bridge(&a, rules).unwrap();
        Self { from, to, going, coming, heard, seen: HashSet::new() }
    }

    /// Publishes events, with something in the middle.
    async fn publish(&self, round: usize, count: usize, middle: impl AsyncFnOnce()) {
        let publish = async |n| {
            let event = Event::of("said", format!("{round} {n}"));
            self.from.publish(event).await.unwrap();
        };
        for n in 0..count / 2 {
            publish(n).await;
        }
        middle().await;
        for n in count / 2..count {
            publish(n).await;
        }
    }

    async fn hear(&mut self, count: usize) {
        for _ in 0..count {
            assert!(self.seen.insert(next(&mut self.heard).await), "twice");
        }
    }

    async fn settle(mut self, events: usize) {
        self.hear(events - self.seen.len()).await;
        assert_eq!(self.going.shutdown(LONG).await, 0);
        assert!(self.from.shutdown(LONG).await.is_clean());
        let ledger = self.from.ledger();
        assert!(ledger.balances(), "{ledger}");
        assert_eq!(ledger.outcomes.delivered, events as u64);
        let stats = self.coming.stats();
        assert_eq!((stats.received, stats.gaps), (events as u64, 0));
        assert_eq!(self.to.drain(LONG).await, 0);
        assert!(self.heard.try_recv().is_err(), "too many");
    }
}

/// Both ends are cut off again and again, while half of the events are on their
/// way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_over_a_bad_line_loses_nothing_and_doubles_nothing() {
    const ROUNDS: usize = 10;
    const EACH: usize = 500;
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut crossing = Crossing::over(&server.url_at(proxy.address())).await;
    for round in 0..ROUNDS {
        crossing.publish(round, EACH, async || proxy.cut()).await;
        crossing.hear(1).await;
    }
    crossing.settle(ROUNDS * EACH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_loses_nothing_when_the_server_dies_and_comes_back() {
    const ROUNDS: usize = 3;
    const EACH: usize = 500;
    let server = Server::builder().append_only(Fsync::Always).start().unwrap();
    let mut crossing = Crossing::over(&server.url()).await;
    for round in 0..ROUNDS {
        crossing.publish(round, EACH, async || server.kill9()).await;
        server.restart().unwrap();
        crossing.hear(EACH / 2).await;
    }
    crossing.settle(ROUNDS * EACH).await;
}
