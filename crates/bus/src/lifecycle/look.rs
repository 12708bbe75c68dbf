//! A look at the checks and the breakers: what is wrong, in words.

use std::panic::{AssertUnwindSafe, catch_unwind};

use swarmbus_core::lifecycle::Signs;

use crate::{
    bus::{Bus, WeakBus},
    handler::panic_text,
    health::{CheckReport, CheckState, Health, HealthReport, Probe},
    pipeline::fallback::Degraded,
};

pub(super) type DegradedWhen = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What is looked at.
pub(super) struct Eyes {
    bus: WeakBus,
    health: Health,
    degraded_when: Vec<DegradedWhen>,
}

impl Eyes {
    pub(super) fn new(bus: &Bus, health: &Health, degraded_when: Vec<DegradedWhen>) -> Self {
        Self { bus: bus.downgrade(), health: health.clone(), degraded_when }
    }

    /// All but whether it has settled.
    pub(super) fn look(&self) -> Signs {
        let report = self.health.report();
        let bus = self.bus.upgrade();
        let troubled = bus.as_ref().map(|bus| bus.inner().breakers.troubled());
        let (open, half_open) = troubled.map_or((None, None), |it| (it.open, it.half_open));
        let down = failing(&report, Probe::Readiness)
            .or_else(|| open.map(|name| format!("the breaker of {name} is open")))
            .or_else(|| bus.as_ref().and_then(fallback))
            .or_else(|| self.degraded());
        Signs {
            fatal: failing(&report, Probe::Liveness).or_else(|| late(&report)),
            down,
            trying: half_open.map(|name| format!("the breaker of {name} is probing")),
            starting: is_starting(&report),
            settled: false,
        }
    }

    fn degraded(&self) -> Option<String> {
        self.degraded_when.iter().find_map(|ask| {
            catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
                Some(format!("asking whether it is degraded panicked: {}", panic_text(panic)))
            })
        })
    }
}

/// The first handler that a fallback stands in for.
fn fallback(bus: &Bus) -> Option<String> {
    let Degraded { name, serving, .. } = bus.degraded().into_iter().next()?;
    Some(format!("{serving} stands in for {name}"))
}

/// The first check of a kind that is failing, and how many there are besides.
fn failing(report: &HealthReport, probe: Probe) -> Option<String> {
    let mut failing = report
        .checks
        .iter()
        .filter(|check| check.probe == probe && check.state == CheckState::Failing);
    let CheckReport { name, last_error, .. } = failing.next()?;
    let error = last_error.as_deref().unwrap_or("no reason given");
    Some(match failing.count() {
        0 => format!("{probe} of {name}: {error}"),
        more => format!("{probe} of {name}: {error}; and {more} more"),
    })
}

/// A startup check that has not passed in the time there was.
fn late(report: &HealthReport) -> Option<String> {
    let mut checks = report.checks.iter();
    // One that was registered just now has not been asked.
    let late = |check: &&CheckReport| {
        let asked = check.last_run.is_some();
        check.probe == Probe::Startup && check.state != CheckState::Passing && asked
    };
    let check = checks.find(late).filter(|_| !report.starting)?;
    Some(format!("{} has not started in time", check.name))
}

/// Something has not passed yet, and may still do so.
fn is_starting(report: &HealthReport) -> bool {
    let waiting = |check: &CheckReport| match check.state {
        CheckState::Passing => false,
        CheckState::Pending => true,
        CheckState::Failing => report.starting,
    };
    report.checks.iter().any(waiting)
}
