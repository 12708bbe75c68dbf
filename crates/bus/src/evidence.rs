//! [`SharedEvidence`]: buses of several processes judge their services
//! together.
//!
//! A service that is down for all is found out by a few; the others hear of it
//! before they have tried. What is decided, and why one bad process opens
//! nobody else's breaker, is said in
//! [`core::breaker::evidence`](swarmbus_core::breaker::evidence). Here is how the
//! reports travel: about once a second over a live channel of a [`Transport`],
//! all services of a bus in one event. Who may probe is decided by a
//! [`LeaseStore`].
//!
//! ```
//! use swarmbus::{
//!     Bus, evidence::SharedEvidence, lease::MemoryLeases, transport::MemoryTransport,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Between processes these are `RedisTransport` and `RedisLeases`.
//! let (transport, leases) = (MemoryTransport::new(), MemoryLeases::new());
//! let bus = Bus::builder().build()?;
//! let shared = SharedEvidence::builder(transport, leases).start(&bus).await?;
//! assert!(shared.services().is_empty(), "no handler names a service yet");
//! # Ok(())
//! # }
//! ```
//!
//! It concerns the breakers that handlers share by
//! [`BreakerScope::Service`](crate::BreakerScope::Service). Buses mean the same
//! service when they give it the same name. With
//! [`count_successes`](swarmbus_core::breaker::Builder::count_successes) in the
//! breaker's settings, a bus that does not call a service has no say in it. For
//! exactly one probe of all, set [`probes`](swarmbus_core::breaker::Builder::probes)
//! to 1.
//!
//! When the transport fails, reports go stale and each bus is on its own again,
//! as if there were nothing here. When the leases fail, each bus probes for
//! itself.

mod run;

use std::{fmt, sync::Arc, time::Duration};

use swarmbus_core::{Str, breaker::evidence::EvidenceConfig};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::run::Exchange;
use crate::{
    bus::Bus,
    lease::LeaseStore,
    transport::{Channel, ChannelError, SubscribeOptions, Transport, TransportError},
};

/// The exchange of evidence of one bus. It ends when this is dropped, or the
/// bus or the transport is closed; see the [module](self).
pub struct SharedEvidence {
    services: watch::Receiver<Vec<ServiceEvidence>>,
    _alive: DropGuard,
}

/// What is known of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvidence {
    /// Its name.
    pub name: Str,
    /// Whether all keep their breakers open, as far as this bus knows.
    pub is_open: bool,
    /// Buses that were heard of lately, this one included.
    pub nodes: usize,
}

/// Why evidence is not shared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The channel cannot have this name.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// Reports must come at least three times within the time that they count.
    #[error("an interval of {interval:?} is not a third of the {fresh_for:?} that a report counts")]
    Interval {
        /// From one report to the next.
        interval: Duration,
        /// How long a report counts.
        fresh_for: Duration,
    },
    /// The transport does not subscribe.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Settings of [`SharedEvidence`], the same for all who share.
///
/// | setting | default |
/// | --- | --- |
/// | [`config`](Self::config) | [`EvidenceConfig::default`] |
/// | [`interval`](Self::interval) | 1 s |
/// | [`channel`](Self::channel) | `breaker-evidence` |
#[must_use]
pub struct SharedEvidenceBuilder {
    transport: Arc<dyn Transport>,
    leases: Arc<dyn LeaseStore>,
    config: EvidenceConfig,
    interval: Duration,
    channel: String,
}

impl SharedEvidence {
    /// Over a transport, with leases that all who share it can see.
    pub fn builder(transport: impl Transport, leases: impl LeaseStore) -> SharedEvidenceBuilder {
        SharedEvidenceBuilder {
            transport: Arc::new(transport),
            leases: Arc::new(leases),
            config: EvidenceConfig::default(),
            interval: Duration::from_secs(1),
            channel: "breaker-evidence".to_owned(),
        }
    }

    /// The services of the bus, as of the last report.
    pub fn services(&self) -> Vec<ServiceEvidence> {
        self.services.borrow().clone()
    }
}

impl SharedEvidenceBuilder {
    /// When to open and when to probe.
    pub fn config(mut self, config: EvidenceConfig) -> Self {
        self.config = config;
        self
    }

    /// From one report to the next: at most a third of
    /// [`fresh_for`](EvidenceConfig::fresh_for). Default: 1 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The channel that reports go over. Default: `breaker-evidence`.
    pub fn channel(mut self, name: impl Into<String>) -> Self {
        self.channel = name.into();
        self
    }

    /// Starts, on the current tokio runtime. It does not keep the bus alive.
    ///
    /// # Errors
    ///
    /// See [`EvidenceError`].
    pub async fn start(self, bus: &Bus) -> Result<SharedEvidence, EvidenceError> {
        let channel = Channel::live(&self.channel)?;
        let (interval, fresh_for) = (self.interval, self.config.fresh_for);
        if interval.is_zero() || interval > fresh_for / 3 {
            return Err(EvidenceError::Interval { interval, fresh_for });
        }
        let inbox = self.transport.subscribe(&channel, SubscribeOptions::new()).await?;
        let (sender, services) = watch::channel(Vec::new());
        let end = CancellationToken::new();
        let exchange = Exchange::new(self, bus.downgrade(), channel, sender);
        let alive = end.clone().drop_guard();
        tokio::spawn(async move { end.run_until_cancelled(exchange.run(inbox)).await });
        Ok(SharedEvidence { services, _alive: alive })
    }
}

impl fmt::Debug for SharedEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedEvidence").field("services", &self.services()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
