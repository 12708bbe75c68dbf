//! [`Check`]: what the program wants to have asked.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};
use swarmbus_core::{Str, timeout::Tier};

use crate::handler::{HandlerResult, IntoHandlerResult};

/// What a check finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Does it run? If not, the system has failed.
    Liveness,
    /// Can it take work? If not, the system is degraded.
    Readiness,
    /// Has it started? Asked until it has.
    Startup,
}

impl Probe {
    /// `liveness`, `readiness` or `startup`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

pub(super) type Run =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = HandlerResult> + Send>> + Send + Sync>;

/// A question with a name, to be given to [`Health::register`](super::Health::register).
///
/// What is asked is a function that gives a future: `()` for "yes", or a
/// `Result` whose error says what is wrong.
#[must_use]
pub struct Check {
    pub(super) name: String,
    pub(super) probe: Probe,
    pub(super) service: Option<Str>,
    pub(super) limit: Duration,
    pub(super) threshold: u32,
    pub(super) run: Run,
}

impl Check {
    /// A check of this kind. Names are unique within one
    /// [`Health`](super::Health).
    pub fn new<F, Fut>(name: impl Into<String>, probe: Probe, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self {
            name: name.into(),
            probe,
            service: None,
            limit: Tier::Fast.limit(),
            threshold: match probe {
                Probe::Liveness => 3,
                Probe::Readiness => 2,
                Probe::Startup => 1,
            },
            run: Box::new(move || {
                let answer = ask();
                Box::pin(async move { answer.await.into_handler_result() })
            }),
        }
    }

    /// Does it run?
    pub fn liveness<F, Fut>(name: impl Into<String>, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self::new(name, Probe::Liveness, ask)
    }

    /// Can it take work?
    pub fn readiness<F, Fut>(name: impl Into<String>, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self::new(name, Probe::Readiness, ask)
    }

    /// Has it started? Register it while the program starts: what has not passed
    /// when [`startup_for`](super::HealthBuilder::startup_for) is over is late.
    pub fn startup<F, Fut>(name: impl Into<String>, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self::new(name, Probe::Startup, ask)
    }

    /// The service that this asks about: as long as the check is failing, each
    /// failure opens the breaker that handlers share with
    /// [`BreakerScope::Service`](crate::BreakerScope::Service), before their
    /// calls do. It closes as usual, by its own probes. Default: none.
    pub fn service(mut self, service: impl Into<Str>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// How long a run may take. Default: 5 s ([`Tier::Fast`]).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How many failures in a row make the check failing; 0 counts as 1.
    /// Default: 3 for liveness, 2 for readiness, 1 for startup. One success makes
    /// it pass.
    pub fn failures(mut self, failures: u32) -> Self {
        self.threshold = failures.max(1);
        self
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("probe", &self.probe)
            .field("service", &self.service)
            .field("limit", &self.limit)
            .field("failures", &self.threshold)
            .finish_non_exhaustive()
    }
}
