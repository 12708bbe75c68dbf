//! [`Node`]: wildcard patterns, one token a level.
//!
//! A lookup follows the type's own tokens, so patterns that differ from it in
//! an early token are never looked at: 100,000 inboxes `agent.<n>.>` cost as
//! much as one. Each node has one way in, so a lookup sees it at most once
//! and never takes longer than the table is large, whatever the patterns.

use std::collections::HashMap;

use super::{RouteId, routes::Routes};
use crate::event::Str;

/// Where the patterns with one beginning are kept.
#[derive(Debug)]
pub(super) struct Node<T> {
    /// By the next token.
    children: HashMap<Str, Node<T>, ahash::RandomState>,
    /// Patterns that go on with `*`.
    any: Option<Box<Node<T>>>,
    /// Patterns that end in `>` after this node.
    rest: Routes<T>,
    /// Patterns that end here.
    here: Routes<T>,
}

impl<T> Node<T> {
    pub(super) fn insert(&mut self, pattern: &str, id: RouteId, value: T) {
        let mut node = self;
        for token in pattern.split('.') {
            node = match token {
                ">" => return node.rest.push(id, value),
                "*" => node.any.get_or_insert_default(),
                token => node.children.entry(token.into()).or_default(),
            };
        }
        node.here.push(id, value);
    }

    /// Also drops the nodes that lead to nothing any more.
    pub(super) fn remove(&mut self, pattern: &str, id: RouteId) -> Option<T> {
        let (token, tail) = first_token(pattern);
        if token == ">" {
            return self.rest.remove(id);
        }
        let next = match token {
            "*" => self.any.as_deref_mut()?,
            token => self.children.get_mut(token)?,
        };
        let value = match tail {
            Some(tail) => next.remove(tail, id),
            None => next.here.remove(id),
        };
        if next.is_empty() {
            match token {
                "*" => self.any = None,
                token => drop(self.children.remove(token)),
            }
        }
        value
    }

    /// Calls `found` with the routes of each pattern that matches.
    pub(super) fn for_each_match<'a>(&'a self, ty: &str, found: &mut impl FnMut(&'a Routes<T>)) {
        found(&self.rest);
        let (token, tail) = first_token(ty);
        let branches = [self.children.get(token), self.any.as_deref()];
        for next in branches.into_iter().flatten() {
            match tail {
                Some(tail) => next.for_each_match(tail, found),
                None => found(&next.here),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any.is_none()
            && self.rest.is_empty()
            && self.here.is_empty()
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: HashMap::default(),
            any: None,
            rest: Routes::default(),
            here: Routes::default(),
        }
    }
}

/// The text before the first dot, and what follows the dot.
#[inline]
fn first_token(text: &str) -> (&str, Option<&str>) {
    match text.split_once('.') {
        Some((token, tail)) => (token, Some(tail)),
        None => (text, None),
    }
}
