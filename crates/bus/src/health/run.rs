//! The task of one check.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{Check, CheckReport, CheckState, Probe, Shared};
use crate::{clock::BusClock, handler::panic_text};

/// How long a run that took too long may take to come to its next await.
const STOP_LIMIT: Duration = Duration::from_millis(200);

/// A registered check. Dropping it ends its task.
pub(super) struct Entry {
    report: Arc<Mutex<CheckReport>>,
    task: AbortHandle,
}

impl Entry {
    pub(super) fn start(check: Check, shared: &Arc<Shared>) -> Self {
        let report = Arc::new(Mutex::new(CheckReport::new(&check, BusClock::wall())));
        let work = work(Arc::new(check), Arc::clone(&report), Arc::downgrade(shared));
        let task = shared.runtime.spawn(work).abort_handle();
        Self { report, task }
    }

    pub(super) fn report(&self) -> CheckReport {
        self.report.lock().clone()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs one check until it is removed or nobody holds the [`Health`](super::Health).
async fn work(check: Arc<Check>, report: Arc<Mutex<CheckReport>>, shared: Weak<Shared>) {
    // One run at a time. Dropped, it ends the run.
    let mut run = JoinSet::new();
    loop {
        let started = Instant::now();
        let result = ask(&check, &mut run).await;
        let passed = result.is_ok();

        let Some(shared) = shared.upgrade() else { return };
        let (state, changed) = {
            let mut report = report.lock();
            let now = BusClock::wall();
            let changed = report.record(result, check.threshold, now, started.elapsed());
            (report.state, changed)
        };
        if changed {
            log(&check, &report.lock().clone());
        }
        if !passed && state == CheckState::Failing {
            open_breaker(&check, &shared);
        }
        if changed {
            shared.changed();
        }
        if passed && check.probe == Probe::Startup {
            return;
        }
        let interval = shared.interval(check.probe);
        drop(shared);
        sleep(interval.saturating_sub(started.elapsed())).await;
    }
}

/// One run, in a task of its own, so that a panic ends nothing else.
async fn ask(check: &Arc<Check>, run: &mut JoinSet<Result<(), String>>) -> Result<(), String> {
    // What was aborted may have ended meanwhile.
    while run.try_join_next().is_some() {}
    if !run.is_empty() {
        return Err("an earlier run does not end: it blocks its thread".to_owned());
    }
    let asked = Arc::clone(check);
    run.spawn(async move { (asked.run)().await.map_err(|error| error.to_string()) });
    match timeout(check.limit, run.join_next()).await {
        Ok(Some(Ok(result))) => result,
        Ok(Some(Err(error))) => Err(match error.try_into_panic() {
            Ok(panic) => format!("panicked: {}", panic_text(panic)),
            Err(_) => "the runtime is shutting down".to_owned(),
        }),
        Ok(None) => Err("the run was lost".to_owned()),
        Err(_) => {
            run.abort_all();
            // What stops when it is told to is gone before the next run.
            let _ = timeout(STOP_LIMIT, run.join_next()).await;
            Err(format!("no answer within {:?}", check.limit))
        }
    }
}

fn log(check: &Check, report: &CheckReport) {
    let CheckReport { name, probe, last_error, .. } = report;
    match report.state {
        CheckState::Failing => {
            let error = last_error.as_deref().unwrap_or_default();
            tracing::warn!(%name, %probe, failures = check.threshold, error, "health check fails");
        }
        CheckState::Passing | CheckState::Pending => {
            tracing::info!(%name, %probe, "health check passes");
        }
    }
}

fn open_breaker(check: &Check, shared: &Shared) {
    if let (Some(service), Some(bus)) = (&check.service, shared.bus.upgrade()) {
        let inner = bus.inner();
        inner.breakers.trip_service(service, &inner.clock);
    }
}
