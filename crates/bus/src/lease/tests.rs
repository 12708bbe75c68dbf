//! Holding, losing and giving back, on the paused clock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::time::{Instant, advance, timeout};

use super::*;

const TTL: Duration = Duration::from_secs(10);

/// Leases that can be away.
#[derive(Clone, Default)]
struct Store {
    leases: MemoryLeases,
    is_down: Arc<AtomicBool>,
}

impl Store {
    fn up(&self) -> Result<(), LeaseError> {
        if self.is_down.load(SeqCst) { Err(LeaseError::unavailable("down")) } else { Ok(()) }
    }
}

#[async_trait]
impl LeaseStore for Store {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Grant, LeaseError> {
        self.up()?;
        self.leases.acquire(name, holder, ttl).await
    }

    async fn renew(
        &self,
        name: &str,
        holder: &str,
        token: u64,
        ttl: Duration,
    ) -> Result<bool, LeaseError> {
        self.up()?;
        self.leases.renew(name, holder, token, ttl).await
    }

    async fn release(&self, name: &str, holder: &str, token: u64) -> Result<bool, LeaseError> {
        self.up()?;
        self.leases.release(name, holder, token).await
    }
}

fn leases() -> (Store, Leases) {
    let store = Store::default();
    (store.clone(), Leases::new(store))
}

async fn take(leases: &Leases) -> Option<Lease> {
    leases.try_acquire("a", TTL).await.unwrap()
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn memory_keeps_the_contract() {
    conformance::check(Arc::new(MemoryLeases::new())).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_as_long_as_it_is_wanted() {
    let (_, leases) = leases();
    let lease = take(&leases).await.unwrap();
    assert!(timeout(TTL * 100, lease.lost()).await.is_err());
    assert!(lease.is_held() && take(&leases).await.is_none());
    lease.release().await.unwrap();
    assert!(take(&leases).await.is_some(), "at once");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_given_back() {
    let (_, leases) = leases();
    let first = take(&leases).await.unwrap().token();
    let waiting = timeout(TTL / 2, leases.acquire("a", TTL)).await.unwrap().unwrap();
    assert!(waiting.token() > first);
}

#[tokio::test(start_paused = true)]
async fn it_is_lost_before_somebody_else_may_have_it() {
    let (store, leases) = leases();
    let lease = take(&leases).await.unwrap();
    store.is_down.store(true, SeqCst);
    let before = Instant::now();
    lease.lost().await;
    assert!(!lease.is_held());
    assert_eq!(before.elapsed(), TTL - TTL / 10);
    store.is_down.store(false, SeqCst);
    assert!(take(&leases).await.is_none(), "the store still counts it");
    advance(TTL / 10).await;
    assert!(take(&leases).await.unwrap().token() > lease.token());
    assert!(!lease.is_held(), "it does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_while_does_not_matter() {
    let (store, leases) = leases();
    let lease = take(&leases).await.unwrap();
    for _ in 0..10 {
        store.is_down.store(true, SeqCst);
        assert!(timeout(TTL / 2, lease.lost()).await.is_err());
        store.is_down.store(false, SeqCst);
        assert!(timeout(TTL / 2, lease.lost()).await.is_err());
    }
    assert!(lease.is_held());
}

#[tokio::test(start_paused = true)]
async fn who_was_robbed_is_told() {
    let (store, leases) = leases();
    let lease = take(&leases).await.unwrap();
    store.leases.0.lock().held.clear();
    let other = take(&leases).await.unwrap();
    timeout(TTL / 2, lease.lost()).await.unwrap();
    assert!(!lease.is_held() && other.is_held());
    let fence = Fence::new();
    fence.admit(other.token()).unwrap();
    assert!(fence.admit(lease.token()).is_err());
    lease.release().await.unwrap();
    assert!(other.is_held() && take(&leases).await.is_none(), "that was not ours to release");
}

#[tokio::test(start_paused = true)]
async fn waiting_outlasts_a_store_that_is_away() {
    let (store, leases) = leases();
    store.is_down.store(true, SeqCst);
    assert!(leases.try_acquire("a", TTL).await.is_err());
    assert!(timeout(TTL * 3, leases.acquire("a", TTL)).await.is_err());
    let back = async {
        tokio::time::sleep(TTL).await;
        store.is_down.store(false, SeqCst);
    };
    let (lease, ()) = tokio::join!(timeout(TTL * 3, leases.acquire("a", TTL)), back);
    assert!(lease.unwrap().unwrap().is_held());
    assert!(matches!(leases.acquire("", TTL).await, Err(LeaseError::Name(0))));
}
