//! [`BridgeRules`]: what crosses a bridge, and how.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use swarmbus_core::{Str, backoff::Backoff, breaker, hops::LoopGuard, overflow::Overflow};

use crate::{
    messenger::{OnGap, To},
    transport::{Channel, Gap},
};

/// What crosses a bridge, and how.
///
/// | setting | default |
/// | --- | --- |
/// | [`send`](Self::send), [`receive`](Self::receive) | nothing |
/// | [`name`](Self::name) | `bridge SWARM/AGENT`, as the messenger's |
/// | [`capacity`](Self::capacity) | 4,096 events |
/// | [`overflow`](Self::overflow) | [`Overflow::Reject`]: what finds the queue full fails |
/// | [`hold_back`](Self::hold_back) | no |
/// | [`timeout`](Self::timeout) | 5 s |
/// | [`retry`](Self::retry) | [`Backoff::RETRY`]: 3 times |
/// | [`breaker`](Self::breaker) | as the bus's |
/// | [`dead_letters`](Self::dead_letters) | kept |
/// | [`remember`](Self::remember) | 10,000 ids |
/// | [`loop_guard`](Self::loop_guard) | an event may come in once, 64 hops |
/// | [`on_gap`](Self::on_gap) | counted only |
#[derive(Clone)]
#[must_use = "rules do nothing until they are given to a bus"]
pub struct BridgeRules {
    pub(super) send: Vec<(String, To)>,
    pub(super) receive: Vec<String>,
    pub(super) name: Option<Str>,
    pub(super) capacity: NonZeroUsize,
    pub(super) overflow: Overflow,
    pub(super) hold_back: bool,
    pub(super) timeout: Duration,
    pub(super) retry: Option<Backoff>,
    pub(super) breaker: Option<breaker::Config>,
    pub(super) dead_letters: bool,
    pub(super) remember: NonZeroUsize,
    pub(super) loop_guard: LoopGuard,
    pub(super) on_gap: Option<OnGap>,
}

impl Default for BridgeRules {
    fn default() -> Self {
        Self {
            send: Vec::new(),
            receive: Vec::new(),
            name: None,
            capacity: Self::CAPACITY,
            overflow: Overflow::Reject,
            hold_back: false,
            timeout: Duration::from_secs(5),
            retry: Some(Backoff::RETRY),
            breaker: None,
            dead_letters: true,
            remember: Self::REMEMBER,
            loop_guard: LoopGuard::DEFAULT,
            on_gap: None,
        }
    }
}

impl BridgeRules {
    const CAPACITY: NonZeroUsize = NonZeroUsize::new(4_096).expect("not 0");
    const REMEMBER: NonZeroUsize = NonZeroUsize::new(10_000).expect("not 0");

    /// Rules by which nothing crosses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends local events whose type this pattern matches (see
    /// [`Bus::subscribe`](crate::Bus::subscribe)). Each rule is a handler of the
    /// bus: an event that two of them match is sent twice, and arrives once.
    pub fn send(mut self, pattern: impl Into<String>, to: To) -> Self {
        self.send.push((pattern.into(), to));
        self
    }

    /// Publishes on the bus what others send to this agent, its swarm or
    /// everybody, if this pattern matches its type.
    pub fn receive(mut self, pattern: impl Into<String>) -> Self {
        self.receive.push(pattern.into());
        self
    }

    /// The bridge's name in ledger, dead letters and breakers, and its place in
    /// the path of events. Two bridges of one process must differ in it, or none
    /// passes on what the other brings.
    pub fn name(mut self, name: impl Into<Str>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many events may wait to be sent, those that are to be tried again
    /// included. Besides, at most 512 are being sent.
    pub fn capacity(mut self, events: NonZeroUsize) -> Self {
        self.capacity = events;
        self
    }

    /// What happens to an event that finds the queue full. What a policy drops
    /// counts as such; what it rejects has failed.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// Lets the bus's worker wait while the queue is full, before the overflow
    /// policy is asked: then nothing is lost, and publishers wait once the bus is
    /// full, too. But every source that shares the worker waits while the
    /// transport is away, and so do its other handlers.
    pub fn hold_back(mut self) -> Self {
        self.hold_back = true;
        self
    }

    /// How long sending may take, for all that is sent at once. Then it has
    /// failed, though it may get there later: the other side sees that it was
    /// sent before.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How often, and when, an event is tried again that was not sent; `None`
    /// for never.
    pub fn retry(mut self, backoff: impl Into<Option<Backoff>>) -> Self {
        self.retry = backoff.into();
        self
    }

    /// The settings of the circuit breaker around the transport, one for each
    /// rule. Events of priority 8 and 9 pass an open one.
    pub fn breaker(mut self, config: breaker::Config) -> Self {
        self.breaker = Some(config);
        self
    }

    /// Whether events that could not be sent are kept as dead letters, which may
    /// be retried. If not, they count as failed.
    pub fn dead_letters(mut self, keep: bool) -> Self {
        self.dead_letters = keep;
        self
    }

    /// Of how many events that came in the ids are remembered: one that comes
    /// again within them is not published again.
    pub fn remember(mut self, ids: NonZeroUsize) -> Self {
        self.remember = ids;
        self
    }

    /// How often an event and what caused it may come in here, and how long its
    /// path may be.
    pub fn loop_guard(mut self, guard: LoopGuard) -> Self {
        self.loop_guard = guard;
        self
    }

    /// Told of each gap in what the messenger receives: see
    /// [`MessengerBuilder::on_gap`](crate::messenger::MessengerBuilder::on_gap).
    pub fn on_gap(mut self, on_gap: impl Fn(&Channel, &Gap) + Send + Sync + 'static) -> Self {
        self.on_gap = Some(Arc::new(on_gap));
        self
    }
}

impl fmt::Debug for BridgeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeRules")
            .field("send", &self.send)
            .field("receive", &self.receive)
            .finish_non_exhaustive()
    }
}
