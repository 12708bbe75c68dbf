//! Sentinels that watch real servers.

use std::time::Duration;

use swarmbus::{
    Event,
    core::backoff::Backoff,
    transport::{Channel, ConnectionState, Inbox, Incoming, SubscribeOptions, Transport},
};
use tokio::time::timeout;

use super::*;
use crate::{
    ConnectError, RedisTransport, Settings,
    local::{Replicated, Server},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

const NOBODY: &str = "redis://127.0.0.1:1";

fn settings(master: &str, sentinels: &[&str]) -> Settings {
    let settings = Settings::new(&format!("redis://{master}")).unwrap();
    settings
        .sentinels(sentinels)
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        .probe_every(Duration::from_millis(200))
}

fn is_down(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Disconnected { .. })
}

/// Publishes until something arrives: what is under way when a master goes is
/// lost.
async fn goes_through(transport: &RedisTransport, channel: &Channel, inbox: &mut Inbox) {
    let mut state = transport.state();
    let arrives = async {
        loop {
            state.wait_for(ConnectionState::is_connected).await.unwrap();
            transport.publish(channel, Event::of("test", "x")).await.unwrap();
            let came = timeout(Duration::from_millis(100), inbox.next()).await;
            if let Ok(Some(Incoming::Event(_))) = came {
                return;
            }
        }
    };
    timeout(LONG, arrives).await.expect("nothing arrives");
}

#[tokio::test]
async fn after_a_failover_the_new_master_is_used() {
    let set = tokio::task::spawn_blocking(|| Replicated::start(1, 1)).await.unwrap().unwrap();
    let sentinel = set.sentinels()[0].url();
    let settings = settings(Replicated::NAME, &[NOBODY, &sentinel]);
    let transport = RedisTransport::builder(settings).connect().await.unwrap();
    let channel = Channel::live("news").unwrap();
    let mut inbox = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
    let mut state = transport.state();
    let subscribers = |server: &Server| {
        let answer = server.run(["PUBSUB", "NUMSUB", "swarmbus:{news}:live"]).unwrap();
        answer.lines().last().unwrap().to_owned()
    };

    // One that is wanted …
    let first = set.master().unwrap().address();
    set.fail_over().unwrap();
    timeout(LONG, state.wait_for(is_down)).await.expect("it is noticed").unwrap();
    goes_through(&transport, &channel, &mut inbox).await;
    let second = set.master().unwrap();
    assert_ne!(second.address(), first);
    assert_eq!(subscribers(second), "1");

    // … and one that is not. The old master has to be known as a replica first.
    let old = set.servers().iter().find(|server| server.address() == first).unwrap();
    timeout(LONG, async {
        while !old.run(["ROLE"]).unwrap().contains("connected") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the old master follows the new one");
    second.kill9();
    timeout(LONG, state.wait_for(is_down)).await.expect("it is noticed").unwrap();
    goes_through(&transport, &channel, &mut inbox).await;
    assert_eq!(subscribers(old), "1");
}

#[tokio::test]
async fn what_sentinels_do_not_know_is_told() {
    let set = tokio::task::spawn_blocking(|| Replicated::start(0, 1)).await.unwrap().unwrap();
    let sentinel = set.sentinels()[0].url();
    let connect = async |settings| RedisTransport::builder(settings).connect().await.unwrap_err();
    let error = connect(settings("other", &[&sentinel, NOBODY])).await;
    let unknown = ConnectionError::UnknownMaster("other".into());
    assert_eq!(error, ConnectError::Connection(unknown));
    let error = connect(settings(Replicated::NAME, &[NOBODY])).await;
    assert!(
        matches!(error, ConnectError::Connection(ConnectionError::Unreachable { .. })),
        "{error}"
    );
    let error = connect(Settings::new(&sentinel).unwrap()).await;
    let role = ConnectionError::WrongRole { role: "sentinel".into() };
    assert_eq!(error, ConnectError::Connection(role));
}
