//! Breaks Redis under load, again and again, and counts what is lost, doubled
//! and reported. `cargo xtask chaos redis` runs it.
//!
//! Each fault has servers of its own. Two publishers fill a channel of each mode
//! at a steady rate; a subscriber of the live and the durable one and two workers
//! of the group one are in another transport. Halfway through each part of the
//! events the fault happens; then it is measured how long it takes until new
//! events of both publishers come. At the end the books are closed: `book.rs`
//! says what is missing, `report.rs` whether the promise of `fault.rs` was kept.

mod audience;
mod book;
mod child;
mod fault;
mod harm;
mod load;
mod memory;
mod report;
mod rig;
mod run;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde_json::json;
use swarmbus::transport::{Mode, Position};

use self::{fault::Fault, report::Row, run::Plan};

/// Breaks Redis under load and counts what is lost.
#[derive(Debug, Parser)]
struct Args {
    /// Only this fault; may be given several times.
    #[arg(long, value_enum)]
    fault: Vec<Fault>,
    /// Only this mode; may be given several times.
    #[arg(long, value_parser = mode)]
    mode: Vec<Mode>,
    /// How often each fault happens.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Events of each fault and mode, at least: of all times together.
    #[arg(long, default_value = "100000")]
    events: u64,
    /// Events a second of each mode.
    #[arg(long, default_value = "5000", value_parser = clap::value_parser!(u64).range(10..))]
    rate: u64,
    /// How long the server is away in `--fault outage`.
    #[arg(long, value_name = "N", default_value = "300")]
    seconds: u64,
    /// Also write the rows to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Each fault once, with few events and a short outage, and nobody looks at
    /// the clock: shows that everything works.
    #[arg(long)]
    quick: bool,
    /// Its word to itself: be a subscriber of this mode.
    #[arg(long, hide = true)]
    child: Option<String>,
    #[arg(long, hide = true, requires = "child")]
    after: Option<Position>,
}

fn mode(name: &str) -> Result<Mode, String> {
    let modes = [Mode::Live, Mode::Durable, Mode::Group];
    let found = modes.into_iter().find(|mode| mode.name() == name);
    found.ok_or_else(|| "it is live, durable or group".to_owned())
}

impl Args {
    fn plan(&self) -> Plan {
        let modes = if self.mode.is_empty() {
            vec![Mode::Live, Mode::Durable, Mode::Group]
        } else {
            self.mode.clone()
        };
        let outage = Duration::from_secs(self.seconds);
        let plan = Plan {
            repeat: self.repeat.into(),
            events: self.events,
            rate: self.rate,
            outage,
            modes,
        };
        if self.quick {
            let outage = Duration::from_secs(2);
            return Plan { repeat: 1, events: 1_000, rate: 2_000, outage, ..plan };
        }
        plan
    }

    fn faults(&self) -> Vec<Fault> {
        if self.fault.is_empty() { Fault::value_variants().to_vec() } else { self.fault.clone() }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(mode) = &args.child {
        child::run(mode, args.after).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let (plan, mut rows, mut stuck) = (args.plan(), Vec::<Row>::new(), Vec::new());
    for fault in args.faults() {
        eprintln!("{} …", fault.name());
        match run::run(fault, &plan).await {
            Ok(found) => rows.extend(found),
            Err(error) => {
                eprintln!("{}: {error:#}", fault.name());
                stuck.push(json!({ "fault": fault.name(), "error": format!("{error:#}") }));
            }
        }
    }
    let timed = !args.quick;
    println!("{}", report::table(&rows, timed));
    if let Some(row) = rows.iter().find(|row| row.fault == Fault::Outage) {
        println!("{}", report::memory(row.memory));
    }
    if let Some(file) = &args.json {
        let found = json!({
            "events": plan.events,
            "rate_of_each_mode": plan.rate,
            "payload_bytes": load::PAYLOAD,
            "publishers": load::LANES,
            "probe_every_ms": rig::PROBE_EVERY.as_millis() as u64,
            "response_timeout_ms": rig::RESPONSE_TIMEOUT.as_millis() as u64,
            "outage_seconds": plan.outage.as_secs_f64(),
            "quick": args.quick,
            "rows": rows.iter().map(|row| row.json(timed)).collect::<Vec<_>>(),
            "stuck": stuck,
        });
        let text = serde_json::to_string_pretty(&found)?;
        std::fs::write(file, text + "\n").context("the JSON file cannot be written")?;
    }
    let kept = stuck.is_empty() && rows.iter().all(|row| row.broken(timed).is_empty());
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
