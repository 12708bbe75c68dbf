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
    progress, setup,
    store::{self, Store},
    usage::Usage,
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
    let report = measure(&args).await?;
    report.print(args.json)?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args) -> Result<Report> {
    let plan = Plan::new(args)?;
    let services = Arc::new(Services::new(args, &plan)?);
    let mut usage = Usage::start();
    let mut store = store::open(args)?;
    let witness = Witness(Arc::clone(&services.account));
    let mut builder = setup::builder(args)?.event_middleware(witness);
    if let Some(store) = &store {
        builder = builder.event_middleware(store.call_recorder());
    }
    let bus = setup::build(builder, store.as_ref())?;
    if let Some(store) = &mut store {
        store.take_over(&bus).await?;
    }
    service::subscribe(&bus, &services)?;
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let publishers = publisher::start(&bus, args, &plan, &services.watch, started, &stop);
    let outage = tokio::spawn(Arc::clone(&services.outage).happen(bus.clone(), started));
    let interrupted = progress::wait(plan.length, || services.delivered(), &mut usage).await;
    let (elapsed, appended) = (started.elapsed(), store.as_ref().map(Store::stats));
    if interrupted {
        stop.store(true, Relaxed);
        outage.abort();
    }
    let end = end(&bus, publishers, &stop, outage).await;
    usage.sample();
    let mut report = Report::new(&Measured {
        args,
        plan: &plan,
        elapsed,
        interrupted,
        ledger: &bus.ledger(),
        services: &services,
        end: &end,
        peak_depth: bus.peak_depth(),
        usage,
        taken_over: store.as_ref().map_or(0, |store| store.taken_over),
    });
    if let Some((store, appended)) = store.zip(appended) {
        let (ledger, found) = (bus.ledger(), &mut report.imbalances);
        // With its middleware, which has calls that are still to be written.
        drop(bus);
        report.store = Some(store.close(&ledger, appended, elapsed, found).await?);
        report.ledger_balanced = found.is_empty();
    }
    Ok(report)
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    async fn accounted_for(args: &str) -> Report {
        let program = Program::parse_from(format!("load-test --chaos {args}").split_whitespace());
        let report = measure(&program.args).await.unwrap();
        assert!(report.ledger_balanced, "{report:?}");
        assert_eq!(report.balance.unaccounted, 0, "{report:?}");
        report
    }

    async fn chaos(args: &str) -> Report {
        let report = accounted_for(args).await;
        assert!(report.passed(), "{report:?}");
        report
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_of_chaos_is_survived_and_the_broken_service_served_again_in_time() {
        let report = chaos("--seconds 60 --rate 500").await;
        let Report { balance, calls, recovery, .. } = &report;
        assert!(report.published >= 500 * 70, "{report:?}");
        assert!(report.success_rate > 0.98, "{report:?}");
        for n in [calls.failed, calls.panicked, calls.timed_out, calls.service_down, calls.retries]
        {
            assert!(n > 0, "{calls:?}");
        }
        assert!(balance.delivered_after_retries > 0 && balance.rejected_by_breaker > 0);
        let recovery = recovery.as_ref().unwrap();
        assert_eq!((recovery.opened, recovery.in_time), (true, Some(true)), "{recovery:?}");
        assert!((9.99..10.01).contains(&recovery.down_for_s), "{recovery:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_not_served_again_in_time_is_told_of() {
        let report = accounted_for("--seconds 12 --rate 500 --fail-rate 0.98 --slow-rate 0").await;
        assert_eq!(report.recovery.as_ref().unwrap().in_time, Some(false), "{report:?}");
        assert!(!report.passed());
        // Half a second is left, and it would have more.
        let report = accounted_for("--seconds 1 --rate 500 --fail-rate 0.98 --slow-rate 0").await;
        assert_eq!(report.recovery.as_ref().unwrap().in_time, None, "{report:?}");
        assert!(report.passed());
    }

    #[tokio::test(start_paused = true)]
    async fn small_bulkheads_and_queues_are_overrun_and_accounted_for() {
        let small = "--seconds 3 --capacity 32 --workers 2 --burst 50 --stuck-rate 0.1";
        let report = chaos(small).await;
        assert!(report.bulkhead_full > 0 && report.balance.rejected_by_bulkhead > 0, "{report:?}");
        assert!(report.balance.by_fallback > 0 && report.balance.dead_timed_out > 0, "{report:?}");
        let report = chaos(&format!("{small} --overflow drop-oldest")).await;
        assert!(report.balance.dropped > 0, "{report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_breaks_the_same_calls() {
        let quiet = "--rate 1000 --outage 0 --stuck-rate 0 --slow-rate 0";
        let [first, again] =
            [chaos(&format!("{quiet} --seed 7")).await, chaos(&format!("{quiet} --seed 7")).await];
        assert!(first.recovery.is_none());
        assert_eq!(first.published, again.published);
        assert_eq!((&first.balance, first.calls), (&again.balance, again.calls));
        assert_ne!(first.balance, chaos(&format!("{quiet} --seed 8")).await.balance);
    }
}
