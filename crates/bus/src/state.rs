//! [`StateStore`]: what agents remember outside of themselves.
//!
//! A store keeps bytes under keys, for as long as it is told, for every
//! process that uses it. [`MemoryState`] keeps them in this process;
//! `RedisState` of `swarmbus-redis` keeps them for all. [`ResilientStore`] puts
//! a circuit breaker before a store and stands in for it while it is away.
//! [`Snapshots`] saves one value in several generations and finds the newest
//! that can be read.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus::state::{MemoryState, StateStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), swarmbus::state::StateError> {
//! let store = MemoryState::new();
//! store.set("agent-1:task", "resize".into(), Some(Duration::from_secs(60))).await?;
//!
//! // Whoever changes it has seen what it changes.
//! let seen = store.get("agent-1:task").await?;
//! assert!(store.compare_and_set("agent-1:task", seen.as_deref(), "crop".into(), None).await?);
//! assert!(!store.compare_and_set("agent-1:task", seen.as_deref(), "blur".into(), None).await?);
//!
//! store.hash_set("swarm", "agent-1", "busy".into()).await?;
//! assert_eq!(store.list("agent-", 10).await?, ["agent-1:task"]);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "test-util")]
pub mod conformance;
mod error;
mod memory;
mod resilient;
mod snapshots;
mod table;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

pub use error::StateError;
pub use memory::MemoryState;
pub use resilient::{FALLBACK_SWITCH, ResilientBuilder, ResilientStats, ResilientStore};
pub use snapshots::{
    Found, RestoreError, Restored, SaveError, SnapshotInfo, Snapshots, SnapshotsBuilder, Unreadable,
};

/// Longest key, and longest field of a hash, in bytes.
pub const MAX_KEY_LEN: usize = 512;
/// Longest value in bytes.
pub const MAX_VALUE_LEN: usize = 16 << 20;
/// Most fields of one hash.
pub const MAX_FIELDS: usize = 10_000;
/// Longest time to live: ten years.
pub const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Most keys of one [`Page`].
pub const MAX_PAGE: usize = 1_000;

/// Keeps bytes under keys.
///
/// # The contract
///
/// - **One call is one step.** It happens whole or not at all, and what is
///   read after a write has returned is what was written, or something newer.
/// - **Kinds.** A key holds a value or a hash. What asks for the other kind
///   gets [`StateError::WrongKind`]; `set`, `delete` and `expire` take both. A
///   hash that loses its last field is gone.
/// - **Time to live.** `None` is for ever. `set` and a successful
///   `compare_and_set` replace it, `hash_set` and `hash_delete` leave it
///   alone. Whole milliseconds count, 1 ms to [`MAX_TTL`]; a key whose time is
///   over is gone for every call.
/// - **Limits.** [`MAX_KEY_LEN`], [`MAX_VALUE_LEN`], [`MAX_FIELDS`]. Any text
///   that is not empty is a key.
/// - **Errors.** After [`StateError::Unavailable`] a write was made or was
///   not; after any other error it was not.
/// - **Cancel safety.** A call that is dropped was made or was not.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// See [`StateError`]; so for all calls.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError>;

    /// Writes a value over whatever the key holds.
    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), StateError>;

    /// Writes a value if the key holds `expected` (`None`: nothing), and says
    /// whether it did.
    ///
    /// Values are compared, not histories: a value that went away and came
    /// back is the same. Put a number into the value if that matters.
    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError>;

    /// Removes a key, if it is there.
    async fn delete(&self, key: &str) -> Result<(), StateError>;

    /// Gives a key another time to live; `false` if there is no such key.
    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, StateError>;

    /// Some of the keys that begin with `prefix`, in no order, about `limit`
    /// of them and at most [`MAX_PAGE`].
    ///
    /// From the first page ([`Cursor::START`]) to the one without a
    /// [`Page::next`], a key that is there all the time appears at least once,
    /// one that comes or goes meanwhile may appear. A page may be empty and
    /// not the last.
    async fn scan(&self, prefix: &str, from: Cursor, limit: usize) -> Result<Page, StateError>;

    /// One field of a hash.
    async fn hash_get(&self, key: &str, field: &str) -> Result<Option<Bytes>, StateError>;

    /// Writes one field of a hash, which is made if need be.
    async fn hash_set(&self, key: &str, field: &str, value: Bytes) -> Result<(), StateError>;

    /// Removes one field of a hash, if it is there.
    async fn hash_delete(&self, key: &str, field: &str) -> Result<(), StateError>;

    /// All fields of a hash; none if there is no such key.
    async fn hash_all(&self, key: &str) -> Result<BTreeMap<String, Bytes>, StateError>;

    /// All keys that begin with `prefix`, sorted: [`scan`](Self::scan) to the
    /// end.
    ///
    /// # Errors
    ///
    /// [`StateError::TooMany`] if there are more than `limit`.
    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<String>, StateError> {
        let mut keys = std::collections::BTreeSet::new();
        let mut from = Cursor::START;
        loop {
            let page = self.scan(prefix, from, MAX_PAGE).await?;
            keys.extend(page.keys);
            if keys.len() > limit {
                return Err(StateError::TooMany { limit });
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(keys.into_iter().collect()),
            }
        }
    }
}

/// Where a [`scan`](StateStore::scan) goes on. Only the store that gave it can
/// read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// The beginning.
    pub const START: Self = Self(String::new());

    /// For those who implement a store; empty text is the beginning.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What it was made of.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What one step of a [`scan`](StateStore::scan) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys.
    pub keys: Vec<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Checks a key or a field, for those who implement a store.
///
/// # Errors
///
/// [`StateError::Name`].
pub fn check_name(name: &str) -> Result<(), StateError> {
    if (1..=MAX_KEY_LEN).contains(&name.len()) { Ok(()) } else { Err(StateError::Name(name.len())) }
}

/// Checks a value, for those who implement a store.
///
/// # Errors
///
/// [`StateError::Value`].
pub fn check_value(value: &[u8]) -> Result<(), StateError> {
    let len = value.len();
    if len <= MAX_VALUE_LEN { Ok(()) } else { Err(StateError::Value { len }) }
}

/// Checks a time to live and cuts it to whole milliseconds, for those who
/// implement a store.
///
/// # Errors
///
/// [`StateError::Ttl`].
pub fn check_ttl(ttl: Option<Duration>) -> Result<Option<Duration>, StateError> {
    let Some(ttl) = ttl else { return Ok(None) };
    if !(Duration::from_millis(1)..=MAX_TTL).contains(&ttl) {
        return Err(StateError::Ttl(ttl));
    }
    // At most ten years of them.
    Ok(Some(Duration::from_millis(ttl.as_millis() as u64)))
}
