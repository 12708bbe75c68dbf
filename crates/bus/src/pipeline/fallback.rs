//! Layer: fallbacks. Somebody else does it, and everybody can see that.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use swarmbus_core::Timestamp;

use crate::{
    clock::BusClock,
    handler::{FutureSlots, Handler},
};

/// Something whose fallback serves at the moment: from the first call that it
/// took over until the first that succeeds without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The handler's or the guard's name.
    pub name: Arc<str>,
    /// When the fallback first had to serve.
    pub since: Timestamp,
    /// Which fallback served last.
    pub serving: Arc<str>,
}

/// Whether a fallback serves, and since when.
pub(crate) struct Degradation {
    name: Arc<str>,
    /// Whether `state` is set, for those who would clear it.
    active: AtomicBool,
    state: Mutex<Option<Degraded>>,
}

impl Degradation {
    pub(crate) fn new(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), active: AtomicBool::new(false), state: Mutex::default() }
    }

    /// A fallback has served.
    #[cold]
    pub(crate) fn served(&self, fallback: &Arc<str>) {
        let now = BusClock::wall();
        let mut state = self.state.lock();
        self.active.store(true, Relaxed);
        if let Some(degraded) = &mut *state {
            degraded.serving = Arc::clone(fallback);
            return;
        }
        let (name, serving) = (Arc::clone(&self.name), Arc::clone(fallback));
        *state = Some(Degraded { name, since: now, serving });
        drop(state);
        tracing::warn!(name = &*self.name, fallback = &**fallback, "degraded: a fallback serves");
    }

    /// A call has succeeded without a fallback.
    #[inline]
    pub(crate) fn recovered(&self) {
        if self.active.load(Relaxed) {
            self.clear();
        }
    }

    #[cold]
    fn clear(&self) {
        let mut state = self.state.lock();
        self.active.store(false, Relaxed);
        let ended = state.take();
        drop(state);
        if ended.is_some() {
            tracing::info!(name = &*self.name, "no longer degraded");
        }
    }

    pub(crate) fn get(&self) -> Option<Degraded> {
        self.state.lock().clone()
    }
}

/// What takes over for a handler, in this order.
pub(crate) struct FallbackLayer {
    pub(crate) chain: Vec<Fallback>,
    pub(crate) degradation: Arc<Degradation>,
}

/// A handler that takes over for another.
pub(crate) struct Fallback {
    pub(crate) name: Arc<str>,
    pub(crate) handler: Handler,
    pub(crate) slots: FutureSlots,
}

impl fmt::Debug for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Degradation({:?})", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_the_first_fallback_to_the_first_success() {
        let degradation = Degradation::new(&"orders".into());
        degradation.recovered();
        assert_eq!(degradation.get(), None);
        degradation.served(&"cache".into());
        let first = degradation.get().unwrap();
        assert_eq!((&*first.name, &*first.serving), ("orders", "cache"));
        degradation.served(&"constant".into());
        let second = degradation.get().unwrap();
        assert_eq!((second.since, &*second.serving), (first.since, "constant"));
        degradation.recovered();
        assert_eq!(degradation.get(), None);
    }
}
