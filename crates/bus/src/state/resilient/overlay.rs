//! What stands in for the primary: what this process has last heard of it,
//! and what it wrote since.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use ahash::RandomState;
use bytes::Bytes;
use lru::LruCache;
use tokio::time::Instant;

use super::write::Change;
use crate::state::{Cursor, Page, StateError, table::Table};

/// A table, and of which of its keys one may say that they are as there.
#[derive(Debug)]
pub(super) struct Overlay {
    table: Table,
    /// Heard of the primary; the least used go first.
    heard: LruCache<Arc<str>, Heard, RandomState>,
    /// Written here and not yet there; as many as the log has writes.
    written: HashMap<Arc<str>, Extent, RandomState>,
    remember_for: Duration,
    assume_absent: bool,
}

#[derive(Debug)]
struct Heard {
    extent: Extent,
    until: Instant,
}

/// How much of a key is known.
#[derive(Debug)]
enum Extent {
    /// All, its absence included.
    Whole,
    /// These fields of a hash.
    Fields(BTreeSet<String>),
}

impl Extent {
    fn covers(&self, field: Option<&str>) -> bool {
        match (self, field) {
            (Self::Whole, _) => true,
            (Self::Fields(fields), Some(field)) => fields.contains(field),
            (Self::Fields(_), None) => false,
        }
    }
}

/// Nobody here knows.
#[derive(Debug, thiserror::Error)]
#[error("the store is away, and this process does not know the answer")]
struct Unknown;

impl Overlay {
    pub(super) fn new(
        max_keys: NonZeroUsize,
        max_bytes: usize,
        remember_for: Duration,
        assume_absent: bool,
    ) -> Self {
        Self {
            // Those that were written come on top, and the log bounds them.
            table: Table::new(usize::MAX, max_bytes),
            heard: LruCache::with_hasher(max_keys, RandomState::new()),
            written: HashMap::default(),
            remember_for,
            assume_absent,
        }
    }

    pub(super) fn get(&mut self, now: Instant, key: &str) -> Result<Option<Bytes>, StateError> {
        self.must_know(now, key, None)?;
        self.table.get(now, key)
    }

    pub(super) fn hash_get(
        &mut self,
        now: Instant,
        key: &str,
        field: &str,
    ) -> Result<Option<Bytes>, StateError> {
        self.must_know(now, key, Some(field))?;
        self.table.hash_get(now, key, field)
    }

    pub(super) fn hash_all(
        &mut self,
        now: Instant,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        self.must_know(now, key, None)?;
        self.table.hash_all(now, key)
    }

    pub(super) fn scan(
        &mut self,
        now: Instant,
        prefix: &str,
        from: &Cursor,
        limit: usize,
    ) -> Result<Page, StateError> {
        if self.assume_absent {
            Ok(self.table.scan(now, prefix, from, limit))
        } else {
            Err(StateError::unavailable(Unknown))
        }
    }

    /// Makes a change here, that is not made there yet. `false` if it was a
    /// comparison that failed, or had nothing to do.
    pub(super) fn write(
        &mut self,
        now: Instant,
        key: &Arc<str>,
        change: &Change,
    ) -> Result<bool, StateError> {
        if matches!(change, Change::CompareAndSet { .. } | Change::Expire { .. }) {
            self.must_know(now, key, None)?;
        }
        // Out of the way of what is forgotten to make room.
        let heard = self.heard.pop(key).filter(|heard| heard.until > now);
        let written = self.written.remove(key);
        match self.apply_in_room(now, key, change) {
            Ok(true) => {
                let before = written.or(heard.map(|heard| heard.extent));
                self.written.insert(Arc::clone(key), after(before, change));
                Ok(true)
            }
            nothing_done => {
                if let Some(extent) = written {
                    self.written.insert(Arc::clone(key), extent);
                } else if let Some(heard) = heard {
                    self.heard.push(Arc::clone(key), heard);
                }
                nothing_done
            }
        }
    }

    /// The primary has made a change.
    pub(super) fn heard_of(&mut self, now: Instant, key: &str, change: &Change) {
        if self.written.contains_key(key) {
            return;
        }
        let before = self.heard.pop(key).filter(|heard| heard.until > now);
        if before.is_none() {
            let _ = self.table.delete(now, key);
        }
        // An expiry says nothing of a key that nobody knows.
        if before.is_none() && matches!(change, Change::Expire { .. }) {
            return;
        }
        let done = self.apply_in_room(now, key, change);
        let extent = after(before.map(|heard| heard.extent), change);
        if done.is_ok() && !matches!(&extent, Extent::Fields(fields) if fields.is_empty()) {
            self.remember(now, key.into(), extent);
        } else {
            let _ = self.table.delete(now, key);
        }
    }

    /// The primary has a value, or nothing.
    pub(super) fn heard_value(&mut self, now: Instant, key: &str, value: Option<Bytes>) {
        match value {
            Some(value) => self.heard_of(now, key, &Change::Set { value, ttl: None }),
            None => self.heard_of(now, key, &Change::Delete),
        }
    }

    /// The primary has a field, or has it not.
    pub(super) fn heard_field(
        &mut self,
        now: Instant,
        key: &str,
        field: &str,
        value: Option<Bytes>,
    ) {
        let field = field.to_owned();
        match value {
            Some(value) => self.heard_of(now, key, &Change::HashSet { field, value }),
            None => self.heard_of(now, key, &Change::HashDelete { field }),
        }
    }

    /// The primary has this hash.
    pub(super) fn heard_hash(&mut self, now: Instant, key: &str, hash: BTreeMap<String, Bytes>) {
        self.heard_of(now, key, &Change::Delete);
        for (field, value) in hash {
            self.heard_of(now, key, &Change::HashSet { field, value });
        }
    }

    /// What was heard of a key is no longer sure: the primary is asked to
    /// change it.
    pub(super) fn forget(&mut self, now: Instant, key: &str) {
        if !self.written.contains_key(key) && self.heard.pop(key).is_some() {
            let _ = self.table.delete(now, key);
        }
    }

    /// What was written of a key will not be written there.
    pub(super) fn give_up(&mut self, now: Instant, key: &str) {
        if self.written.remove(key).is_some() {
            let _ = self.table.delete(now, key);
        }
    }

    /// Everything that was written here is there now, or was given up.
    pub(super) fn settle(&mut self, now: Instant) {
        for (key, _) in std::mem::take(&mut self.written) {
            let _ = self.table.delete(now, &key);
        }
    }

    fn must_know(
        &mut self,
        now: Instant,
        key: &str,
        field: Option<&str>,
    ) -> Result<(), StateError> {
        if self.written.get(key).is_some_and(|extent| extent.covers(field)) {
            return Ok(());
        }
        let heard =
            self.heard.get(key).map(|heard| (heard.until > now, heard.extent.covers(field)));
        match heard {
            Some((true, true)) => return Ok(()),
            Some((true, false)) | None => {}
            // What was heard too long ago must not be taken for true.
            Some((false, _)) => {
                self.heard.pop(key);
                self.table.delete(now, key)?;
            }
        }
        if self.assume_absent { Ok(()) } else { Err(StateError::unavailable(Unknown)) }
    }

    /// Forgets what was heard of other keys if there is no room.
    fn apply_in_room(
        &mut self,
        now: Instant,
        key: &str,
        change: &Change,
    ) -> Result<bool, StateError> {
        loop {
            match self.apply(now, key, change) {
                Err(StateError::Full) if self.forget_oldest(now) => {}
                done => return done,
            }
        }
    }

    fn apply(&mut self, now: Instant, key: &str, change: &Change) -> Result<bool, StateError> {
        let table = &mut self.table;
        match change {
            Change::Set { value, ttl } => table.set(now, key, value.clone(), *ttl)?,
            Change::CompareAndSet { expected, value, ttl } => {
                return table.compare_and_set(now, key, expected.as_deref(), value.clone(), *ttl);
            }
            Change::Delete => table.delete(now, key)?,
            Change::Expire { ttl } => return table.expire(now, key, *ttl),
            Change::HashSet { field, value } => table.hash_set(now, key, field, value.clone())?,
            Change::HashDelete { field } => table.hash_delete(now, key, field)?,
        }
        Ok(true)
    }

    fn remember(&mut self, now: Instant, key: Arc<str>, extent: Extent) {
        let until = now + self.remember_for;
        // Gives back the one that has to go.
        if let Some((gone, _)) = self.heard.push(key.clone(), Heard { extent, until })
            && gone != key
        {
            let _ = self.table.delete(now, &gone);
        }
    }

    /// `false` if nothing can be given up.
    fn forget_oldest(&mut self, now: Instant) -> bool {
        let Some((key, _)) = self.heard.pop_lru() else { return false };
        self.table.delete(now, &key).is_ok()
    }
}

/// What is known of a key after a change, if so much was known before.
fn after(before: Option<Extent>, change: &Change) -> Extent {
    match (before, change) {
        (Some(Extent::Whole), _)
        | (_, Change::Set { .. } | Change::CompareAndSet { .. } | Change::Delete) => Extent::Whole,
        (Some(Extent::Fields(fields)), Change::Expire { .. }) => Extent::Fields(fields),
        (None, Change::Expire { .. }) => Extent::Fields(BTreeSet::new()),
        (before, Change::HashSet { field, .. } | Change::HashDelete { field }) => {
            let mut fields = match before {
                Some(Extent::Fields(fields)) => fields,
                Some(Extent::Whole) | None => BTreeSet::new(),
            };
            fields.insert(field.clone());
            Extent::Fields(fields)
        }
    }
}
