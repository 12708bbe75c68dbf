//! [`ResilientStore`]: a store that stands in for another while it is away.

mod builder;
mod overlay;
mod stats;
#[cfg(test)]
mod tests;
mod write;
mod write_back;

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use swarmbus_core::breaker::Breaker;
use tokio::{
    sync::{Notify, RwLock, watch},
    time::{Instant, timeout},
};

pub use self::{
    builder::{FALLBACK_SWITCH, ResilientBuilder},
    stats::ResilientStats,
};
use self::{
    overlay::Overlay,
    stats::Tally,
    write::{Change, Log, Write},
};
use super::{Cursor, Page, StateError, StateStore};
use crate::{
    clock::BusClock,
    handler::panic_text,
    pipeline::fallback::{Degradation, Degraded},
};

/// A store with a circuit breaker before it and memory behind it.
///
/// While the primary store answers, every call goes there, and memory takes
/// notes. A call that the primary does not serve, because it cannot be
/// reached, takes too long, or the breaker is open, is served from memory, and
/// counted. What was written in memory is written to the primary, in its
/// order, as soon as that is back; only then do calls go there again.
///
/// ```
/// use swarmbus::state::{MemoryState, ResilientStore, StateStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In earnest this is a store that can be away: `RedisState`.
/// let primary = MemoryState::new();
/// let store = ResilientStore::builder(primary).build();
/// store.set("agent-1:task", "resize".into(), None).await?;
/// assert!(!store.is_using_fallback());
/// assert_eq!(store.stats().fallbacks, 0);
/// # Ok(())
/// # }
/// ```
///
/// # What memory answers
///
/// - What this process wrote while the primary is away, and what it last
///   heard of the primary, for [an hour](ResilientBuilder::remember_for).
///   Others may have changed it since.
/// - A key of which it knows nothing is not taken for absent: the call fails
///   with [`StateError::Unavailable`], and so does a scan. For a cache, where
///   absent is as good an answer, there is
///   [`assume_absent`](ResilientBuilder::assume_absent).
///
/// # What is written back, and conflicts
///
/// Every write, one by one, in the order of their making, with what is left of
/// its time to live. So `set`, `delete` and the like win over what others
/// wrote meanwhile, as they would have, had they come then. A
/// `compare_and_set` compares again: if the primary holds something else by
/// now, it is given up, together with all that was written to its key after
/// it, and counted ([`ResilientStats::conflicts`]). A write that the primary
/// refuses for another reason is given up alone
/// ([`ResilientStats::refused`]).
///
/// At most [10,000 writes and 64 MiB](ResilientBuilder::max_writes) wait; after
/// that, writes fail with [`StateError::Full`]. They are lost if the process
/// ends before: [`flush`](Self::flush) waits.
///
/// A write whose answer did not come in time is made in memory and so made
/// twice. It may reach the primary late, after others.
///
/// # Seen from outside
///
/// [`is_using_fallback`](Self::is_using_fallback), [`degraded`](Self::degraded),
/// [`stats`](Self::stats). To make the state of the system degraded as well:
/// `System::builder().degraded_when(move || store.degraded().map(|d| d.name.to_string()))`.
///
/// Setting the environment variable [`FALLBACK_SWITCH`] to `off` leaves only
/// the primary. Clones share everything.
#[derive(Clone)]
pub struct ResilientStore {
    shared: Arc<Shared>,
}

struct Shared {
    primary: Arc<dyn StateStore>,
    enabled: bool,
    timeout: Duration,
    breaker: Breaker,
    clock: BusClock,
    /// Calls hold it for reading; who ends the fallback, for writing.
    gate: RwLock<()>,
    local: Mutex<Local>,
    /// Writes that wait, for those who wait for none.
    waiting: watch::Sender<usize>,
    was_reset: Arc<Notify>,
    degradation: Degradation,
    serving: Arc<str>,
    tally: Tally,
}

struct Local {
    overlay: Overlay,
    log: Log,
    /// A task takes care of the log, and calls are served from here.
    is_writing_back: bool,
}

impl ResilientStore {
    /// Settings first, then [`ResilientBuilder::build`].
    pub fn builder(primary: impl StateStore) -> ResilientBuilder {
        ResilientBuilder::new(Arc::new(primary))
    }

    /// Whether calls are served from memory: the breaker is open, or writes
    /// wait to be written back.
    pub fn is_using_fallback(&self) -> bool {
        self.shared.enabled && (self.waiting() > 0 || self.degraded().is_some())
    }

    /// Since when memory serves, if it does: from the first call that it
    /// served to the first that the primary served again.
    pub fn degraded(&self) -> Option<Degraded> {
        self.shared.degradation.get()
    }

    /// Writes that wait to be written back.
    pub fn waiting(&self) -> usize {
        *self.shared.waiting.borrow()
    }

    /// What it has been through.
    pub fn stats(&self) -> ResilientStats {
        self.shared.stats()
    }

    /// Closes the breaker: the primary is tried at once. Writes that wait are
    /// still written first.
    pub fn reset(&self) {
        self.shared.breaker.reset(&self.shared.clock);
        self.shared.was_reset.notify_one();
    }

    /// Waits until nothing waits to be written back, at most for so long, and
    /// says how many writes still do.
    ///
    /// Cancel safe.
    pub async fn flush(&self, limit: Duration) -> usize {
        let mut waiting = self.shared.waiting.subscribe();
        let _ = timeout(limit, waiting.wait_for(|writes| *writes == 0)).await;
        self.waiting()
    }

    /// Runs a call on the primary, or does the same in memory.
    async fn read<T>(
        &self,
        primary: impl Future<Output = Result<T, StateError>> + Send,
        note: impl FnOnce(&mut Overlay, Instant, &T) + Send,
        local: impl FnOnce(&mut Overlay, Instant) -> Result<T, StateError> + Send,
    ) -> Result<T, StateError> {
        let shared = &self.shared;
        if !shared.enabled {
            return primary.await;
        }
        let _pass = shared.gate.read().await;
        if let Some(answer) = shared.ask(primary).await {
            if let Ok(answer) = &answer {
                note(&mut shared.local.lock().overlay, Instant::now(), answer);
            }
            return answer;
        }
        let answer = local(&mut shared.local.lock().overlay, Instant::now());
        shared.served(&answer);
        answer
    }

    /// The same for a write. `done` says of an answer whether something was
    /// changed; `as_done` makes an answer of that.
    async fn write<T: Send>(
        &self,
        key: &str,
        change: Change,
        primary: impl Future<Output = Result<T, StateError>> + Send,
        done: impl FnOnce(&T) -> bool + Send,
        as_done: impl FnOnce(bool) -> T + Send,
    ) -> Result<T, StateError> {
        let shared = &self.shared;
        if !shared.enabled {
            return primary.await;
        }
        let _pass = shared.gate.read().await;
        let unsure = Unsure { shared, key };
        let asked = shared.ask(primary).await;
        std::mem::forget(unsure);
        if let Some(answer) = asked {
            if let Ok(answer) = &answer {
                shared.note_write(key, change, done(answer));
            }
            return answer;
        }
        let answer = shared.write_here(key, change);
        shared.served(&answer);
        answer.map(as_done)
    }
}

impl Shared {
    /// `None` if the primary does not serve now.
    async fn ask<T>(
        &self,
        primary: impl Future<Output = Result<T, StateError>>,
    ) -> Option<Result<T, StateError>> {
        // What waits comes first.
        if self.local.lock().is_writing_back {
            return None;
        }
        let permit = self.breaker.acquire(&self.clock).ok()?;
        match self.bounded(primary).await {
            Err(error) if error.is_unavailable() => {
                permit.failure(&self.clock);
                self.tally.failures.fetch_add(1, Relaxed);
                None
            }
            answer => {
                permit.success(&self.clock);
                self.degradation.recovered();
                Some(answer)
            }
        }
    }

    /// A panic of the primary is no answer, and none in time neither.
    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let mut call = pin!(call);
        let caught = poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))).unwrap_or_else(|panic| {
                let text = format!("it panicked: {}", panic_text(panic));
                Poll::Ready(Err(StateError::unavailable(text)))
            })
        });
        match timeout(self.timeout, caught).await {
            Ok(answer) => answer,
            Err(_) => Err(StateError::unavailable("there was no answer in time")),
        }
    }

    fn note_write(&self, key: &str, change: Change, done: bool) {
        let change = match change {
            // It was equal there; here it need not be known.
            Change::CompareAndSet { value, ttl, .. } => Change::Set { value, ttl },
            other => other,
        };
        let overlay = &mut self.local.lock().overlay;
        if done {
            overlay.heard_of(Instant::now(), key, &change);
        } else {
            // What was known of it may be why it was asked.
            overlay.forget(Instant::now(), key);
        }
    }

    fn write_here(self: &Arc<Self>, key: &str, change: Change) -> Result<bool, StateError> {
        let now = Instant::now();
        let write = Write { key: key.into(), change, at: now };
        let mut local = self.local.lock();
        if !local.log.has_room_for(&write) {
            return Err(StateError::Full);
        }
        let done = local.overlay.write(now, &write.key, &write.change)?;
        if done {
            local.log.push(write);
            self.waiting.send_replace(local.log.len());
            if !local.is_writing_back {
                local.is_writing_back = true;
                tokio::spawn(write_back::run(Arc::downgrade(self)));
            }
        }
        Ok(done)
    }

    fn served<T>(&self, answer: &Result<T, StateError>) {
        self.degradation.served(&self.serving);
        let counter = match answer {
            Err(StateError::Unavailable(_)) => &self.tally.unknown,
            _ => &self.tally.fallbacks,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// A call to change a key that was dropped: nobody knows whether it was made.
struct Unsure<'a> {
    shared: &'a Shared,
    key: &'a str,
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        self.shared.local.lock().overlay.forget(Instant::now(), self.key);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let lost = self.local.get_mut().log.len();
        if lost > 0 {
            tracing::error!(lost, "a store was dropped before its writes were written back");
        }
    }
}

#[async_trait]
impl StateStore for ResilientStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        self.read(
            self.shared.primary.get(key),
            |known, now, value| known.heard_value(now, key, value.clone()),
            |known, now| known.get(now, key),
        )
        .await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), StateError> {
        let change = Change::Set { value: value.clone(), ttl };
        self.write(key, change, self.shared.primary.set(key, value, ttl), |()| true, drop).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError> {
        let change = Change::CompareAndSet {
            expected: expected.map(Bytes::copy_from_slice),
            value: value.clone(),
            ttl,
        };
        let primary = self.shared.primary.compare_and_set(key, expected, value, ttl);
        self.write(key, change, primary, |won| *won, |won| won).await
    }

    async fn delete(&self, key: &str) -> Result<(), StateError> {
        let primary = self.shared.primary.delete(key);
        self.write(key, Change::Delete, primary, |()| true, drop).await
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, StateError> {
        let primary = self.shared.primary.expire(key, ttl);
        self.write(key, Change::Expire { ttl }, primary, |was| *was, |was| was).await
    }

    async fn scan(&self, prefix: &str, from: Cursor, limit: usize) -> Result<Page, StateError> {
        let position = from.clone();
        self.read(
            self.shared.primary.scan(prefix, from, limit),
            |_, _, _| {},
            |known, now| known.scan(now, prefix, &position, limit),
        )
        .await
    }

    async fn hash_get(&self, key: &str, field: &str) -> Result<Option<Bytes>, StateError> {
        self.read(
            self.shared.primary.hash_get(key, field),
            |known, now, value| known.heard_field(now, key, field, value.clone()),
            |known, now| known.hash_get(now, key, field),
        )
        .await
    }

    async fn hash_set(&self, key: &str, field: &str, value: Bytes) -> Result<(), StateError> {
        let change = Change::HashSet { field: field.to_owned(), value: value.clone() };
        let primary = self.shared.primary.hash_set(key, field, value);
        self.write(key, change, primary, |()| true, drop).await
    }

    async fn hash_delete(&self, key: &str, field: &str) -> Result<(), StateError> {
        let change = Change::HashDelete { field: field.to_owned() };
        let primary = self.shared.primary.hash_delete(key, field);
        self.write(key, change, primary, |()| true, drop).await
    }

    async fn hash_all(&self, key: &str) -> Result<BTreeMap<String, Bytes>, StateError> {
        self.read(
            self.shared.primary.hash_all(key),
            |known, now, hash| known.heard_hash(now, key, hash.clone()),
            |known, now| known.hash_all(now, key),
        )
        .await
    }
}

impl fmt::Debug for ResilientStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResilientStore")
            .field("using_fallback", &self.is_using_fallback())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
