//! Durable and group channels over networks that fail.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, time::Duration};

use swarmbus::{
    Event,
    core::backoff::Backoff,
    transport::{Channel, Inbox, Incoming, Position, Received, SubscribeOptions, Transport},
};
use swarmbus_redis::{
    RedisTransport, Settings,
    local::{Proxy, Replicated, Server, Way},
};
use tokio::time::timeout;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

const EVENTS: u64 = 10_000;

/// Times at which harm is done.
const HARMS: u64 = 4;

async fn connect(url: &str) -> RedisTransport {
    connect_with(Settings::new(url).unwrap()).await
}

async fn connect_with(settings: Settings) -> RedisTransport {
    let settings = settings
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_millis(500))
        .probe_every(Duration::from_millis(100));
    RedisTransport::builder(settings).patience(LONG).connect().await.unwrap()
}

async fn next(inbox: &mut Inbox) -> Incoming {
    timeout(LONG, inbox.next()).await.expect("nothing came").expect("the inbox ended")
}

async fn publish(transport: &RedisTransport, channel: &Channel) {
    for start in (0..EVENTS).step_by(50) {
        let mut events: Vec<_> =
            (start..start + 50).map(|n| Event::of("n", n.to_string())).collect();
        transport.publish_batch(channel, &mut events).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// What is done to the network. It heals by itself.
async fn harm(proxy: &Proxy, kind: u64) {
    match kind {
        0 => proxy.cut(),
        1 => {
            // Half-open: whoever does not notice waits for ever.
            proxy.swallow();
            proxy.wait_for_accepted(proxy.accepted() + 1).await;
            proxy.pass();
        }
        2 => proxy.flap(5, Duration::from_millis(20), Duration::from_millis(20)).await,
        _ => {
            proxy.set(Way::Held);
            proxy.wait_for_accepted(proxy.accepted() + 1).await;
            proxy.pass();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_channel_loses_and_doubles_nothing() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let transport = connect(&server.url_at(proxy.address())).await;
    let channel = Channel::durable("c").unwrap();
    let mut inbox = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
    let read = async {
        for n in 0..EVENTS {
            match next(&mut inbox).await {
                Incoming::Event(event) => assert_eq!(event.event.text(), Some(&*n.to_string())),
                other => panic!("{other:?} before {n}"),
            }
            if n % (EVENTS / HARMS) == EVENTS / HARMS / 2 {
                harm(&proxy, n / (EVENTS / HARMS)).await;
            }
        }
    };
    tokio::join!(publish(&transport, &channel), read);
    transport.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_channel_loses_nothing_and_says_what_comes_twice() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let transport = connect(&server.url_at(proxy.address())).await;
    let channel = Channel::group("c").unwrap();
    let options = SubscribeOptions::new().redeliver_after(Duration::from_secs(2));
    let mut inbox = transport.subscribe(&channel, options.max_deliveries(100)).await.unwrap();
    let work = async {
        let (mut done, mut harms) = (BTreeSet::new(), 0);
        while done.len() < EVENTS as usize {
            let Incoming::Event(task) = next(&mut inbox).await else { panic!("a gap") };
            let n: u64 = task.event.text().unwrap().parse().unwrap();
            assert!(done.insert(n) || task.redelivered(), "{n} came twice without a word");
            task.ack();
            if done.len() as u64 > (2 * harms + 1) * EVENTS / HARMS / 2 {
                harm(&proxy, harms).await;
                harms += 1;
            }
        }
    };
    tokio::join!(publish(&transport, &channel), work);
    transport.flush().await.unwrap();
}

/// Reads up to the last event, and returns the position of the first. Whatever does not come must be reported; nothing
/// comes twice, or before what was published before it.
async fn read_all(who: &str, inbox: &mut Inbox) -> Position {
    let (mut expected, mut gaps, mut position) = (0, 0, None);
    while expected < EVENTS {
        match next(inbox).await {
            Incoming::Gap(_) => gaps += 1,
            Incoming::Event(event) => {
                let n: u64 = event.event.text().unwrap().parse().unwrap();
                assert!(n >= expected, "{who}: {n} came twice or late");
                let reported = n == expected || gaps > 0;
                assert!(reported, "{who}: {expected} to {n} are missing without a gap");
                position = position.or(event.position());
                (expected, gaps) = (n + 1, 0);
            }
            other => panic!("{other:?}"),
        }
    }
    position.expect("durable events have one")
}

fn position(history: &[Received]) -> u64 {
    history.last().and_then(Received::position).map_or(0, |position| position.offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_hides_no_loss_of_a_durable_channel() {
    let set = Replicated::start(1, 3).unwrap();
    let sentinels = set.sentinels().iter().map(Server::url);
    let name = format!("redis://{}", Replicated::NAME);
    let settings = Settings::new(&name).unwrap().sentinels(sentinels).unwrap();
    let transport = connect_with(settings).await;
    let channel = Channel::durable("c").unwrap();
    let mut inbox = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
    let before = set.master().unwrap().address();
    let publishing = async {
        publish(&transport, &channel).await;
        transport.flush().await.unwrap();
    };
    let harm = async {
        // In the middle of it all: the replica has what it has.
        let published = async {
            while transport.history(&channel, 1).await.map_or(0, |last| position(&last)) < 2_000 {}
        };
        timeout(LONG, published).await.unwrap();
        tokio::task::block_in_place(|| {
            set.servers().iter().find(|server| server.address() == before).unwrap().kill9();
            set.wait_for_another_than(before).unwrap();
        });
    };
    let ((), first, ()) = tokio::join!(publishing, read_all("live", &mut inbox), harm);
    // From before everything, in the life that it had then.
    let all = SubscribeOptions::new().after(Position { offset: 0, ..first });
    read_all("late", &mut transport.subscribe(&channel, all).await.unwrap()).await;
}
