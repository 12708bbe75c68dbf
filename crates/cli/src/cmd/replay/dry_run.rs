//! What a replay would find, by type.

use anyhow::Result;
use indicatif::HumanCount;
use serde::Serialize;
use swarmbus_store::{Replay, TypeCount};

use crate::cmd::{print, store::one_line, table};

#[derive(Serialize)]
struct Report {
    events: u64,
    from: Option<String>,
    to: Option<String>,
    types: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    #[serde(rename = "type")]
    event_type: String,
    events: u64,
    first: String,
    last: String,
}

pub(super) fn run(replay: &Replay, json: bool) -> Result<()> {
    let counts = replay.dry_run()?;
    let report = report(&counts);
    if json { print(serde_json::to_string(&report)?) } else { print(text(&report)) }
}

fn report(counts: &[TypeCount]) -> Report {
    let span = counts.iter().filter_map(TypeCount::span);
    let first = span.clone().map(|(first, _)| first).min();
    Report {
        events: counts.iter().map(|count| count.events).sum(),
        from: first.map(|at| at.to_string()),
        to: span.map(|(_, last)| last).max().map(|at| at.to_string()),
        types: counts.iter().map(line).collect(),
    }
}

fn line(count: &TypeCount) -> Line {
    let (first, last) = match count.span() {
        Some((first, last)) => (first.to_string(), last.to_string()),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let event_type = count.event_type.clone().unwrap_or_else(|| "(other types)".to_owned());
    Line { event_type, events: count.events, first, last }
}

fn text(report: &Report) -> String {
    if report.events == 0 {
        return "no events".to_owned();
    }
    let mut table = table(["type", "events", "first", "last"]);
    for line in &report.types {
        let events = HumanCount(line.events).to_string();
        table.add_row([&one_line(&line.event_type), &events, &line.first, &line.last]);
    }
    format!("{table}\n{} events in all", HumanCount(report.events))
}
