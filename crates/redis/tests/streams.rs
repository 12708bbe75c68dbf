//! Durable and group channels over networks that fail.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, time::Duration};

use swarmbus::{
    Event,
    core::backoff::Backoff,
    transport::{
        Channel, ConnectionState, Inbox, Incoming, Position, Received, SubscribeOptions, Transport,
        TransportError,
    },
};
use swarmbus_redis::{
    ConnectionError, RedisTransport, Settings,
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

/// Reads up to the last event, and returns the position of the first. Whatever does
/// not come must be reported; nothing comes twice, or before what was published
/// before it.
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

/// Servers of which one replaces the other, and a transport that asks sentinels.
async fn replicated() -> (Replicated, RedisTransport) {
    let set = Replicated::start(1, 3).unwrap();
    let sentinels = set.sentinels().iter().map(Server::url);
    let name = format!("redis://{}", Replicated::NAME);
    let settings = Settings::new(&name).unwrap().sentinels(sentinels).unwrap();
    let transport = connect_with(settings).await;
    (set, transport)
}

/// Kills the master, and returns when there is another.
fn fail_over(set: &Replicated) {
    let master = set.master().unwrap();
    master.kill9();
    set.wait_for_another_than(master.address()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_hides_no_loss_of_a_durable_channel() {
    let (set, transport) = replicated().await;
    let channel = Channel::durable("c").unwrap();
    let mut inbox = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
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
        tokio::task::block_in_place(|| fail_over(&set));
    };
    let ((), first, ()) = tokio::join!(publishing, read_all("live", &mut inbox), harm);
    // From before everything, in the life that it had then.
    let all = SubscribeOptions::new().after(Position { offset: 0, ..first });
    read_all("late", &mut transport.subscribe(&channel, all).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_hides_no_loss_of_a_group_channel() {
    let (set, transport) = replicated().await;
    let channel = Channel::group("c").unwrap();
    let options = SubscribeOptions::new().redeliver_after(Duration::from_secs(1));
    let mut inbox = transport.subscribe(&channel, options.max_deliveries(100)).await.unwrap();
    let publishing = async {
        publish(&transport, &channel).await;
        transport.flush().await.unwrap();
    };
    let work = async {
        let (mut done, mut gaps, mut failed_over) = (BTreeSet::new(), 0, false);
        // What is not given again after twice its time is lost.
        let quiet = Duration::from_secs(3);
        while let Ok(Some(incoming)) =
            timeout(if failed_over { quiet } else { LONG }, inbox.next()).await
        {
            match incoming {
                Incoming::Gap(_) => gaps += 1,
                Incoming::Event(task) => {
                    let n: u64 = task.event.text().unwrap().parse().unwrap();
                    // The other server may not know that it was done.
                    assert!(done.insert(n) || task.redelivered() || failed_over, "{n} came twice");
                    task.ack();
                }
                other => panic!("{other:?}"),
            }
            if done.len() as u64 > EVENTS / 4 && !failed_over {
                failed_over = true;
                tokio::task::block_in_place(|| fail_over(&set));
            }
        }
        (done.len() as u64, gaps)
    };
    let ((), (done, gaps)) = tokio::join!(publishing, work);
    assert!(done == EVENTS || gaps > 0, "{} are missing without a gap", EVENTS - done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_cut_off_as_too_slow_reads_on_from_the_log() {
    let server = Server::builder().pubsub_buffer(256 << 10).start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let here = connect(&server.url()).await;
    // It notices nothing by itself for as long as this takes.
    let settings = Settings::new(&server.url_at(proxy.address())).unwrap();
    let settings = settings.backoff(Backoff::fixed(Duration::from_millis(20)));
    let there = RedisTransport::builder(settings).connect().await.unwrap();
    let channel = Channel::durable("c").unwrap();
    let mut inbox = there.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
    proxy.set(Way::Held);
    let text = " ".repeat(4_000);
    for n in 0..EVENTS {
        let large = Event::of("n", n.to_string()).with_attribute("padding", &*text).unwrap();
        here.publish(&channel, large).await.unwrap();
    }
    here.flush().await.unwrap();
    let listening = server.run(["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
    assert_eq!(listening.lines().count(), 1, "the server cut nobody off: {listening}");
    proxy.pass();
    for n in 0..EVENTS {
        let Incoming::Event(event) = next(&mut inbox).await else { panic!("a gap before {n}") };
        assert_eq!(event.event.text(), Some(&*n.to_string()));
    }
}

#[tokio::test]
async fn the_state_is_that_of_connections_for_streams_too() {
    let server = Server::builder().user("u", "on >pw ~* &* +@all").start().unwrap();
    let transport = connect(&format!("redis://u:pw@{}", server.address())).await;
    let channel = Channel::durable("c").unwrap();
    transport.publish(&channel, Event::of("n", "0")).await.unwrap();
    transport.flush().await.unwrap();
    for purpose in ["streams", "reader"] {
        let clients = server.run(["CLIENT", "LIST"]).unwrap();
        let name = format!("name=swarmbus:{purpose}:");
        let client = clients.lines().find(|client| client.contains(&name)).unwrap();
        let id = client.split(['=', ' ']).nth(1).unwrap().to_owned();
        // Only that one has to come back, and cannot.
        server.run(["ACL", "SETUSER", "u", "resetpass", ">other"]).unwrap();
        server.run(["CLIENT", "KILL", "ID", &id]).unwrap();
        let mut state = transport.state();
        let refused = state.wait_for(|state| match state {
            ConnectionState::Disconnected { error, .. } => {
                error.downcast_ref() == Some(&ConnectionError::WrongPassword)
            }
            _ => false,
        });
        timeout(LONG, refused).await.expect(purpose).unwrap();
        server.run(["ACL", "SETUSER", "u", "resetpass", ">pw"]).unwrap();
        timeout(LONG, state.wait_for(ConnectionState::is_connected)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_may_not_load_scripts_is_told_so_and_goes_on_when_he_may() {
    let server = Server::builder().user("u", "on >pw ~* &* +@all -script").start().unwrap();
    let settings = Settings::new(&format!("redis://u:pw@{}", server.address())).unwrap();
    let builder = RedisTransport::builder(settings).patience(Duration::from_millis(300));
    let transport = builder.connect().await.unwrap();
    let mut state = transport.state();
    for channel in [Channel::durable("c").unwrap(), Channel::group("c").unwrap()] {
        transport.publish(&channel, Event::of("n", "0")).await.unwrap();
        let refused = transport.flush().await.unwrap_err();
        let TransportError::Refused(cause) = &refused else { panic!("{refused}") };
        let Some(ConnectionError::NoPermission { command, .. }) = cause.downcast_ref() else {
            panic!("{cause}")
        };
        assert_eq!(command, "SCRIPT LOAD");
    }
    // It was not connected again and again for that.
    state.mark_unchanged();
    assert!(transport.flush().await.is_err() && !state.has_changed().unwrap());
    server.run(["ACL", "SETUSER", "u", "+script"]).unwrap();
    timeout(LONG, async { while transport.flush().await.is_err() {} }).await.unwrap();
    let all = SubscribeOptions::new().from_beginning();
    let mut inbox = transport.subscribe(&Channel::durable("c").unwrap(), all).await.unwrap();
    let first = timeout(LONG, inbox.next()).await.unwrap().unwrap();
    assert!(matches!(first, Incoming::Event(_)), "{first:?}");
}

#[tokio::test]
async fn what_a_user_may_not_do_with_streams_is_told_by_name() {
    let server = Server::builder()
        .user("simple", "on >pw ~* &* +@all -evalsha")
        .user("elsewhere", "on >pw ~other:* &* +@all")
        .start()
        .unwrap();
    let denied = |error: &TransportError| match error {
        TransportError::Refused(cause) => matches!(
            cause.downcast_ref(),
            Some(ConnectionError::NoPermission { command, .. }) if command == "EVALSHA"
        ),
        _ => false,
    };
    for user in ["simple", "elsewhere"] {
        let transport = connect(&format!("redis://{user}:pw@{}", server.address())).await;
        for channel in [Channel::durable("c").unwrap(), Channel::group("c").unwrap()] {
            let refused = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap_err();
            assert!(denied(&refused), "{user}: {refused}");
            transport.publish(&channel, Event::of("n", "0")).await.unwrap();
            let lost = transport.flush().await.unwrap_err();
            let TransportError::Lost { events: 1, cause } = &lost else { panic!("{user}: {lost}") };
            assert!(denied(cause), "{user}: {cause}");
        }
    }
}
