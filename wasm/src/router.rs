//! The router: patterns in as text once, ids out as numbers.
//!
//! JavaScript keeps what each id stands for, the answers for types seen lately, and
//! the patterns that are regexes, which are its own; only a type that it has not seen
//! comes here.

use swarmbus_core::router::{self, Pattern, PatternError, RouteId};
use wasm_bindgen::prelude::wasm_bindgen;

/// From types to the ids of the subscriptions that want them.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Router {
    router: router::Router<u32>,
    /// By slot: the id that JavaScript knows a subscription by is its slot here.
    ids: Vec<Option<RouteId>>,
    free: Vec<u32>,
}

#[wasm_bindgen]
impl Router {
    /// Empty.
    pub fn create() -> Router {
        Self::default()
    }

    /// Adds a pattern; returns its id, which is used again after `remove`. A negative
    /// one is a number of `PROBLEMS` in `router.ts`.
    pub fn insert(&mut self, pattern: &str) -> i32 {
        let pattern = match Pattern::parse(pattern) {
            Ok(pattern) => pattern,
            Err(error) => return problem(&error),
        };
        let Some(id) = self.free.pop().or_else(|| self.new_slot()) else { return TOO_MANY };
        let route = self.router.insert(&pattern, id);
        self.ids[id as usize] = Some(route);
        id.cast_signed()
    }

    /// Takes a pattern out; false if it is gone already.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(route) = self.ids.get_mut(id as usize).and_then(Option::take) else {
            return false;
        };
        self.router.remove(route);
        self.free.push(id);
        true
    }

    /// The ids of all patterns that want this type, in the order of insertion.
    pub fn matches(&self, ty: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.router.for_each_match(ty, |id| ids.push(*id));
        ids
    }

    fn new_slot(&mut self) -> Option<u32> {
        let id = u32::try_from(self.ids.len()).ok().filter(|id| *id < 1 << 31)?;
        self.ids.push(None);
        Some(id)
    }
}

const TOO_MANY: i32 = -6;

fn problem(error: &PatternError) -> i32 {
    match error {
        PatternError::EmptyToken => -1,
        PatternError::TooLong { .. } => -2,
        PatternError::Character(_) => -3,
        PatternError::PartOfToken(_) => -4,
        PatternError::RestNotLast => -5,
        _ => -7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(router: &mut Router, pattern: &str) -> u32 {
        u32::try_from(router.insert(pattern)).unwrap()
    }

    #[test]
    fn ids_are_slots_and_keep_the_order_of_insertion() {
        let mut router = Router::create();
        let first = insert(&mut router, "task.*");
        let second = insert(&mut router, "task.created");
        assert_eq!(router.matches("task.created"), [first, second]);
        assert!(router.remove(first) && !router.remove(first));
        let third = insert(&mut router, "task.>");
        assert_eq!(third, first);
        assert_eq!(router.matches("task.created"), [second, third]);
    }

    #[test]
    fn each_problem_has_its_number() {
        let mut router = Router::create();
        let long = "a".repeat(256);
        for (pattern, number) in
            [("", -1), (long.as_str(), -2), ("a b", -3), ("a*", -4), (">.a", -5)]
        {
            assert_eq!(router.insert(pattern), number, "{pattern}");
        }
        assert!(router.matches("a").is_empty());
    }
}
