//! One of the processes: its agents, and what comes in for them.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use swarmbus::{
    Bus,
    transport::{Inbox, Incoming, Received, SubscribeOptions, Transport, TransportError},
};
use swarmbus_redis::RedisTransport;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    ChildId, channels,
    protocol::{Answer, Order, Part, orders},
    seen::Seen,
    wire::{self, Home},
};
use crate::cmd::{
    load_test::{
        AllDone, DRAIN, args::Args, join, pace::Ticker, setup, swarm::Swarm, usage::Usage,
    },
    print,
    server::{refused, unconnected},
};

/// How long tasks in flight may take to end once no more begin.
const GRACE: Duration = Duration::from_secs(2);

/// What has not come for this long will not come. A live subscriber hears from
/// a publisher that has fallen silent within some seconds.
const SILENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether everything has come.
const LOOK: Duration = Duration::from_millis(20);

/// Events that wait for the agents: all that can be in flight, so that no live
/// one is missed for want of room.
const WAITING: NonZeroUsize = NonZeroUsize::new(16_384).expect("not 0");

/// Far more events than a process can be behind.
const RETENTION: NonZeroU64 = NonZeroU64::new(200_000).expect("not 0");
const RETENTION_TIME: Duration = Duration::from_secs(60);

pub(super) async fn run(args: &Args, id: &ChildId) -> Result<ExitCode> {
    let mut orders = orders()?;
    let mut usage = Usage::start();
    let (channels, swarm) = (channels(args, &id.run)?, Swarm::of(args.agents));
    let own = channels.get(id.number).context("there is no such process")?.clone();
    let transport = connect(args).await?;
    let inbox = transport.subscribe(&own, SubscribeOptions::new().capacity(WAITING)).await;
    let inbox = inbox.map_err(|error| refused(&error))?;
    let bus = setup::build(setup::builder(args)?, None)?;
    let home = Home::new(id.number, transport.clone(), channels, (&swarm, args.remote.spread()))?;
    let mut crew = setup::crew(&bus, args, None, Some(&home))?;
    let counts = Arc::new(Counts::default());
    let receiving = tokio::spawn(receive(inbox, bus.clone(), Arc::clone(&counts), args.agents));

    answer(&Answer::Ready)?;
    let Order::Go = order(&mut orders).await? else { bail!("go was expected") };
    let ticker = Ticker::start(crew.coordinators_inboxes(), args.rate.is_some())
        .context("cannot start a thread")?;

    let Order::Stop = order(&mut orders).await? else { bail!("stop was expected") };
    crew.stop_tasks();
    let published = home.published().iter().sum();
    let stopped = Answer::Stopped { published, delivered: counts.delivered.load(Relaxed) };
    let mut all = AllDone::default();
    join(&mut crew.coordinators, Instant::now() + GRACE, &mut all).await;
    answer(&stopped)?;

    let Order::Quiet = order(&mut orders).await? else { bail!("quiet was expected") };
    crew.close_inboxes();
    ticker.stop();
    let deadline = Instant::now() + DRAIN;
    join(&mut crew.coordinators, deadline, &mut all).await;
    join(&mut crew.others, deadline, &mut all).await;
    let unsent = match transport.flush().await {
        Ok(()) => 0,
        Err(TransportError::Lost { events, .. }) => events,
        Err(error) => return Err(refused(&error)),
    };
    answer(&Answer::Published(home.published()))?;

    let Order::Expect(expected) = order(&mut orders).await? else { bail!("a number was expected") };
    counts.wait_for(expected).await;
    // Answers to tasks.
    transport.flush().await.map_err(|error| refused(&error))?;
    usage.sample();
    let mut part = counts.gaps.lock().clone();
    part.delivered = counts.delivered.load(Relaxed);
    let seen = crew.recorder.total();
    (part.handled, part.corrupted) = (seen.delivered, part.corrupted + seen.corrupted);
    (part.unsent, part.given_up) = (unsent, all.agents.sent.given_up);
    part.stuck = all.stuck + crew.coordinators.len() + crew.others.len();
    part.tasks = all.agents.tasks;
    let counted = seen.latency.iter_recorded();
    part.latency = counted.map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
    (part.rss_peak, part.cpu_us) = (usage.rss_peak, usage.processor.as_micros() as u64);
    transport.close().await;
    // The end of the inbox.
    let _ = receiving.await;
    answer(&Answer::Report(Box::new(part)))?;
    Ok(ExitCode::SUCCESS)
}

async fn connect(args: &Args) -> Result<RedisTransport> {
    let builder = RedisTransport::builder(args.remote.server.settings()?);
    let builder =
        builder.retention(RETENTION).retention_time(RETENTION_TIME).remember(RETENTION_TIME);
    builder.connect().await.map_err(|error| unconnected(&error))
}

fn answer(answer: &Answer) -> Result<()> {
    print(serde_json::to_string(answer)?)
}

async fn order(orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<Order> {
    orders.recv().await.ok_or_else(|| anyhow!("the process that gives orders has ended"))
}

/// What came in.
#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    /// Changes seldom; its `delivered` is not used.
    gaps: Mutex<Part>,
}

impl Counts {
    /// Waits until so many events have come in or were reported missing, or
    /// nothing comes any more.
    async fn wait_for(&self, expected: u64) {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let reported = self.gaps.lock().reported;
            let seen = self.delivered.load(Relaxed) + reported;
            if seen >= expected || since.elapsed() > SILENCE {
                return;
            }
            if seen != last {
                (last, since) = (seen, Instant::now());
            }
            sleep(LOOK).await;
        }
    }
}

/// Hands what comes in to the agents' handlers, until the transport is closed.
async fn receive(mut inbox: Inbox, bus: Bus, counts: Arc<Counts>, agents: usize) {
    let mut seen = Seen::of(agents);
    let mut batch = Vec::new();
    while inbox.next_batch(&mut batch).await > 0 {
        let mut delivered = 0;
        for incoming in batch.drain(..) {
            match incoming {
                Incoming::Event(received) => {
                    delivered += u64::from(take(received, &mut seen, &bus, &counts).await);
                }
                Incoming::Gap(gap) => {
                    let mut gaps = counts.gaps.lock();
                    gaps.gaps += 1;
                    match gap.missed {
                        Some(missed) => gaps.reported += missed,
                        None => gaps.unknown += 1,
                    }
                }
                _ => {}
            }
        }
        counts.delivered.fetch_add(delivered, Relaxed);
    }
}

/// Whether it is an event that was not there before.
async fn take(received: Received, seen: &mut Seen, bus: &Bus, counts: &Counts) -> bool {
    let again = received.redelivered();
    let (event, ack) = received.into_parts();
    let Some((event, agent, number)) = wire::read(event) else {
        counts.gaps.lock().corrupted += 1;
        ack.ack();
        return false;
    };
    let new = seen.note(agent, number) == Some(true);
    if new {
        // Handlers only leave notes, which cannot fail.
        let _ = bus.dispatch(&event).await;
    } else {
        let mut gaps = counts.gaps.lock();
        if again {
            gaps.redelivered += 1;
        } else {
            gaps.duplicated += 1;
        }
    }
    ack.ack();
    new
}
