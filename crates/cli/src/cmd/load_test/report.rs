//! The figures, as JSON and as what the table shows.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;
use swarmbus::{BreakerReport, Ledger, Outcomes, breaker::StateKind};

use super::{
    AllDone, args::Args, coordinator::Tasks, recorder::Part, store::StoreReport, swarm::Swarm,
    table, usage::Usage,
};
use crate::cmd::print;

/// What the report is made of.
pub(super) struct Measured<'a> {
    pub(super) args: &'a Args,
    pub(super) swarm: Swarm,
    /// From the first task to the stop.
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
    pub(super) at_stop: &'a Ledger,
    pub(super) ledger: &'a Ledger,
    pub(super) seen: &'a Part,
    pub(super) done: &'a AllDone,
    pub(super) breakers: &'a [BreakerReport],
    pub(super) peak_depth: usize,
    pub(super) usage: Usage,
    /// Events of an earlier run among those of the ledgers.
    pub(super) taken_over: u64,
}

/// All figures. Totals include what was delivered after the stop; rates do
/// not.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) seconds: f64,
    /// Ended by Ctrl-C.
    pub(super) interrupted: bool,
    pub(super) published: u64,
    pub(super) published_per_s: u64,
    pub(super) delivered: u64,
    pub(super) delivered_per_s: u64,
    pub(super) p50_us: f64,
    pub(super) p95_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) outcomes: Outcomes,
    pub(super) unmatched: u64,
    /// How often an event was handed back to its agent, which tried again.
    pub(super) refused: u64,
    /// Events that were handed back too often.
    pub(super) given_up: u64,
    pub(super) corrupted: u64,
    pub(super) tasks: Tasks,
    pub(super) tasks_per_s: u64,
    pub(super) peak_queue_depth: usize,
    pub(super) rss_start_mb: f64,
    pub(super) rss_peak_mb: f64,
    /// Time of the processor: of all threads, from before the first task until
    /// the queue was empty. 0 where the system does not say.
    pub(super) cpu_seconds: f64,
    /// The same for each event delivered.
    pub(super) cpu_ns_per_event: f64,
    pub(super) breakers: Breakers,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<StoreReport>,
    pub(super) ledger_balanced: bool,
    /// What does not agree, in words.
    pub(super) imbalances: Vec<String>,
    pub(super) agents: Swarm,
    pub(super) settings: Args,
}

/// All breakers together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Breakers {
    pub(super) count: usize,
    pub(super) opens: u64,
    pub(super) recovery_attempts: u64,
    pub(super) recoveries: u64,
    pub(super) rejected: u64,
    pub(super) bypassed: u64,
    pub(super) not_closed_at_end: usize,
}

impl Report {
    pub(super) fn new(m: &Measured<'_>) -> Self {
        let seconds = m.elapsed.as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds) as u64;
        let latency = &m.seen.latency;
        let tasks = m.done.agents.tasks;
        let imbalances = imbalances(m);
        Self {
            seconds,
            interrupted: m.interrupted,
            published: m.ledger.published - m.taken_over,
            published_per_s: per_second(m.at_stop.published - m.taken_over),
            delivered: m.ledger.outcomes.delivered,
            delivered_per_s: per_second(m.at_stop.outcomes.delivered),
            p50_us: quantile_us(latency, 0.5),
            p95_us: quantile_us(latency, 0.95),
            p99_us: quantile_us(latency, 0.99),
            p999_us: quantile_us(latency, 0.999),
            max_us: latency.max() as f64 / 1e3,
            outcomes: m.ledger.outcomes,
            unmatched: m.ledger.unmatched - m.taken_over,
            refused: m.ledger.refused,
            given_up: m.done.agents.sent.given_up,
            corrupted: m.seen.corrupted,
            tasks,
            tasks_per_s: per_second(tasks.accepted + tasks.rejected),
            peak_queue_depth: m.peak_depth,
            rss_start_mb: megabytes(m.usage.rss_start),
            rss_peak_mb: megabytes(m.usage.rss_peak),
            cpu_seconds: m.usage.processor.as_secs_f64(),
            cpu_ns_per_event: m.usage.processor.as_nanos() as f64
                / m.ledger.outcomes.delivered.max(1) as f64,
            breakers: Breakers::of(m.breakers),
            store: None,
            ledger_balanced: imbalances.is_empty(),
            imbalances,
            agents: m.swarm,
            settings: m.args.clone(),
        }
    }

    pub(super) fn print(&self, json: bool) -> Result<()> {
        print(if json { serde_json::to_string(self)? } else { table::of(self) })
    }
}

/// The bus's books must agree with themselves, and with what agents and
/// handlers counted on their own.
fn imbalances(m: &Measured<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let ledger = m.ledger;
    if !ledger.balances() {
        found.push(format!("the ledger: {ledger}"));
    }
    if m.done.stuck > 0 {
        found.push(format!("{} agents did not come to an end", m.done.stuck));
    }
    if m.done.undelivered as u64 > ledger.outcomes.cancelled {
        let cancelled = ledger.outcomes.cancelled;
        found.push(format!("{} events undelivered, {cancelled} cancelled", m.done.undelivered));
    }
    if m.seen.corrupted > 0 {
        found.push(format!("{} payloads were corrupted", m.seen.corrupted));
    }
    let sent = m.done.agents.sent;
    let mut compare = |what: &str, ours: u64, theirs: u64| {
        if ours != theirs {
            found.push(format!("{what}: {ours} by the agents, {theirs} by the ledger"));
        }
    };
    compare("published", sent.accepted, ledger.published - m.taken_over);
    compare("handed back", sent.handed_back, ledger.refused);
    compare("delivered", m.seen.delivered, ledger.outcomes.delivered);
    found
}

impl Breakers {
    pub(super) fn of(reports: &[BreakerReport]) -> Self {
        let mut sum = Self { count: reports.len(), ..Self::default() };
        for BreakerReport { stats, .. } in reports {
            sum.opens += stats.opens;
            sum.recovery_attempts += stats.recovery_attempts;
            sum.recoveries += stats.recoveries;
            sum.rejected += stats.rejected;
            sum.bypassed += stats.bypassed;
            sum.not_closed_at_end += usize::from(stats.state != StateKind::Closed);
        }
        sum
    }
}

pub(super) fn quantile_us(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}
