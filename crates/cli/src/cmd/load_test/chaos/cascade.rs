//! `--chaos cascade`: the same chain of services with circuit breakers and
//! without, side by side.

mod chain;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;

use self::chain::{Load, Outcome};
use super::{Nonsense, args::Scenario};
use crate::cmd::{
    load_test::{
        args::Args,
        progress,
        table::{count, lay_out},
        usage::Usage,
    },
    print,
};

/// Calls per second of each chain.
const RATE: f64 = 300.0;

/// Breakers need a while to open; in less, there is no difference.
const SHORTEST: Duration = Duration::from_secs(5);

/// Both runs.
#[derive(Debug, Serialize)]
struct Report {
    scenario: Scenario,
    seconds: f64,
    /// Ended by Ctrl-C.
    interrupted: bool,
    without_breakers: Outcome,
    with_breakers: Outcome,
    /// The share of the calls that were hit without breakers, and are not with
    /// them. `None` if none was hit.
    spared: Option<f64>,
    /// Breakers leave at most half of what a failure does to others.
    halved: Option<bool>,
}

/// Runs both chains at once. The exit code is 1 when breakers do not halve the
/// calls that were hit.
pub(super) async fn run(args: Args) -> Result<ExitCode> {
    if args.store.is_some() {
        return Err(Nonsense::NoEvents.into());
    }
    if args.seconds < SHORTEST {
        return Err(Nonsense::TooShort.into());
    }
    let per_second = args.rate.unwrap_or(RATE);
    let load = Load { seed: args.seed, per_second, length: args.seconds };
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let chain = |breakers| tokio::spawn(chain::run(load, breakers, stop.clone(), done.clone()));
    let started = Instant::now();
    let (without, with) = (chain(false), chain(true));
    let mut usage = Usage::start();
    let interrupted = progress::wait(load.length, || done.load(Relaxed), &mut usage).await;
    if interrupted {
        stop.store(true, Relaxed);
    }
    let seconds = started.elapsed().as_secs_f64();
    let (without_breakers, with_breakers) = (without.await??, with.await??);
    let report = Report::new(seconds, interrupted, without_breakers, with_breakers);
    print(if args.json { serde_json::to_string(&report)? } else { report.table() })?;
    let passed = report.halved != Some(false) || interrupted;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    fn new(
        seconds: f64,
        interrupted: bool,
        without_breakers: Outcome,
        with_breakers: Outcome,
    ) -> Self {
        let (without, with) = (without_breakers.cascaded(), with_breakers.cascaded());
        let spared = (without > 0).then(|| 1.0 - with as f64 / without as f64);
        Self {
            scenario: Scenario::Cascade,
            seconds,
            interrupted,
            without_breakers,
            with_breakers,
            spared,
            halved: spared.map(|_| with * 2 <= without),
        }
    }

    fn table(&self) -> String {
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        let verdict = match self.spared {
            None => "none came about".to_owned(),
            Some(spared) => {
                let halved = if self.halved == Some(true) { "halved" } else { "NOT HALVED" };
                let percent = spared * 100.0;
                format!("{halved}: {percent:.1} % fewer hit with breakers (asked: 50 %)")
            }
        };
        let [without, with] = [&self.without_breakers, &self.with_breakers].map(|run| {
            format!(
                "{} of {}: {} failed, {} were held up",
                count(run.cascaded()),
                count(run.calls - run.in_need),
                count(run.failed),
                count(run.held_up)
            )
        });
        let before = self.without_breakers.hit_before + self.with_breakers.hit_before;
        let mut rows = vec![
            ("ran for", format!("{:.2} s{interrupted}", self.seconds)),
            ("calls of each chain", count(self.without_breakers.calls)),
            ("needed what hung", count(self.without_breakers.in_need)),
            ("others hit without breakers", without),
            ("others hit with breakers", with),
            ("breakers opened", format!("{} times", count(self.with_breakers.trips))),
            ("cascade", verdict),
        ];
        if before > 0 {
            let slow = "hit before anything hung: --rate is too high, or this machine too busy";
            rows.push(("note", format!("{} calls were {slow}", count(before))));
        }
        lay_out(rows)
    }
}
