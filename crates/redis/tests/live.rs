//! Live channels over real servers, in good times and bad.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use swarmbus::{
    Event, Overflow, Priority,
    core::backoff::Backoff,
    transport::{
        Channel, ConnectionState, Gap, GapReason, Inbox, Incoming, SubscribeOptions, Transport,
        TransportError, conformance,
    },
};
use swarmbus_redis::{
    ConnectError, ConnectionError, RedisBuilder, RedisTransport, Settings,
    local::{Proxy, Server, Way},
};
use tokio::time::timeout;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn quick(url: &str) -> RedisBuilder {
    let settings = Settings::new(url)
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(2))
        .probe_every(Duration::from_millis(100));
    RedisTransport::builder(settings)
}

async fn connect(url: &str) -> RedisTransport {
    quick(url).connect().await.unwrap()
}

fn live(name: &str) -> Channel {
    Channel::live(name).unwrap()
}

fn event(n: u64) -> Event {
    Event::of("test", n.to_string())
}

async fn subscribe(transport: &RedisTransport, channel: &Channel) -> Inbox {
    transport.subscribe(channel, SubscribeOptions::new()).await.unwrap()
}

async fn next(inbox: &mut Inbox) -> Incoming {
    timeout(LONG, inbox.next()).await.expect("nothing came").expect("the inbox ended")
}

/// Reads up to the event of this number. Whatever is not there must be in a
/// gap: returns what was delivered and what was missed.
async fn read_to(inbox: &mut Inbox, expected: &mut u64, last: u64) -> (u64, u64) {
    let (mut delivered, mut missed) = (0, 0);
    while *expected <= last {
        match next(inbox).await {
            Incoming::Gap(gap) => {
                let count = gap.missed.expect("it can be counted");
                missed += count;
                *expected += count;
            }
            Incoming::Event(received) => {
                assert_eq!(received.event.text(), Some(&*expected.to_string()), "a silent loss");
                delivered += 1;
                *expected += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (delivered, missed)
}

async fn until(transport: &RedisTransport, what: impl Fn(&ConnectionState) -> bool) {
    let mut state = transport.state();
    timeout(LONG, state.wait_for(what)).await.expect("the state never came").unwrap();
}

fn is_down(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Disconnected { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let server = Server::start().unwrap();
    let url = server.url();
    conformance::check(|| connect(&url)).await;
    conformance::check(|| async {
        quick(&url).batch_events(NonZeroUsize::MIN).connect().await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn whoever_is_cut_off_comes_back_and_knows_what_it_missed() {
    let server = Server::start().unwrap();
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    let channel = live("news");
    let mut inbox = subscribe(&there, &channel).await;
    here.publish(&channel, event(1)).await.unwrap();
    let (mut published, mut expected) = (1, 1);
    assert_eq!(read_to(&mut inbox, &mut expected, 1).await, (1, 0));
    for kind in ["normal", "pubsub", "normal", "pubsub"] {
        for _ in 0..500 {
            published += 1;
            here.publish(&channel, event(published)).await.unwrap();
            if published % 500 == 250 {
                server.run(["CLIENT", "KILL", "TYPE", kind]).unwrap();
            }
        }
        let _ = here.flush().await;
        until(&here, ConnectionState::is_connected).await;
        until(&there, ConnectionState::is_connected).await;
    }
    published += 1;
    here.publish(&channel, event(published)).await.unwrap();
    let (delivered, missed) = read_to(&mut inbox, &mut expected, published).await;
    assert_eq!(delivered + missed, published - 1);
}

#[tokio::test]
async fn it_survives_the_death_of_the_server() {
    let server = Server::start().unwrap();
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    let channel = live("news");
    let mut inbox = subscribe(&there, &channel).await;
    here.publish(&channel, event(1)).await.unwrap();
    let mut expected = 1;
    assert_eq!(read_to(&mut inbox, &mut expected, 1).await, (1, 0));
    server.kill9();
    until(&here, is_down).await;
    until(&there, is_down).await;
    // They wait for the server.
    for n in 2..=100 {
        here.publish(&channel, event(n)).await.unwrap();
    }
    server.restart().unwrap();
    until(&there, ConnectionState::is_connected).await;
    here.flush().await.unwrap();
    here.publish(&channel, event(101)).await.unwrap();
    let (delivered, missed) = read_to(&mut inbox, &mut expected, 101).await;
    assert_eq!(delivered + missed, 100);
    assert!(delivered >= 1);
}

#[tokio::test]
async fn a_loss_at_the_end_shows_though_nothing_follows() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let here = connect(&server.url()).await;
    let there = connect(&server.url_at(proxy.address())).await;
    let channel = live("news");
    let mut inbox = subscribe(&there, &channel).await;
    here.publish(&channel, event(1)).await.unwrap();
    assert!(matches!(next(&mut inbox).await, Incoming::Event(_)));
    proxy.refuse();
    proxy.cut();
    until(&there, is_down).await;
    for n in 2..=11 {
        here.publish(&channel, event(n)).await.unwrap();
    }
    here.flush().await.unwrap();
    proxy.pass();
    let Incoming::Gap(gap) = next(&mut inbox).await else { panic!("a gap was expected") };
    assert_eq!(gap, Gap::new(10, GapReason::Disconnected));
}

#[tokio::test]
async fn a_half_open_connection_is_found() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let here = connect(&server.url()).await;
    let there = connect(&server.url_at(proxy.address())).await;
    let channel = live("news");
    let mut inbox = subscribe(&there, &channel).await;
    proxy.swallow();
    until(&there, is_down).await;
    assert!(there.ping().await.is_err());
    proxy.cut();
    proxy.pass();
    until(&there, ConnectionState::is_connected).await;
    here.publish(&channel, event(1)).await.unwrap();
    assert_eq!(read_to(&mut inbox, &mut 1, 1).await, (1, 0));
    there.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_is_left() {
    let server = Server::start().unwrap();
    let transport = connect(&server.url()).await;
    server.run(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let replica = ConnectionError::WrongRole { role: "replica".into() };
    until(&transport, |state| match state {
        ConnectionState::Disconnected { error, .. } => error.downcast_ref() == Some(&replica),
        _ => false,
    })
    .await;
    server.run(["REPLICAOF", "NO", "ONE"]).unwrap();
    until(&transport, ConnectionState::is_connected).await;
}

#[tokio::test]
async fn what_a_user_may_not_do_is_told_by_name() {
    let server = Server::builder()
        .user("reader", "on >pw ~* &swarmbus:* +@all -publish")
        .user("writer", "on >pw ~* &swarmbus:* +@all -subscribe")
        .user("elsewhere", "on >pw ~* &other:* +@all")
        .user("news", "on >pw ~* &swarmbus:{news}:* &swarmbus:{probe}:* +@all")
        .start()
        .unwrap();
    let as_user = |name: &str| format!("redis://{name}:pw@{}", server.address());
    for (user, denied) in [("reader", "PUBLISH"), ("writer", "SUBSCRIBE"), ("elsewhere", "PUBLISH")]
    {
        let error = quick(&as_user(user)).connect().await.unwrap_err();
        assert!(
            matches!(&error, ConnectError::Connection(ConnectionError::NoPermission { command, .. })
                if command == denied),
            "{user}: {error}"
        );
    }
    let transport = connect(&as_user("news")).await;
    let _inbox = subscribe(&transport, &live("news")).await;
    let refused = transport.subscribe(&live("other"), SubscribeOptions::new()).await.unwrap_err();
    assert!(matches!(refused, TransportError::Refused(_)), "{refused}");
    transport.publish(&live("other"), event(1)).await.unwrap();
    let lost = transport.flush().await.unwrap_err();
    assert!(
        matches!(&lost, TransportError::Lost { events: 1, cause }
            if matches!(**cause, TransportError::Refused(_))),
        "{lost}"
    );
    transport.flush().await.unwrap();
}

#[tokio::test]
async fn encrypted_it_works_as_well() {
    let server = Server::builder().tls().password("secret").start().unwrap();
    let url = server.tls_url().unwrap().replace("rediss://", "rediss://:secret@");
    let settings = Settings::new(&url).unwrap();
    let settings = settings.root_certificates(std::fs::read(server.certificate()).unwrap());
    let transport = RedisTransport::builder(settings).connect().await.unwrap();
    let channel = live("news");
    let mut inbox = subscribe(&transport, &channel).await;
    transport.publish(&channel, event(1)).await.unwrap();
    assert_eq!(read_to(&mut inbox, &mut 1, 1).await, (1, 0));
    assert!(!format!("{transport:?}").contains("secret"));
}

#[tokio::test]
async fn while_the_server_is_away_the_policy_decides() {
    let server = Server::start().unwrap();
    let ten = NonZeroUsize::new(10).unwrap();
    let with = |policy| {
        let patience = Duration::from_millis(100);
        quick(&server.url()).buffer_events(ten).overflow(policy).patience(patience)
    };
    let rejecting = with(Overflow::Reject).connect().await.unwrap();
    let newest = with(Overflow::DropOldest).connect().await.unwrap();
    let urgent = with(Overflow::DropLowestPriority).connect().await.unwrap();
    let listener = connect(&server.url()).await;
    let channel = live("news");
    let mut inbox = subscribe(&listener, &channel).await;
    newest.publish(&channel, event(1)).await.unwrap();
    assert_eq!(read_to(&mut inbox, &mut 1, 1).await, (1, 0));

    server.kill9();
    for transport in [&rejecting, &newest, &urgent] {
        until(transport, is_down).await;
    }
    for n in 0..10 {
        rejecting.publish(&channel, event(n)).await.unwrap();
        urgent.publish(&channel, event(n)).await.unwrap();
    }
    let refused = rejecting.publish(&channel, event(10)).await.unwrap_err();
    assert_eq!(refused.event.text(), Some("10"), "handed back");
    assert!(matches!(refused.cause, TransportError::Disconnected(_)), "{}", refused.cause);
    let mut batch: Vec<_> = (11..14).map(event).collect();
    let refused = rejecting.publish_batch(&channel, &mut batch).await.unwrap_err();
    assert!(matches!(refused, TransportError::Disconnected(_)), "{refused}");
    assert_eq!(batch, (11..14).map(event).collect::<Vec<_>>(), "handed back");
    for n in 2..=51 {
        newest.publish(&channel, event(n)).await.unwrap();
    }
    let outranked = urgent.publish(&channel, event(10)).await.unwrap_err();
    assert!(matches!(outranked.cause, TransportError::Full), "{}", outranked.cause);
    urgent.publish(&channel, event(10).with_priority(Priority::MAX)).await.unwrap();

    let left = rejecting.close_within(Duration::ZERO).await;
    let left: Vec<_> = left.iter().map(|(_, event)| event.text().unwrap().to_owned()).collect();
    assert_eq!(left, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    urgent.close().await;

    server.restart().unwrap();
    until(&listener, ConnectionState::is_connected).await;
    let lost = newest.flush().await.unwrap_err();
    assert!(matches!(lost, TransportError::Lost { events: 40, .. }), "{lost}");
    newest.publish(&channel, event(52)).await.unwrap();
    let (delivered, missed) = read_to(&mut inbox, &mut 2, 52).await;
    assert!(missed >= 40, "what the policy dropped shows: {missed}");
    assert_eq!(delivered + missed, 51);
}

#[tokio::test]
async fn dropped_inboxes_leave_the_server() {
    let server = Server::start().unwrap();
    let transport = connect(&server.url()).await;
    let channel = live("news");
    let (first, second) =
        (subscribe(&transport, &channel).await, subscribe(&transport, &channel).await);
    let subscribers = || server.run(["PUBSUB", "NUMSUB", "swarmbus:{news}:live"]).unwrap();
    assert_eq!(subscribers(), "swarmbus:{news}:live\n1", "they share one subscription");
    drop(first);
    transport.publish(&channel, event(1)).await.unwrap();
    transport.flush().await.unwrap();
    assert_eq!(subscribers(), "swarmbus:{news}:live\n1");
    drop(second);
    timeout(LONG, async {
        while subscribers() != "swarmbus:{news}:live\n0" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("still subscribed");
    let mut again = subscribe(&transport, &channel).await;
    transport.publish(&channel, event(2)).await.unwrap();
    assert_eq!(read_to(&mut again, &mut 2, 2).await, (1, 0));
}

#[tokio::test]
async fn strangers_messages_do_no_harm() {
    let server = Server::start().unwrap();
    let transport = connect(&server.url()).await;
    let channel = live("news");
    let mut inbox = subscribe(&transport, &channel).await;
    server.run(["PUBLISH", "swarmbus:{news}:live", "hello"]).unwrap();
    let Incoming::Gap(gap) = next(&mut inbox).await else { panic!("a gap was expected") };
    assert_eq!(gap, Gap::new(None, GapReason::Unreadable));
    transport.publish(&channel, event(1)).await.unwrap();
    assert_eq!(read_to(&mut inbox, &mut 1, 1).await, (1, 0));
}

#[tokio::test]
async fn a_batch_travels_together() {
    let server = Server::start().unwrap();
    let settings = Settings::new(&server.url()).unwrap().probe_every(Duration::from_secs(3_600));
    let transport = RedisTransport::builder(settings).connect().await.unwrap();
    let channel = live("news");
    let mut inbox = subscribe(&transport, &channel).await;
    let messages = || {
        let stats = server.run(["INFO", "commandstats"]).unwrap();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_publish:")).unwrap();
        let calls = line.split(['=', ',']).nth(1).unwrap();
        calls.parse::<u64>().unwrap()
    };
    let before = messages();
    let mut batch: Vec<_> = (1..=1_000).map(event).collect();
    transport.publish_batch(&channel, &mut batch).await.unwrap();
    transport.flush().await.unwrap();
    assert_eq!(messages() - before, 2, "1,000 events, at most 512 of them in a message");
    transport.publish(&channel, event(1_001)).await.unwrap();
    assert_eq!(read_to(&mut inbox, &mut 1, 1_001).await, (1_001, 0));
    assert_eq!(messages() - before, 3, "a lone event leaves at once");
}

#[tokio::test]
async fn what_is_too_large_is_handed_back() {
    let server = Server::start().unwrap();
    let transport = connect(&server.url()).await;
    let channel = live("news");
    let mut inbox = subscribe(&transport, &channel).await;
    let large = Event::of("large", "x".repeat(7 << 20));
    let too_large = Event::of("large", "x".repeat(8 << 20));
    let mut batch = vec![large.clone(), too_large.clone(), large.clone()];
    let refused = transport.publish_batch(&channel, &mut batch).await.unwrap_err();
    assert!(matches!(refused, TransportError::Unfit(_)), "{refused}");
    assert_eq!(batch, [too_large.clone(), large.clone()]);
    let refused = transport.publish(&channel, too_large.clone()).await.unwrap_err();
    assert_eq!(*refused.event, too_large);
    let Incoming::Event(received) = next(&mut inbox).await else { panic!("an event was expected") };
    assert_eq!(received.event, large);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_too_slow_for_the_server_is_cut_off_and_told() {
    const EVENTS: u64 = 20_000;
    let server = Server::builder().pubsub_buffer(256 << 10).start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let here = connect(&server.url()).await;
    // It notices nothing by itself for as long as this takes.
    let settings = Settings::new(&server.url_at(proxy.address())).unwrap();
    let settings = settings.backoff(Backoff::fixed(Duration::from_millis(20)));
    let there = RedisTransport::builder(settings).connect().await.unwrap();
    let channel = live("news");
    let capacity = NonZeroUsize::new(2 * EVENTS as usize).unwrap();
    let options = SubscribeOptions::new().capacity(capacity);
    let mut inbox = there.subscribe(&channel, options).await.unwrap();
    here.publish(&channel, event(1)).await.unwrap();
    let mut expected = 1;
    assert_eq!(read_to(&mut inbox, &mut expected, 1).await, (1, 0));
    proxy.set(Way::Held);
    let text = " ".repeat(1_000);
    for n in 2..=EVENTS {
        let large = event(n).with_attribute("padding", &*text).unwrap();
        here.publish(&channel, large).await.unwrap();
    }
    here.flush().await.unwrap();
    proxy.pass();
    until(&there, is_down).await;
    until(&there, ConnectionState::is_connected).await;
    here.publish(&channel, event(EVENTS + 1)).await.unwrap();
    let (delivered, missed) = read_to(&mut inbox, &mut expected, EVENTS + 1).await;
    assert_eq!(delivered + missed, EVENTS);
    assert!(missed > 0, "the server cut nobody off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_cut_lost_is_what_is_reported() {
    const PUBLISHERS: u64 = 3;
    let server = Server::start().unwrap();
    let listener = connect(&server.url()).await;
    let channel = live("news");
    let capacity = NonZeroUsize::new(1_000_000).unwrap();
    let options = SubscribeOptions::new().capacity(capacity);
    let mut inbox = listener.subscribe(&channel, options).await.unwrap();
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        publishers.push(connect(&server.url()).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let publishing: Vec<_> = publishers
        .iter()
        .map(|transport| {
            let (transport, channel, stop) =
                (transport.clone(), channel.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut published = 0;
                while !stop.load(Relaxed) {
                    published += 1;
                    transport.publish(&channel, event(published)).await.unwrap();
                    if published % 50 == 0 {
                        let _ = transport.flush().await;
                    }
                }
                published
            })
        })
        .collect();
    for cut in 0..20 {
        let kind = ["normal", "pubsub"][cut % 2];
        server.run(["CLIENT", "KILL", "TYPE", kind]).unwrap();
        for transport in publishers.iter().chain([&listener]) {
            until(transport, ConnectionState::is_connected).await;
            let _ = timeout(LONG, transport.ping()).await;
        }
    }
    stop.store(true, Relaxed);
    let mut published = 0;
    for task in publishing {
        published += task.await.unwrap();
    }
    for transport in &publishers {
        let _ = transport.flush().await;
    }
    until(&listener, ConnectionState::is_connected).await;
    // What was lost at the end shows by itself.
    let (mut delivered, mut missed) = (0, 0);
    while delivered + missed < published {
        match next(&mut inbox).await {
            Incoming::Event(_) => delivered += 1,
            Incoming::Gap(gap) => missed += gap.missed.expect("it can be counted"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(delivered + missed, published);
    let more = timeout(Duration::from_millis(300), inbox.next()).await;
    assert!(more.is_err(), "more than was published: {more:?}");
}

#[tokio::test]
async fn a_server_that_stalls_leaves_publishers_the_whole_buffer() {
    const EVENTS: u64 = 10_000;
    let server = Server::start().unwrap();
    let here = RedisTransport::connect(&server.url()).await.unwrap();
    let there = RedisTransport::connect(&server.url()).await.unwrap();
    let channel = live("bursts");
    let room = SubscribeOptions::new().capacity(NonZeroUsize::new(EVENTS as usize).unwrap());
    let mut inbox = there.subscribe(&channel, room).await.unwrap();
    here.publish(&channel, event(1)).await.unwrap();
    here.flush().await.unwrap();
    server.freeze();
    let burst = async {
        for n in 2..=EVENTS {
            here.publish(&channel, event(n)).await.unwrap();
        }
    };
    // Who waits for the flow finds that there is none, once for all.
    timeout(LONG, burst).await.expect("publishers wait for a server that stands still");
    server.thaw();
    let (delivered, missed) = read_to(&mut inbox, &mut 1, EVENTS).await;
    assert_eq!(delivered + missed, EVENTS);
}

/// Nothing runs here but this test, so that no task can have written it.
#[tokio::test]
async fn a_lone_event_is_written_by_whoever_publishes_it() {
    use std::io::{Read, Write};

    let server = Server::start().unwrap();
    let transport = connect(&server.url()).await;
    let channel = live("alone");
    transport.publish(&channel, event(0)).await.unwrap();
    transport.flush().await.unwrap();
    let mut listener = std::net::TcpStream::connect(server.address()).unwrap();
    listener.set_read_timeout(Some(LONG)).unwrap();
    listener.write_all(b"PSUBSCRIBE *alone*\r\n").unwrap();
    let mut heard = [0; 4_096];
    assert!(listener.read(&mut heard).unwrap() > 0, "it listens");
    transport.publish(&channel, event(1)).await.unwrap();
    let len = listener.read(&mut heard).expect("it has left");
    assert!(heard[..len].windows(8).any(|part| part == b"pmessage"));
    transport.flush().await.unwrap();
}

/// Each waits for its event before it sends the next. One that nobody was woken for
/// would wait for the next probe.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_waits_for_somebody_who_was_not_woken() {
    let server = Server::start().unwrap();
    let settings = Settings::new(&server.url()).unwrap().probe_every(2 * LONG);
    let transport = RedisTransport::builder(settings).connect().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (transport, channel) = (transport.clone(), live(&format!("task{task}")));
        tasks.spawn(async move {
            let mut inbox = subscribe(&transport, &channel).await;
            for n in 0..500 {
                let burst = 1 + n % 4;
                for _ in 0..burst {
                    transport.publish(&channel, event(n)).await.unwrap();
                }
                for _ in 0..burst {
                    let Incoming::Event(received) = next(&mut inbox).await else { panic!("a gap") };
                    assert_eq!(received.event.text(), Some(&*n.to_string()));
                }
                if n % 50 == 0 {
                    timeout(LONG, transport.flush()).await.unwrap().unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
}
