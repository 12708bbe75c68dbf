//! Against real servers: the contract, restarts, and lost data.

use swarmbus::lease::{Leases, conformance};
use swarmbus_core::backoff::Backoff;

use super::*;
use crate::local::{self, Fsync};

const TTL: Duration = Duration::from_secs(20);

async fn store(server: &local::Server) -> RedisLeases {
    let settings =
        Settings::new(&server.url()).unwrap().backoff(Backoff::fixed(Duration::from_millis(20)));
    RedisLeases::connect(settings, "test").await.unwrap()
}

async fn take(store: &RedisLeases, holder: &str) -> Option<u64> {
    match store.acquire("a", holder, TTL).await.unwrap() {
        Grant::Granted { token } => Some(token),
        Grant::Held { .. } => None,
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let server = local::Server::start().unwrap();
    conformance::check(Arc::new(store(&server).await)).await;
}

#[tokio::test]
async fn leases_and_tokens_outlive_a_crash() {
    let server = local::Server::builder().append_only(Fsync::Always).start().unwrap();
    let store = store(&server).await;
    let first = take(&store, "me").await.unwrap();
    server.kill9();
    server.restart().unwrap();
    assert_eq!(take(&store, "you").await, None, "it is still held");
    assert!(store.renew("a", "me", first, TTL).await.unwrap());
    assert!(store.release("a", "me", first).await.unwrap());
    assert!(take(&store, "you").await.unwrap() > first);
}

#[tokio::test]
async fn tokens_grow_though_all_data_is_lost_or_the_clock_goes_back() {
    let server = local::Server::start().unwrap();
    let store = store(&server).await;
    let first = take(&store, "me").await.unwrap();
    server.run(["FLUSHALL"]).unwrap();
    let second = take(&store, "you").await.expect("nobody knows of it any more");
    assert!(second > first);
    assert!(!store.renew("a", "me", first, TTL).await.unwrap(), "and the first is told");

    // As if the last token had been given by a clock that was ahead.
    let ahead = second + 1_000_000_000_000;
    server.run(["SET", "swarmbus:{test}:token", &ahead.to_string()]).unwrap();
    assert!(store.release("a", "you", second).await.unwrap());
    assert_eq!(take(&store, "me").await, Some(ahead + 1));
}

#[tokio::test]
async fn a_lease_is_renewed_over_a_restart_and_lost_with_its_server() {
    let server = local::Server::builder().append_only(Fsync::Always).start().unwrap();
    let leases = Leases::new(store(&server).await);
    let short = Duration::from_secs(2);
    let lease = leases.try_acquire("a", short).await.unwrap().unwrap();
    server.kill9();
    server.restart().unwrap();
    // Longer than it would last by itself.
    assert!(tokio::time::timeout(short * 2, lease.lost()).await.is_err());
    assert!(leases.try_acquire("a", short).await.unwrap().is_none());
    server.kill9();
    tokio::time::timeout(short, lease.lost()).await.expect("it is told in time");
    assert!(!lease.is_held());
}
