//! The recorded calls through other settings, compared.

use std::path::Path;

use anyhow::{Result, bail};
use indicatif::HumanCount;
use swarmbus_store::{
    LogReader, read_calls,
    what_if::{Recording, ServiceWhatIf, Settings, Tally, WhatIf},
};

use super::Args;
use crate::cmd::{print, say, store::one_line, table};

/// Services of which the table shows the difference; JSON has them all.
const SHOWN: usize = 20;

pub(super) fn run(path: &Path, args: &Args, changed: &Settings) -> Result<()> {
    let mut recording = read_calls(&LogReader::open(path)?, args.from, args.to)?;
    if recording.is_empty() {
        bail!(
            "{} has no handler calls of that time: the program records them if its bus is built \
             with `.event_middleware(swarmbus_store::Recorder::new(&log))`",
            path.display()
        );
    }
    if recording.is_full() {
        say(format_args!(
            "note: only the first {} calls are compared; narrow it down with --from and --to",
            HumanCount(Recording::MAX_CALLS as u64)
        ));
    }
    let baseline = args.baseline.clone().unwrap_or_default();
    let what_if = recording.what_if(&baseline, changed);
    if args.json { print(serde_json::to_string(&what_if)?) } else { print(text(&what_if)) }
}

fn text(what_if: &WhatIf) -> String {
    let WhatIf { recorded, baseline, changed, services } = what_if;
    let mut all = table(["", "recorded", "baseline", "what if", "difference"]);
    for (name, of) in FIGURES {
        let (baseline, changed) = (of(baseline), of(changed));
        all.add_row([
            (*name).to_owned(),
            shown(of(recorded)),
            shown(baseline),
            shown(changed),
            difference(baseline, changed),
        ]);
    }
    let [recorded, baseline, changed] = [recorded, baseline, changed].map(open);
    all.add_row(["open for".to_owned(), recorded, baseline, changed, String::new()]);
    let mut text = format!(
        "{all}\nbaseline and what if are simulated; the difference is between these two.\n\
         A call that was not made ends as the nearest in time of its handler."
    );
    let moved: Vec<_> = services.iter().filter(|s| s.baseline != s.changed).collect();
    if !moved.is_empty() {
        text.push_str(&format!("\n{}", by_service(&moved)));
    }
    if moved.len() > SHOWN {
        text.push_str(&format!("\n{} more services differ: see --json", moved.len() - SHOWN));
    }
    text
}

/// A line for each service for which the settings make a difference.
fn by_service(moved: &[&ServiceWhatIf]) -> comfy_table::Table {
    let mut table = table(["service", "delivered", "dead or failed", "rejected", "open for"]);
    let pair = |a: u64, b: u64| if a == b { a.to_string() } else { format!("{a} → {b}") };
    for service in moved.iter().take(SHOWN) {
        let ServiceWhatIf { handler, event_type, baseline, changed, .. } = service;
        let dead = |tally: &Tally| tally.dead_lettered + tally.failed;
        table.add_row([
            one_line(&format!("{handler} ({})", event_type.as_deref().unwrap_or("other types"))),
            pair(baseline.delivered, changed.delivered),
            pair(dead(baseline), dead(changed)),
            pair(baseline.rejected_by_breaker, changed.rejected_by_breaker),
            format!("{} → {}", open(baseline), open(changed)),
        ]);
    }
    table
}

type Figure = (&'static str, fn(&Tally) -> Option<u64>);

const FIGURES: &[Figure] = &[
    ("events for handlers", |t| Some(t.matches)),
    ("delivered", |t| Some(t.delivered)),
    ("dead-lettered", |t| Some(t.dead_lettered)),
    ("failed", |t| Some(t.failed)),
    ("rejected by breaker", |t| Some(t.rejected_by_breaker)),
    ("ended elsewhere", |t| Some(t.elsewhere)),
    ("unknown", |t| Some(t.unknown)),
    ("calls", |t| Some(t.calls)),
    ("retries", |t| Some(t.retries)),
    ("breakers opened", |t| t.opens),
];

fn shown(figure: Option<u64>) -> String {
    figure.map_or_else(|| "?".to_owned(), |n| HumanCount(n).to_string())
}

fn open(tally: &Tally) -> String {
    tally.open_for.map_or_else(|| "?".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}

fn difference(a: Option<u64>, b: Option<u64>) -> String {
    match a.zip(b) {
        Some((a, b)) if b > a => format!("+{}", HumanCount(b - a)),
        Some((a, b)) if b < a => format!("-{}", HumanCount(a - b)),
        _ => String::new(),
    }
}
