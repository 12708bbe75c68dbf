//! `--store`: the event log under the bus, and whether it says what the bus
//! says.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use swarmbus::{Bus, Ledger};
use swarmbus_store::{Counts, EventLog, LogReader, LogStats, Options, Query, Recorder, Status};

use super::args::Args;
use crate::cmd::say;

/// How the names of those begin who publish in a load test.
const AGENTS: [&str; 4] = ["coordinator-", "worker-", "validator-", "agent-"];

/// How long the bus may take to settle what an earlier run left.
const TAKE_OVER: Duration = Duration::from_secs(60);

/// The log of this run, open.
pub(super) struct Store {
    log: EventLog,
    /// What was in it, and what it had done, before the agents began.
    before: Counts,
    at_start: LogStats,
    /// What an earlier run left pending, settled before this one began.
    pub(super) taken_over: u64,
}

/// What the log says at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StoreReport {
    pub(super) appended: u64,
    pub(super) appended_per_s: u64,
    pub(super) commits: u64,
    pub(super) failed_commits: u64,
    /// Events of this run, by what became of them.
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) dead: u64,
    pub(super) pending: u64,
    /// What an earlier run left pending, settled before this one began.
    pub(super) taken_over: u64,
    pub(super) file_mb: f64,
}

/// Opens the log that the user names. Blocks.
pub(super) fn open(args: &Args) -> Result<Option<Store>> {
    let Some(path) = &args.store else { return Ok(None) };
    // Nothing ages out, so that what is new can be counted.
    let options = Options::new().durability(args.durability.into()).keep_for(None);
    let log = options.open(path).context("cannot use --store")?;
    let reader = log.reader().context("cannot use --store")?;
    let before = reader.count(&Query::new())?;
    if before.pending > 0 {
        check_pending(&reader, path)?;
    }
    let at_start = log.stats();
    Ok(Some(Store { log, before, at_start, taken_over: 0 }))
}

/// Refuses a log with pending events of somebody else: they wait for handlers
/// that are not here.
fn check_pending(reader: &LogReader, path: &Path) -> Result<()> {
    let query = Query::new().status(Status::Pending);
    let (mut after, mut others) = (None, BTreeSet::new());
    loop {
        let page = reader.page(&query, after, 1_000)?;
        let sources = page.records.iter().map(|record| record.event.source().to_owned());
        others.extend(sources.filter(|source| !AGENTS.iter().any(|name| source.starts_with(name))));
        if let Some(source) = others.first() {
            bail!(
                "cannot use --store: {} has pending events that no load test wrote (from {source:?}), \
                 and here is nobody to handle them: name another file",
                path.display()
            );
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

impl Store {
    /// The journal for the bus.
    pub(super) fn journal(&self) -> EventLog {
        self.log.clone()
    }

    /// Middleware that writes handler calls down, for what-if replays.
    pub(super) fn call_recorder(&self) -> Recorder {
        Recorder::new(&self.log)
    }

    /// Settles what an earlier load test left pending. The agents that it was
    /// for are gone, so nobody may be subscribed yet.
    pub(super) async fn take_over(&mut self, bus: &Bus) -> Result<()> {
        self.log.recover(bus).await.context("cannot use --store")?;
        if bus.drain(TAKE_OVER).await > 0 {
            bail!("the events that an earlier run left in --store are not settled in time");
        }
        self.taken_over = bus.ledger().published;
        if self.taken_over > 0 {
            say(format_args!(
                "note: --store had {} pending events of an earlier load test, whose agents are \
                 gone: they are settled",
                self.taken_over
            ));
        }
        self.log.flush().await.context("cannot use --store")?;
        self.before = self.log.reader()?.count(&Query::new())?;
        self.at_start = self.log.stats();
        Ok(())
    }

    /// What the log has done so far.
    pub(super) fn stats(&self) -> LogStats {
        self.log.stats()
    }

    /// Closes the log, reads it, and adds to `found` what does not agree with
    /// the ledger. The bus has been shut down.
    pub(super) async fn close(
        self,
        ledger: &Ledger,
        at_stop: LogStats,
        elapsed: Duration,
        found: &mut Vec<String>,
    ) -> Result<StoreReport> {
        if let Err(error) = self.log.close().await {
            found.push(format!("the event log: {error}"));
        }
        let (stats, path) = (self.log.stats(), self.log.path().to_owned());
        let read = tokio::task::spawn_blocking(move || -> Result<_> {
            let after = LogReader::open(&path)?.count(&Query::new())?;
            Ok((after, path.metadata()?.len()))
        });
        let (after, bytes) = read.await?.context("cannot read what is in --store")?;
        let per_second = (at_stop.written - self.at_start.written) as f64 / elapsed.as_secs_f64();
        let before = self.before;
        let report = StoreReport {
            appended: after.total().saturating_sub(before.total()),
            appended_per_s: per_second as u64,
            commits: stats.commits - self.at_start.commits,
            failed_commits: stats.failures - self.at_start.failures,
            delivered: after.delivered.saturating_sub(before.delivered),
            failed: after.failed.saturating_sub(before.failed),
            dead: after.dead.saturating_sub(before.dead),
            pending: after.pending.saturating_sub(before.pending),
            taken_over: self.taken_over,
            file_mb: (bytes as f64 / 1e5).round() / 10.0,
        };
        report.compare(ledger, found);
        Ok(report)
    }
}

impl StoreReport {
    /// Every event that the bus accepted is in the log, and every event that it
    /// resolved is settled there.
    fn compare(&self, ledger: &Ledger, found: &mut Vec<String>) {
        let published = ledger.published - self.taken_over;
        if self.appended != published {
            let appended = self.appended;
            found.push(format!("{appended} events are in the log, {published} in the ledger"));
        }
        // What was cancelled, perhaps for several handlers, is resolved for the
        // bus, and to be offered again for the log.
        let least = ledger.pending();
        let most = least + ledger.outcomes.cancelled;
        if !(least..=most).contains(&self.pending) {
            let pending = self.pending;
            found.push(format!("{pending} events are pending in the log, {most} in the ledger"));
        }
    }
}
