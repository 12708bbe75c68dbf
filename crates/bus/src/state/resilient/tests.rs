//! A store that can be broken in several ways, and what stands in for it.

use std::{collections::BTreeMap, sync::atomic::AtomicU8};

use super::*;
use crate::state::MemoryState;

const LONG: Duration = Duration::from_secs(60);

/// A store in memory that can be away.
#[derive(Clone, Default)]
struct Primary(Arc<Inner>);

#[derive(Default)]
struct Inner {
    store: MemoryState,
    fault: AtomicU8,
    /// Keys of the writes that came in.
    writes: Mutex<Vec<String>>,
    calls: std::sync::atomic::AtomicU64,
}

const UP: u8 = 0;
/// Every call fails.
const DOWN: u8 = 1;
/// Calls are made, but the answer is lost.
const DEAF: u8 = 2;
/// No call ends.
const HUNG: u8 = 3;
const PANICS: u8 = 4;

impl Primary {
    fn fault(&self, fault: u8) {
        self.0.fault.store(fault, Relaxed);
    }

    async fn via<T>(
        &self,
        call: impl Future<Output = Result<T, StateError>> + Send,
    ) -> Result<T, StateError> {
        self.0.calls.fetch_add(1, Relaxed);
        match self.0.fault.load(Relaxed) {
            UP => call.await,
            DOWN => Err(StateError::unavailable("down")),
            DEAF => call.await.and(Err(StateError::unavailable("deaf"))),
            HUNG => std::future::pending().await,
            _ => panic!("ouch"),
        }
    }

    async fn wrote<T>(
        &self,
        key: &str,
        call: impl Future<Output = Result<T, StateError>> + Send,
    ) -> Result<T, StateError> {
        let result = self.via(call).await;
        if result.is_ok() {
            self.0.writes.lock().push(key.to_owned());
        }
        result
    }
}

#[async_trait]
impl StateStore for Primary {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        self.via(self.0.store.get(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), StateError> {
        self.wrote(key, self.0.store.set(key, value, ttl)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError> {
        self.wrote(key, self.0.store.compare_and_set(key, expected, value, ttl)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.wrote(key, self.0.store.delete(key)).await
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, StateError> {
        self.wrote(key, self.0.store.expire(key, ttl)).await
    }

    async fn scan(&self, prefix: &str, from: Cursor, limit: usize) -> Result<Page, StateError> {
        self.via(self.0.store.scan(prefix, from, limit)).await
    }

    async fn hash_get(&self, key: &str, field: &str) -> Result<Option<Bytes>, StateError> {
        self.via(self.0.store.hash_get(key, field)).await
    }

    async fn hash_set(&self, key: &str, field: &str, value: Bytes) -> Result<(), StateError> {
        self.wrote(key, self.0.store.hash_set(key, field, value)).await
    }

    async fn hash_delete(&self, key: &str, field: &str) -> Result<(), StateError> {
        self.wrote(key, self.0.store.hash_delete(key, field)).await
    }

    async fn hash_all(&self, key: &str) -> Result<BTreeMap<String, Bytes>, StateError> {
        self.via(self.0.store.hash_all(key)).await
    }
}

fn pair() -> (Primary, ResilientStore) {
    let primary = Primary::default();
    let store = ResilientStore::builder(primary.clone()).enabled(true).build();
    (primary, store)
}

async fn text(store: &impl StateStore, key: &str) -> Option<String> {
    let value = store.get(key).await.unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

async fn set(store: &impl StateStore, key: &str, value: &'static str) {
    store.set(key, value.into(), None).await.unwrap();
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract_whether_the_primary_is_there_or_not() {
    let make = |fault| async move {
        let primary = Primary::default();
        primary.fault(fault);
        ResilientStore::builder(primary)
            .enabled(true)
            .assume_absent(true)
            .max_writes(100_000, 1 << 30)
            .build()
    };
    crate::state::conformance::check(|| make(UP)).await;
    crate::state::conformance::check(|| make(DOWN)).await;
}

#[tokio::test(start_paused = true)]
async fn memory_stands_in_and_what_it_took_is_written_back_in_order() {
    let (primary, store) = pair();
    set(&store, "known", "1").await;
    primary.0.store.set("elsewhere", "1".into(), None).await.unwrap();
    primary.fault(DOWN);

    assert_eq!(text(&store, "known").await.as_deref(), Some("1"));
    assert!(store.get("elsewhere").await.unwrap_err().is_unavailable(), "that is not known");
    assert!(store.scan("", Cursor::START, 10).await.unwrap_err().is_unavailable());
    assert!(store.is_using_fallback() && store.waiting() == 0);
    assert_eq!(&*store.degraded().unwrap().serving, "memory");

    for key in ["b", "a", "c", "a"] {
        set(&store, key, "2").await;
    }
    assert!(store.compare_and_set("known", Some(b"1"), "2".into(), None).await.unwrap());
    store.hash_set("h", "f", "1".into()).await.unwrap();
    assert_eq!(store.hash_get("h", "f").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert!(store.hash_get("h", "g").await.is_err(), "of the hash one field is known");
    assert!(store.hash_all("h").await.is_err());
    assert_eq!(store.waiting(), 6);
    assert_eq!(store.flush(Duration::from_secs(1)).await, 6);

    primary.0.writes.lock().clear();
    primary.fault(UP);
    assert_eq!(store.flush(LONG).await, 0);
    assert_eq!(*primary.0.writes.lock(), ["b", "a", "c", "a", "known", "h"]);
    assert_eq!(text(&store, "known").await.as_deref(), Some("2"));
    assert!(!store.is_using_fallback());
    let stats = store.stats();
    assert_eq!((stats.written_back, stats.conflicts, stats.refused), (6, 0, 0));
    assert_eq!((stats.fallbacks, stats.unknown), (8, 4));
    assert!(stats.failures >= 5 && stats.breaker.opens >= 1, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_set_wins_and_a_comparison_yields() {
    let (primary, store) = pair();
    for key in ["set", "compared"] {
        set(&store, key, "1").await;
    }
    primary.0.store.hash_set("hash", "f", "1".into()).await.unwrap();
    primary.fault(DOWN);
    set(&store, "set", "ours").await;
    assert!(store.compare_and_set("compared", Some(b"1"), "ours".into(), None).await.unwrap());
    set(&store, "compared", "later").await;
    store.hash_set("set again", "f", "1".into()).await.unwrap();
    for key in ["set", "compared", "set again"] {
        primary.0.store.set(key, "theirs".into(), None).await.unwrap();
    }
    primary.fault(UP);
    assert_eq!(store.flush(LONG).await, 0);
    assert_eq!(text(&store, "set").await.as_deref(), Some("ours"));
    assert_eq!(text(&store, "compared").await.as_deref(), Some("theirs"));
    assert_eq!(text(&store, "set again").await.as_deref(), Some("theirs"));
    let stats = store.stats();
    assert_eq!((stats.written_back, stats.conflicts, stats.refused), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_comparison_whose_answer_was_lost_is_no_conflict() {
    let (primary, store) = pair();
    set(&store, "a", "1").await;
    primary.fault(DEAF);
    assert!(store.compare_and_set("a", Some(b"1"), "2".into(), None).await.unwrap());
    assert_eq!(text(&primary.0.store, "a").await.as_deref(), Some("2"));
    primary.fault(UP);
    assert_eq!(store.flush(LONG).await, 0);
    assert_eq!((store.stats().written_back, store.stats().conflicts), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded() {
    let primary = Primary::default();
    let store = ResilientStore::builder(primary.clone()).enabled(true).max_writes(2, 400).build();
    primary.fault(DOWN);
    set(&store, "a", "1").await;
    set(&store, "b", "1").await;
    assert!(matches!(store.set("c", "1".into(), None).await, Err(StateError::Full)));
    assert!(matches!(store.get("c").await, Err(StateError::Unavailable(_))), "nothing was made");
    primary.fault(UP);
    assert_eq!(store.flush(LONG).await, 0);
    primary.fault(DOWN);
    let large = Bytes::from(vec![0; 400]);
    assert!(matches!(store.set("a", large, None).await, Err(StateError::Full)));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_hangs_or_panics_is_away() {
    for fault in [HUNG, PANICS] {
        let (primary, store) = pair();
        primary.fault(fault);
        let before = Instant::now();
        set(&store, "a", "1").await;
        assert!(before.elapsed() <= Duration::from_secs(2));
        primary.fault(UP);
        assert_eq!(store.flush(LONG).await, 0);
        assert_eq!(text(&primary.0.store, "a").await.as_deref(), Some("1"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_spares_the_primary_until_it_is_reset() {
    let primary = Primary::default();
    let store = ResilientStore::builder(primary.clone())
        .enabled(true)
        .breaker(swarmbus_core::breaker::Config::default())
        .build();
    primary.fault(DOWN);
    for _ in 0..10 {
        assert!(store.get("a").await.is_err());
    }
    assert_eq!(primary.0.calls.load(Relaxed), 5);
    set(&store, "a", "1").await;
    primary.fault(UP);
    assert_eq!(store.flush(Duration::from_secs(20)).await, 1, "it is open for 30 s");
    store.reset();
    assert_eq!(store.flush(Duration::from_secs(1)).await, 0);
    assert_eq!(text(&store, "a").await.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_while_writes_wait() {
    let (primary, store) = pair();
    primary.fault(DOWN);
    store.set("short", "1".into(), Some(Duration::from_secs(5))).await.unwrap();
    store.set("long", "1".into(), Some(Duration::from_secs(60))).await.unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(text(&store, "short").await, None);
    primary.fault(UP);
    assert_eq!(store.flush(LONG).await, 0);
    assert_eq!(text(&store, "long").await.as_deref(), Some("1"));
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(text(&store, "long").await, None);
    assert_eq!(text(&store, "short").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_long_ago_or_crowded_out_is_not_known() {
    let primary = Primary::default();
    let store = ResilientStore::builder(primary.clone())
        .enabled(true)
        .remember(2.try_into().unwrap(), 1_000)
        .build();
    for key in ["a", "b", "c"] {
        set(&store, key, "1").await;
    }
    primary.fault(DOWN);
    assert!(store.get("a").await.is_err());
    assert!(store.get("b").await.is_ok() && store.get("c").await.is_ok());
    store.set("large", vec![0; 993].into(), None).await.unwrap();
    assert!(store.get("b").await.is_err(), "what was written is worth more");
    assert_eq!(store.get("large").await.unwrap().unwrap().len(), 993);
    assert!(matches!(store.set("more", vec![0; 100].into(), None).await, Err(StateError::Full)));
    primary.fault(UP);
    assert_eq!(store.flush(LONG).await, 0);
    set(&store, "b", "1").await;
    tokio::time::advance(Duration::from_secs(3_600)).await;
    primary.fault(DOWN);
    assert!(store.get("b").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn switched_off_there_is_only_the_primary() {
    let primary = Primary::default();
    let store = ResilientStore::builder(primary.clone()).enabled(false).build();
    set(&store, "a", "1").await;
    primary.fault(DOWN);
    for _ in 0..20 {
        assert!(store.get("a").await.is_err());
        assert!(store.set("a", "2".into(), None).await.is_err());
    }
    assert!(!store.is_using_fallback());
    assert_eq!(primary.0.calls.load(Relaxed), 41);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_leaves_nothing_known() {
    let (primary, store) = pair();
    set(&store, "a", "1").await;
    primary.fault(HUNG);
    assert!(timeout(Duration::ZERO, store.set("a", "2".into(), None)).await.is_err());
    primary.fault(DOWN);
    assert!(store.get("a").await.unwrap_err().is_unavailable());
}

/// One process alone: whatever the primary does, each answer is that of the
/// model or none, and in the end the primary is as the model.
#[tokio::test(start_paused = true)]
async fn it_is_like_the_model_however_often_the_primary_goes() {
    for seed in 0..60 {
        like_the_model(seed).await;
    }
}

async fn like_the_model(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (primary, store) = pair();
    let mut model: BTreeMap<String, Option<Bytes>> = BTreeMap::new();
    for step in 0..200 {
        if random.u8(0..10) == 0 {
            primary.fault(*random.choice(&[UP, UP, DOWN, DEAF, HUNG]).unwrap());
        }
        if random.u8(0..10) == 0 {
            tokio::time::advance(Duration::from_millis(random.u64(0..3_000))).await;
        }
        let key = format!("k{}", random.u8(0..4));
        let value = Bytes::from(random.u8(0..4).to_string());
        let place = format!("step {step} of seed {seed}");
        let held = model.get(&key).cloned();
        match random.u8(0..5) {
            0 | 1 => match store.get(&key).await {
                Ok(got) => assert!(held.is_none_or(|held| held == got), "{place}"),
                Err(error) => assert!(error.is_unavailable(), "{place}: {error}"),
            },
            2 => {
                store.set(&key, value.clone(), None).await.unwrap();
                model.insert(key, Some(value));
            }
            3 => {
                store.delete(&key).await.unwrap();
                model.insert(key, None);
            }
            _ => {
                let expected = random.bool().then(|| Bytes::from(random.u8(0..4).to_string()));
                match store.compare_and_set(&key, expected.as_deref(), value.clone(), None).await {
                    Ok(won) => {
                        assert!(held.is_none_or(|held| won == (held == expected)), "{place}");
                        if won {
                            model.insert(key, Some(value));
                        }
                    }
                    // It was made or was not.
                    Err(_) => drop(model.remove(&key)),
                }
            }
        }
    }
    primary.fault(UP);
    assert_eq!(store.flush(LONG * 10).await, 0);
    for (key, held) in model {
        assert_eq!(primary.0.store.get(&key).await.unwrap(), held, "{key} of seed {seed}");
    }
    assert_eq!(store.stats().conflicts + store.stats().refused, 0);
}
