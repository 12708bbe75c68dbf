//! [`RouteCache`]: what the router said about the types seen lately.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroUsize,
};

use lru::LruCache;

use crate::EventType;

/// The results of the types used last, least recently used forgotten first.
///
/// A hit allocates nothing: it hashes the type's bytes once, with keys that
/// are random per cache because types come from the network, and compares
/// them with one candidate. Memory grows with the types seen, not with the
/// capacity.
///
/// Whoever calls passes the [`generation`](super::Router::generation) of the
/// router that `compute` would ask; another generation than last time empties
/// the cache first, so a stale result is never returned. One cache belongs to
/// one router and one thread.
///
/// ```
/// use swarmbus_core::{EventType, router::RouteCache};
///
/// let mut cache = RouteCache::new(RouteCache::<()>::DEFAULT_CAPACITY);
/// let ty = EventType::from_static("task.created");
/// assert_eq!(cache.get_or_insert_with(1, &ty, || "computed"), &"computed");
/// assert_eq!(cache.get_or_insert_with(1, &ty, || unreachable!()), &"computed");
/// // The same type as it stands in a frame.
/// assert_eq!(cache.get_by_bytes(1, b"task.created"), Some(&"computed"));
/// assert_eq!(cache.get_by_bytes(2, b"task.created"), None);
/// ```
pub struct RouteCache<R> {
    results: LruCache<Key, R, ahash::RandomState>,
    generation: u64,
}

impl<R> RouteCache<R> {
    /// 10,000 types.
    pub const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

    /// A cache of at most this many types; reserves no memory.
    pub fn new(capacity: NonZeroUsize) -> Self {
        // `LruCache::with_hasher` would reserve the whole table here.
        let mut results = LruCache::unbounded_with_hasher(ahash::RandomState::new());
        results.resize(capacity);
        Self { results, generation: 0 }
    }

    /// The result for this type, from the cache or from `compute`.
    #[inline]
    pub fn get_or_insert_with(
        &mut self,
        generation: u64,
        ty: &EventType,
        compute: impl FnOnce() -> R,
    ) -> &R {
        if !self.find(generation, ty.as_str().as_bytes()) {
            self.results.push(Key(ty.clone()), compute());
        }
        self.newest().unwrap_or_else(|| unreachable!("found or just inserted"))
    }

    /// The result for a type in the form of its bytes, as a frame's header
    /// carries it. Bytes that equal a cached type need no checking: on a hit
    /// no [`EventType`] is made. After a miss, make one and ask
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    #[inline]
    pub fn get_by_bytes(&mut self, generation: u64, ty: &[u8]) -> Option<&R> {
        if self.find(generation, ty) { self.newest() } else { None }
    }

    /// How many types it holds.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// How many types it may hold.
    pub fn capacity(&self) -> NonZeroUsize {
        self.results.cap()
    }

    /// Makes the entry of these bytes the newest, if there is one.
    #[inline]
    fn find(&mut self, generation: u64, ty: &[u8]) -> bool {
        if generation != self.generation {
            self.start_over(generation);
        }
        self.results.promote(ty)
    }

    #[inline]
    fn newest(&self) -> Option<&R> {
        self.results.peek_mru().map(|(_, result)| result)
    }

    #[cold]
    fn start_over(&mut self, generation: u64) {
        self.results.clear();
        self.generation = generation;
    }
}

impl<R> fmt::Debug for RouteCache<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCache")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("generation", &self.generation)
            .finish()
    }
}

/// A type that is found by its bytes: it hashes and compares as they do.
#[derive(PartialEq, Eq)]
struct Key(EventType);

impl Borrow<[u8]> for Key {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.0.as_str().as_bytes()
    }
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bytes: &[u8] = self.borrow();
        bytes.hash(state);
    }
}
