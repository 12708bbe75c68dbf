//! [`Routes`]: the values filed under one pattern, in order of insertion.

use super::RouteId;

/// A list sorted by id. Removal leaves a hole, and holes are swept once they
/// outnumber the values: when 100,000 agents that listen to one broadcast
/// leave one by one, nothing is shifted 100,000 times.
#[derive(Debug)]
pub(super) struct Routes<T> {
    entries: Vec<(RouteId, Option<T>)>,
    live: usize,
}

impl<T> Routes<T> {
    /// `id` is larger than any id before it.
    pub(super) fn push(&mut self, id: RouteId, value: T) {
        if self.entries.is_empty() {
            // Most patterns have one subscriber: room for one, not for four.
            self.entries.reserve_exact(1);
        }
        self.entries.push((id, Some(value)));
        self.live += 1;
    }

    pub(super) fn remove(&mut self, id: RouteId) -> Option<T> {
        let at = self.entries.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let value = self.entries[at].1.take()?;
        self.live -= 1;
        if self.live < self.entries.len() / 2 {
            self.entries.retain(|(_, value)| value.is_some());
            self.entries.shrink_to(2 * self.live);
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RouteId, &T)> {
        self.entries.iter().filter_map(|(id, value)| Some((*id, value.as_ref()?)))
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Values and holes.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), live: 0 }
    }
}
