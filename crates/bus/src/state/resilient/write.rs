//! Writes that were made while the primary was away, in their order.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::state::{StateError, StateStore};

/// One write, to be made again.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: Arc<str>,
    pub(super) change: Change,
    /// When it was made: a time to live began then.
    pub(super) at: Instant,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Set { value: Bytes, ttl: Option<Duration> },
    CompareAndSet { expected: Option<Bytes>, value: Bytes, ttl: Option<Duration> },
    Delete,
    Expire { ttl: Option<Duration> },
    HashSet { field: String, value: Bytes },
    HashDelete { field: String },
}

/// What became of a write that was made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// Somebody else wrote meanwhile, and this one was a comparison.
    Conflict,
}

impl Write {
    pub(super) fn bytes(&self) -> usize {
        // The struct itself, so that a log of small writes is bounded too.
        size_of::<Self>()
            + self.key.len()
            + match &self.change {
                Change::Set { value, .. } => value.len(),
                Change::CompareAndSet { expected, value, .. } => {
                    value.len() + expected.as_ref().map_or(0, Bytes::len)
                }
                Change::HashSet { field, value } => field.len() + value.len(),
                Change::HashDelete { field } => field.len(),
                Change::Delete | Change::Expire { .. } => 0,
            }
    }

    /// Makes it again. A time to live counts from when it was first made; one
    /// that is over becomes the shortest there is.
    pub(super) async fn repeat(&self, store: &dyn StateStore) -> Result<Outcome, StateError> {
        let key = &*self.key;
        let left = |ttl: &Option<Duration>| {
            let passed = self.at.elapsed();
            ttl.map(|ttl| ttl.saturating_sub(passed).max(Duration::from_millis(1)))
        };
        match &self.change {
            Change::Set { value, ttl } => store.set(key, value.clone(), left(ttl)).await?,
            Change::CompareAndSet { expected, value, ttl } => {
                let expected = expected.as_deref();
                if store.compare_and_set(key, expected, value.clone(), left(ttl)).await? {
                    return Ok(Outcome::Written);
                }
                // Perhaps it was this very write, whose answer never came.
                let holds = store.get(key).await?;
                if holds.as_ref() != Some(value) {
                    return Ok(Outcome::Conflict);
                }
            }
            Change::Delete => store.delete(key).await?,
            Change::Expire { ttl } => store.expire(key, left(ttl)).await.map(drop)?,
            Change::HashSet { field, value } => store.hash_set(key, field, value.clone()).await?,
            Change::HashDelete { field } => store.hash_delete(key, field).await?,
        }
        Ok(Outcome::Written)
    }
}

/// Writes in their order, within limits.
#[derive(Debug)]
pub(super) struct Log {
    writes: VecDeque<Write>,
    bytes: usize,
    max_writes: usize,
    max_bytes: usize,
}

impl Log {
    pub(super) fn new(max_writes: usize, max_bytes: usize) -> Self {
        Self { writes: VecDeque::new(), bytes: 0, max_writes, max_bytes }
    }

    pub(super) fn has_room_for(&self, write: &Write) -> bool {
        self.writes.len() < self.max_writes && self.bytes + write.bytes() <= self.max_bytes
    }

    pub(super) fn push(&mut self, write: Write) {
        self.bytes += write.bytes();
        self.writes.push_back(write);
    }

    pub(super) fn first(&self) -> Option<&Write> {
        self.writes.front()
    }

    pub(super) fn pop(&mut self) {
        if let Some(write) = self.writes.pop_front() {
            self.bytes -= write.bytes();
        }
    }

    /// Removes all writes of a key, and says how many.
    pub(super) fn remove(&mut self, key: &str) -> usize {
        let before = self.writes.len();
        self.writes.retain(|write| &*write.key != key);
        self.bytes = self.writes.iter().map(Write::bytes).sum();
        before - self.writes.len()
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }
}
