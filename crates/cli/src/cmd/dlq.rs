//! `swarmbus dlq`: the dead letters of an event log.

mod change;
mod list;
mod show;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use swarmbus::{DeadReason, LetterFilter, Timestamp};

use super::when::time;

/// List, retry and purge the dead letters of an event log.
///
/// The log may be in use: the program that has it open is not held up.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List dead letters, oldest first.
    List(list::Args),
    /// Show one dead letter with its event.
    Show(show::Args),
    /// Have events handled again by the handlers that failed.
    ///
    /// The program whose log it is does it: within a second or so if it runs
    /// and serves retries, else when it starts. The letter stays until its
    /// handler has succeeded.
    Retry(change::Args),
    /// Throw dead letters away.
    Purge(change::Args),
}

/// Which letters.
#[derive(Clone, Debug, Default, clap::Args)]
struct Which {
    /// Only those of this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,

    /// Only those of events of this type: task.created, task.*, task.> or
    /// /regex/.
    #[arg(long = "type", value_name = "PATTERN")]
    event_type: Option<String>,

    /// Only those that failed for this reason, such as failed or panicked.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<DeadReason>,

    /// Only those that failed before this time: RFC 3339 or, before now, such
    /// as -1h or -2d12h.
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    before: Option<Timestamp>,
}

fn reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::from_name(text).ok_or_else(|| {
        let names: Vec<_> = DeadReason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("a reason is one of {}", names.join(", "))
    })
}

impl Which {
    fn filter(&self) -> Result<LetterFilter> {
        let mut filter = LetterFilter::all();
        if let Some(handler) = &self.handler {
            filter = filter.handler(handler);
        }
        if let Some(pattern) = &self.event_type {
            filter = match filter.event_type(pattern) {
                Ok(filter) => filter,
                Err(error) => bail!("--type {pattern}: {error}"),
            };
        }
        if let Some(reason) = self.reason {
            filter = filter.reason(reason);
        }
        if let Some(before) = self.before {
            filter = filter.before(before);
        }
        Ok(filter)
    }

    fn is_all(&self) -> bool {
        self.handler.is_none()
            && self.event_type.is_none()
            && self.reason.is_none()
            && self.before.is_none()
    }
}

/// Runs one of the commands.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    // SQLite blocks.
    tokio::task::spawn_blocking(move || match args.command {
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Retry(args) => change::retry(&args),
        Command::Purge(args) => change::purge(&args),
    })
    .await?
}
