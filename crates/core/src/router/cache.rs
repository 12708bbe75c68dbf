//! [`RouteCache`]: what the router said about the types seen lately.

mod hints;

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroUsize,
};

use lru::LruCache;

use self::hints::{Hints, ShortText};
use crate::EventType;

/// The results of the types used last, least recently used forgotten first.
///
/// A hit allocates nothing: it compares the type's bytes with one candidate
/// that a small table points at, or else hashes them with keys that are random
/// per cache because types come from the network. Memory grows with the types
/// seen, not with the capacity.
///
/// What is forgotten is the type whose last use is longest ago, as far as the
/// cache knows: of the uses between two looks at a type it sees one.
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
    entries: Vec<Entry<R>>,
    hints: Hints,
    /// Where in `entries` each type is. Last used first, but for uses that
    /// only set a mark: those count when it is about to be forgotten.
    places: LruCache<Key, u32, ahash::RandomState>,
    generation: u64,
}

/// A type's result, with what tells its type: one cache line if the result
/// takes 32 bytes.
struct Entry<R> {
    words: [u64; 3],
    len: u8,
    /// Used since it was last looked at.
    used: bool,
    result: R,
}

impl<R> Entry<R> {
    fn text(&self) -> ShortText {
        ShortText { words: self.words, len: self.len }
    }
}

/// How many types that were used may be passed over to find one to forget.
const SECOND_CHANCES: usize = 16;

impl<R> RouteCache<R> {
    /// 10,000 types.
    pub const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

    /// A cache of at most this many types; reserves no memory.
    pub fn new(capacity: NonZeroUsize) -> Self {
        // `LruCache::with_hasher` would reserve the whole table here.
        let mut places = LruCache::unbounded_with_hasher(ahash::RandomState::new());
        places.resize(capacity);
        Self { entries: Vec::new(), hints: Hints::default(), places, generation: 0 }
    }

    /// The result for this type, from the cache or from `compute`.
    #[inline]
    pub fn get_or_insert_with(
        &mut self,
        generation: u64,
        ty: &EventType,
        compute: impl FnOnce() -> R,
    ) -> &R {
        let text = ShortText::new(ty.as_str().as_bytes());
        let at = match self.find_at_once(generation, &text) {
            Some(at) => at,
            None => match self.find(generation, ty.as_str().as_bytes(), &text) {
                Some(at) => at,
                None => self.insert(ty, text, compute()),
            },
        };
        &self.entries[at].result
    }

    /// The result for a type in the form of its bytes, as a frame's header
    /// carries it. Bytes that equal a cached type need no checking: on a hit
    /// no [`EventType`] is made. After a miss, make one and ask
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    #[inline]
    pub fn get_by_bytes(&mut self, generation: u64, ty: &[u8]) -> Option<&R> {
        let text = ShortText::new(ty);
        let at = match self.find_at_once(generation, &text) {
            Some(at) => at,
            None => self.find(generation, ty, &text)?,
        };
        Some(&self.entries[at].result)
    }

    /// How many types it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many types it may hold.
    pub fn capacity(&self) -> NonZeroUsize {
        self.places.cap()
    }

    /// Where the hints say that a type is, if it is there.
    #[inline(always)]
    fn find_at_once(&mut self, generation: u64, text: &ShortText) -> Option<usize> {
        let at = self.hints.get(text)?;
        let entry = self.entries.get_mut(at)?;
        let found = text.is(entry.words, entry.len) && generation == self.generation;
        entry.used |= found;
        found.then_some(at)
    }

    /// Where a type is. Makes it the newest, and has it found at once from now
    /// on.
    #[inline(never)]
    fn find(&mut self, generation: u64, ty: &[u8], text: &ShortText) -> Option<usize> {
        if generation != self.generation {
            self.entries.clear();
            self.places.clear();
            self.generation = generation;
        }
        let at = *self.places.get(ty)?;
        self.hints.set(text, at);
        Some(at as usize)
    }

    #[cold]
    fn insert(&mut self, ty: &EventType, text: ShortText, result: R) -> usize {
        let entry = Entry { words: text.words, len: text.len, used: false, result };
        let at = if self.entries.len() < self.capacity().get() {
            self.entries.push(entry);
            self.hints.grow(self.entries.iter().map(Entry::text));
            self.entries.len() - 1
        } else {
            let at = self.forget_one();
            self.entries[at] = entry;
            at
        };
        // A capacity beyond that has no memory to be in.
        let place = at as u32;
        self.hints.set(&text, place);
        self.places.push(Key(ty.clone()), place);
        at
    }

    /// Takes a type out whose use is long ago: the place of its entry.
    fn forget_one(&mut self) -> usize {
        for _ in 0..SECOND_CHANCES {
            let Some((key, &at)) = self.places.peek_lru() else { break };
            let entry = &mut self.entries[at as usize];
            if !std::mem::take(&mut entry.used) {
                break;
            }
            let key = Key(key.0.clone());
            self.places.promote(&key);
        }
        self.places.pop_lru().map_or(0, |(_, at)| at as usize)
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
