//! The figures of the chaos, as JSON and as what the table shows.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;
use swarmbus::{Ledger, Outcomes};

use super::{
    End as RunEnd,
    account::{Calls, End, Seen},
    args::Scenario,
    outage::Recovery,
    plan::Plan,
    service::Services,
    table,
};
use crate::cmd::{
    load_test::{
        args::Args,
        recorder::Part,
        report::{Breakers, megabytes, quantile_us},
        store::StoreReport,
        usage::Usage,
    },
    print,
};

/// What the report is made of.
pub(super) struct Measured<'a> {
    pub(super) args: &'a Args,
    pub(super) plan: &'a Plan,
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
    pub(super) ledger: &'a Ledger,
    pub(super) services: &'a Services,
    pub(super) end: &'a RunEnd,
    pub(super) peak_depth: usize,
    pub(super) usage: Usage,
    pub(super) taken_over: u64,
}

/// All figures.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: Option<Scenario>,
    pub(super) seconds: f64,
    /// The part of these before the chaos.
    pub(super) calm_seconds: f64,
    /// Ended by Ctrl-C.
    pub(super) interrupted: bool,
    pub(super) published: u64,
    pub(super) published_per_s: u64,
    /// Delivered, by a service or by its fallback, of all published.
    pub(super) success_rate: f64,
    pub(super) balance: Balance,
    pub(super) refused: u64,
    pub(super) given_up: u64,
    pub(super) calls: Calls,
    pub(super) bulkhead_full: u64,
    pub(super) bulkhead_timed_out: u64,
    pub(super) breakers: Breakers,
    pub(super) recovery: Option<Recovery>,
    pub(super) calm: Latency,
    pub(super) chaos: Latency,
    pub(super) peak_queue_depth: usize,
    pub(super) rss_start_mb: f64,
    pub(super) rss_peak_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<StoreReport>,
    pub(super) ledger_balanced: bool,
    /// What does not agree, in words.
    pub(super) imbalances: Vec<String>,
    pub(super) settings: Args,
}

/// Every published event, by its end.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Balance {
    pub(super) delivered_at_once: u64,
    pub(super) delivered_after_retries: u64,
    pub(super) by_fallback: u64,
    pub(super) dead_failed: u64,
    pub(super) dead_panicked: u64,
    pub(super) dead_timed_out: u64,
    pub(super) dead_service_down: u64,
    pub(super) rejected_by_breaker: u64,
    pub(super) rejected_by_bulkhead: u64,
    pub(super) dropped: u64,
    pub(super) expired: u64,
    pub(super) other: u64,
    /// Cut off by the end of the run.
    pub(super) cancelled: u64,
    pub(super) unaccounted: i64,
}

/// From publishing to the end of the call that handled it.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) delivered: u64,
    pub(super) p50_us: f64,
    pub(super) p95_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

impl Report {
    pub(super) fn new(m: &Measured<'_>) -> Self {
        let seconds = m.elapsed.as_secs_f64();
        let published = m.ledger.published - m.taken_over;
        let seen = m.services.account.total();
        let [calm, chaos] = m.services.seen();
        let balance = Balance::new(published, &seen, m.ledger);
        let imbalances = imbalances(m, &seen, &balance, &[&calm, &chaos]);
        Self {
            scenario: m.args.chaos.chaos,
            seconds,
            calm_seconds: m.plan.calm.as_secs_f64().min(seconds),
            interrupted: m.interrupted,
            published,
            published_per_s: (published as f64 / seconds) as u64,
            success_rate: balance.success_rate(published),
            balance,
            refused: m.ledger.refused,
            given_up: m.end.published.sent.given_up,
            calls: seen.calls,
            bulkhead_full: m.end.bulkhead_full,
            bulkhead_timed_out: m.end.bulkhead_timed_out,
            breakers: Breakers::of(&m.end.breakers),
            recovery: m.end.recovery.clone(),
            calm: Latency::of(&calm.latency),
            chaos: Latency::of(&chaos.latency),
            peak_queue_depth: m.peak_depth,
            rss_start_mb: megabytes(m.usage.rss_start),
            rss_peak_mb: megabytes(m.usage.rss_peak),
            store: None,
            ledger_balanced: imbalances.is_empty(),
            imbalances,
            settings: m.args.clone(),
        }
    }

    /// Whether every event is accounted for, and the service that was down was
    /// served again in time.
    pub(super) fn passed(&self) -> bool {
        let late = self.recovery.as_ref().is_some_and(|recovery| recovery.in_time == Some(false));
        self.ledger_balanced && !late
    }

    pub(super) fn print(&self, json: bool) -> Result<()> {
        print(if json { serde_json::to_string(self)? } else { table::of(self) })
    }
}

impl Balance {
    fn new(published: u64, seen: &Seen, ledger: &Ledger) -> Self {
        let cancelled = ledger.outcomes.cancelled;
        let ended = seen.total() + cancelled;
        Self {
            delivered_at_once: seen.of(End::AtOnce),
            delivered_after_retries: seen.of(End::AfterRetries),
            by_fallback: seen.of(End::ByFallback),
            dead_failed: seen.of(End::DeadFailed),
            dead_panicked: seen.of(End::DeadPanicked),
            dead_timed_out: seen.of(End::DeadTimedOut),
            dead_service_down: seen.of(End::DeadDown),
            rejected_by_breaker: seen.of(End::Breaker),
            rejected_by_bulkhead: seen.of(End::Bulkhead),
            dropped: seen.of(End::Dropped),
            expired: seen.of(End::Expired),
            other: seen.of(End::Other),
            cancelled,
            unaccounted: published.cast_signed().wrapping_sub(ended.cast_signed()),
        }
    }

    fn success_rate(&self, published: u64) -> f64 {
        let delivered = self.delivered_at_once + self.delivered_after_retries + self.by_fallback;
        if published == 0 { 0.0 } else { delivered as f64 / published as f64 }
    }
}

impl Latency {
    fn of(latency: &Histogram<u64>) -> Self {
        Self {
            delivered: latency.len(),
            p50_us: quantile_us(latency, 0.5),
            p95_us: quantile_us(latency, 0.95),
            p99_us: quantile_us(latency, 0.99),
            max_us: latency.max() as f64 / 1e3,
        }
    }
}

/// The bus's books must agree with themselves, and with what publishers,
/// services and the account wrote down on their own.
fn imbalances(m: &Measured<'_>, seen: &Seen, balance: &Balance, parts: &[&Part]) -> Vec<String> {
    let mut found = Vec::new();
    let ledger = m.ledger;
    if !ledger.balances() {
        found.push(format!("the ledger: {ledger}"));
    }
    if m.end.stuck > 0 {
        found.push(format!("{} publishers did not come to an end", m.end.stuck));
    }
    if balance.unaccounted != 0 {
        found.push(format!("{} events are not accounted for", balance.unaccounted));
    }
    if balance.other > 0 {
        found.push(format!("{} events ended for no reason that is known", balance.other));
    }
    let corrupted: u64 = parts.iter().map(|part| part.corrupted).sum();
    if corrupted > 0 {
        found.push(format!("{corrupted} payloads were corrupted"));
    }
    let published = m.end.published;
    // Those that were cut off are not among the ends.
    if ledger.outcomes.cancelled == 0 && published.hash != seen.hash {
        found.push("the events that ended are not those that were published".to_owned());
    }
    let mut compare = |what: &str, ours: u64, theirs: u64| {
        if ours != theirs {
            found.push(format!("{what}: {ours} counted apart, {theirs} in the ledger"));
        }
    };
    compare("published", published.sent.accepted, ledger.published - m.taken_over);
    compare("handed back", published.sent.handed_back, ledger.refused);
    let Outcomes { delivered, fell_back, dead_lettered, .. } = ledger.outcomes;
    let Outcomes { rejected_by_breaker, rejected_by_bulkhead, .. } = ledger.outcomes;
    compare("handled", parts.iter().map(|part| part.delivered).sum(), delivered);
    compare("delivered", seen.of(End::AtOnce) + seen.of(End::AfterRetries), delivered);
    compare("handled by fallbacks", m.services.fallbacks(), fell_back);
    compare("by fallback", balance.by_fallback, fell_back);
    let dead = [End::DeadFailed, End::DeadPanicked, End::DeadTimedOut, End::DeadDown];
    compare("dead letters", dead.map(|end| seen.of(end)).iter().sum(), dead_lettered);
    compare("rejected by breakers", balance.rejected_by_breaker, rejected_by_breaker);
    compare("rejected by bulkheads", balance.rejected_by_bulkhead, rejected_by_bulkhead);
    found
}
