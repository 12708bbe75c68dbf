//! [`Router`]: which subscriptions want this type.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use swarmbus_core::{
//!     EventType,
//!     router::{Pattern, RouteCache, Router},
//! };
//!
//! # fn main() -> Result<(), swarmbus_core::router::PatternError> {
//! let mut router = Router::new();
//! router.insert(&Pattern::parse("task.*.>")?, "audit");
//! let created = router.insert(&Pattern::parse("task.created")?, "resize");
//! router.insert(&Pattern::regex(r"task\.(created|deleted)")?, "metrics");
//!
//! let found = |router: &Router<&'static str>, ty: &str| {
//!     let mut names = Vec::new();
//!     router.for_each_match(ty, |name| names.push(*name));
//!     names
//! };
//! assert_eq!(found(&router, "task.created"), ["resize", "metrics"]);
//! assert_eq!(found(&router, "task.7.created.late"), ["audit"]);
//!
//! // A type that was looked up before costs one hash and one comparison.
//! let mut cache = RouteCache::new(RouteCache::<()>::DEFAULT_CAPACITY);
//! let ty = EventType::from_static("task.created");
//! let names =
//!     cache.get_or_insert_with(router.generation(), &ty, || found(&router, ty.as_str()));
//! assert_eq!(names, &["resize", "metrics"]);
//!
//! assert_eq!(router.remove(created), Some("resize"));
//! let names =
//!     cache.get_or_insert_with(router.generation(), &ty, || found(&router, ty.as_str()));
//! assert_eq!(names, &["metrics"]);
//! # Ok(())
//! # }
//! ```

mod cache;
mod expression;
mod pattern;
mod routes;
mod trie;

use std::collections::HashMap;

pub use cache::RouteCache;
pub use pattern::{Pattern, PatternError};

use self::{expression::Expression, pattern::Kind, routes::Routes, trie::Node};
use crate::EventType;

/// The table of subscriptions: from a type to every value whose pattern
/// matches it.
///
/// | pattern | cost of one lookup |
/// | --- | --- |
/// | exact | one hash lookup, however many there are |
/// | wildcards | one hash lookup a token, and again for each branch a `*` opens; subscriptions that share no token with the type cost nothing |
/// | regex | one search for every regex in the table |
///
/// It holds what it is given: the owner bounds how many subscriptions there
/// may be.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<EventType, Routes<T>, ahash::RandomState>,
    wildcards: Node<T>,
    regexes: Routes<(Expression, T)>,
    /// What each subscription is filed under, so that its id alone finds it.
    patterns: HashMap<RouteId, Pattern, ahash::RandomState>,
    last_id: u64,
    generation: u64,
}

/// One subscription of one [`Router`]; never given out twice. Ids sort by the
/// order of insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u64);

impl<T> Router<T> {
    /// An empty table; allocates nothing.
    pub fn new() -> Self {
        Self {
            exact: HashMap::default(),
            wildcards: Node::default(),
            regexes: Routes::default(),
            patterns: HashMap::default(),
            last_id: 0,
            generation: 0,
        }
    }

    /// Adds a subscription. The same pattern may be inserted many times, each
    /// with a value and an id of its own.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> RouteId {
        self.last_id += 1;
        self.generation += 1;
        let id = RouteId(self.last_id);
        match pattern.kind() {
            Kind::Exact(ty) => match self.exact.get_mut(ty) {
                Some(routes) => routes.push(id, value),
                None => self.exact.entry(ty.clone()).or_default().push(id, value),
            },
            Kind::Wildcard(text) => self.wildcards.insert(text, id, value),
            Kind::Regex(regex) => self.regexes.push(id, (regex.clone(), value)),
        }
        self.patterns.insert(id, pattern.clone());
        id
    }

    /// Takes a subscription out; `None` if it is gone already. What its
    /// pattern alone needed is freed.
    pub fn remove(&mut self, id: RouteId) -> Option<T> {
        let pattern = self.patterns.remove(&id)?;
        self.generation += 1;
        match pattern.kind() {
            Kind::Exact(ty) => {
                let routes = self.exact.get_mut(ty)?;
                let value = routes.remove(id);
                if routes.is_empty() {
                    self.exact.remove(ty);
                }
                value
            }
            Kind::Wildcard(text) => self.wildcards.remove(text, id),
            Kind::Regex(_) => self.regexes.remove(id).map(|(_, value)| value),
        }
    }

    /// Calls `f` with the value of every subscription that wants this type,
    /// each once, in the order of insertion.
    ///
    /// The text is taken as it is: that it is a type is for [`EventType`] to
    /// check.
    pub fn for_each_match(&self, ty: &str, mut f: impl FnMut(&T)) {
        let exact = self.exact.get(ty);
        if self.wildcards.is_empty() && self.regexes.is_empty() {
            // Already in order: nothing to gather.
            exact.into_iter().flat_map(Routes::iter).for_each(|(_, value)| f(value));
            return;
        }
        let mut found: Vec<(RouteId, &T)> = Vec::new();
        found.extend(exact.into_iter().flat_map(Routes::iter));
        self.wildcards.for_each_match(ty, &mut |routes| found.extend(routes.iter()));
        for (id, (regex, value)) in self.regexes.iter() {
            if regex.is_match(ty) {
                found.push((id, value));
            }
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        found.into_iter().for_each(|(_, value)| f(value));
    }

    /// A number that changes with every insertion and removal: results kept
    /// under an older one are stale.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The pattern a subscription was inserted with.
    pub fn pattern(&self, id: RouteId) -> Option<&Pattern> {
        self.patterns.get(&id)
    }

    /// All values, in the order of insertion.
    pub fn into_values(mut self) -> impl Iterator<Item = T> {
        let mut ids: Vec<_> = self.patterns.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(move |id| self.remove(id))
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
