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

/// The replica is cut off first, so that it has heard neither of the lease nor
/// of its token.
#[tokio::test]
async fn after_a_failover_that_loses_the_lease_the_token_still_grows() {
    let set = tokio::task::spawn_blocking(|| local::Replicated::start(1, 1)).await.unwrap();
    let set = set.unwrap();
    let sentinel = set.sentinels()[0].url();
    let settings = Settings::new("redis://main")
        .unwrap()
        .sentinels([sentinel])
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        .probe_every(Duration::from_millis(200));
    let store = RedisLeases::connect(settings, "test").await.unwrap();
    let [master, replica] = set.servers() else { panic!("two servers") };
    replica.run(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let first = take(&store, "me").await.unwrap();
    replica.run(["REPLICAOF", "NO", "ONE"]).unwrap();
    let (master, port) = (master.address(), replica.address().port().to_string());
    // As sentinels do it when the master is gone, without their patience.
    set.servers()[0].kill9();
    set.sentinels()[0].run(["SENTINEL", "REMOVE", "main"]).unwrap();
    set.sentinels()[0].run(["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]).unwrap();
    assert_ne!(set.master().unwrap().address(), master);

    let next = async {
        loop {
            if let Ok(Grant::Granted { token }) = store.acquire("a", "you", TTL).await {
                return token;
            }
        }
    };
    let second = tokio::time::timeout(TTL * 2, next).await.expect("the replica knows of no lease");
    assert!(second > first, "{second} after {first}");
    assert!(!store.renew("a", "me", first, TTL).await.unwrap(), "the first is told");
}
