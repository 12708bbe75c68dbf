//! `swarmbus dlq show`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::value::RawValue;
use swarmbus_store::{LetterFile, StoredLetter};

use crate::cmd::{
    print,
    store::{StoreArg, json_of, one_line},
    table,
};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,

    /// The letter's number: see `swarmbus dlq list`.
    #[arg(value_name = "NUMBER")]
    number: i64,

    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// A letter as JSON.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    number: i64,
    at: String,
    event_id: String,
    event_type: &'a str,
    handler: &'a str,
    reason: &'a str,
    error: &'a str,
    attempts: u32,
    retry_at: Option<String>,
    /// `CloudEvents`; `null` if the event was not kept, or has no JSON.
    event: Option<Box<RawValue>>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(letter: &'a StoredLetter) -> Self {
        Self {
            number: letter.number,
            at: letter.at.to_string(),
            event_id: letter.event_id.to_string(),
            event_type: letter.event_type.as_str(),
            handler: &letter.handler,
            reason: letter.reason.as_str(),
            error: &letter.error,
            attempts: letter.attempts,
            retry_at: letter.retry_at.map(|at| at.to_string()),
            event: letter.event.as_ref().and_then(json_of),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let file = LetterFile::open_to_read(args.store.path()?)?;
    let Some(letter) = file.get(args.number)? else {
        bail!("there is no dead letter {}: see `swarmbus dlq list`", args.number);
    };
    let shown = Shown::of(&letter);
    if args.json {
        print(serde_json::to_string(&shown)?)?;
    } else {
        print(text(&shown))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(letter: &Shown<'_>) -> String {
    let mut table = table(["dead letter", &letter.number.to_string()]);
    let retry = letter.retry_at.as_ref().map_or_else(
        || "not asked for".to_owned(),
        |at| format!("asked for at {at}, not made yet"),
    );
    let event = letter.event.as_ref().map_or("not kept, or not to be written as JSON", |e| e.get());
    for (name, value) in [
        ("event", letter.event_id.as_str()),
        ("type", letter.event_type),
        ("handler", letter.handler),
        ("failed at", &letter.at),
        ("reason", letter.reason),
        ("attempts", &letter.attempts.to_string()),
        ("retry", &retry),
        ("error", letter.error),
    ] {
        table.add_row([name, &one_line(value)]);
    }
    // Outside of the table, so that it can be copied.
    format!("{table}\n{event}")
}
