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
    router::{Pattern, PatternError, RouteId, Router},
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
    sessions: HashMap<Str, SessionTable, RandomState>,
    len: usize,
    epochs: u64,
}

/// The subscriptions of one session, while it has any.
struct SessionTable {
    /// Tells it from an earlier or later one of the same name.
    epoch: u64,
    router: Router<Arc<Subscriber>>,
}

/// Where a subscription stands, to take it out again.
#[derive(Debug)]
pub(crate) struct Place {
    session: Option<(Str, u64)>,
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
        let mut guard = self.tables.write();
        let tables = &mut *guard;
        if tables.len >= limit {
            return None;
        }
        tables.len += 1;
        let Some(session) = session else {
            let id = tables.bus.insert(pattern, subscriber);
            self.generation.fetch_add(1, Ordering::Release);
            return Some(Place { session: None, id });
        };
        let table = tables.sessions.entry(session.clone()).or_insert_with(|| {
            tables.epochs += 1;
            SessionTable { epoch: tables.epochs, router: Router::new() }
        });
        let id = table.router.insert(pattern, subscriber);
        Some(Place { session: Some((session.clone(), table.epoch)), id })
    }

    /// Takes a subscriber out; `None` if its session took it out before.
    pub(crate) fn remove(&self, place: &Place) -> Option<Arc<Subscriber>> {
        let mut guard = self.tables.write();
        let tables = &mut *guard;
        let removed = match &place.session {
            Some((session, epoch)) => {
                let table = tables.sessions.get_mut(session)?;
                if table.epoch != *epoch {
                    return None;
                }
                let removed = table.router.remove(place.id)?;
                if table.router.is_empty() {
                    tables.sessions.remove(session);
                }
                removed
            }
            None => {
                let removed = tables.bus.remove(place.id)?;
                self.generation.fetch_add(1, Ordering::Release);
                removed
            }
        };
        tables.len -= 1;
        Some(removed)
    }

    /// Puts one subscriber of the bus under many patterns, in place of what is
    /// at `old`, in one step: a runner finds all of one or all of the other.
    /// `None`, and no change, if there would be more than `limit`.
    ///
    /// The old subscriber stays active: a runner that has found it already
    /// will not look again.
    pub(crate) fn replace<'a>(
        &self,
        old: &[Place],
        patterns: impl ExactSizeIterator<Item = &'a Pattern>,
        subscriber: &Arc<Subscriber>,
        limit: usize,
    ) -> Option<Vec<Place>> {
        let mut tables = self.tables.write();
        let others = tables.len - old.len().min(tables.len);
        if others + patterns.len() > limit {
            return None;
        }
        // Not dropped under the lock: it may be the last to hold its handler.
        let removed: Vec<_> = old.iter().filter_map(|place| tables.bus.remove(place.id)).collect();
        tables.len -= removed.len();
        let mut insert = |pattern| tables.bus.insert(pattern, Arc::clone(subscriber));
        let places: Vec<_> =
            patterns.map(|pattern| Place { session: None, id: insert(pattern) }).collect();
        tables.len += places.len();
        self.generation.fetch_add(1, Ordering::Release);
        drop(tables);
        drop(removed);
        Some(places)
    }

    /// Takes a whole session out. The caller drops what comes back outside
    /// of any lock, as handlers have destructors of their own.
    pub(crate) fn remove_session(&self, session: &str) -> Vec<Arc<Subscriber>> {
        let mut tables = self.tables.write();
        let Some(table) = tables.sessions.remove(session) else { return Vec::new() };
        tables.len -= table.router.len();
        drop(tables);
        let ended: Vec<_> = table.router.into_values().collect();
        ended.iter().for_each(|subscriber| subscriber.deactivate());
        ended
    }

    /// Takes everything out.
    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.tables.write());
        self.generation.fetch_add(1, Ordering::Release);
        let sessions = old.sessions.into_values().flat_map(|table| table.router.into_values());
        for subscriber in old.bus.into_values().chain(sessions) {
            subscriber.deactivate();
        }
    }

    /// Changes whenever the bus's own table does; session tables are not
    /// cached.
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
        if let Some(table) = self.tables.read().sessions.get(session) {
            table.router.for_each_match(event.ty().as_str(), |s| found.push(Arc::clone(s)));
        }
        in_order(found, event.ty())
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.tables.read().len
    }
}

/// Highest handler priority first, then first come, first served. One that
/// several of its patterns lead to comes once.
fn in_order(mut found: Vec<Arc<Subscriber>>, ty: &EventType) -> Vec<Match> {
    found.sort_by_key(|subscriber| (std::cmp::Reverse(subscriber.priority), subscriber.serial));
    found.dedup_by_key(|subscriber| subscriber.serial);
    found.into_iter().map(|subscriber| Match::new(subscriber, ty)).collect()
}

/// Whether two texts are the same, without a call for those of 8 to 16 bytes: two
/// loads from each that overlap.
#[inline(always)]
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let ends = |text: &[u8]| -> Option<[u64; 2]> {
        let (first, last) = (text.first_chunk()?, text.last_chunk()?);
        Some([u64::from_le_bytes(*first), u64::from_le_bytes(*last)])
    };
    if one.len() != other.len() {
        return false;
    }
    match (ends(one), ends(other)) {
        (Some([a, b]), Some([c, d])) if one.len() <= 16 => (a ^ c) | (b ^ d) == 0,
        _ => one == other,
    }
}

/// A type, a type with wildcards, or a regex between slashes.
pub(crate) fn parse_pattern(pattern: &str) -> Result<Pattern, PatternError> {
    let regex = pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    regex.map_or_else(|| Pattern::parse(pattern), Pattern::regex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::is_same;

    proptest! {
        #[test]
        fn texts_are_the_same_if_they_are_equal(
            one in "[ab]{0,20}",
            other in "[ab]{0,20}",
            at in 0_usize..20,
        ) {
            let mut near = one.clone().into_bytes();
            if let Some(byte) = near.get_mut(at) {
                *byte = b'c';
            }
            let near = String::from_utf8(near).unwrap();
            for (a, b) in [(&one, &other), (&one, &near), (&one, &one.clone())] {
                prop_assert_eq!(is_same(a, b), a == b);
            }
        }
    }
}
