//! [`Health`]: asks the program's checks how things are, again and again.
//!
//! ```
//! use swarmbus::{Bus, health::{Check, Health}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn ping() -> Result<(), std::io::Error> { Ok(()) }
//! let bus = Bus::builder().build()?;
//! let health = Health::builder().start(&bus)?;
//! health.register(Check::startup("cache", async || { /* is it filled? */ }))?;
//! // While this fails, the breaker that handlers of `mailer` share is open.
//! health.register(Check::readiness("mailer", async || ping().await).service("mailer"))?;
//!
//! health.wait_until_passing().await;
//! let report = health.report();
//! assert!(report.live && report.ready);
//! println!("{}", serde_json::to_string_pretty(&report)?);
//! # Ok(())
//! # }
//! ```
//!
//! | probe | asks | every | failing after | then |
//! | --- | --- | --- | --- | --- |
//! | liveness | does it run? | 30 s | 3 failures in a row | the system has failed |
//! | readiness | can it take work? | 10 s | 2 | the system is degraded |
//! | startup | has it started? | 5 s for the first 2 min, then as liveness | 1 | until it passes once, the system initializes; after 2 min it has failed |
//!
//! A check runs as soon as it is registered, in a task of its own, one run at a
//! time. A run that takes longer than its limit is dropped and counts as a
//! failure, as does a panic. What the state of the whole system makes of this is
//! said in [`lifecycle`](crate::lifecycle).

mod check;
mod report;
mod run;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, time::Instant};

pub use check::{Check, Probe};
pub use report::{CheckReport, CheckState, HealthReport};

use self::run::Entry;
use crate::bus::{Bus, WeakBus};

/// Longest name of a check in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// The checks of a program and what they said last.
///
/// A handle: clones share the checks, and when the last one is dropped, they
/// stop. It does not keep the bus alive.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

/// Why a check was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A name is 1 to [`MAX_NAME_LEN`] bytes long.
    #[error("the name of a check is 1 to {MAX_NAME_LEN} bytes long, not {0}")]
    Name(usize),
    /// There is a check of this name.
    #[error("there is a check named {0} already")]
    Duplicate(String),
    /// There are as many as [`HealthBuilder::max_checks`] allows.
    #[error("there are {limit} checks already, the most there may be")]
    TooMany {
        /// The most there may be.
        limit: usize,
    },
}

/// Why health checks do not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// Checks run on a tokio runtime, and this thread is in none.
    #[error("health checks need a tokio runtime")]
    NoRuntime,
    /// This interval must be more than zero.
    #[error("{0} must be more than zero")]
    Interval(&'static str),
}

impl Health {
    /// Settings first, then [`HealthBuilder::start`].
    pub fn builder() -> HealthBuilder {
        HealthBuilder::default()
    }

    /// Adds a check and runs it at once.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    pub fn register(&self, check: Check) -> Result<(), CheckError> {
        let name = check.name.clone();
        if !(1..=MAX_NAME_LEN).contains(&name.len()) {
            return Err(CheckError::Name(name.len()));
        }
        let mut entries = self.shared.entries.lock();
        if entries.contains_key(&name) {
            return Err(CheckError::Duplicate(name));
        }
        let limit = self.shared.settings.max_checks;
        if entries.len() >= limit {
            return Err(CheckError::TooMany { limit });
        }
        entries.insert(name, Entry::start(check, &self.shared));
        Ok(())
    }

    /// Ends a check; `false` if there is none of this name. A run that is in
    /// progress is dropped.
    pub fn remove(&self, name: &str) -> bool {
        // The guard is gone before the entry, whose drop ends a task.
        let removed = self.shared.entries.lock().remove(name);
        let found = removed.is_some();
        drop(removed);
        if found {
            self.shared.changed();
        }
        found
    }

    /// What every check said last, by name.
    pub fn report(&self) -> HealthReport {
        let entries = self.shared.entries.lock();
        HealthReport::of(entries.values().map(Entry::report).collect(), self.shared.is_starting())
    }

    /// Waits until every check passes. Returns at once if there are none.
    ///
    /// Cancel safe.
    pub async fn wait_until_passing(&self) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let report = self.report();
            if report.checks.iter().all(|check| check.state == CheckState::Passing) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Changes when a check says something else than before, or is removed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }
}

/// Settings of [`Health`].
///
/// | setting | default |
/// | --- | --- |
/// | [`liveness_every`](Self::liveness_every) | 30 s |
/// | [`readiness_every`](Self::readiness_every) | 10 s |
/// | [`startup_every`](Self::startup_every) | 5 s |
/// | [`startup_for`](Self::startup_for) | 2 min |
/// | [`max_checks`](Self::max_checks) | 1,000 |
#[derive(Clone, Debug)]
#[must_use]
pub struct HealthBuilder {
    liveness_every: Duration,
    readiness_every: Duration,
    startup_every: Duration,
    startup_for: Duration,
    max_checks: usize,
}

impl Default for HealthBuilder {
    fn default() -> Self {
        Self {
            liveness_every: Duration::from_secs(30),
            readiness_every: Duration::from_secs(10),
            startup_every: Duration::from_secs(5),
            startup_for: Duration::from_secs(120),
            max_checks: 1_000,
        }
    }
}

impl HealthBuilder {
    /// From one start of a liveness check to the next. Default: 30 s.
    pub fn liveness_every(mut self, interval: Duration) -> Self {
        self.liveness_every = interval;
        self
    }

    /// From one start of a readiness check to the next. Default: 10 s.
    pub fn readiness_every(mut self, interval: Duration) -> Self {
        self.readiness_every = interval;
        self
    }

    /// From one start of a startup check to the next, until it passes. Default:
    /// 5 s.
    pub fn startup_every(mut self, interval: Duration) -> Self {
        self.startup_every = interval;
        self
    }

    /// How long the program may take to start, counted from
    /// [`start`](Self::start). Default: 2 min.
    pub fn startup_for(mut self, time: Duration) -> Self {
        self.startup_for = time;
        self
    }

    /// How many checks there may be. Default: 1,000.
    pub fn max_checks(mut self, checks: usize) -> Self {
        self.max_checks = checks;
        self
    }

    /// Starts, without checks yet, on the current tokio runtime. The bus is
    /// whose breakers [`Check::service`] means.
    ///
    /// # Errors
    ///
    /// See [`HealthError`].
    pub fn start(self, bus: &Bus) -> Result<Health, HealthError> {
        let intervals = [
            ("liveness_every", self.liveness_every),
            ("readiness_every", self.readiness_every),
            ("startup_every", self.startup_every),
        ];
        if let Some((name, _)) = intervals.into_iter().find(|(_, interval)| interval.is_zero()) {
            return Err(HealthError::Interval(name));
        }
        Ok(Health {
            shared: Arc::new(Shared {
                settings: self,
                runtime: Handle::try_current().map_err(|_| HealthError::NoRuntime)?,
                bus: bus.downgrade(),
                started: Instant::now(),
                entries: Mutex::default(),
                changes: watch::Sender::new(()),
            }),
        })
    }
}

struct Shared {
    settings: HealthBuilder,
    runtime: Handle,
    bus: WeakBus,
    started: Instant,
    entries: Mutex<BTreeMap<String, Entry>>,
    changes: watch::Sender<()>,
}

impl Shared {
    /// Whether it is within the time that the program may take to start.
    fn is_starting(&self) -> bool {
        self.started.elapsed() < self.settings.startup_for
    }

    /// From one start of a check to the next.
    fn interval(&self, probe: Probe) -> Duration {
        match probe {
            Probe::Readiness => self.settings.readiness_every,
            Probe::Startup if self.is_starting() => self.settings.startup_every,
            Probe::Startup | Probe::Liveness => self.settings.liveness_every,
        }
    }

    fn changed(&self) {
        self.changes.send_replace(());
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("checks", &self.shared.entries.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
