//! The suite that every [`LeaseStore`] must pass: the contract as code.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Grant, LeaseError, LeaseStore, MAX_NAME_LEN, MIN_TTL};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

const WORKS: &str = "the store works";

/// Runs all of it against a store without leases.
///
/// # Panics
///
/// With what was broken.
pub async fn check(store: Arc<impl LeaseStore>) {
    one_holder_at_a_time(&*store).await;
    time_runs_out(&*store).await;
    limits_are_errors(&*store).await;
    of_many_one_gets_it(store).await;
}

async fn token(store: &impl LeaseStore, name: &str, holder: &str, ttl: Duration) -> Option<u64> {
    match store.acquire(name, holder, ttl).await.expect(WORKS) {
        Grant::Granted { token } => Some(token),
        Grant::Held { left } => {
            assert!(left <= LONG, "{left:?} is longer than it was granted for");
            None
        }
    }
}

async fn one_holder_at_a_time(store: &impl LeaseStore) {
    let first = token(store, "a", "me", LONG).await.expect("it is free");
    assert_eq!(token(store, "a", "me", LONG).await, Some(first), "asked again, the same");
    assert_eq!(token(store, "a", "you", LONG).await, None);
    assert!(token(store, "b", "you", LONG).await.is_some(), "names do not mix");
    for (holder, token) in [("you", first), ("me", first + 1)] {
        assert!(!store.renew("a", holder, token, LONG).await.expect(WORKS));
        assert!(!store.release("a", holder, token).await.expect(WORKS));
    }
    assert!(store.renew("a", "me", first, LONG).await.expect(WORKS));
    assert!(store.release("a", "me", first).await.expect(WORKS));
    assert!(!store.release("a", "me", first).await.expect(WORKS), "only once");
    assert!(!store.renew("a", "me", first, LONG).await.expect(WORKS));
    let second = token(store, "a", "you", LONG).await.expect("it is free again");
    assert!(second > first);
    assert!(store.release("a", "you", second).await.expect(WORKS));
}

async fn time_runs_out(store: &impl LeaseStore) {
    let first = token(store, "t", "me", MIN_TTL).await.expect("it is free");
    assert!(store.renew("t", "me", first, MIN_TTL).await.expect(WORKS));
    let next = async {
        loop {
            if let Some(next) = token(store, "t", "you", LONG).await {
                return next;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let second = tokio::time::timeout(LONG, next).await.expect("its time runs out");
    assert!(second > first);
    assert!(!store.renew("t", "me", first, LONG).await.expect(WORKS), "late");
    assert!(!store.release("t", "me", first).await.expect(WORKS), "late");
    assert!(store.renew("t", "you", second, LONG).await.expect(WORKS));
}

async fn limits_are_errors(store: &impl LeaseStore) {
    for name in ["", &"n".repeat(MAX_NAME_LEN + 1)] {
        let refused = store.acquire(name, "me", LONG).await.expect_err("no such name");
        assert!(matches!(refused, LeaseError::Name(_)), "{refused}");
    }
    for ttl in [Duration::ZERO, Duration::from_millis(99), Duration::MAX] {
        let refused = store.acquire("l", "me", ttl).await.expect_err("no such time");
        assert!(matches!(refused, LeaseError::Ttl(_)), "{refused}");
    }
    let longest = "{n *".repeat(MAX_NAME_LEN / 4);
    assert!(token(store, &longest, "me", LONG).await.is_some());
}

async fn of_many_one_gets_it(store: Arc<impl LeaseStore>) {
    let mut tokens = BTreeSet::new();
    for round in 0..20 {
        let tasks: Vec<_> = (0..8)
            .map(|me| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let holder = format!("{round}-{me}");
                    (token(&*store, "m", &holder, LONG).await, holder)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            if let (Some(token), holder) = task.await.expect("no panic") {
                winners.push((token, holder));
            }
        }
        let [(token, holder)] = &winners[..] else { panic!("one of them, not {winners:?}") };
        assert!(tokens.last().is_none_or(|last| last < token), "tokens grow");
        tokens.insert(*token);
        assert!(store.release("m", holder, *token).await.expect(WORKS));
    }
}
