//! `load-test --chaos`: services that fail on purpose, and what the pipeline
//! makes of it; `cascade.rs` is about services that call each other.
//!
//! Start with [`run`]. Each kind of trouble has its file: `faults.rs` what goes
//! wrong in calls, `outage.rs` the service that is down, `plan.rs` when events
//! come. `service.rs` has the layers that stand against it, `account.rs` the
//! end of every event.

mod account;
mod args;
mod cascade;
mod faults;
mod outage;
mod plan;
mod publisher;
mod report;
mod service;
mod table;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use swarmbus::{BreakerReport, Bus};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};

pub(crate) use self::args::ChaosArgs;
use self::{
    account::Witness,
    args::Scenario,
    outage::Recovery,
    plan::Plan,
    publisher::Published,
    report::{Measured, Report},
    service::Services,
};
use super::{
    args::Args,
    memory::Memory,
    progress, setup,
    store::{self, Store},
};

/// How long publishers may take to catch up with their plan.
const GRACE: Duration = Duration::from_secs(1);

/// How long what was published may take to come to its end.
const DRAIN: Duration = Duration::from_secs(30);

/// Why the settings make no sense together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error(
        "--fail-rate, --panic-rate, --stuck-rate and --slow-rate are more than 1 together, and a \
         call has one fault at most"
    )]
    TooManyFaults,
    #[error("--outage is longer than --seconds")]
    OutageTooLong,
    #[error("--store keeps events, and --chaos cascade has none")]
    NoEvents,
    #[error("--chaos cascade takes at least 5 --seconds")]
    TooShort,
}

/// Runs the chaos and reports. The exit code is 1 when an event is not
/// accounted for, or when a service was not served again in time.
pub(super) async fn run(args: Args) -> Result<ExitCode> {
    if args.chaos.chaos == Some(Scenario::Cascade) {
        return cascade::run(args).await;
    }
    let plan = Plan::new(&args)?;
    let services = Arc::new(Services::new(&args, &plan)?);
    let mut memory = Memory::start();
    let mut store = store::open(&args)?;
    let witness = Witness(Arc::clone(&services.account));
    let bus = setup::build(setup::builder(&args)?.event_middleware(witness), store.as_ref())?;
    if let Some(store) = &mut store {
        store.take_over(&bus).await?;
    }
    service::subscribe(&bus, &services)?;
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let publishers = publisher::start(&bus, &args, &plan, &services.watch, started, &stop);
    let happening =
        Arc::clone(&services.outage).happen(bus.clone(), services.watch.clone(), started);
    let outage = tokio::spawn(happening);
    let interrupted = progress::wait(plan.length, || services.delivered(), &mut memory).await;
    let (elapsed, appended) = (started.elapsed(), store.as_ref().map(Store::stats));
    if interrupted {
        stop.store(true, Relaxed);
        outage.abort();
    }
    let end = end(&bus, publishers, &stop, outage).await;
    memory.sample();
    let mut report = Report::new(&Measured {
        args: &args,
        plan: &plan,
        elapsed,
        interrupted,
        ledger: &bus.ledger(),
        services: &services,
        end: &end,
        peak_depth: bus.peak_depth(),
        memory,
        taken_over: store.as_ref().map_or(0, |store| store.taken_over),
    });
    if let Some((store, appended)) = store.zip(appended) {
        let found = &mut report.imbalances;
        report.store = Some(store.close(&bus.ledger(), appended, elapsed, found).await?);
        report.ledger_balanced = found.is_empty();
    }
    report.print(args.json)?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What there was at the end.
#[derive(Debug, Default)]
struct End {
    published: Published,
    /// Publishers that did not come to an end.
    stuck: usize,
    recovery: Option<Recovery>,
    /// As they were before the bus closed.
    breakers: Vec<BreakerReport>,
    bulkhead_full: u64,
    bulkhead_timed_out: u64,
}

/// Lets publishers end, then what they published.
async fn end(
    bus: &Bus,
    mut publishers: JoinSet<Published>,
    stop: &AtomicBool,
    outage: JoinHandle<Option<Recovery>>,
) -> End {
    let mut end = End::default();
    let deadline = Instant::now() + DRAIN;
    // One that is a little late may finish its plan.
    end.join(&mut publishers, Instant::now() + GRACE).await;
    stop.store(true, Relaxed);
    end.join(&mut publishers, deadline).await;
    end.stuck += publishers.len();
    bus.drain(deadline.saturating_duration_since(Instant::now())).await;
    end.recovery = outage.await.ok().flatten();
    end.breakers = bus.breakers();
    for report in bus.bulkheads() {
        end.bulkhead_full += report.rejected;
        end.bulkhead_timed_out += report.timed_out;
    }
    // What is left undone is in the ledger, as cancelled.
    let _ = bus.shutdown(deadline.saturating_duration_since(Instant::now())).await;
    end
}

impl End {
    async fn join(&mut self, publishers: &mut JoinSet<Published>, deadline: Instant) {
        while let Ok(Some(ended)) = timeout_at(deadline, publishers.join_next()).await {
            match ended {
                Ok(published) => self.published += published,
                Err(_) => self.stuck += 1,
            }
        }
    }
}
