//! The suite that every [`StateStore`] must pass: the contract as code.
//!
//! Every part asks for a store of its own, which must be empty.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Cursor, MAX_FIELDS, MAX_KEY_LEN, MAX_TTL, MAX_VALUE_LEN, StateError, StateStore};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
/// Longer than a few calls take on a busy machine.
const SOON: Duration = Duration::from_millis(500);

/// Runs all of it.
///
/// # Panics
///
/// With what was broken.
pub async fn check<S, F>(make: impl Fn() -> F)
where
    S: StateStore,
    F: Future<Output = S>,
{
    values_are_kept_as_they_are(&make().await).await;
    kinds_do_not_mix(&make().await).await;
    limits_are_errors(&make().await).await;
    time_runs_out(&make().await).await;
    scans_find_what_is_there(&make().await).await;
    one_of_many_wins_each_time(Arc::new(make().await)).await;
    hashes_are_bounded(&make().await).await;
    for seed in 0..4 {
        it_is_like_the_model(&make().await, seed).await;
    }
}

const WORKS: &str = "the store works";
const REFUSED: &str = "the store refuses";

async fn get(store: &impl StateStore, key: &str) -> Option<Bytes> {
    store.get(key).await.expect(WORKS)
}

async fn set(store: &impl StateStore, key: &str, value: &'static str) {
    store.set(key, value.into(), None).await.expect(WORKS);
}

async fn values_are_kept_as_they_are(store: &impl StateStore) {
    assert_eq!(get(store, "a").await, None);
    for key in ["a", "a b", "a\r\nb", "{a}", "a*?[b]\\", "ä", "\0"] {
        let value = Bytes::from(format!("\0\r\n of {key} \u{ff}"));
        store.set(key, value.clone(), None).await.expect(WORKS);
        assert_eq!(get(store, key).await, Some(value), "of {key:?}");
    }
    store.set("a", Bytes::new(), None).await.expect(WORKS);
    assert_eq!(get(store, "a").await, Some(Bytes::new()), "empty is not absent");
    assert!(!store.compare_and_set("a", None, "x".into(), None).await.expect(WORKS));
    assert!(store.compare_and_set("a", Some(b""), "x".into(), None).await.expect(WORKS));
    store.delete("a").await.expect(WORKS);
    store.delete("a").await.expect("what is not there is no error");
    assert_eq!(get(store, "a").await, None);
    assert!(!store.compare_and_set("a", Some(b""), "x".into(), None).await.expect(WORKS));
}

async fn kinds_do_not_mix(store: &impl StateStore) {
    store.hash_set("h", "f", "1".into()).await.expect(WORKS);
    set(store, "v", "1").await;
    let wrong = |error: StateError| assert!(matches!(error, StateError::WrongKind), "{error}");
    wrong(store.get("h").await.expect_err(REFUSED));
    wrong(store.compare_and_set("h", None, "x".into(), None).await.expect_err(REFUSED));
    wrong(store.hash_get("v", "f").await.expect_err(REFUSED));
    wrong(store.hash_set("v", "f", "x".into()).await.expect_err(REFUSED));
    wrong(store.hash_delete("v", "f").await.expect_err(REFUSED));
    wrong(store.hash_all("v").await.expect_err(REFUSED));
    assert_eq!(get(store, "v").await.as_deref(), Some(&b"1"[..]));

    set(store, "h", "now a value").await;
    assert_eq!(get(store, "h").await.as_deref(), Some(&b"now a value"[..]));
    store.hash_set("g", "f", "1".into()).await.expect(WORKS);
    store.hash_delete("g", "f").await.expect(WORKS);
    set(store, "g", "a hash without fields is gone").await;
    assert!(store.hash_all("nothing").await.expect(WORKS).is_empty());
}

async fn limits_are_errors(store: &impl StateStore) {
    let long = "k".repeat(MAX_KEY_LEN);
    set(store, &long, "fits").await;
    let too_long = "k".repeat(MAX_KEY_LEN + 1);
    for name in ["", &too_long] {
        let refused = |error: StateError| assert!(matches!(error, StateError::Name(_)), "{error}");
        refused(store.get(name).await.expect_err(REFUSED));
        refused(store.set(name, "x".into(), None).await.expect_err(REFUSED));
        refused(store.delete(name).await.expect_err(REFUSED));
        refused(store.expire(name, None).await.expect_err(REFUSED));
        refused(store.hash_get("h", name).await.expect_err(REFUSED));
        refused(store.hash_set("h", name, "x".into()).await.expect_err(REFUSED));
        refused(store.hash_delete("h", name).await.expect_err(REFUSED));
    }
    let large = Bytes::from(vec![0; MAX_VALUE_LEN + 1]);
    let refused = |error: StateError| assert!(matches!(error, StateError::Value { .. }), "{error}");
    refused(store.set("a", large.clone(), None).await.expect_err(REFUSED));
    refused(store.hash_set("a", "f", large).await.expect_err(REFUSED));
    for ttl in [Duration::ZERO, Duration::from_micros(999), MAX_TTL + SOON, Duration::MAX] {
        let refused = |error: StateError| assert!(matches!(error, StateError::Ttl(_)), "{error}");
        refused(store.set("a", "x".into(), Some(ttl)).await.expect_err(REFUSED));
        refused(store.expire(&long, Some(ttl)).await.expect_err(REFUSED));
        refused(store.compare_and_set("a", None, "x".into(), Some(ttl)).await.expect_err(REFUSED));
    }
    store.set("a", "x".into(), Some(MAX_TTL)).await.expect(WORKS);
    assert!(get(store, "a").await.is_some());
}

async fn time_runs_out(store: &impl StateStore) {
    let set_for_now = async |key: &str| {
        store.set(key, "1".into(), Some(SOON)).await.expect(WORKS);
    };
    for key in ["set", "cas", "kept", "written", "compared"] {
        set_for_now(key).await;
    }
    set(store, "later", "1").await;
    assert!(store.expire("later", Some(SOON)).await.expect(WORKS));
    assert!(!store.expire("nothing", Some(SOON)).await.expect(WORKS));
    store.hash_set("hash", "f", "1".into()).await.expect(WORKS);
    assert!(store.expire("hash", Some(SOON)).await.expect(WORKS));
    store.hash_set("hash", "g", "leaves the time alone".into()).await.expect(WORKS);
    assert!(store.compare_and_set("new", None, "1".into(), Some(SOON)).await.expect(WORKS));
    // These stay.
    assert!(store.expire("kept", None).await.expect(WORKS));
    set(store, "written", "2").await;
    assert!(store.compare_and_set("compared", Some(b"1"), "2".into(), None).await.expect(WORKS));
    store.expire("cas", Some(LONG)).await.expect(WORKS);

    for key in ["set", "later", "new"] {
        gone(key, async || get(store, key).await.is_none()).await;
    }
    gone("hash", async || store.hash_all("hash").await.expect(WORKS).is_empty()).await;
    for key in ["kept", "written", "compared", "cas"] {
        assert!(get(store, key).await.is_some(), "{key} is still there");
    }
    assert_eq!(store.list("", 10).await.expect(WORKS), ["cas", "compared", "kept", "written"]);
    assert!(!store.expire("set", None).await.expect(WORKS), "it is gone for every call");
}

/// Waits for the time to run out.
async fn gone(key: &str, is_gone: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_gone().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{key} is still there"));
}

async fn scans_find_what_is_there(store: &impl StateStore) {
    let names = |prefix: &str, count| -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n:04}")).collect()
    };
    let (plain, starred) = (names("task:", 300), names("task*:", 3));
    for key in plain.iter().chain(&starred) {
        set(store, key, "1").await;
    }
    assert_eq!(store.list("task:", 300).await.expect(WORKS), plain);
    assert_eq!(store.list("task*", 300).await.expect(WORKS), starred, "a prefix is no pattern");
    assert_eq!(store.list("task:02", 300).await.expect(WORKS).len(), 100);
    assert!(store.list("nothing", 0).await.expect(WORKS).is_empty());
    let too_many = store.list("task:", 299).await.expect_err(REFUSED);
    assert!(matches!(too_many, StateError::TooMany { limit: 299 }), "{too_many}");

    // In small steps, while others come and go.
    let (mut seen, mut from, mut steps) = (Vec::new(), Cursor::START, 0);
    loop {
        let page = store.scan("task:", from, 10).await.expect(WORKS);
        assert!(page.keys.len() < 100, "{} is not about 10", page.keys.len());
        seen.extend(page.keys);
        store.set(&format!("task:x{steps}"), "1".into(), None).await.expect(WORKS);
        store.delete(&format!("task:x{}", steps / 2)).await.expect(WORKS);
        steps += 1;
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert!(steps > 2, "a page is bounded");
    assert!(plain.iter().all(|key| seen.contains(key)), "each at least once");
}

async fn one_of_many_wins_each_time(store: Arc<impl StateStore>) {
    const EACH: usize = 25;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut done = 0;
                while done < EACH {
                    let old = get(&*store, "count").await;
                    let count = old.as_deref().map_or(0, |old| {
                        str::from_utf8(old).expect("text").parse::<usize>().expect("a number")
                    });
                    let new = (count + 1).to_string().into();
                    let won = store.compare_and_set("count", old.as_deref(), new, None).await;
                    done += usize::from(won.expect(WORKS));
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    assert_eq!(get(&*store, "count").await, Some((8 * EACH).to_string().into()));
}

async fn hashes_are_bounded(store: &impl StateStore) {
    for n in 0..MAX_FIELDS {
        store.hash_set("h", &n.to_string(), "1".into()).await.expect(WORKS);
    }
    let full = store.hash_set("h", "one more", "1".into()).await.expect_err(REFUSED);
    assert!(matches!(full, StateError::Fields), "{full}");
    store.hash_set("h", "7", "2".into()).await.expect("an old field may change");
    store.hash_delete("h", "8").await.expect(WORKS);
    store.hash_set("h", "one more", "1".into()).await.expect("there is room again");
    assert_eq!(store.hash_all("h").await.expect(WORKS).len(), MAX_FIELDS);
}

/// What a key may hold, kept as simply as possible.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    Value(Bytes),
    Hash(BTreeMap<String, Bytes>),
}

type Model = BTreeMap<String, Held>;

async fn it_is_like_the_model(store: &impl StateStore, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = Model::new();
    for step in 0..250 {
        let key = format!("k{}", random.u8(0..4));
        let field = format!("f{}", random.u8(0..3));
        let value = Bytes::from(random.u8(0..3).to_string());
        let place = format!("step {step} of seed {seed}");
        let held = model.get(&key).cloned();
        let is_hash = matches!(held, Some(Held::Hash(_)));
        let is_value = matches!(held, Some(Held::Value(_)));
        let mut hash = match &held {
            Some(Held::Hash(hash)) => hash.clone(),
            Some(Held::Value(_)) | None => BTreeMap::new(),
        };
        match random.u8(0..8) {
            0 => {
                store.set(&key, value.clone(), None).await.expect(WORKS);
                model.insert(key, Held::Value(value));
            }
            1 => match store.get(&key).await {
                Ok(got) => assert_eq!(got.map(Held::Value), held, "{place}"),
                Err(_) => assert!(is_hash, "{place}"),
            },
            2 => {
                let expected = random.bool().then(|| random.u8(0..3).to_string());
                let expected = expected.as_deref().map(str::as_bytes);
                match store.compare_and_set(&key, expected, value.clone(), None).await {
                    Ok(won) => {
                        let expected = expected.map(|e| Held::Value(Bytes::copy_from_slice(e)));
                        assert_eq!(won, expected == held, "{place}");
                        if won {
                            model.insert(key, Held::Value(value));
                        }
                    }
                    Err(_) => assert!(is_hash, "{place}"),
                }
            }
            3 => {
                store.delete(&key).await.expect(WORKS);
                model.remove(&key);
            }
            4 => {
                let ttl = random.bool().then_some(LONG * 100);
                assert_eq!(store.expire(&key, ttl).await.expect(WORKS), held.is_some(), "{place}");
            }
            5 => match store.hash_set(&key, &field, value.clone()).await {
                Ok(()) => {
                    assert!(!is_value, "{place}");
                    hash.insert(field, value);
                    model.insert(key, Held::Hash(hash));
                }
                Err(_) => assert!(is_value, "{place}"),
            },
            6 => match store.hash_get(&key, &field).await {
                Ok(got) => assert_eq!(got.as_ref(), hash.get(&field), "{place}"),
                Err(_) => assert!(is_value, "{place}"),
            },
            _ => match store.hash_delete(&key, &field).await {
                Ok(()) => {
                    hash.remove(&field);
                    if is_hash && hash.is_empty() {
                        model.remove(&key);
                    } else if is_hash {
                        model.insert(key, Held::Hash(hash));
                    }
                }
                Err(_) => assert!(is_value, "{place}"),
            },
        }
    }
    let keys: Vec<String> = model.keys().cloned().collect();
    assert_eq!(store.list("k", 10).await.expect(WORKS), keys);
    for (key, held) in model {
        let found = match &held {
            Held::Value(_) => get(store, &key).await.map(Held::Value),
            Held::Hash(_) => Some(Held::Hash(store.hash_all(&key).await.expect(WORKS))),
        };
        assert_eq!(found, Some(held), "{key} in the end of seed {seed}");
    }
}
