//! `swarmbus replay`: events of a log, once more.

mod dry_run;
mod events;
mod settings;
mod what_if;

use std::process::ExitCode;

use anyhow::{Result, bail};
use swarmbus::{Timestamp, core::router::Pattern};
use swarmbus_store::{Replay, what_if::Settings};

use super::{
    store::{StoreArg, pattern},
    when::time,
};

/// Print events of an event log again, or try other settings on them.
///
/// Events come as JSON Lines on standard output, each a `CloudEvents` event as
/// it was accepted, in the order of their times. Feed them to a program, or to
/// `swarmbus load-test --events -`. A program that replays into its own bus
/// uses the library: see `swarmbus_store::Replay`.
///
/// The log is only read, and may be in use.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArg,

    /// Only events of this time or later: RFC 3339 or, before now, such as
    /// -1h or -2d12h.
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    from: Option<Timestamp>,

    /// Only events before this time.
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    to: Option<Timestamp>,

    /// Only events of this type: task.created, task.*, task.> or /regex/.
    #[arg(long = "type", value_name = "PATTERN", value_parser = pattern)]
    event_type: Option<Pattern>,

    /// As recorded, times this: 1 keeps the time between events, 10 takes a
    /// tenth of it [default: as fast as possible].
    #[arg(long, value_name = "FACTOR", value_parser = speed, allow_hyphen_values = true)]
    speed: Option<f64>,

    /// Only count, by type.
    #[arg(long, conflicts_with_all = ["speed", "what_if"])]
    dry_run: bool,

    /// Play the recorded handler calls through other breaker and retry
    /// settings, and compare: failures=10,open-for=5s,retries=0. Others:
    /// probes, successes, first-delay, cap, scope=type|handler, breaker=off.
    /// The program must have recorded its calls: see `swarmbus_store::Recorder`.
    #[arg(long, value_name = "SETTINGS", value_parser = settings::parse, conflicts_with_all = ["speed", "event_type"])]
    what_if: Option<Settings>,

    /// The settings that were in force, for --what-if [default: those of a
    /// bus].
    #[arg(long, value_name = "SETTINGS", value_parser = settings::parse, requires = "what_if")]
    baseline: Option<Settings>,

    /// JSON in place of the tables of --dry-run and --what-if.
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if f64::is_finite(speed) && speed > 0.0 => Ok(speed),
        _ => Err("a speed is a number above 0: 1 is as recorded, 10 ten times as fast".to_owned()),
    }
}

/// Replays, counts or compares.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let path = args.store.path()?.to_owned();
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        bail!("--from must be before --to: {from} is not before {to}");
    }
    if let Some(changed) = &args.what_if {
        what_if::run(&path, &args, changed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut replay = Replay::of(path);
    if let Some(from) = args.from {
        replay = replay.from(from);
    }
    if let Some(to) = args.to {
        replay = replay.to(to);
    }
    if let Some(pattern) = args.event_type {
        replay = replay.types(pattern);
    }
    if args.dry_run {
        dry_run::run(&replay, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(speed) = args.speed {
        replay = replay.speed(speed);
    }
    events::run(replay, args.speed.is_some()).await
}
