//! Durable channels on real servers that fail.

mod rewind;

use std::{num::NonZeroUsize, time::Duration};

use swarmbus::transport::{Gap, GapReason, Incoming};
use tokio::time::timeout;

use super::*;
use crate::{
    connection::Link,
    dialer::Dialer,
    duties::Commands,
    local::{Fsync, Server},
    publisher::{Batching, Publisher},
    settings::Settings,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

struct World {
    server: Server,
    durable: Durable,
    publisher: Arc<Publisher>,
    channel: Channel,
}

impl World {
    async fn new(server: Server) -> Self {
        Self::with(server, Retention::default(), Durable::CHECK_EVERY).await
    }

    async fn with(server: Server, retention: Retention, check_every: Duration) -> Self {
        let backoff = swarmbus_core::backoff::Backoff::fixed(Duration::from_millis(20));
        let settings = Settings::new(&server.url()).unwrap().backoff(backoff);
        let dialer = Arc::new(Dialer::new(settings).unwrap());
        let link = async |name| {
            Link::connect(Arc::clone(&dialer), Arc::new(Commands(name))).await.unwrap()
        };
        let subscriber = Arc::new(Subscriber::connect(Arc::clone(&dialer)).await.unwrap());
        let durable = Durable::new(
            crate::server::Server::new(link("reader").await),
            subscriber,
            retention,
            check_every,
        );
        let publisher = Publisher::start(link("publisher").await, durable.carrier(), batching());
        let (publisher, channel) = (Arc::new(publisher), Channel::durable("c").unwrap());
        Self { server, durable, publisher, channel }
    }

    async fn another_publisher(&self) -> Publisher {
        let dialer = Dialer::new(Settings::new(&self.server.url()).unwrap()).unwrap();
        let link = Link::connect(Arc::new(dialer), Arc::new(Commands("other"))).await.unwrap();
        Publisher::start(link, self.durable.carrier(), batching())
    }

    async fn publish(&self, range: std::ops::Range<u32>) {
        let mut events: Vec<_> = range.map(|n| Event::of("n", n.to_string())).collect();
        self.publisher.publish_batch(&self.channel, &mut events).await.unwrap();
    }

    async fn flushed(&self, range: std::ops::Range<u32>) {
        self.publish(range).await;
        self.publisher.flush().await.unwrap();
    }

    async fn inbox(&self, options: SubscribeOptions) -> Inbox {
        self.durable.subscribe(&self.channel, &options).await.unwrap()
    }
}

fn batching() -> Batching {
    let many = |n| NonZeroUsize::new(n).unwrap();
    Batching {
        events: many(64),
        bytes: many(64 << 10),
        delay: Duration::ZERO,
        buffer_events: many(1_000),
        buffer_bytes: many(1 << 20),
        overflow: swarmbus_core::overflow::Overflow::Reject,
        patience: LONG,
    }
}

async fn next(inbox: &mut Inbox) -> Incoming {
    timeout(LONG, inbox.next()).await.expect("nothing came").expect("the inbox ended")
}

async fn expect(inbox: &mut Inbox, range: std::ops::Range<u32>) {
    for n in range {
        let Incoming::Event(received) = next(inbox).await else { panic!("a gap before {n}") };
        assert_eq!(received.event.text(), Some(&*n.to_string()));
    }
}

async fn gap(inbox: &mut Inbox) -> Gap {
    match next(inbox).await {
        Incoming::Gap(gap) => gap,
        other => panic!("a gap was expected, not {other:?}"),
    }
}

fn small(capacity: usize) -> SubscribeOptions {
    SubscribeOptions::new().capacity(NonZeroUsize::new(capacity).unwrap())
}

fn careful() -> Server {
    Server::builder().append_only(Fsync::Always).start().unwrap()
}

/// Publishes and does harm to the server meanwhile, again and again.
async fn under_load(world: &World, harm: impl Fn(&Server)) {
    const EVENTS: u32 = 30_000;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    let publish = async {
        for start in (0..EVENTS).step_by(100) {
            world.publish(start..start + 100).await;
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        for part in 0..5 {
            expect(&mut inbox, part * EVENTS / 5..(part + 1) * EVENTS / 5).await;
            if part < 4 {
                harm(&world.server);
            }
        }
    };
    tokio::join!(publish, read);
    world.publisher.flush().await.unwrap();
    let all = world.inbox(SubscribeOptions::new().from_beginning());
    expect(&mut all.await, 0..EVENTS).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_the_server_is_killed() {
    let world = World::new(careful()).await;
    under_load(&world, |server| {
        server.kill9();
        server.restart().unwrap();
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_connections_are_cut() {
    let world = World::new(Server::start().unwrap()).await;
    under_load(&world, |server| {
        for kind in ["pubsub", "normal"] {
            // Also counts the connection that asks.
            server.run(["CLIENT", "KILL", "TYPE", kind]).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_subscriber_catches_up() {
    let world = World::new(Server::start().unwrap()).await;
    let mut slow = world.inbox(small(10)).await;
    world.flushed(0..30_000).await;
    let mut quick = world.inbox(SubscribeOptions::new().from_beginning()).await;
    expect(&mut quick, 0..30_000).await;
    expect(&mut slow, 0..30_000).await;
    world.publish(30_000..30_001).await;
    expect(&mut slow, 30_000..30_001).await;
}

#[tokio::test]
async fn losing_everything_is_a_gap_with_a_new_epoch() {
    for loss in [&["FLUSHALL"][..], &["DEL", "swarmbus:{c}:meta"]] {
        let world = World::new(Server::start().unwrap()).await;
        let mut inbox = world.inbox(SubscribeOptions::new()).await;
        world.flushed(0..10).await;
        expect(&mut inbox, 0..10).await;
        world.server.run(loss).unwrap();
        world.publish(10..20).await;
        let gap = gap(&mut inbox).await;
        assert_eq!((gap.missed, gap.reason), (None, GapReason::NewEpoch));
        assert_eq!(gap.position.unwrap().offset, 0);
        expect(&mut inbox, 10..20).await;
    }
}

#[tokio::test]
async fn a_quiet_subscription_notices_a_loss() {
    let often = Duration::from_millis(20);
    let server = Server::start().unwrap();
    let world = World::with(server, Retention::default(), often).await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    world.server.run(["FLUSHALL"]).unwrap();
    assert_eq!(gap(&mut inbox).await.reason, GapReason::NewEpoch);
}

#[tokio::test]
async fn what_was_trimmed_is_a_gap_of_its_size() {
    let retention = Retention { events: 100, ..Retention::default() };
    let world = World::with(Server::start().unwrap(), retention, Durable::CHECK_EVERY).await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    world.flushed(0..10).await;
    let Incoming::Event(first) = next(&mut inbox).await else { panic!("an event") };
    drop(inbox);
    // Large, so that each is in a node of its own, and nodes are dropped.
    for n in 10..1_010_u32 {
        let event = Event::of("n", format!("{n}{}", " ".repeat(200)));
        world.publisher.publish(&world.channel, event).await.unwrap();
    }
    world.publisher.flush().await.unwrap();
    let saved = first.position().unwrap();
    let mut inbox = world.inbox(SubscribeOptions::new().after(saved)).await;
    let gap = gap(&mut inbox).await;
    assert_eq!(gap.reason, GapReason::Trimmed);
    let Incoming::Event(next) = next(&mut inbox).await else { panic!("an event") };
    let position = next.position().unwrap();
    assert_eq!(gap.position.unwrap().offset + 1, position.offset);
    assert_eq!(gap.missed, Some(position.offset - saved.offset - 1));
    assert_eq!(next.event.text().unwrap().trim(), (position.offset - 1).to_string());
    assert!(position.offset <= 911, "what should be kept is kept");
}

#[tokio::test]
async fn without_memory_publishers_wait() {
    let world = World::new(Server::start().unwrap()).await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    world.flushed(0..10).await;
    world.server.run(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    world.publish(10..20).await;
    expect(&mut inbox, 0..10).await;
    let more = timeout(Duration::from_millis(200), inbox.next()).await;
    assert!(more.is_err(), "refused by the server");
    world.server.run(["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    expect(&mut inbox, 10..20).await;
}

#[tokio::test]
async fn a_restarted_subscriber_goes_on_where_it_was() {
    let world = World::new(careful()).await;
    let mut inbox = world.inbox(SubscribeOptions::new()).await;
    let mut saved = None;
    for round in 0..5_u32 {
        world.flushed(round * 1_000..(round + 1) * 1_000).await;
        let middle = round * 1_000 + 500;
        let from = saved.map_or(0, |_| middle - 1_000);
        for n in from..middle {
            let Incoming::Event(received) = next(&mut inbox).await else { panic!("a gap") };
            assert_eq!(received.event.text(), Some(&*n.to_string()));
            saved = received.position();
        }
        drop(inbox);
        world.server.kill9();
        world.server.restart().unwrap();
        inbox = world.inbox(SubscribeOptions::new().after(saved.unwrap())).await;
    }
    expect(&mut inbox, 4_500..5_000).await;
}

#[tokio::test]
async fn an_entry_that_nobody_can_read_is_a_gap() {
    let world = World::new(Server::start().unwrap()).await;
    world.flushed(0..2).await;
    world.server.run(["XADD", "swarmbus:{c}:log", "5-0", "f", "junk"]).unwrap();
    world.server.run(["HSET", "swarmbus:{c}:meta", "offset", "5"]).unwrap();
    world.server.run(["PUBLISH", "swarmbus:{c}:log", "junk"]).unwrap();
    let mut inbox = world.inbox(SubscribeOptions::new().from_beginning()).await;
    expect(&mut inbox, 0..2).await;
    let gap = gap(&mut inbox).await;
    assert_eq!((gap.missed, gap.reason), (Some(3), GapReason::Unreadable));
    world.publish(2..3).await;
    expect(&mut inbox, 2..3).await;
}

#[tokio::test]
async fn keys_and_history() {
    let world = World::new(Server::start().unwrap()).await;
    let once = async |key| {
        world.durable.publish_once(&world.channel, key, Event::of("n", key)).await.unwrap()
    };
    assert!(once("a").await && !once("a").await && once("b").await);
    let history = world.durable.history(&world.channel, 10).await.unwrap();
    let texts: Vec<_> = history.iter().filter_map(|received| received.event.text()).collect();
    assert_eq!(texts, ["a", "b"]);
    world.flushed(0..1_000).await;
    let history = world.durable.history(&world.channel, 3).await.unwrap();
    let texts: Vec<_> = history.iter().filter_map(|received| received.event.text()).collect();
    assert_eq!(texts, ["997", "998", "999"]);
}

#[tokio::test]
async fn frames_that_were_packed_ahead_and_not_sent_are_handed_back() {
    let world = World::new(Server::start().unwrap()).await;
    world.flushed(0..1).await;
    // Longer than this takes.
    world.server.run(["CLIENT", "PAUSE", "60000", "WRITE"]).unwrap();
    // A frame of 64 is on its way, the next is packed, the others wait.
    world.publish(1..300).await;
    let on_its_way = async {
        while world.publisher.waiting().0 > 235 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, on_its_way).await.expect("nothing was sent");
    let left = world.publisher.close(Duration::ZERO).await;
    let texts: Vec<_> = left.iter().map(|(_, event)| event.text().unwrap()).collect();
    let expected: Vec<_> = (65..300).map(|n| n.to_string()).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn what_the_server_did_not_take_is_handed_back() {
    let world = World::new(Server::start().unwrap()).await;
    world.flushed(0..1).await;
    world.server.run(["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    world.publish(1..300).await;
    let refused = async {
        while !matches!(world.publisher.why_not(), Some(TransportError::Refused(_))) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.expect("it says why");
    let left = world.publisher.close(Duration::ZERO).await;
    let texts: Vec<_> = left.iter().map(|(_, event)| event.text().unwrap()).collect();
    let expected: Vec<_> = (1..300).map(|n| n.to_string()).collect();
    assert_eq!(texts, expected);
}
