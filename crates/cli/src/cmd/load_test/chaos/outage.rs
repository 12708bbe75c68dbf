//! One service that is down for a while, and how soon it is served again.

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use swarmbus::{Bus, breaker::StateKind};
use tokio::time::{Instant, sleep, sleep_until};

use super::{plan::Plan, service};

/// How often to look whether the breaker has closed.
const LOOK: Duration = Duration::from_millis(5);

/// How soon a service must be served again: when its breaker lets probes
/// through, and a second.
pub(super) const ASKED: Duration = service::OPEN_FOR.saturating_add(Duration::from_secs(1));

/// Whether a service is down, and when it was served again.
#[derive(Debug)]
pub(super) struct Outage {
    planned: Option<(u64, Range<Duration>)>,
    /// When the run ends.
    end: Duration,
    down: AtomicBool,
    back_at: OnceLock<Instant>,
    delivered_at: OnceLock<Instant>,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Recovery {
    pub(super) service: String,
    pub(super) down_for_s: f64,
    /// Whether its breaker opened: if too few calls came, it need not.
    pub(super) opened: bool,
    /// From the service's return to the first event that it handled.
    pub(super) delivered_after_s: Option<f64>,
    /// From the service's return until its breaker was closed.
    pub(super) closed_after_s: Option<f64>,
    pub(super) asked_s: f64,
    /// `None` if the run ended before the time was over.
    pub(super) in_time: Option<bool>,
}

impl Outage {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            planned: plan.outage.clone(),
            end: plan.length,
            down: AtomicBool::new(false),
            back_at: OnceLock::new(),
            delivered_at: OnceLock::new(),
        }
    }

    pub(super) fn is_down(&self, service: u64) -> bool {
        self.down.load(Relaxed) && self.is_planned_for(service)
    }

    /// A service has handled an event.
    pub(super) fn delivered(&self, service: u64) {
        if self.back_at.get().is_some()
            && self.is_planned_for(service)
            && self.delivered_at.get().is_none()
        {
            // Of two at once, either will do.
            let _ = self.delivered_at.set(Instant::now());
        }
    }

    /// Takes the service down and up again, and sees how soon it is served.
    /// `None` if there is no outage.
    pub(super) async fn happen(self: Arc<Self>, bus: Bus, started: Instant) -> Option<Recovery> {
        let (service, time) = self.planned.clone()?;
        let name = service::name(service);
        let opens = || of(&bus, &name).map_or(0, |stats| stats.opens);
        sleep_until(started + time.start).await;
        let before = opens();
        self.down.store(true, Relaxed);
        sleep_until(started + time.end).await;
        let opened = opens() > before;
        self.down.store(false, Relaxed);
        let back = *self.back_at.get_or_init(Instant::now);
        let end = started + self.end;
        let (mut closed_after_s, mut delivered_after_s) = (None, None);
        while (closed_after_s.is_none() || delivered_after_s.is_none()) && Instant::now() < end {
            let now = back.elapsed().as_secs_f64();
            if closed_after_s.is_none() && is_closed(&bus, &name) {
                closed_after_s = Some(now);
            }
            delivered_after_s = self.delivered_at.get().map(|at| (*at - back).as_secs_f64());
            sleep(LOOK).await;
        }
        let latest = closed_after_s.zip(delivered_after_s).map(|(a, b)| f64::max(a, b));
        let in_time = match latest {
            Some(latest) => Some(latest <= ASKED.as_secs_f64()),
            None => (self.end >= time.end + ASKED).then_some(false),
        };
        Some(Recovery {
            service: name,
            down_for_s: (time.end - time.start).as_secs_f64(),
            opened,
            delivered_after_s,
            closed_after_s,
            asked_s: ASKED.as_secs_f64(),
            in_time,
        })
    }

    fn is_planned_for(&self, service: u64) -> bool {
        self.planned.as_ref().is_some_and(|(planned, _)| *planned == service)
    }
}

fn is_closed(bus: &Bus, name: &str) -> bool {
    // A breaker that never had a call is closed, too.
    of(bus, name).is_none_or(|stats| stats.state == StateKind::Closed)
}

fn of(bus: &Bus, name: &str) -> Option<swarmbus::breaker::Stats> {
    bus.breakers().into_iter().find(|report| &*report.name == name).map(|report| report.stats)
}
