//! `swarmbus dlq list`.

use std::process::ExitCode;

use anyhow::Result;
use indicatif::HumanCount;
use swarmbus_store::{LetterFile, StoredLetter};

use super::{Which, show::Shown};
use crate::cmd::{
    print, print_on, say,
    store::{StoreArg, one_line},
    table,
};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,

    #[command(flatten)]
    which: Which,

    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// One JSON object for each letter, a line each, with its event.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let file = LetterFile::open_to_read(args.store.path()?)?;
    let filter = args.which.filter()?;
    let (mut after, mut left) = (None, args.limit as usize);
    let mut letters = Vec::new();
    loop {
        let page = file.page(&filter, after, left)?;
        for (number, damage) in &page.damaged {
            say(format_args!(
                "note: dead letter {number} is damaged: {damage}; purge it by its number"
            ));
        }
        left -= page.letters.len();
        after = page.next;
        if args.json {
            for letter in &page.letters {
                if print_on(serde_json::to_string(&Shown::of(letter))?)?.is_break() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        } else {
            // Only what the table shows: events may be large.
            letters.extend(page.letters.iter().map(row));
        }
        if left == 0 || after.is_none() {
            break;
        }
    }
    if !args.json {
        print(text(letters))?;
    }
    if after.is_some() {
        let total = HumanCount(file.len()?);
        say(format_args!("note: there may be more: {total} letters in all, see --limit"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A terminal with fewer columns than this gets a table with two.
const NARROW: u16 = 100;

fn text(rows: Vec<[String; 6]>) -> String {
    if rows.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut wide = table(["number", "failed at", "type", "handler", "reason", "error"]);
    if wide.width().is_none_or(|width| width >= NARROW) {
        wide.add_rows(rows);
        return wide.to_string();
    }
    let mut narrow = table(["number", "dead letter"]);
    for [number, at, ty, handler, reason, error] in rows {
        narrow.add_row([number, format!("{ty} for {handler}\n{at}: {reason}\n{error}")]);
    }
    narrow.to_string()
}

fn row(letter: &StoredLetter) -> [String; 6] {
    let mut reason = letter.reason.to_string();
    if letter.attempts > 1 {
        reason.push_str(&format!(" {} times", letter.attempts));
    }
    if letter.retry_at.is_some() {
        reason.push_str(", to be retried");
    }
    let error: String = one_line(&letter.error).chars().take(200).collect();
    [
        letter.number.to_string(),
        letter.at.to_string(),
        letter.event_type.to_string(),
        one_line(&letter.handler),
        reason,
        error,
    ]
}
