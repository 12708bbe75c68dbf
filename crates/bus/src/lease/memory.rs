//! [`MemoryLeases`]: leases among the tasks of one process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ahash::RandomState;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Grant, LeaseError, LeaseStore, check};

/// Keeps leases in memory: among the tasks of one process, and for tests.
/// Clones share them. It keeps at most [`MAX_LEASES`](Self::MAX_LEASES).
#[derive(Clone, Debug, Default)]
pub struct MemoryLeases(pub(super) Arc<Mutex<Book>>);

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) held: HashMap<String, Held, RandomState>,
    /// Of all names, so that it need not be kept for each.
    last_token: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    holder: String,
    token: u64,
    until: Instant,
}

impl MemoryLeases {
    /// Most leases at a time.
    pub const MAX_LEASES: usize = 100_000;

    /// Without leases.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Book {
    fn of(&mut self, name: &str, holder: &str, token: u64) -> Option<&mut Held> {
        let now = Instant::now();
        self.held
            .get_mut(name)
            .filter(|held| held.until > now && held.token == token && held.holder == holder)
    }
}

#[async_trait]
impl LeaseStore for MemoryLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Grant, LeaseError> {
        check(name, ttl)?;
        let mut book = self.0.lock();
        let now = Instant::now();
        if let Some(held) = book.held.get_mut(name).filter(|held| held.until > now) {
            if held.holder == holder {
                held.until = now + ttl;
                return Ok(Grant::Granted { token: held.token });
            }
            return Ok(Grant::Held { left: held.until - now });
        }
        if book.held.len() >= Self::MAX_LEASES {
            book.held.retain(|_, held| held.until > now);
        }
        if book.held.len() >= Self::MAX_LEASES {
            return Err(LeaseError::Full);
        }
        book.last_token += 1;
        let token = book.last_token;
        let held = Held { holder: holder.to_owned(), token, until: now + ttl };
        book.held.insert(name.to_owned(), held);
        Ok(Grant::Granted { token })
    }

    async fn renew(
        &self,
        name: &str,
        holder: &str,
        token: u64,
        ttl: Duration,
    ) -> Result<bool, LeaseError> {
        check(name, ttl)?;
        let mut book = self.0.lock();
        let Some(held) = book.of(name, holder, token) else { return Ok(false) };
        held.until = Instant::now() + ttl;
        Ok(true)
    }

    async fn release(&self, name: &str, holder: &str, token: u64) -> Result<bool, LeaseError> {
        let mut book = self.0.lock();
        let is_held = book.of(name, holder, token).is_some();
        if is_held {
            book.held.remove(name);
        }
        Ok(is_held)
    }
}
