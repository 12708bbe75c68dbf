//! `swarmbus dlq retry` and `swarmbus dlq purge`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;
use swarmbus_store::LetterFile;

use super::Which;
use crate::cmd::{print, say, store::StoreArg};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,

    /// The letters' numbers: see `swarmbus dlq list`.
    #[arg(value_name = "NUMBER", conflicts_with_all = ["all", "handler", "event_type", "reason", "before"])]
    numbers: Vec<i64>,

    /// All letters.
    #[arg(long, conflicts_with_all = ["handler", "event_type", "reason", "before"])]
    all: bool,

    #[command(flatten)]
    which: Which,

    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn retry(args: &Args) -> Result<ExitCode> {
    let mut file = open(args)?;
    let (asked, missing) = if args.numbers.is_empty() {
        (file.retry_all(&args.which.filter()?)?, Vec::new())
    } else {
        each(&args.numbers, |number| Ok(file.retry(number)?))?
    };
    let say = match asked {
        0 => "no such dead letters".to_owned(),
        _ => format!(
            "{} will be retried, by the program that has this log as its journal",
            letters(asked)
        ),
    };
    report(args, asked, &missing, json!({"asked": asked, "missing": missing}), &say)
}

pub(super) fn purge(args: &Args) -> Result<ExitCode> {
    let mut file = open(args)?;
    let (purged, missing) = if args.numbers.is_empty() {
        (file.purge_all(&args.which.filter()?)?, Vec::new())
    } else {
        each(&args.numbers, |number| Ok(file.purge(number)?))?
    };
    let say = format!("{} purged", letters(purged));
    report(args, purged, &missing, json!({"purged": purged, "missing": missing}), &say)
}

fn open(args: &Args) -> Result<LetterFile> {
    if args.numbers.is_empty() && !args.all && args.which.is_all() {
        bail!(
            "which letters? Give their numbers, --all, or one of --handler, --type, --reason and --before"
        );
    }
    Ok(LetterFile::open(args.store.path()?)?)
}

/// How many were changed, and which could not be.
fn each(numbers: &[i64], mut change: impl FnMut(i64) -> Result<bool>) -> Result<(u64, Vec<i64>)> {
    let (mut changed, mut missing) = (0, Vec::new());
    for number in numbers {
        if change(*number)? {
            changed += 1;
        } else {
            missing.push(*number);
        }
    }
    Ok((changed, missing))
}

fn letters(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

/// The exit code is 1 if a letter that was named is not there.
fn report(
    args: &Args,
    changed: u64,
    missing: &[i64],
    json: serde_json::Value,
    text: &str,
) -> Result<ExitCode> {
    if args.json {
        print(json)?;
    } else if changed > 0 || missing.is_empty() {
        print(text)?;
    }
    for number in missing {
        say(format_args!("error: there is no dead letter {number}, or its event was not kept"));
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
