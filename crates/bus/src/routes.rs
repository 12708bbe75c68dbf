//! Who subscribed to what: the table that runners fill their caches from.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ahash::RandomState;
use parking_lot::RwLock;
use swarmbus_core::{
    Event, EventType, Str,
    router::{Pattern, RouteId, Router},
};

use crate::subscriber::{Match, Route, Subscriber};

/// All subscriptions of one bus.
///
/// Changing it is rare and takes a lock; an event is routed from a runner's
/// own cache, which asks only whether the generation has moved.
#[derive(Default)]
pub(crate) struct Routes {
    tables: RwLock<Tables>,
    generation: AtomicU64,
}

#[derive(Default)]
struct Tables {
    bus: Router<Arc<Subscriber>>,
    sessions: HashMap<Str, Router<Arc<Subscriber>>, RandomState>,
    len: usize,
}

/// Where a subscription stands, to take it out again.
#[derive(Debug)]
pub(crate) struct Place {
    session: Option<Str>,
    id: RouteId,
}

impl Routes {
    /// Adds a subscriber unless there are `limit` already.
    pub(crate) fn insert(
        &self,
        session: Option<&Str>,
        pattern: &Pattern,
        subscriber: Arc<Subscriber>,
        limit: usize,
    ) -> Option<Place> {
        let mut tables = self.tables.write();
        if tables.len >= limit {
            return None;
        }
        tables.len += 1;
        let router = match session {
            Some(session) => tables.sessions.entry(session.clone()).or_default(),
            None => &mut tables.bus,
        };
        let id = router.insert(pattern, subscriber);
        self.generation.fetch_add(1, Ordering::Release);
        Some(Place { session: session.cloned(), id })
    }

    /// Takes a subscriber out; `None` if its session took it out before.
    pub(crate) fn remove(&self, place: &Place) -> Option<Arc<Subscriber>> {
        let mut guard = self.tables.write();
        let tables = &mut *guard;
        let removed = match &place.session {
            Some(session) => {
                let router = tables.sessions.get_mut(session)?;
                let removed = router.remove(place.id);
                if router.is_empty() {
                    tables.sessions.remove(session);
                }
                removed
            }
            None => tables.bus.remove(place.id),
        }?;
        tables.len -= 1;
        self.generation.fetch_add(1, Ordering::Release);
        Some(removed)
    }

    /// Takes a whole session out. The caller drops what comes back outside
    /// of any lock, as handlers have destructors of their own.
    pub(crate) fn remove_session(&self, session: &str) -> Vec<Arc<Subscriber>> {
        let mut tables = self.tables.write();
        let Some(router) = tables.sessions.remove(session) else { return Vec::new() };
        tables.len -= router.len();
        self.generation.fetch_add(1, Ordering::Release);
        drop(tables);
        let ended: Vec<_> = router.into_values().collect();
        ended.iter().for_each(|subscriber| subscriber.deactivate());
        ended
    }

    /// Takes everything out.
    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.tables.write());
        self.generation.fetch_add(1, Ordering::Release);
        let sessions = old.sessions.into_values().flat_map(Router::into_values);
        for subscriber in old.bus.into_values().chain(sessions) {
            subscriber.deactivate();
        }
    }

    /// Changes whenever the table does.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The handlers of the bus for a type, in the order they are called.
    pub(crate) fn of_type(&self, ty: &EventType) -> Route {
        let mut found = Vec::new();
        self.tables.read().bus.for_each_match(ty.as_str(), |s| found.push(Arc::clone(s)));
        Route::new(in_order(found, ty))
    }

    /// The handlers of an event's session, in the order they are called.
    #[inline]
    pub(crate) fn of_session(&self, event: &Event) -> Vec<Match> {
        match event.session() {
            Some(session) => self.in_session(session, event),
            None => Vec::new(),
        }
    }

    fn in_session(&self, session: &str, event: &Event) -> Vec<Match> {
        let mut found = Vec::new();
        if let Some(router) = self.tables.read().sessions.get(session) {
            router.for_each_match(event.ty().as_str(), |s| found.push(Arc::clone(s)));
        }
        in_order(found, event.ty())
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.tables.read().len
    }
}

/// Highest handler priority first, then first come, first served.
fn in_order(mut found: Vec<Arc<Subscriber>>, ty: &EventType) -> Vec<Match> {
    found.sort_by_key(|subscriber| (std::cmp::Reverse(subscriber.priority), subscriber.serial));
    found.into_iter().map(|subscriber| Match::new(subscriber, ty)).collect()
}
