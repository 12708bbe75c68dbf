//! [`Bridge`]: joins a bus to others through a messenger.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use swarmbus::{Bus, Event, bridge::BridgeRules, messenger::{Messenger, To}};
//! use swarmbus::transport::MemoryTransport;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let transport = Arc::new(MemoryTransport::new()); // or the one of swarmbus-redis
//! // In one process …
//! let scouts = Bus::builder().build()?;
//! let scout = Messenger::join(transport.clone(), "scouts", "scout-1").await?;
//! let out = scouts.bridge(&scout, BridgeRules::new().send("site.*", To::swarm("builders")?))?;
//!
//! // … and in another.
//! let builders = Bus::builder().build()?;
//! let builder = Messenger::join(transport, "builders", "builder-1").await?;
//! let _in = builders.bridge(&builder, BridgeRules::new().receive("site.*"))?;
//! let (found, mut finds) = tokio::sync::mpsc::unbounded_channel();
//! let _handler = builders.subscribe("site.found").handle(move |event: &Event| {
//!     found.send(event.text().map(str::to_owned))
//! })?;
//!
//! scouts.publish(Event::of("site.found", "behind the hill")).await?;
//! assert_eq!(finds.recv().await.flatten().as_deref(), Some("behind the hill"));
//!
//! assert_eq!(out.shutdown(Duration::from_secs(5)).await, 0);
//! assert!(scouts.shutdown(Duration::from_secs(5)).await.is_clean());
//! assert_eq!(scouts.ledger().outcomes.delivered, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The way out
//!
//! Each rule is a handler of the bus. An event that it matches waits in the
//! bridge's queue, in the order of its source, and urgent ones overtake: by the
//! [fairness rule](crate::Bus) of the bus. It is sent with others, and has
//! been delivered when the other side has it. So the ledger says of each match
//! what became of it, `detached` counts those under way, and
//! [`drain`](crate::Bus::drain) waits for them.
//!
//! - **Failures.** One that the transport did not take, or not within the
//!   [`timeout`](BridgeRules::timeout), is [tried again](BridgeRules::retry),
//!   then it is a dead letter. It may have got there all the same; the other
//!   side's bridge leaves out what it has had.
//! - **The breaker.** After failures, events wait in the queue while the breaker
//!   is open, instead of being tried. Priorities 8 and 9 are tried all the same.
//! - **A full queue.** The [overflow policy](BridgeRules::overflow) decides. What
//!   it drops counts as dropped, what it refuses has failed at once. Or the bus
//!   [waits](BridgeRules::hold_back).
//!
//! # The way in
//!
//! What is received is published on the bus once: by its source and id, among the
//! last [10,000](BridgeRules::remember). A full bus holds up the messenger's
//! channel, and with it what else the messenger gets there.
//!
//! # Loops
//!
//! A bridge writes its name into the [hops](crate::Event::hops) of what comes in. It does
//! not send that out again (the match counts as `looped`), and what a handler
//! publishes because of it ([`Event::caused_by`](crate::Event::caused_by)) may come in again as often as
//! the [loop guard](BridgeRules::loop_guard) says.
//!
//! # The order of ending
//!
//! 1. [`Bridge::shutdown`]: nothing comes in any more, what waits is sent.
//! 2. [`Bus::shutdown`](crate::Bus::shutdown).
//! 3. [`Messenger::close`](crate::messenger::Messenger::close).
//! 4. [`Transport::close`](crate::transport::Transport::close).
//!
//! A bus that is shut down first lets the bridge send what waits until its limit;
//! what is left then is in its report. Events that handlers still publish after
//! step 1 are not sent: [`drain`](crate::Bus::drain) first if that matters.
//!
//! # Metrics
//!
//! All have the label `bridge`.
//!
//! | metric | kind | what it says |
//! | --- | --- | --- |
//! | `bridge_sent_total` | counter | events sent |
//! | `bridge_failed_total` | counter | tries that failed |
//! | `bridge_given_up_total` | counter | events that waited when the bridge was closed |
//! | `bridge_received_total` | counter | events that came in and were published |
//! | `bridge_duplicates_total` | counter | events that came in again |
//! | `bridge_looped_total` | counter | events that came in too often |
//! | `bridge_refused_total` | counter | events that came in and that the bus did not take |
//! | `bridge_gaps_total` | counter | gaps in what came in |
//! | `bridge_missed_events_total` | counter | events missing in them, as far as known |

mod error;
mod incoming;
mod parcel;
mod queue;
mod rules;
mod send;
mod stats;

use std::{fmt, sync::Arc, time::Duration};

use swarmbus_core::{breaker, codec::limits::MAX_HOP_LEN};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    incoming::{receive, told_of_gaps},
    parcel::Owner,
    queue::{Door, OutQueue},
    send::{Ends, Sender},
    stats::Counts,
};
use crate::{
    bus::Bus,
    error::SubscribeError,
    messenger::{GapsTold, Listening, Messenger},
    pipeline::breaker::BreakerScope,
    subscription::Subscription,
};

pub use error::{BridgeError, BridgeSendError};
pub use rules::BridgeRules;
pub use stats::BridgeStats;

/// Joins a bus to others. Dropping it ends it at once: what waits to be sent
/// then has failed.
#[must_use = "dropping it ends it: keep it"]
pub struct Bridge {
    place: Arc<str>,
    queue: Arc<OutQueue>,
    counts: Arc<Counts>,
    sending: Vec<Subscription>,
    receiving: Option<Listening>,
    gaps: Option<GapsTold>,
    ends: Ends,
    ended: CancellationToken,
    /// Last, as what came before must have ended.
    _stop: DropGuard,
}

impl Bus {
    /// Joins this bus to others: sends what the rules say through a messenger,
    /// and publishes what comes in. See [`bridge`](crate::bridge).
    ///
    /// # Errors
    ///
    /// See [`BridgeError`]; nothing crosses then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub fn bridge(&self, messenger: &Messenger, rules: BridgeRules) -> Result<Bridge, BridgeError> {
        Bridge::start(self, messenger, rules)
    }
}

impl Bridge {
    fn start(bus: &Bus, messenger: &Messenger, rules: BridgeRules) -> Result<Self, BridgeError> {
        let place: Arc<str> = match &rules.name {
            Some(name) => name.as_str().into(),
            None => format!("bridge {}", messenger.identity()).into(),
        };
        if !(1..=MAX_HOP_LEN).contains(&place.len()) {
            return Err(BridgeError::Name(place.len()));
        }
        let counts = Arc::new(Counts::new(&place));
        let queue = Arc::new(OutQueue::new(rules.overflow, rules.capacity, Arc::clone(&place)));
        let ends = Ends { cut: bus.inner().detached.cut.clone(), ..Ends::default() };
        let ended = CancellationToken::new();
        let mut bridge = Self {
            place: Arc::clone(&place),
            queue: Arc::clone(&queue),
            counts: Arc::clone(&counts),
            sending: Vec::new(),
            receiving: None,
            gaps: None,
            _stop: ends.stopped.clone().drop_guard(),
            ends: ends.clone(),
            ended: ended.clone(),
        };
        // First of all, so that what the rules match is sure to come to an end.
        let routes = rules.send.iter().map(|(_, to)| to.clone()).collect();
        let sender = Sender {
            queue,
            messenger: messenger.clone(),
            routes,
            timeout: rules.timeout,
            counts: Arc::clone(&counts),
            ends,
        };
        let end = ended.drop_guard();
        tokio::spawn(async move {
            sender.run().await;
            drop(end);
        });
        for rule in 0..rules.send.len() {
            bridge.sending.push(bridge.send(bus, rule, &rules)?);
        }
        bridge.gaps = Some(told_of_gaps(messenger, &counts, &rules));
        bridge.receiving = receive(bus, messenger, &rules, place, counts)?;
        Ok(bridge)
    }

    /// Subscribes for one rule.
    fn send(
        &self,
        bus: &Bus,
        rule: usize,
        rules: &BridgeRules,
    ) -> Result<Subscription, SubscribeError> {
        let queue = Arc::clone(&self.queue);
        let door = Door { queue, rule, hold_back: rules.hold_back };
        let config = rules.breaker.clone().unwrap_or_else(impatient);
        let mut subscribe = bus
            .subscribe(&rules.send[rule].0)
            .name(&*self.place)
            .breaker(BreakerScope::Service((&*self.place).into()))
            .breaker_config(config)
            .dead_letters(rules.dead_letters)
            // The queue looks at the path itself.
            .loop_guard(None)
            .outlet(Arc::new(door));
        if let Some(backoff) = rules.retry {
            // A hundred events that are sent again are one packet.
            subscribe = subscribe.retry(backoff).retry_budget(100, u32::MAX);
        }
        let queue = Arc::clone(&self.queue);
        subscribe.handle_async(move |event| {
            let (told, outcome) = oneshot::channel();
            queue.push(rule, Owner::Caller(event, told), false);
            async move { outcome.await.unwrap_or(Err(BridgeSendError::Closed)) }
        })
    }

    /// The name in ledger, dead letters and breakers.
    pub fn name(&self) -> &str {
        &self.place
    }

    /// What was done so far.
    pub fn stats(&self) -> BridgeStats {
        self.counts.read(self.queue.len())
    }

    /// Ends the bridge: publishes nothing more that comes in, takes no more
    /// events of the bus, and sends what waits for at most `limit`. Returns how
    /// many events were left then; they count as failed, and are dead letters
    /// unless the rules say otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the bridge ends at once.
    pub async fn shutdown(mut self, limit: Duration) -> u64 {
        self.receiving = None;
        self.gaps = None;
        self.sending.clear();
        self.ends.closing.cancel();
        if tokio::time::timeout(limit, self.ended.cancelled()).await.is_err() {
            self.ends.stopped.cancel();
            self.ended.cancelled().await;
        }
        self.counts.read(0).given_up
    }
}

/// Looks soon whether the transport is back: all that waits depends on it.
fn impatient() -> breaker::Config {
    breaker::Config::builder().open_for(Duration::from_secs(1)).build().unwrap_or_default()
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bridge({}: {:?})", self.place, self.stats())
    }
}

#[cfg(test)]
mod tests;
