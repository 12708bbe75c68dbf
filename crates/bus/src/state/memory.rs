//! [`MemoryState`]: a store in this process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Cursor, Page, StateError, StateStore, table::Table};

/// Keeps state in memory, for tests and for what need not outlive its
/// process. Clones share what they keep.
///
/// It is bounded: [`MAX_KEYS`](Self::MAX_KEYS) keys and
/// [`MAX_BYTES`](Self::MAX_BYTES) bytes of keys, fields and values, or what
/// [`with_limits`](Self::with_limits) says; beyond them writes fail with
/// [`StateError::Full`].
#[derive(Clone, Debug)]
pub struct MemoryState(Arc<Mutex<Table>>);

impl MemoryState {
    /// Most keys by default.
    pub const MAX_KEYS: usize = 100_000;
    /// Most bytes by default.
    pub const MAX_BYTES: usize = 256 << 20;

    /// An empty store.
    pub fn new() -> Self {
        Self::with_limits(Self::MAX_KEYS, Self::MAX_BYTES)
    }

    /// An empty store that keeps at most so many keys, and bytes of keys,
    /// fields and values.
    pub fn with_limits(max_keys: usize, max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Table::new(max_keys, max_bytes))))
    }
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl StateStore for MemoryState {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        self.0.lock().get(Instant::now(), key)
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), StateError> {
        self.0.lock().set(Instant::now(), key, value, ttl)
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError> {
        self.0.lock().compare_and_set(Instant::now(), key, expected, value, ttl)
    }

    async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.0.lock().delete(Instant::now(), key)
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, StateError> {
        self.0.lock().expire(Instant::now(), key, ttl)
    }

    async fn scan(&self, prefix: &str, from: Cursor, limit: usize) -> Result<Page, StateError> {
        Ok(self.0.lock().scan(Instant::now(), prefix, &from, limit))
    }

    async fn hash_get(&self, key: &str, field: &str) -> Result<Option<Bytes>, StateError> {
        self.0.lock().hash_get(Instant::now(), key, field)
    }

    async fn hash_set(&self, key: &str, field: &str, value: Bytes) -> Result<(), StateError> {
        self.0.lock().hash_set(Instant::now(), key, field, value)
    }

    async fn hash_delete(&self, key: &str, field: &str) -> Result<(), StateError> {
        self.0.lock().hash_delete(Instant::now(), key, field)
    }

    async fn hash_all(&self, key: &str) -> Result<BTreeMap<String, Bytes>, StateError> {
        self.0.lock().hash_all(Instant::now(), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "test-util")]
    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_contract() {
        crate::state::conformance::check(|| async { MemoryState::new() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_takes_what_it_was_given() {
        let store = MemoryState::new();
        store.set("a", "1".into(), Some(Duration::from_millis(10))).await.unwrap();
        tokio::time::advance(Duration::from_millis(9)).await;
        assert!(store.get("a").await.unwrap().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(store.get("a").await.unwrap().is_none());
    }
}
