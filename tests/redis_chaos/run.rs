//! One run: a fault, again and again, while events flow in every mode.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use swarmbus::{
    Overflow,
    transport::{Mode, Transport as _, TransportError},
};
use swarmbus_redis::RedisTransport;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    audience::{Audience, TRIES},
    child::channel,
    fault::{Fault, Promise},
    harm::Harm,
    load::{LANES, Load},
    memory::Memory,
    report::Row,
    rig::{Rig, Side, last, until},
};

/// How a run is done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Times that the fault happens.
    pub(crate) repeat: usize,
    /// Events of each mode, at least.
    pub(crate) events: u64,
    /// Events a second of each mode.
    pub(crate) rate: u64,
    /// How long an outage is.
    pub(crate) outage: Duration,
    pub(crate) modes: Vec<Mode>,
}

/// Longer than it takes to recover from anything.
const LIMIT: Duration = Duration::from_secs(60);

/// What has not come for this long will not come: publishers that fall silent
/// say three times where they are, and tasks come again, before that.
const SILENCE: Duration = Duration::from_secs(8);

/// What comes too much comes soon.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// Where publishers are to be told what is wrong, few events wait and not for
/// long.
const IMPATIENCE: Duration = Duration::from_millis(300);

pub(crate) async fn run(fault: Fault, plan: &Plan) -> Result<Vec<Row>> {
    let modes = plan.modes.iter().copied().filter(|mode| fault.promise(*mode).is_some());
    let modes: Vec<Mode> = modes.collect();
    let repeat = if fault == Fault::Outage { 1 } else { plan.repeat };
    let rig = Rig::start(fault).await?;
    let transport = RedisTransport::builder(rig.settings(Side::Subscriber)?).connect().await?;
    let mut audiences = Vec::new();
    for mode in modes {
        let load = Arc::new(Load::new(channel(mode)?, plan.rate));
        let url = rig.url(Side::Subscriber);
        audiences.push(Audience::start(load, fault, &transport, &url).await?);
    }
    let mut publishers = Publishers::start(fault, plan, &rig, &audiences).await?;

    let harm = Harm { fault, rig: &rig, transport: &transport, outage: plan.outage };
    let mut times = vec![(Vec::new(), Vec::new()); audiences.len()];
    let mut memory = Memory::default();
    for time in 0..repeat {
        let parts = (2 * repeat) as u64;
        let done =
            |part| move |audience: &Audience| audience.load.total() * parts >= plan.events * part;
        let part = 2 * time as u64;
        until("enough events", LIMIT, || audiences.iter().all(done(part + 1))).await?;
        let began = Instant::now();
        memory = harm.strike(time, &mut audiences).await?;
        // What fills all buffers comes before anything that is made now.
        audiences.iter().for_each(|audience| audience.mark(fault == Fault::Outage));
        let over = began.elapsed();
        until(&format!("recovery after time {}", time + 1), LIMIT, || {
            audiences.iter().all(|audience| audience.recovered().is_some())
        })
        .await?;
        for (audience, (recovery, outage)) in audiences.iter().zip(&mut times) {
            let recovered = audience.recovered().context("it has recovered")?;
            recovery.push(recovered);
            outage.push(over + recovered);
        }
        rig.mend().await?;
        until("enough events", LIMIT, || audiences.iter().all(done(part + 2))).await?;
        audiences.iter().for_each(Audience::next_part);
    }
    publishers.stop(&audiences).await?;
    // Of what was given up, only the number shows.
    let dead = match audiences.iter().find(|_| fault == Fault::Poison) {
        Some(audience) => transport.dead_letters(&audience.load.channel, 1_000).await?,
        None => Vec::new(),
    };
    settle(&audiences, dead.len() as u64).await;
    flush(&transport).await?;
    let mut rows = Vec::new();
    for (audience, (recovery, outage)) in audiences.iter_mut().zip(times) {
        let counts = audience.close().await?;
        let promise = fault.promise(audience.load.mode()).unwrap_or(Promise::Exact);
        let tired = dead.iter().filter(|task| task.deliveries != TRIES).count() as u64;
        rows.push(Row {
            fault,
            mode: audience.load.mode(),
            promise,
            repeat,
            published: audience.load.total(),
            poisoned: audience.load.poisoned().len() as u64,
            dead: dead.len() as u64,
            mishandled: tired + audience.poison_done(),
            counts,
            recovery,
            outage,
            memory,
        });
    }
    // Until now they have said where they are.
    drop(publishers);
    transport.close().await;
    Ok(rows)
}

/// Those who publish, and the transports that they use.
struct Publishers {
    transports: Vec<RedisTransport>,
    tasks: Vec<JoinHandle<()>>,
}

impl Publishers {
    async fn start(fault: Fault, plan: &Plan, rig: &Rig, audiences: &[Audience]) -> Result<Self> {
        let (mut transports, mut tasks) = (Vec::new(), Vec::new());
        for lane in 0..LANES {
            let builder = RedisTransport::builder(rig.settings(Side::Publisher)?);
            let told = fault.error(Mode::Group).is_some();
            let few = NonZeroUsize::new((plan.rate / 10).max(10) as usize);
            let builder = match few.filter(|_| told) {
                Some(few) => builder.buffer_events(few).patience(IMPATIENCE),
                None => builder,
            };
            let steady = builder.clone().connect().await?;
            // Nothing makes those wait who publish to live channels.
            let live = if fault == Fault::Outage {
                builder.overflow(Overflow::DropOldest).connect().await?
            } else {
                steady.clone()
            };
            for audience in audiences {
                let is_live = audience.load.mode() == Mode::Live;
                let transport = if is_live { live.clone() } else { steady.clone() };
                tasks.push(tokio::spawn(Arc::clone(&audience.load).publish(lane, transport)));
            }
            transports.extend([steady, live]);
        }
        Ok(Self { transports, tasks })
    }

    /// Returns when the server has everything, as far as it can be had.
    async fn stop(&mut self, audiences: &[Audience]) -> Result<()> {
        audiences.iter().for_each(|audience| audience.load.stop());
        for task in self.tasks.drain(..) {
            timeout(LIMIT, task).await.context("a publisher does not stop")??;
        }
        for transport in &self.transports {
            flush(transport).await?;
        }
        Ok(())
    }
}

async fn flush(transport: &RedisTransport) -> Result<()> {
    loop {
        match timeout(LIMIT, transport.flush()).await.context("a flush does not end")? {
            Ok(()) => return Ok(()),
            // What it was is seen at the other side.
            Err(TransportError::Lost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until everything has come or is known to be missing.
async fn settle(audiences: &[Audience], dead: u64) {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let seen: Vec<_> = audiences.iter().map(Audience::counts).collect();
        let all = audiences.iter().zip(&seen).all(|(audience, counts)| {
            counts.delivered + counts.reported + dead >= audience.load.total()
        });
        if all || since.elapsed() > SILENCE {
            break;
        }
        let now = seen.iter().map(|counts| counts.delivered + counts.gaps).sum();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        last(AFTERWARDS / 10).await;
    }
    last(AFTERWARDS).await;
}
