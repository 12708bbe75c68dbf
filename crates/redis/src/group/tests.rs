//! Group channels on real servers that fail.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use swarmbus::transport::{Incoming, Received};
use tokio::time::timeout;

use super::*;
use crate::{
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
    groups: Groups,
    publisher: Arc<Publisher>,
    channel: Channel,
}

impl World {
    async fn new(server: Server) -> Self {
        Self::with(server, Limits::default()).await
    }

    async fn with(server: Server, limits: Limits) -> Self {
        let backoff = swarmbus_core::backoff::Backoff::fixed(Duration::from_millis(20));
        let settings = Settings::new(&server.url()).unwrap().backoff(backoff);
        let dialer = Arc::new(Dialer::new(settings).unwrap());
        let link = async |name| {
            Link::connect(Arc::clone(&dialer), Arc::new(Commands(name))).await.unwrap()
        };
        let groups = Groups::new(crate::server::Server::new(link("tasks").await), limits);
        let many = |n| NonZeroUsize::new(n).unwrap();
        let batching = Batching {
            events: many(64),
            bytes: many(64 << 10),
            delay: Duration::ZERO,
            buffer_events: many(1_000),
            buffer_bytes: many(1 << 20),
            overflow: swarmbus_core::overflow::Overflow::Reject,
            patience: LONG,
        };
        let publisher = Publisher::start(link("publisher").await, groups.carrier(), batching);
        let (publisher, channel) = (Arc::new(publisher), Channel::group("c").unwrap());
        Self { server, groups, publisher, channel }
    }

    async fn publish(&self, range: std::ops::Range<u32>) {
        let mut events: Vec<_> = range.map(|n| Event::of("n", n.to_string())).collect();
        self.publisher.publish_batch(&self.channel, &mut events).await.unwrap();
    }

    async fn worker(&self, options: SubscribeOptions) -> Inbox {
        self.groups.subscribe(&self.channel, &options).await.unwrap()
    }

    /// A number that the server gives.
    fn count(&self, command: &[&str]) -> u64 {
        self.server.run(command).unwrap().parse().unwrap()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, wait).await.expect(what);
    }
}

async fn next(inbox: &mut Inbox) -> Incoming {
    timeout(LONG, inbox.next()).await.expect("nothing came").expect("the inbox ended")
}

async fn task(inbox: &mut Inbox) -> Received {
    match next(inbox).await {
        Incoming::Event(received) => received,
        other => panic!("a task was expected, not {other:?}"),
    }
}

fn number(received: &Received) -> u32 {
    received.event.text().unwrap().parse().unwrap()
}

fn careful() -> Server {
    Server::builder().append_only(Fsync::Always).start().unwrap()
}

fn group(name: &str) -> SubscribeOptions {
    SubscribeOptions::new().group(name)
}

/// Two workers do all tasks while harm is done to the server. A task may come
/// twice, but then it says so.
async fn under_load(world: &World, harm: impl Fn(&Server)) {
    const TASKS: u32 = 10_000;
    let options = group("g").redeliver_after(Duration::from_secs(2));
    let mut first = world.worker(options.clone().consumer("first")).await;
    let mut second = world.worker(options.consumer("second")).await;
    let publish = async {
        for start in (0..TASKS).step_by(100) {
            world.publish(start..start + 100).await;
        }
    };
    let work = async {
        let mut done = BTreeMap::new();
        let mut harmed = 0;
        while done.len() < TASKS as usize {
            let task = tokio::select! {
                task = task(&mut first) => task,
                task = task(&mut second) => task,
            };
            let times: &mut u32 = done.entry(number(&task)).or_default();
            *times += 1;
            assert!(*times == 1 || task.redelivered(), "twice without a word");
            task.ack();
            if done.len() > (harmed + 1) * TASKS as usize / 4 {
                harmed += 1;
                harm(&world.server);
            }
        }
        done
    };
    let ((), done) = tokio::join!(publish, work);
    assert_eq!(done.len(), TASKS as usize);
    world.publisher.flush().await.unwrap();
    timeout(LONG, world.groups.flush()).await.unwrap().unwrap();
    // What was redelivered meanwhile is answered, too.
    while let Ok(Some(Incoming::Event(again))) =
        timeout(Duration::from_millis(100), first.next()).await
    {
        assert!(again.redelivered());
        again.ack();
    }
}

#[tokio::test]
async fn no_task_is_lost_when_the_server_is_killed() {
    let world = World::new(careful()).await;
    under_load(&world, |server| {
        server.kill9();
        server.restart().unwrap();
    })
    .await;
}

#[tokio::test]
async fn no_task_is_lost_when_connections_are_cut() {
    let world = World::new(Server::start().unwrap()).await;
    under_load(&world, |server| {
        server.run(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    })
    .await;
    let pending = world.server.run(["XPENDING", "swarmbus:{c}:tasks", "g"]).unwrap();
    assert!(pending.starts_with('0') || pending.lines().count() > 1, "{pending}");
}

#[tokio::test]
async fn poison_is_given_up_and_others_flow() {
    let world = World::new(Server::start().unwrap()).await;
    let options = group("g").max_deliveries(3).redeliver_after(Duration::from_millis(50));
    let mut worker = world.worker(options).await;
    world.publish(0..3).await;
    let (mut poisoned, mut others) = (0, 0);
    while poisoned < 3 || others < 2 {
        let task = task(&mut worker).await;
        if number(&task) == 1 {
            poisoned += 1;
            assert_eq!(task.deliveries(), poisoned);
            // Answered by nobody, as if the worker had died of it.
            drop(task);
        } else {
            others += 1;
            task.ack();
        }
    }
    world.until("a dead letter", |w| w.count(&["XLEN", "swarmbus:{c}:dead"]) == 1).await;
    let dead = world.groups.dead_letters(&world.channel, 10).await.unwrap();
    assert_eq!((dead[0].event.text(), dead[0].deliveries), (Some("1"), 3));
    assert_eq!(dead[0].group, "g");
}

#[tokio::test]
async fn a_consumer_with_a_name_gets_its_tasks_back_at_once() {
    let world = World::new(Server::start().unwrap()).await;
    let named = group("g").consumer("me");
    let mut worker = world.worker(named.clone()).await;
    world.publish(0..3).await;
    let tasks = [task(&mut worker).await, task(&mut worker).await, task(&mut worker).await];
    // As if its process were killed: nobody answers any more.
    std::mem::forget(tasks);
    drop(worker);
    let mut worker = world.worker(named).await;
    for n in 0..3 {
        let again = task(&mut worker).await;
        assert_eq!((number(&again), again.deliveries()), (n, 2));
        again.ack();
    }
}

#[tokio::test]
async fn an_answer_counts_for_its_own_group() {
    let world = World::new(Server::start().unwrap()).await;
    let mut first = world.worker(group("first")).await;
    let mut second = world.worker(group("second")).await;
    world.publish(0..10).await;
    for n in 0..10 {
        let task = task(&mut first).await;
        assert_eq!(number(&task), n);
        task.ack();
    }
    world.groups.flush().await.unwrap();
    for n in 0..10 {
        assert_eq!(number(&task(&mut second).await), n);
    }
}

#[tokio::test]
async fn what_every_group_has_done_is_removed() {
    let limits = Limits { tidy_every: Duration::from_millis(20), ..Limits::default() };
    let world = World::with(Server::start().unwrap(), limits).await;
    let mut quick = world.worker(group("quick")).await;
    let mut slow = world.worker(group("slow")).await;
    world.publish(0..1_000).await;
    for _ in 0..1_000 {
        task(&mut quick).await.ack();
    }
    world.groups.flush().await.unwrap();
    for n in 0..600 {
        let task = task(&mut slow).await;
        assert_eq!(number(&task), n);
        task.ack();
    }
    // Whole nodes of a stream are removed, of 100 entries.
    let length = ["XLEN", "swarmbus:{c}:tasks"];
    world.until("trimmed", |w| (400..=500).contains(&w.count(&length))).await;
    for n in 600..1_000 {
        assert_eq!(number(&task(&mut slow).await), n);
    }
}

#[tokio::test]
async fn a_group_that_is_gone_for_long_holds_nothing_back() {
    let limits = Limits {
        tidy_every: Duration::from_millis(20),
        group: Duration::from_millis(100),
        consumer: Duration::from_millis(10),
        ..Limits::default()
    };
    let world = World::with(Server::start().unwrap(), limits).await;
    drop(world.worker(group("gone")).await);
    let mut worker = world.worker(group("g")).await;
    world.publish(0..1_000).await;
    for _ in 0..1_000 {
        task(&mut worker).await.ack();
    }
    let length = ["XLEN", "swarmbus:{c}:tasks"];
    world.until("trimmed", |w| w.count(&length) <= 100).await;
    let mut back = world.worker(group("gone")).await;
    let Incoming::Gap(gap) = next(&mut back).await else { panic!("a gap") };
    let left = world.count(&length);
    assert_eq!((gap.missed, gap.reason), (Some(1_000 - left), GapReason::Trimmed));
    if left > 0 {
        assert_eq!(u64::from(number(&task(&mut back).await)), 1_000 - left);
    }
}

#[tokio::test]
async fn dead_consumers_are_removed() {
    let limits = Limits {
        tidy_every: Duration::from_millis(20),
        consumer: Duration::from_millis(10),
        ..Limits::default()
    };
    let world = World::with(Server::start().unwrap(), limits).await;
    let mut gone = world.worker(group("g").consumer("gone")).await;
    world.publish(0..1).await;
    task(&mut gone).await.ack();
    world.groups.flush().await.unwrap();
    let consumers =
        |w: &World| w.server.run(["XINFO", "CONSUMERS", "swarmbus:{c}:tasks", "g"]).unwrap();
    assert!(consumers(&world).contains("gone"));
    drop(gone);
    let _stays = world.worker(group("g").consumer("stays")).await;
    world.until("removed", |w| !consumers(w).contains("gone")).await;
}

#[tokio::test]
async fn what_may_have_been_done_says_so() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g")).await;
    world.publish(0..1).await;
    let first = task(&mut worker).await;
    assert!(!first.redelivered());
    first.ack();
    world.groups.flush().await.unwrap();
    // Sent, and not answered before the connection breaks. On a server that lost
    // its last writes, it might have been done.
    world.server.run(["CLIENT", "PAUSE", "20000", "WRITE"]).unwrap();
    world.publish(1..2).await;
    let sending = |world: &World| {
        let clients = world.server.run(["CLIENT", "LIST"]).unwrap();
        let publisher = clients.lines().find(|client| client.contains("swarmbus:publisher:"));
        publisher.is_some_and(|client| client.contains("flags=b") && client.contains("cmd=evalsha"))
    };
    world.until("sent", sending).await;
    world.server.run(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    world.server.run(["CLIENT", "UNPAUSE"]).unwrap();
    let again = task(&mut worker).await;
    assert_eq!((number(&again), again.deliveries()), (1, 2));
    again.ack();
    world.publish(2..3).await;
    assert!(!task(&mut worker).await.redelivered());
}

#[tokio::test]
async fn what_another_server_may_have_given_to_somebody_says_so() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g").consumer("first")).await;
    world.publish(0..10).await;
    world.publisher.flush().await.unwrap();
    // From here on the server will forget, as a replica does that was behind.
    let first = task(&mut worker).await;
    assert!(!first.redelivered());
    first.ack();
    world.groups.flush().await.unwrap();
    drop(worker);
    let group_at = |id: &str| {
        let server = &world.server;
        server.run(["XGROUP", "SETID", "swarmbus:{c}:tasks", "g", id]).unwrap();
    };
    group_at("0");
    world.server.run(["SAVE"]).unwrap();
    world.server.kill9();
    world.server.restart().unwrap();
    for n in 10..12 {
        let (key, event) = (n.to_string(), Event::of("n", n.to_string()));
        assert!(world.groups.publish_once(&world.channel, &key, event).await.unwrap());
    }
    let mut worker = world.worker(group("g").consumer("second")).await;
    for n in 0..12 {
        let again = task(&mut worker).await;
        assert_eq!((number(&again), again.redelivered()), (n, n < 10));
        again.ack();
    }
}

#[tokio::test]
async fn a_restart_that_loses_nothing_marks_only_what_was_given() {
    let world = World::new(Server::builder().append_only(Fsync::Always).start().unwrap()).await;
    let mut worker = world.worker(group("g").capacity(NonZeroUsize::MIN)).await;
    world.publish(0..10).await;
    world.publisher.flush().await.unwrap();
    let first = task(&mut worker).await;
    world.server.kill9();
    world.server.restart().unwrap();
    drop(first);
    drop(worker);
    let mut worker = world.worker(group("g")).await;
    for n in 1..10 {
        let new = task(&mut worker).await;
        assert_eq!((number(&new), new.redelivered()), (n, false));
        new.ack();
    }
}

#[tokio::test]
async fn losing_everything_is_a_gap() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g")).await;
    world.publish(0..3).await;
    for _ in 0..3 {
        task(&mut worker).await.ack();
    }
    world.groups.flush().await.unwrap();
    world.server.run(["FLUSHALL"]).unwrap();
    let Incoming::Gap(gap) = next(&mut worker).await else { panic!("a gap") };
    assert_eq!((gap.missed, gap.reason), (None, GapReason::NewEpoch));
    world.publish(3..5).await;
    for n in 3..5 {
        assert_eq!(number(&task(&mut worker).await), n);
    }
}

#[tokio::test]
async fn a_late_answer_does_not_hit_a_task_of_another_life() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g").redeliver_after(Duration::from_millis(200))).await;
    world.publish(0..1).await;
    let old = task(&mut worker).await;
    world.server.run(["FLUSHALL"]).unwrap();
    let Incoming::Gap(_) = next(&mut worker).await else { panic!("a gap") };
    world.publish(1..2).await;
    let new = task(&mut worker).await;
    assert_eq!(number(&new), 1);
    old.ack();
    world.groups.flush().await.unwrap();
    drop(new);
    let again = task(&mut worker).await;
    assert_eq!((number(&again), again.deliveries()), (1, 2), "it was not done");
}

#[tokio::test]
async fn a_server_that_forgets_hides_nothing() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g")).await;
    world.publish(0..10).await;
    for _ in 0..10 {
        task(&mut worker).await.ack();
    }
    world.groups.flush().await.unwrap();
    world.server.run(["SAVE"]).unwrap();
    // Confirmed, and lost by a server that comes back without them.
    world.publish(10..15).await;
    world.publisher.flush().await.unwrap();
    let old = task(&mut worker).await;
    world.server.kill9();
    world.server.restart().unwrap();
    world.publish(15..25).await;
    // Whatever was delivered before the server died may come first.
    let mut gap = None;
    let mut first = loop {
        match next(&mut worker).await {
            Incoming::Gap(found) => gap = Some(found),
            Incoming::Event(task) if number(&task) >= 15 => break task,
            Incoming::Event(task) => task.ack(),
            other => panic!("{other:?}"),
        }
    };
    let gap = gap.expect("the loss is told");
    assert_eq!((gap.missed, gap.reason), (Some(5), GapReason::Lost));
    old.ack();
    for n in 15..25 {
        assert_eq!(number(&first), n);
        first.ack();
        if n < 24 {
            first = task(&mut worker).await;
        } else {
            break;
        }
    }
}

#[tokio::test]
async fn numbers_that_were_lost_and_given_to_others_are_missed_all_the_same() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g")).await;
    world.publish(0..10).await;
    for _ in 0..10 {
        task(&mut worker).await.ack();
    }
    world.groups.flush().await.unwrap();
    world.server.run(["SAVE"]).unwrap();
    drop(worker);
    world.publish(10..15).await;
    world.publisher.flush().await.unwrap();
    world.server.kill9();
    world.server.restart().unwrap();
    // As many as were lost, so that nothing shows by the numbers.
    for n in 100..105 {
        let (key, event) = (n.to_string(), Event::of("n", n.to_string()));
        assert!(world.groups.publish_once(&world.channel, &key, event).await.unwrap());
    }
    world.publish(15..16).await;
    let mut worker = world.worker(group("g")).await;
    for n in 100..105 {
        let task = task(&mut worker).await;
        assert_eq!(number(&task), n);
        task.ack();
    }
    let Incoming::Gap(gap) = next(&mut worker).await else { panic!("a gap") };
    assert_eq!((gap.missed, gap.reason), (Some(5), GapReason::Lost));
    assert_eq!(number(&task(&mut worker).await), 15);
}

#[tokio::test]
async fn a_full_channel_makes_publishers_wait() {
    let limits = Limits { tasks: 10, tidy_every: Duration::from_millis(20), ..Limits::default() };
    let world = World::with(Server::start().unwrap(), limits).await;
    world.publish(0..10).await;
    world.publisher.flush().await.unwrap();
    let full = world.groups.publish_once(&world.channel, "k", Event::of("n", "10")).await;
    assert!(matches!(full.unwrap_err().cause, TransportError::Full));
    world.publish(10..11).await;
    let mut worker = world.worker(group("g")).await;
    for n in 0..10 {
        let task = task(&mut worker).await;
        assert_eq!(number(&task), n);
        task.ack();
    }
    // Small streams are one node, which goes when all of it is done.
    assert_eq!(number(&task(&mut worker).await), 10);
}

#[tokio::test]
async fn a_task_that_nobody_can_read_is_a_dead_letter() {
    let world = World::new(Server::start().unwrap()).await;
    let mut worker = world.worker(group("g")).await;
    world.server.run(["XADD", "swarmbus:{c}:tasks", "1-0", "e", "junk"]).unwrap();
    let Incoming::Gap(gap) = next(&mut worker).await else { panic!("a gap") };
    assert_eq!((gap.missed, gap.reason), (Some(1), GapReason::Unreadable));
    world.publish(1..2).await;
    assert_eq!(number(&task(&mut worker).await), 1);
    world.until("buried", |w| w.count(&["XLEN", "swarmbus:{c}:dead"]) == 1).await;
}
