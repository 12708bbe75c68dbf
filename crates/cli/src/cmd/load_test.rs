//! `swarmbus load-test`: agents with roles that really coordinate, measured.
//!
//! Start with [`run`]; `agents.rs` has what agents do, `setup.rs` how they
//! come to be.

mod agents;
mod args;
mod chaos;
mod coordinator;
mod faults;
mod inbox;
mod message;
mod outlet;
mod pace;
mod progress;
mod recorder;
mod remote;
mod report;
mod setup;
mod store;
mod swarm;
mod table;
mod usage;
mod workload;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use swarmbus::{BreakerReport, Bus};
use tokio::{task::JoinHandle, time::Instant};

use crate::cmd::say;

pub(crate) use self::args::Args;
use self::{
    agents::Done,
    pace::Ticker,
    report::{Measured, Report},
    setup::Crew,
    store::Store,
    usage::Usage,
};

/// How long tasks in flight may take to end once no more begin.
const GRACE: Duration = Duration::from_millis(500);

/// How long the bus may take to deliver what it has accepted.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the load and reports. The exit code is 1 when the books do not
/// balance.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    if !args.chaos.is_off() {
        return chaos::run(args).await;
    }
    if args.remote.is_on() {
        return remote::run(args).await;
    }
    args.remote.check_off()?;
    let replay = args.events.as_deref().map(workload::read).transpose()?;
    if replay.as_ref().is_some_and(|replay| replay.cut) {
        say("note: --events has more than 10,000 lines or 64 MiB; the rest is not used");
    }
    let mut usage = Usage::start();
    let mut store = store::open(&args)?;
    let bus = setup::build(setup::builder(&args)?, store.as_ref())?;
    if let Some(store) = &mut store {
        store.take_over(&bus).await?;
    }
    let mut crew = setup::crew(&bus, &args, replay.as_ref(), None)?;
    let ticker = Ticker::start(crew.coordinators_inboxes(), args.rate.is_some())
        .context("cannot start a thread")?;
    let started = Instant::now();
    let interrupted = progress::wait(args.seconds, || crew.recorder.delivered(), &mut usage).await;
    let (elapsed, at_stop) = (started.elapsed(), bus.ledger());
    let appended = store.as_ref().map(Store::stats);
    let all = stop(&bus, &mut crew, ticker).await;
    usage.sample();
    let mut report = Report::new(&Measured {
        args: &args,
        swarm: crew.swarm,
        elapsed,
        interrupted,
        at_stop: &at_stop,
        ledger: &bus.ledger(),
        seen: &crew.recorder.total(),
        done: &all,
        breakers: &all.breakers,
        peak_depth: bus.peak_depth(),
        usage,
        taken_over: store.as_ref().map_or(0, |store| store.taken_over),
    });
    if let Some((store, appended)) = store.zip(appended) {
        let found = &mut report.imbalances;
        report.store = Some(store.close(&bus.ledger(), appended, elapsed, found).await?);
        report.ledger_balanced = found.is_empty();
    }
    report.print(args.json)?;
    Ok(if report.ledger_balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was left at the end, and what the agents did.
#[derive(Debug, Default)]
struct AllDone {
    agents: Done,
    /// Agents that did not come to an end, whose counts are missing.
    stuck: usize,
    /// Events that were accepted and not delivered in time.
    undelivered: usize,
    /// As they were before the bus closed.
    breakers: Vec<BreakerReport>,
}

/// Lets tasks in flight end, then the agents, then the bus.
async fn stop(bus: &Bus, crew: &mut Crew, ticker: Ticker) -> AllDone {
    crew.stop_tasks();
    let mut all = AllDone::default();
    let deadline = Instant::now() + GRACE;
    join(&mut crew.coordinators, deadline, &mut all).await;
    crew.close_inboxes();
    ticker.stop();
    let deadline = Instant::now() + DRAIN;
    join(&mut crew.coordinators, deadline, &mut all).await;
    join(&mut crew.others, deadline, &mut all).await;
    bus.drain(deadline.saturating_duration_since(Instant::now())).await;
    all.breakers = bus.breakers();
    let left = deadline.saturating_duration_since(Instant::now());
    all.undelivered = bus.shutdown(left).await.undelivered.len();
    // Who still waited for room has been told that there will be none.
    let deadline = Instant::now() + GRACE;
    join(&mut crew.coordinators, deadline, &mut all).await;
    join(&mut crew.others, deadline, &mut all).await;
    all.stuck = crew.coordinators.len() + crew.others.len();
    all
}

/// Takes out the agents that end in time.
async fn join(agents: &mut Vec<JoinHandle<Done>>, deadline: Instant, all: &mut AllDone) {
    while let Some(agent) = agents.last_mut() {
        match tokio::time::timeout_at(deadline, agent).await {
            Ok(Ok(done)) => {
                all.agents.sent += done.sent;
                all.agents.tasks += done.tasks;
            }
            Ok(Err(_)) => all.stuck += 1,
            Err(_) => return,
        }
        agents.pop();
    }
}
