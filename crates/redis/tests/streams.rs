//! Durable and group channels over networks that fail.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, time::Duration};

use swarmbus::{
    Event,
    core::backoff::Backoff,
    transport::{Channel, Inbox, Incoming, SubscribeOptions, Transport},
};
use swarmbus_redis::{
    RedisTransport, Settings,
    local::{Proxy, Server, Way},
};
use tokio::time::timeout;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

const EVENTS: u64 = 10_000;

/// Times at which harm is done.
const HARMS: u64 = 4;

async fn connect(url: &str) -> RedisTransport {
    let settings = Settings::new(url)
        .unwrap()
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
