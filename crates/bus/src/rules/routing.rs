//! [`Routing`]: rules at work on a bus.
//!
//! One handler stands under the patterns of all rules. It holds its rules, and
//! they never change: other rules are another handler, which takes the place
//! of the first under all patterns in one step.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use swarmbus_core::Event;

use super::{RuleReport, Rules};
use crate::{
    error::{BatchError, SubscribeError},
    handler::Handler,
    inner::Inner,
    pipeline::breaker::BreakerScope,
    routes::Place,
    subscriber::Subscriber,
    subscription::Subscribe,
};

/// Rules at work on a bus: dropping it ends them.
///
/// Events that are handled after the drop are not routed; a call that has
/// begun runs to its end.
#[must_use = "dropping it ends the routing at once: keep it for as long as the rules are to work"]
pub struct Routing {
    inner: Weak<Inner>,
    current: Mutex<Current>,
}

struct Current {
    rules: Rules,
    subscriber: Arc<Subscriber>,
    places: Vec<Place>,
}

impl Routing {
    pub(crate) fn start(inner: &Arc<Inner>, rules: Rules) -> Result<Self, SubscribeError> {
        let current = Current::start(inner, rules, &[])?;
        Ok(Self { inner: Arc::downgrade(inner), current: Mutex::new(current) })
    }

    /// The rules that are at work.
    pub fn rules(&self) -> Rules {
        self.current.lock().rules.clone()
    }

    /// What each rule has done since these rules are at work.
    pub fn report(&self) -> Vec<RuleReport> {
        self.rules().report()
    }

    /// Puts other rules to work, for all that is taken from the queue from now
    /// on. Each event is routed by one set of rules, all of it: what a worker
    /// has taken before, 256 events at most, by the old ones.
    ///
    /// # Errors
    ///
    /// As [`Bus::use_rules`](crate::Bus::use_rules). The old rules stay at
    /// work.
    pub fn replace(&self, rules: Rules) -> Result<(), SubscribeError> {
        let inner = self.inner.upgrade().ok_or(SubscribeError::Ended)?;
        let mut current = self.current.lock();
        let next = Current::start(&inner, rules, &current.places)?;
        let old = std::mem::replace(&mut *current, next);
        drop(current);
        drop(old);
        inner.forget_stale();
        Ok(())
    }
}

impl Current {
    /// Takes the place of what is at `old`.
    fn start(inner: &Arc<Inner>, rules: Rules, old: &[Place]) -> Result<Self, SubscribeError> {
        let handler = {
            let (bus, rules) = (Arc::downgrade(inner), rules.clone());
            Handler::future(move |event| route(bus.clone(), rules.clone(), event))
        };
        let subscriber = Subscribe::new(inner, None, "routing rules")
            .priority(i32::MAX)
            // A full queue is no fault of the rules, and each failure is to
            // leave a dead letter.
            .breaker(BreakerScope::Off)
            .subscriber(handler)?;
        let places = inner.replace_routes(old, rules.patterns(), &subscriber)?;
        Ok(Self { rules, subscriber, places })
    }
}

async fn route(bus: Weak<Inner>, rules: Rules, event: Event) -> Result<(), BatchError> {
    let mut copies = rules.copies(&event);
    let Some(inner) = bus.upgrade().filter(|_| !copies.is_empty()) else { return Ok(()) };
    if inner.middleware.events.is_empty() {
        return inner.publish_batch(&mut copies).await;
    }
    // Middleware may refuse one, and means that one only.
    let (mut accepted, mut first) = (0, None);
    for copy in copies {
        match inner.publish(&mut Some(copy)).await {
            Ok(()) => accepted += 1,
            Err(error) => first = first.or(Some(error.cause)),
        }
    }
    first.map_or(Ok(()), |cause| Err(BatchError { accepted, cause }))
}

impl Drop for Routing {
    fn drop(&mut self) {
        let current = self.current.get_mut();
        current.subscriber.deactivate();
        let Some(inner) = self.inner.upgrade() else { return };
        let nothing = std::iter::empty();
        // Fewer are always few enough.
        let _ = inner.replace_routes(&current.places, nothing, &current.subscriber);
        inner.forget_stale();
    }
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Routing({} rules)", self.rules().len())
    }
}
