//! The report as a table for people.

use std::time::Duration;

use indicatif::HumanCount;

use super::{report::Report, store::StoreReport};
use crate::cmd::table;

pub(super) fn of(report: &Report) -> String {
    lay_out(rows(report))
}

/// A table of figures and their values.
pub(super) fn lay_out(rows: Vec<(&'static str, String)>) -> String {
    let mut table = table(["figure", "value"]);
    for (figure, value) in rows {
        table.add_row([figure, &value]);
    }
    table.to_string()
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let Report { agents, tasks, breakers, settings, .. } = report;
    let mut rows = vec![
        (
            "agents",
            format!(
                "{}: {} coordinators, {} workers, {} validators in {} teams",
                settings.agents,
                agents.coordinators,
                agents.workers,
                agents.validators,
                agents.teams
            ),
        ),
        (
            "ran for",
            format!(
                "{:.2} s{}",
                report.seconds,
                if report.interrupted { ", interrupted" } else { "" }
            ),
        ),
        ("published", rated(report.published, report.published_per_s)),
        ("delivered", rated(report.delivered, report.delivered_per_s)),
    ];
    rows.extend(
        losses(report).into_iter().filter(|(_, n)| *n > 0).map(|(what, n)| (what, count(n))),
    );
    rows.extend([
        ("tasks", rated(tasks.accepted + tasks.rejected, report.tasks_per_s)),
        (
            "of these",
            format!(
                "{} accepted, {} rejected by vote",
                count(tasks.accepted),
                count(tasks.rejected)
            ),
        ),
        (
            "tasks without a verdict",
            format!("{} timed out, {} unfinished", count(tasks.timed_out), count(tasks.unfinished)),
        ),
        (
            "publish → handler",
            format!(
                "p50 {}, p95 {}, p99 {}, p99.9 {}, max {}",
                time(report.p50_us),
                time(report.p95_us),
                time(report.p99_us),
                time(report.p999_us),
                time(report.max_us)
            ),
        ),
        (
            "peak queue depth",
            format!(
                "{} of {}",
                count(report.peak_queue_depth as u64),
                count(settings.capacity as u64)
            ),
        ),
        (
            "memory",
            format!("{} MB at start, {} MB at peak", report.rss_start_mb, report.rss_peak_mb),
        ),
        (
            "processor",
            format!(
                "{:.2} s, {} ns for each event delivered",
                report.cpu_seconds,
                count(report.cpu_ns_per_event as u64)
            ),
        ),
        (
            "circuit breakers",
            format!(
                "{}: opened {} times, recovered {} times, {} not closed at the end",
                count(breakers.count as u64),
                count(breakers.opens),
                count(breakers.recoveries),
                count(breakers.not_closed_at_end as u64)
            ),
        ),
    ]);
    rows.extend(report.store.iter().flat_map(store_rows));
    rows.push(("ledger", balance(&report.imbalances)));
    rows
}

/// Everything that was published and not delivered, by kind.
fn losses(report: &Report) -> [(&'static str, u64); 12] {
    let outcomes = &report.outcomes;
    [
        ("filtered", outcomes.filtered),
        ("rejected by breaker", outcomes.rejected_by_breaker),
        ("dropped, oldest", outcomes.dropped_oldest),
        ("dropped, lowest priority", outcomes.dropped_lowest),
        ("expired", outcomes.expired),
        ("dead-lettered", outcomes.dead_lettered),
        ("failed", outcomes.failed),
        ("cancelled", outcomes.cancelled),
        ("without a handler", report.unmatched),
        ("handed back, tried again", report.refused),
        ("handed back, given up", report.given_up),
        ("corrupted", report.corrupted),
    ]
}

/// What the event log says.
pub(super) fn store_rows(store: &StoreReport) -> [(&'static str, String); 3] {
    let failed = match store.failed_commits {
        0 => String::new(),
        failed => format!(", {} more failed", count(failed)),
    };
    let appended = rated(store.appended, store.appended_per_s);
    [
        ("in the event log", format!("{appended} in {} commits{failed}", count(store.commits))),
        (
            "settled there",
            format!(
                "{} delivered, {} failed, {} dead; {} pending",
                count(store.delivered),
                count(store.failed),
                count(store.dead),
                count(store.pending)
            ),
        ),
        ("the log's file", format!("{} MB", store.file_mb)),
    ]
}

pub(super) fn balance(imbalances: &[String]) -> String {
    if imbalances.is_empty() {
        "balances: every event is accounted for".to_owned()
    } else {
        format!("DOES NOT BALANCE: {}", imbalances.join("; "))
    }
}

pub(super) fn rated(n: u64, per_second: u64) -> String {
    format!("{} ({}/s)", count(n), count(per_second))
}

pub(super) fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// Three digits are enough to compare, and fit.
pub(super) fn time(us: f64) -> String {
    let time = Duration::from_nanos((us * 1e3) as u64);
    if us >= 100_000.0 { format!("{time:.0?}") } else { format!("{time:.1?}") }
}
