//! The report of the chaos as a table for people.

use super::{
    outage::Recovery,
    report::{Balance, Latency, Report},
};
use crate::cmd::load_test::table::{balance, count, lay_out, rated, store_rows, time};

pub(super) fn of(report: &Report) -> String {
    lay_out(rows(report))
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let Report { breakers, calls, .. } = report;
    let interrupted = if report.interrupted { ", interrupted" } else { "" };
    let mut rows = vec![
        (
            "ran for",
            format!(
                "{:.2} s, {:.2} s of it calm{interrupted}",
                report.seconds, report.calm_seconds
            ),
        ),
        ("published", rated(report.published, report.published_per_s)),
    ];
    rows.extend(ends(&report.balance, report.published));
    rows.extend([
        ("unaccounted for", report.balance.unaccounted.to_string()),
        ("success rate", format!("{:.3} %", report.success_rate * 100.0)),
    ]);
    if report.refused + report.given_up > 0 {
        let (refused, given_up) = (count(report.refused), count(report.given_up));
        rows.push(("handed back", format!("{refused} times, {given_up} events given up")));
    }
    rows.extend([
        ("calls", format!("{}, {} of them retries", count(calls.begun), count(calls.retries))),
        (
            "failed calls",
            format!(
                "{} failed, {} panicked, {} timed out, {} found the service down",
                count(calls.failed),
                count(calls.panicked),
                count(calls.timed_out),
                count(calls.service_down)
            ),
        ),
        (
            "bulkheads",
            format!(
                "{} calls found one full, {} waited too long",
                count(report.bulkhead_full),
                count(report.bulkhead_timed_out)
            ),
        ),
        (
            "circuit breakers",
            format!(
                "{}: opened {} times, recovered {} times, {} not closed at the end",
                breakers.count, breakers.opens, breakers.recoveries, breakers.not_closed_at_end
            ),
        ),
    ]);
    rows.extend(report.recovery.iter().flat_map(recovery));
    rows.extend([
        ("publish → handled, calm", latency(&report.calm)),
        ("publish → handled, chaos", latency(&report.chaos)),
        ("peak queue depth", count(report.peak_queue_depth as u64)),
        (
            "memory",
            format!("{} MB at start, {} MB at peak", report.rss_start_mb, report.rss_peak_mb),
        ),
    ]);
    rows.extend(report.store.iter().flat_map(store_rows));
    rows.push(("ledger", balance(&report.imbalances)));
    rows
}

/// The ends that came about, each with its share.
fn ends(balance: &Balance, published: u64) -> impl Iterator<Item = (&'static str, String)> {
    let ends = [
        ("= delivered at once", balance.delivered_at_once),
        ("+ delivered after retries", balance.delivered_after_retries),
        ("+ handled by a fallback", balance.by_fallback),
        ("+ dead letters: failed", balance.dead_failed),
        ("+ dead letters: panicked", balance.dead_panicked),
        ("+ dead letters: timed out", balance.dead_timed_out),
        ("+ dead letters: service down", balance.dead_service_down),
        ("+ rejected by a breaker", balance.rejected_by_breaker),
        ("+ rejected by a bulkhead", balance.rejected_by_bulkhead),
        ("+ dropped by the full queue", balance.dropped),
        ("+ expired", balance.expired),
        ("+ ended for no known reason", balance.other),
        ("+ cut off by the end", balance.cancelled),
    ];
    let share = move |n: u64| n as f64 * 100.0 / published.max(1) as f64;
    ends.into_iter()
        .filter(|(_, n)| *n > 0)
        .map(move |(end, n)| (end, format!("{} ({:.3} %)", count(n), share(n))))
}

fn recovery(recovery: &Recovery) -> [(&'static str, String); 2] {
    let Recovery { service, down_for_s, asked_s, .. } = recovery;
    let opened = if recovery.opened { "its breaker opened" } else { "its breaker did not open" };
    let after = |time: Option<f64>| time.map_or("never".to_owned(), |s| format!("after {s:.3} s"));
    let verdict = match recovery.in_time {
        Some(true) => format!("in time (asked: {asked_s} s)"),
        Some(false) => format!("TOO LATE (asked: {asked_s} s)"),
        None => format!("the run ended before (asked: {asked_s} s)"),
    };
    [
        ("outage", format!("{service} was down for {down_for_s:.2} s, {opened}")),
        (
            "recovery",
            format!(
                "delivered again: {}, breaker closed: {}; {verdict}",
                after(recovery.delivered_after_s),
                after(recovery.closed_after_s)
            ),
        ),
    ]
}

fn latency(latency: &Latency) -> String {
    if latency.delivered == 0 {
        return "nothing was delivered".to_owned();
    }
    format!(
        "p50 {}, p95 {}, p99 {}, max {}",
        time(latency.p50_us),
        time(latency.p95_us),
        time(latency.p99_us),
        time(latency.max_us)
    )
}
