//! All modes over clusters whose slots move, and over masters that die.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use swarmbus::{
    Event,
    core::backoff::Backoff,
    lease::{Grant, LeaseStore},
    state::StateStore,
    transport::{
        Channel, Gap, Inbox, Incoming, Mode, SubscribeOptions, Transport, TransportError,
        conformance,
    },
};
use swarmbus_redis::{
    ConnectError, ConnectionError, RedisState, RedisTransport, Settings,
    local::{Cluster, Replicated, Server},
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Events between two harms, of each channel.
const BETWEEN: u64 = 200;

fn quick(url: &str) -> Settings {
    Settings::new(url)
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(2))
        .probe_every(Duration::from_millis(200))
}

async fn connect(settings: Settings) -> RedisTransport {
    RedisTransport::builder(settings).patience(LONG).connect().await.unwrap()
}

/// One channel, with a publisher and a subscriber.
struct Traffic {
    channel: Channel,
    /// How far its subscriber is.
    seen: watch::Receiver<u64>,
}

/// All of them.
struct Load {
    traffics: Vec<Traffic>,
    stop: Arc<watch::Sender<bool>>,
    tasks: JoinSet<Account>,
    subscriber: RedisTransport,
}

/// What became of the events of a channel.
#[derive(Debug)]
struct Account {
    channel: Channel,
    published: u64,
    delivered: u64,
    /// Gaps, and the sum of those with a number.
    gaps: u64,
    missed: u64,
}

impl Load {
    /// Channels of all modes on several partitions.
    async fn start(settings: Settings) -> Self {
        let (here, there) = (connect(settings.clone()).await, connect(settings).await);
        let stop = Arc::new(watch::Sender::new(false));
        let (mut traffics, mut tasks) = (Vec::new(), JoinSet::new());
        for name in ["a", "b", "c"] {
            for channel in [Channel::live(name), Channel::durable(name), Channel::group(name)] {
                let channel = channel.unwrap();
                let options = match channel.mode() {
                    Mode::Group => {
                        let options = SubscribeOptions::new().max_deliveries(1_000);
                        options.redeliver_after(Duration::from_secs(5))
                    }
                    Mode::Live | Mode::Durable => SubscribeOptions::new(),
                };
                let inbox = there.subscribe(&channel, options).await.unwrap();
                let (total, known) = watch::channel(None);
                let (count, seen) = watch::channel(0);
                let publish = publish(here.clone(), channel.clone(), stop.subscribe(), total);
                let read = read(channel.clone(), inbox, known, count);
                tasks.spawn(async { tokio::join!(publish, read).1 });
                traffics.push(Traffic { channel, seen });
            }
        }
        Self { traffics, stop, tasks, subscriber: there }
    }

    /// Returns when some more of every channel has come.
    async fn goes_on(&mut self) {
        for traffic in &mut self.traffics {
            let more = *traffic.seen.borrow() + BETWEEN;
            let came = timeout(LONG, traffic.seen.wait_for(|seen| *seen >= more)).await;
            came.unwrap_or_else(|_| panic!("{:?} stands still", traffic.channel)).unwrap();
        }
    }

    /// Publishes some more and then no more, and compares: what was published was
    /// delivered or reported missing. `reset`: a server had less than it had
    /// confirmed.
    async fn settle(mut self, reset: bool) -> Vec<Account> {
        self.goes_on().await;
        self.stop.send_replace(true);
        let mut accounts = Vec::new();
        while let Some(account) = timeout(LONG, self.tasks.join_next()).await.expect("it ends") {
            let account = account.unwrap();
            let accounted = account.delivered + account.missed;
            match account.channel.mode() {
                Mode::Live => assert_eq!(accounted, account.published, "{account:?}"),
                Mode::Durable if reset => {
                    assert_eq!(accounted, account.published, "{account:?}");
                }
                // A task that was done may be among those that were lost.
                Mode::Group if reset => assert!(accounted >= account.published, "{account:?}"),
                Mode::Durable | Mode::Group => {
                    assert_eq!(account.delivered, account.published, "{account:?}");
                    assert_eq!(account.gaps, 0, "{account:?}");
                }
            }
            accounts.push(account);
        }
        accounts
    }
}

/// Reads a durable channel from its beginning: who comes late is told as well, and
/// exactly.
async fn read_late(transport: &RedisTransport, account: &Account) -> u64 {
    let all = SubscribeOptions::new().from_beginning();
    let mut inbox = transport.subscribe(&account.channel, all).await.unwrap();
    let (mut delivered, mut missed) = (0, 0);
    while delivered + missed < account.published {
        match timeout(LONG, inbox.next()).await.expect("it goes on").unwrap() {
            Incoming::Gap(gap) => missed += gap.missed.expect("it can be counted"),
            _ => delivered += 1,
        }
    }
    assert_eq!(delivered + missed, account.published);
    missed
}

/// Publishes numbers, and says how many in the end.
async fn publish(
    transport: RedisTransport,
    channel: Channel,
    stop: watch::Receiver<bool>,
    total: watch::Sender<Option<u64>>,
) {
    let mut published = 0;
    while !*stop.borrow() {
        let numbers = published..published + 20;
        let mut events: Vec<_> = numbers.map(|n| Event::of("n", n.to_string())).collect();
        match transport.publish_confirmed(&channel, &mut events).await {
            Ok(()) => {}
            // At most once: the subscriber is told.
            Err(TransportError::Lost { .. }) if channel.mode() == Mode::Live => {}
            Err(error) => panic!("{channel:?}: {error}"),
        }
        published += 20;
    }
    total.send_replace(Some(published));
}

/// Reads everything. What does not come must be reported; what comes twice must say
/// so, and may in a group alone.
async fn read(
    channel: Channel,
    mut inbox: Inbox,
    mut total: watch::Receiver<Option<u64>>,
    seen: watch::Sender<u64>,
) -> Account {
    let mode = channel.mode();
    let mut account = Account { channel, published: 0, delivered: 0, gaps: 0, missed: 0 };
    let (mut next, mut done) = (0, BTreeSet::new());
    loop {
        let published = *total.borrow();
        if let Some(published) = published {
            account.published = published;
            let all = match mode {
                Mode::Group => {
                    // What is missing may have been delivered before it was lost.
                    let accounted = account.delivered + account.missed >= published;
                    accounted && done.contains(&(published - 1))
                }
                Mode::Live | Mode::Durable => next >= published,
            };
            if all {
                return account;
            }
        }
        let incoming = tokio::select! {
            incoming = inbox.next() => incoming.expect("the inbox goes on"),
            Ok(()) = total.changed() => continue,
        };
        match incoming {
            Incoming::Gap(Gap { missed, .. }) => {
                account.gaps += 1;
                let missed = missed.expect("it can be counted");
                account.missed += missed;
                next += missed;
            }
            Incoming::Event(received) => {
                let n: u64 = received.event.text().unwrap().parse().unwrap();
                if mode == Mode::Group {
                    let first = done.insert(n);
                    assert!(first || received.redelivered(), "{n} came twice without a word");
                    account.delivered += u64::from(first);
                    received.ack();
                } else {
                    assert_eq!(n, next, "{mode:?}: one came instead of another");
                    next = n + 1;
                    account.delivered += 1;
                }
            }
            other => panic!("{other:?}"),
        }
        seen.send_replace(if mode == Mode::Group { account.delivered } else { next });
    }
}

/// In which slot a channel is, by what is on the nodes.
fn slot_of(cluster: &Cluster, channel: &Channel) -> u16 {
    let pattern = format!("swarmbus:*:{{{}}}:live", channel.name());
    let running = || cluster.nodes().iter().filter(|node| node.is_running());
    let subscribed = running().find_map(|node| {
        let names = node.run(["PUBSUB", "SHARDCHANNELS", &pattern]).unwrap();
        names.lines().next().filter(|name| !name.is_empty()).map(str::to_owned)
    });
    let name = subscribed.expect("somebody listens");
    running().next().unwrap().run(["CLUSTER", "KEYSLOT", &name]).unwrap().parse().unwrap()
}

/// What keeps the thread, while the others work on.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_and_shares_state() {
    let cluster = Cluster::start(3, 0).unwrap();
    conformance::check(|| connect(quick(&cluster.url()))).await;

    for name in ["a", "b", "c", "d"] {
        let state = RedisState::connect(quick(&cluster.url()), name).await.unwrap();
        state.set("k", name.into(), None).await.unwrap();
        assert_eq!(state.get("k").await.unwrap().unwrap(), name);
        let leases = state.leases(&format!("leases-{name}")).unwrap();
        let granted = leases.acquire("l", "me", LONG).await.unwrap();
        assert!(matches!(granted, Grant::Granted { .. }));
        // It goes where its slot goes.
        let key = format!("swarmbus:{{{name}}}:state:k");
        let slot = cluster.nodes()[0].run(["CLUSTER", "KEYSLOT", &key]).unwrap().parse().unwrap();
        let before = cluster.master_of(slot).unwrap().address();
        let other = cluster.nodes().iter().find(|node| node.address() != before).unwrap();
        blocking(|| cluster.move_slot(slot, other)).unwrap();
        assert_eq!(state.get("k").await.unwrap().unwrap(), name);
        assert!(state.compare_and_set("k", Some(name.as_bytes()), "x".into(), None).await.unwrap());
    }
}

#[tokio::test]
async fn a_server_is_not_taken_for_a_cluster_nor_the_other_way_round() {
    let wrong = async |url: &str| match RedisTransport::connect(url).await.unwrap_err() {
        ConnectError::Connection(ConnectionError::WrongMode { found }) => found,
        other => panic!("{other}"),
    };
    let server = Server::start().unwrap();
    let url = format!("redis+cluster://{}", server.address());
    assert_eq!(wrong(&url).await, "standalone");
    let cluster = Cluster::start(3, 0).unwrap();
    assert_eq!(wrong(&cluster.nodes()[0].url()).await, "cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_slots_move_and_a_node_is_added() {
    let mut cluster = Cluster::start(3, 0).unwrap();
    let mut load = Load::start(quick(&cluster.url())).await;
    load.goes_on().await;
    let slot = slot_of(&cluster, &load.traffics[0].channel);
    let first = cluster.master_of(slot).unwrap().address();
    for other in cluster.nodes().iter().filter(|node| node.address() != first) {
        blocking(|| cluster.move_slot(slot, other)).unwrap();
        load.goes_on().await;
    }
    blocking(|| cluster.add_master().map(drop)).unwrap();
    // All that there is goes to the new one.
    let slots: BTreeSet<_> =
        load.traffics.iter().map(|traffic| slot_of(&cluster, &traffic.channel)).collect();
    let new = cluster.nodes().last().unwrap();
    for slot in slots {
        blocking(|| cluster.move_slot(slot, new)).unwrap();
        load.goes_on().await;
    }
    load.settle(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_of_a_cluster_loses_is_reported() {
    let cluster = Cluster::start(3, 1).unwrap();
    let mut load = Load::start(quick(&cluster.url())).await;
    load.goes_on().await;
    let lost = load.traffics[1].channel.clone();
    let master = cluster.master_of(slot_of(&cluster, &lost)).unwrap();
    let replica = cluster.replica_of(master).unwrap();
    detach(replica);
    load.goes_on().await;
    blocking(|| {
        master.kill9();
        cluster.wait_until_replaced(master).unwrap();
    });
    load.goes_on().await;
    // It comes back as a replica of the one that took over, and then as the master
    // again, while all that are connected to the other stay so.
    blocking(|| {
        master.restart().unwrap();
        cluster.fail_over_to(master).unwrap();
    });
    let reader = load.subscriber.clone();
    for account in load.settle(true).await {
        if account.channel.mode() == Mode::Durable {
            let missed = read_late(&reader, &account).await;
            assert!(missed > 0 || account.channel != lost, "the replica had it all");
        }
    }
}

/// From here on a replica gets nothing: its master knows no password.
fn detach(replica: &Server) {
    replica.run(["CONFIG", "SET", "masterauth", "wrong"]).unwrap();
    replica.run(["CLIENT", "KILL", "TYPE", "master"]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_by_sentinels_loses_is_reported() {
    let set = Replicated::start(1, 3).unwrap();
    let sentinels = set.sentinels().iter().map(Server::url);
    let settings = quick(&format!("redis://{}", Replicated::NAME)).sentinels(sentinels).unwrap();
    let mut load = Load::start(settings).await;
    load.goes_on().await;
    let master = set.master().unwrap();
    blocking(|| {
        master.kill9();
        set.wait_for_another_than(master.address()).unwrap();
    });
    let reader = load.subscriber.clone();
    for account in load.settle(true).await {
        if account.channel.mode() == Mode::Durable {
            read_late(&reader, &account).await;
        }
    }
}
