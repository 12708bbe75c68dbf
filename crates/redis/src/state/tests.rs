//! Against real servers: the contract, and what happens when they die.

use swarmbus::state::{ResilientStore, conformance};
use swarmbus_core::backoff::Backoff;

use super::*;
use crate::local::{self, Fsync};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn settings(server: &local::Server) -> Settings {
    Settings::new(&server.url())
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_secs(1))
}

async fn store(server: &local::Server, name: &str) -> RedisState {
    RedisState::connect(settings(server), name).await.unwrap()
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let server = local::Server::start().unwrap();
    // Somebody else's, which no scan may find.
    let other = store(&server, "other").await;
    other.set("task:0000", "x".into(), None).await.unwrap();
    server.run(["SET", "swarmbus:{s1}:stateless", "x"]).unwrap();
    let (server, number) = (&server, &std::cell::Cell::new(0));
    conformance::check(|| {
        number.set(number.get() + 1);
        let name = format!("s{}", number.get());
        async move { store(server, &name).await }
    })
    .await;
    assert!(other.get("task:0000").await.unwrap().is_some());
}

#[tokio::test]
async fn other_programs_can_read_it_and_names_are_taken_literally() {
    let server = local::Server::start().unwrap();
    let state = RedisState::connect(settings(&server).prefix("p*"), "n?[a]").await.unwrap();
    state.set("a b", "1".into(), None).await.unwrap();
    assert_eq!(server.run(["GET", "p*:{n?[a]}:state:a b"]).unwrap(), "1");
    state.hash_set("h", "f", "2".into()).await.unwrap();
    assert_eq!(server.run(["HGET", "p*:{n?[a]}:state:h", "f"]).unwrap(), "2");
    assert_eq!(state.list("", 10).await.unwrap(), ["a b", "h"]);
    let bad = RedisState::connect(settings(&server), "a{b}").await.unwrap_err();
    assert!(matches!(bad, OpenError::Name(_)), "{bad}");
}

#[tokio::test]
async fn a_scan_of_a_full_server_goes_in_steps() {
    let server = local::Server::start().unwrap();
    server.run(["DEBUG", "POPULATE", "20000", "others", "1"]).unwrap();
    let state = store(&server, "s").await;
    state.set("a", "1".into(), None).await.unwrap();
    let (mut pages, mut from, mut found) = (0, Cursor::START, Vec::new());
    loop {
        let page = state.scan("", from, 10).await.unwrap();
        pages += 1;
        found.extend(page.keys);
        let Some(next) = page.next else { break };
        from = next;
    }
    assert_eq!(found, ["a"]);
    assert!(pages > 10, "one call does not walk over everything");
    let strange = state.scan("", Cursor::new("x"), 10).await.unwrap_err();
    assert!(matches!(strange, StateError::Cursor));
}

#[tokio::test]
async fn a_full_server_says_so_and_deleting_helps() {
    let server = local::Server::builder().max_memory(4 << 20, "noeviction").start().unwrap();
    let state = store(&server, "s").await;
    let value = Bytes::from(vec![b'x'; 256 << 10]);
    let mut written = 0;
    let full = loop {
        match state.set(&written.to_string(), value.clone(), None).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StateError::Full), "{full}");
    assert!(state.get("0").await.unwrap().is_some());
    for n in 0..written {
        state.delete(&n.to_string()).await.unwrap();
    }
    let room = async { while state.set("a", value.clone(), None).await.is_err() {} };
    tokio::time::timeout(LONG, room).await.expect("there is room again");
}

#[tokio::test]
async fn without_a_server_calls_fail_and_say_why() {
    let server = local::Server::start().unwrap();
    let state = store(&server, "s").await;
    server.kill9();
    let error = state.get("a").await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let later = RedisState::connect_later(settings(&server), "s").unwrap();
    assert!(later.get("a").await.unwrap_err().is_unavailable());
    server.restart().unwrap();
    assert!(!later.is_connected());
    tokio::time::timeout(LONG, later.connected()).await.unwrap();
    assert_eq!(later.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_user_who_may_not_is_told() {
    let server =
        local::Server::builder().user("reader", "on >word ~* &* +@all -set").start().unwrap();
    let url = server.url().replace("redis://", "redis://reader:word@");
    let state = RedisState::connect(Settings::new(&url).unwrap(), "s").await.unwrap();
    let error = state.set("a", "1".into(), None).await.unwrap_err();
    assert!(error.to_string().contains("may not SET"), "{error}");
    assert!(state.get("a").await.unwrap().is_none());
}

#[tokio::test]
async fn while_it_is_dead_memory_stands_in_and_nothing_is_lost() {
    let server = local::Server::builder().append_only(Fsync::Always).start().unwrap();
    let redis = store(&server, "s").await;
    let state = ResilientStore::builder(redis.clone())
        .enabled(true)
        .timeout(Duration::from_millis(200))
        .build();
    for n in 0..50 {
        state.set(&format!("before {n}"), n.to_string().into(), None).await.unwrap();
    }
    server.kill9();
    assert_eq!(state.get("before 7").await.unwrap().as_deref(), Some(&b"7"[..]));
    for n in 0..500 {
        state.set(&format!("during {n}"), n.to_string().into(), None).await.unwrap();
        state.hash_set("all", &n.to_string(), "1".into()).await.unwrap();
    }
    state.delete("before 7").await.unwrap();
    assert!(state.is_using_fallback());
    assert_eq!(state.waiting(), 1_001);

    server.restart().unwrap();
    assert_eq!(state.flush(LONG).await, 0);
    let mut expected: Vec<String> = (0..50).map(|n| format!("before {n}")).collect();
    expected.remove(7);
    expected.extend((0..500).map(|n| format!("during {n}")));
    expected.push("all".to_owned());
    expected.sort();
    assert_eq!(redis.list("", 1_000).await.unwrap(), expected);
    assert_eq!(redis.hash_all("all").await.unwrap().len(), 500);
    let stats = state.stats();
    assert_eq!((stats.written_back, stats.conflicts, stats.refused), (1_001, 0, 0));
    state.get("all again").await.unwrap();
    assert!(!state.is_using_fallback());
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for_and_gets_everything_later() {
    let server = local::Server::start().unwrap();
    let redis = store(&server, "s").await;
    let state = ResilientStore::builder(redis.clone())
        .enabled(true)
        .timeout(Duration::from_millis(100))
        .build();
    state.set("a", "before".into(), None).await.unwrap();
    server.freeze();
    // The order takes its way through a pipe and a shell.
    while !state.is_using_fallback() {
        state.set("a", "meanwhile".into(), None).await.unwrap();
    }
    let won = state.compare_and_set("a", Some(b"meanwhile"), "compared".into(), None).await;
    assert!(won.unwrap());
    assert_eq!(state.get("a").await.unwrap().as_deref(), Some(&b"compared"[..]));
    server.thaw();
    assert_eq!(state.flush(LONG).await, 0);
    assert_eq!(redis.get("a").await.unwrap().as_deref(), Some(&b"compared"[..]));
    assert_eq!(state.stats().conflicts, 0);
}
