//! [`Cache`]: results of earlier calls, for a time when there are no new ones.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use swarmbus_core::Str;
use tokio::time::Instant;

/// The last result for each key, as long as it lives. The least recently used
/// key makes room for a new one.
pub(super) struct Cache<T> {
    entries: Mutex<LruCache<Str, Entry<T>>>,
    ttl: Duration,
    /// `T::clone`: only a guard with a cache asks for it.
    clone: fn(&T) -> T,
}

struct Entry<T> {
    value: Arc<T>,
    until: Instant,
}

impl<T> Cache<T> {
    pub(super) fn new(capacity: NonZeroUsize, ttl: Duration, clone: fn(&T) -> T) -> Self {
        Self { entries: Mutex::new(LruCache::new(capacity)), ttl, clone }
    }

    pub(super) fn put(&self, key: &str, value: &T) {
        // The program's clone and drop run outside of the lock.
        let value = Arc::new((self.clone)(value));
        let entry = Entry { value, until: Instant::now() + self.ttl };
        let old = self.entries.lock().push(key.into(), entry);
        drop(old);
    }

    pub(super) fn get(&self, key: &str) -> Option<T> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let entry = entries.get(key)?;
        let (fresh, value) = (entry.until > now, Arc::clone(&entry.value));
        let stale = if fresh { None } else { entries.pop(key) };
        drop(entries);
        drop(stale);
        fresh.then(|| (self.clone)(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_last_used_for_a_time() {
        let hour = Duration::from_secs(3_600);
        let cache = Cache::new(NonZeroUsize::new(2).unwrap(), hour, u32::clone);
        cache.put("a", &1);
        cache.put("b", &2);
        assert_eq!(cache.get("a"), Some(1));
        cache.put("c", &3);
        assert_eq!((cache.get("a"), cache.get("b"), cache.get("c")), (Some(1), None, Some(3)));
        tokio::time::advance(hour / 2).await;
        cache.put("a", &4);
        tokio::time::advance(hour / 2).await;
        assert_eq!((cache.get("a"), cache.get("c")), (Some(4), None));
        assert_eq!(cache.entries.lock().len(), 1);
    }
}
