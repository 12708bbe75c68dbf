//! The figures of all processes together.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use swarmbus::transport::Mode;

use super::{parent::sum, protocol::Part};
use crate::cmd::load_test::{
    args::Args,
    coordinator::Tasks,
    recorder,
    report::{megabytes, quantile_us},
    swarm::Swarm,
    table::{balance, count, lay_out, rated, time},
};

/// What the report is made of.
pub(super) struct Measured<'a> {
    pub(super) args: &'a Args,
    pub(super) server: String,
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
    /// Events that transports took, in all and until the stop.
    pub(super) published: u64,
    pub(super) published_at_stop: u64,
    pub(super) delivered_at_stop: u64,
    pub(super) parts: &'a [Part],
}

/// All figures. An event is published and delivered once for each process that
/// handles it. Totals include what came after the stop; rates do not.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    transport: &'static str,
    mode: &'static str,
    processes: u16,
    /// Processes of Node.js, beside these, each with one worker.
    node_agents: u16,
    agents: Swarm,
    seconds: f64,
    interrupted: bool,
    published: u64,
    published_per_s: u64,
    delivered: u64,
    delivered_per_s: u64,
    /// Calls of handlers.
    handled: u64,
    /// Published and not delivered.
    lost: u64,
    gaps: u64,
    /// Events missing in gaps, as far as known.
    reported: u64,
    gaps_of_unknown_size: u64,
    /// Of what is lost, what the publisher was told.
    unsent: u64,
    given_up: u64,
    duplicated: u64,
    redelivered: u64,
    corrupted: u64,
    p50_us: f64,
    p95_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    tasks: Tasks,
    tasks_per_s: u64,
    /// Of all processes, without the server.
    rss_peak_mb: f64,
    cpu_seconds: f64,
    server: String,
    pub(super) ledger_balanced: bool,
    /// What does not agree, in words.
    imbalances: Vec<String>,
    settings: Args,
}

impl Report {
    pub(super) fn new(m: &Measured<'_>) -> Result<Self> {
        let sum = sum(m.parts);
        let mode = m.args.channel_mode()?;
        let mut latency = recorder::Part::default().latency;
        for (value, times) in m.parts.iter().flat_map(|part| &part.latency) {
            latency.saturating_record_n(*value, *times);
        }
        let seconds = m.elapsed.as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds) as u64;
        let lost = m.published.saturating_sub(sum.delivered);
        let imbalances = imbalances(mode, m.published, &sum);
        Ok(Self {
            transport: "redis",
            mode: mode.name(),
            processes: m.args.remote.processes,
            node_agents: m.args.remote.node_agents,
            agents: Swarm::of(m.args.agents),
            seconds,
            interrupted: m.interrupted,
            published: m.published,
            published_per_s: per_second(m.published_at_stop),
            delivered: sum.delivered,
            delivered_per_s: per_second(m.delivered_at_stop),
            handled: sum.handled,
            lost,
            gaps: sum.gaps,
            reported: sum.reported,
            gaps_of_unknown_size: sum.unknown,
            unsent: sum.unsent,
            given_up: sum.given_up,
            duplicated: sum.duplicated,
            redelivered: sum.redelivered,
            corrupted: sum.corrupted,
            p50_us: quantile_us(&latency, 0.5),
            p95_us: quantile_us(&latency, 0.95),
            p99_us: quantile_us(&latency, 0.99),
            p999_us: quantile_us(&latency, 0.999),
            max_us: latency.max() as f64 / 1e3,
            tasks: sum.tasks,
            tasks_per_s: per_second(sum.tasks.accepted + sum.tasks.rejected),
            rss_peak_mb: megabytes(sum.rss_peak),
            cpu_seconds: sum.cpu_us as f64 / 1e6,
            server: m.server.clone(),
            ledger_balanced: imbalances.is_empty(),
            imbalances,
            settings: m.args.clone(),
        })
    }

    pub(super) fn text(&self, json: bool) -> Result<String> {
        Ok(if json { serde_json::to_string(self)? } else { lay_out(self.rows()) })
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let Swarm { coordinators, workers, validators, teams } = self.agents;
        let stop = if self.interrupted { ", interrupted" } else { "" };
        let unknown = match self.gaps_of_unknown_size {
            0 => String::new(),
            unknown => format!(", {} of unknown size", count(unknown)),
        };
        let node = match self.node_agents {
            0 => String::new(),
            agents => format!(" and {agents} of Node.js"),
        };
        vec![
            (
                "agents",
                format!(
                    "{}: {coordinators} coordinators, {workers} workers, {validators} validators \
                     in {teams} teams",
                    coordinators + workers + validators
                ),
            ),
            (
                "over",
                format!(
                    "{} processes{node}, {} channels of {}",
                    self.processes, self.mode, self.server
                ),
            ),
            ("ran for", format!("{:.2} s{stop}", self.seconds)),
            ("published", rated(self.published, self.published_per_s)),
            ("delivered", rated(self.delivered, self.delivered_per_s)),
            ("handler calls", count(self.handled)),
            ("lost", count(self.lost)),
            ("gaps", format!("{} of {} events{unknown}", count(self.gaps), count(self.reported))),
            (
                "not sent",
                format!(
                    "{} lost on the way, {} given up",
                    count(self.unsent),
                    count(self.given_up)
                ),
            ),
            (
                "delivered again",
                format!(
                    "{} unmarked, {} redelivered",
                    count(self.duplicated),
                    count(self.redelivered)
                ),
            ),
            (
                "publish → remote handler",
                format!(
                    "p50 {}, p95 {}, p99 {}, p99.9 {}, max {}",
                    time(self.p50_us),
                    time(self.p95_us),
                    time(self.p99_us),
                    time(self.p999_us),
                    time(self.max_us)
                ),
            ),
            ("tasks", rated(self.tasks.accepted + self.tasks.rejected, self.tasks_per_s)),
            (
                "tasks without a verdict",
                format!(
                    "{} timed out, {} unfinished",
                    count(self.tasks.timed_out),
                    count(self.tasks.unfinished)
                ),
            ),
            ("memory", format!("{} MB at peak, all processes", self.rss_peak_mb)),
            ("processor", format!("{:.2} s, all processes without the server", self.cpu_seconds)),
            ("balance", balance(&self.imbalances)),
        ]
    }
}

/// What must not be.
fn imbalances(mode: Mode, published: u64, sum: &Part) -> Vec<String> {
    let mut found = Vec::new();
    let lost = published.saturating_sub(sum.delivered);
    // What was not sent shows at the subscriber, too.
    let told = sum.reported;
    if mode == Mode::Live {
        if lost > told && sum.unknown == 0 {
            found.push(format!("{lost} events are lost, {told} of them reported"));
        }
    } else if lost > 0 {
        found.push(format!("{lost} events of {published} are lost, {told} of them reported"));
    }
    if sum.delivered > published {
        found.push(format!("{} delivered, {published} published", sum.delivered));
    }
    let counts = [
        (sum.duplicated, "events came twice and were not marked as redelivered"),
        (sum.corrupted, "payloads were corrupted"),
        (sum.stuck as u64, "agents did not come to an end"),
    ];
    let wrong = counts.into_iter().filter(|(count, _)| *count > 0);
    found.extend(wrong.map(|(count, what)| format!("{count} {what}")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_channel_may_lose_what_it_reports() {
        let part = Part { delivered: 7, reported: 3, unsent: 1, ..Part::default() };
        assert!(imbalances(Mode::Live, 10, &part).is_empty());
        assert_eq!(imbalances(Mode::Live, 11, &part).len(), 1);
        assert_eq!(imbalances(Mode::Durable, 10, &part).len(), 1);
        assert!(imbalances(Mode::Group, 7, &Part { redelivered: 5, ..part.clone() }).is_empty());
        for mode in [Mode::Live, Mode::Durable, Mode::Group] {
            assert_eq!(imbalances(mode, 7, &Part { duplicated: 1, ..part.clone() }).len(), 1);
            assert_eq!(imbalances(mode, 6, &part).len(), 1);
        }
    }
}
