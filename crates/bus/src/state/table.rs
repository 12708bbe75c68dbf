//! What a store in memory holds. Time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Cursor, MAX_FIELDS, MAX_PAGE, Page, StateError, check_name, check_ttl, check_value};

/// Keys and what they hold, within limits. Every call first removes what is
/// over by `now`.
#[derive(Debug)]
pub(super) struct Table {
    slots: BTreeMap<Arc<str>, Slot>,
    /// Keys by the time they end.
    due: BTreeSet<(Instant, Arc<str>)>,
    /// Of keys, fields and values.
    bytes: usize,
    max_keys: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    content: Content,
    expires: Option<Instant>,
}

#[derive(Debug)]
enum Content {
    Value(Bytes),
    Hash(BTreeMap<String, Bytes>),
}

impl Table {
    pub(super) fn new(max_keys: usize, max_bytes: usize) -> Self {
        let (slots, due) = (BTreeMap::new(), BTreeSet::new());
        Self { slots, due, bytes: 0, max_keys, max_bytes }
    }

    pub(super) fn get(&mut self, now: Instant, key: &str) -> Result<Option<Bytes>, StateError> {
        check_name(key)?;
        self.purge(now);
        match self.slots.get(key).map(|slot| &slot.content) {
            None => Ok(None),
            Some(Content::Value(value)) => Ok(Some(value.clone())),
            Some(Content::Hash(_)) => Err(StateError::WrongKind),
        }
    }

    pub(super) fn set(
        &mut self,
        now: Instant,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), StateError> {
        check_name(key)?;
        check_value(&value)?;
        let ttl = check_ttl(ttl)?;
        self.purge(now);
        let old = self.slots.get(key).map_or(0, |slot| slot.bytes(key));
        self.make_room(key, old, key.len() + value.len())?;
        self.remove(key);
        self.insert(key.into(), Content::Value(value), ttl.map(|ttl| now + ttl));
        Ok(())
    }

    pub(super) fn compare_and_set(
        &mut self,
        now: Instant,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError> {
        check_value(&value)?;
        check_ttl(ttl)?;
        if self.get(now, key)?.as_deref() != expected {
            return Ok(false);
        }
        self.set(now, key, value, ttl).map(|()| true)
    }

    pub(super) fn delete(&mut self, now: Instant, key: &str) -> Result<(), StateError> {
        check_name(key)?;
        self.purge(now);
        self.remove(key);
        Ok(())
    }

    pub(super) fn expire(
        &mut self,
        now: Instant,
        key: &str,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError> {
        check_name(key)?;
        let ttl = check_ttl(ttl)?;
        self.purge(now);
        let Some(slot) = self.remove(key) else { return Ok(false) };
        self.insert(key.into(), slot.content, ttl.map(|ttl| now + ttl));
        Ok(true)
    }

    /// The cursor is the last key of the page before.
    pub(super) fn scan(&mut self, now: Instant, prefix: &str, from: &Cursor, limit: usize) -> Page {
        self.purge(now);
        let limit = limit.clamp(1, MAX_PAGE);
        let after = from.as_str();
        let start = if after < prefix || after.is_empty() {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(after)
        };
        let mut found = self
            .slots
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(key, _)| &**key)
            .take_while(|key| key.starts_with(prefix));
        let keys: Vec<String> = found.by_ref().take(limit).map(str::to_owned).collect();
        let more = found.next().is_some();
        let next = keys.last().filter(|_| more).map(Cursor::new);
        Page { keys, next }
    }

    pub(super) fn hash_get(
        &mut self,
        now: Instant,
        key: &str,
        field: &str,
    ) -> Result<Option<Bytes>, StateError> {
        check_name(field)?;
        Ok(self.hash(now, key)?.and_then(|hash| hash.get(field).cloned()))
    }

    pub(super) fn hash_set(
        &mut self,
        now: Instant,
        key: &str,
        field: &str,
        value: Bytes,
    ) -> Result<(), StateError> {
        check_name(field)?;
        check_value(&value)?;
        let (is_new, old) = match self.hash(now, key)? {
            None => (true, 0),
            Some(hash) => match hash.get(field) {
                Some(old) => (false, field.len() + old.len()),
                None if hash.len() >= MAX_FIELDS => return Err(StateError::Fields),
                None => (false, 0),
            },
        };
        let new = field.len() + value.len() + if is_new { key.len() } else { 0 };
        self.make_room(key, old, new)?;
        if is_new {
            self.insert(key.into(), Content::Hash(BTreeMap::new()), None);
        }
        if let Some(Slot { content: Content::Hash(hash), .. }) = self.slots.get_mut(key) {
            self.bytes += field.len() + value.len();
            self.bytes -= old;
            hash.insert(field.to_owned(), value);
        }
        Ok(())
    }

    pub(super) fn hash_delete(
        &mut self,
        now: Instant,
        key: &str,
        field: &str,
    ) -> Result<(), StateError> {
        check_name(field)?;
        self.hash(now, key)?;
        let Some(Slot { content: Content::Hash(hash), .. }) = self.slots.get_mut(key) else {
            return Ok(());
        };
        if let Some(value) = hash.remove(field) {
            self.bytes -= field.len() + value.len();
        }
        if hash.is_empty() {
            self.remove(key);
        }
        Ok(())
    }

    pub(super) fn hash_all(
        &mut self,
        now: Instant,
        key: &str,
    ) -> Result<BTreeMap<String, Bytes>, StateError> {
        Ok(self.hash(now, key)?.cloned().unwrap_or_default())
    }

    fn hash(
        &mut self,
        now: Instant,
        key: &str,
    ) -> Result<Option<&BTreeMap<String, Bytes>>, StateError> {
        check_name(key)?;
        self.purge(now);
        match self.slots.get(key).map(|slot| &slot.content) {
            None => Ok(None),
            Some(Content::Hash(hash)) => Ok(Some(hash)),
            Some(Content::Value(_)) => Err(StateError::WrongKind),
        }
    }

    /// `old` bytes of the key make way for `new` ones.
    fn make_room(&self, key: &str, old: usize, new: usize) -> Result<(), StateError> {
        let one_more = usize::from(!self.slots.contains_key(key));
        if self.slots.len() + one_more > self.max_keys || self.bytes - old + new > self.max_bytes {
            return Err(StateError::Full);
        }
        Ok(())
    }

    fn insert(&mut self, key: Arc<str>, content: Content, expires: Option<Instant>) {
        let slot = Slot { content, expires };
        self.bytes += slot.bytes(&key);
        if let Some(at) = expires {
            self.due.insert((at, Arc::clone(&key)));
        }
        self.slots.insert(key, slot);
    }

    fn remove(&mut self, key: &str) -> Option<Slot> {
        let (key, slot) = self.slots.remove_entry(key)?;
        self.bytes -= slot.bytes(&key);
        if let Some(at) = slot.expires {
            self.due.remove(&(at, key));
        }
        Some(slot)
    }

    fn purge(&mut self, now: Instant) {
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, key)) = self.due.pop_first()
        {
            self.remove(&key);
        }
    }
}

impl Slot {
    fn bytes(&self, key: &str) -> usize {
        key.len()
            + match &self.content {
                Content::Value(value) => value.len(),
                Content::Hash(hash) => {
                    hash.iter().map(|(field, value)| field.len() + value.len()).sum()
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_by_keys_and_bytes_and_takes_back_what_is_given_up() {
        let now = Instant::now();
        let mut table = Table::new(2, 20);
        table.set(now, "a", vec![0; 9].into(), None).unwrap();
        table.hash_set(now, "b", "f", vec![0; 8].into()).unwrap();
        assert_eq!(table.bytes, 20);
        assert!(matches!(table.set(now, "c", Bytes::new(), None), Err(StateError::Full)));
        assert!(matches!(table.hash_set(now, "b", "g", Bytes::new()), Err(StateError::Full)));
        table.set(now, "a", vec![1; 9].into(), Some(Duration::from_secs(1))).unwrap();
        table.hash_set(now, "b", "f", vec![1; 8].into()).unwrap();
        assert_eq!(table.bytes, 20);
        table.hash_delete(now, "b", "f").unwrap();
        assert_eq!(table.bytes, 10);
        let later = now + Duration::from_secs(1);
        assert_eq!(table.get(later, "a").unwrap(), None);
        assert_eq!((table.bytes, table.slots.len(), table.due.len()), (0, 0, 0));
    }
}
