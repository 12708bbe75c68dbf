//! Links to real servers that die, hang, refuse and are demoted.

use std::fs;

use swarmbus_core::backoff::Backoff;

use super::*;
use crate::{
    Settings,
    duties::Commands,
    local::{Proxy, Server},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn quick(url: &str) -> Settings {
    Settings::new(url)
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(2))
}

async fn connect(settings: Settings) -> Result<Link, ConnectionError> {
    let dialer = Arc::new(Dialer::new(settings).unwrap());
    Link::connect(dialer, Arc::new(Commands("test"))).await
}

async fn until(link: &Link, what: impl Fn(&LinkState) -> bool) {
    let mut state = link.state();
    timeout(LONG, state.wait_for(what)).await.expect("the state never came").unwrap();
}

async fn answers(link: &Link) {
    let (_, connection) = link.ready(LONG).await.unwrap();
    let pong = link.dialer().ask(&connection, &redis::cmd("PING")).await;
    assert_eq!(pong, Ok(redis::Value::SimpleString("PONG".into())));
}

fn is_down(state: &LinkState) -> bool {
    matches!(state, LinkState::Disconnected { .. })
}

#[tokio::test]
async fn it_comes_back_after_the_server_was_killed() {
    let server = Server::start().unwrap();
    let link = connect(quick(&server.url())).await.unwrap();
    answers(&link).await;
    server.kill9();
    until(&link, is_down).await;
    let error = link.ready(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Lost(_) | ConnectionError::Unreachable { .. }));
    server.restart().unwrap();
    until(&link, LinkState::is_connected).await;
    answers(&link).await;
}

#[tokio::test]
async fn whoever_is_back_first_brings_the_others() {
    let server = Server::start().unwrap();
    // Nobody tries twice by itself.
    let never = Backoff::fixed(Duration::from_secs(3_600));
    let dialer = Arc::new(Dialer::new(quick(&server.url()).backoff(never)).unwrap());
    server.kill9();
    let failed = Link::start(Arc::clone(&dialer), Arc::new(Commands("failed")));
    until(&failed, is_down).await;
    server.restart().unwrap();
    let broken = Link::connect(Arc::clone(&dialer), Arc::new(Commands("broken"))).await.unwrap();
    until(&failed, LinkState::is_connected).await;
    // A connection that breaks is not made anew because there are others.
    server.run(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    until(&broken, is_down).await;
    let _new = Link::connect(dialer, Arc::new(Commands("new"))).await.unwrap();
    assert!(timeout(Duration::from_millis(100), broken.next(1)).await.is_err());
}

#[tokio::test]
async fn it_comes_back_after_the_server_closed_the_connection() {
    let server = Server::start().unwrap();
    let link = connect(quick(&server.url())).await.unwrap();
    let (first, _) = link.next(0).await.unwrap();
    server.run(["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let (second, _) = timeout(LONG, link.next(first)).await.unwrap().unwrap();
    assert!(second > first);
    answers(&link).await;
}

#[tokio::test]
async fn a_half_open_connection_is_replaced() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_at(proxy.address());
    let link = connect(quick(&url).probe_every(Duration::from_millis(100))).await.unwrap();
    proxy.swallow();
    until(&link, is_down).await;
    proxy.cut();
    proxy.pass();
    until(&link, LinkState::is_connected).await;
    answers(&link).await;
}

#[tokio::test]
async fn a_doubt_is_settled_at_once() {
    let server = Server::start().unwrap();
    let settings = quick(&server.url()).probe_every(Duration::from_secs(3600));
    let link = connect(settings).await.unwrap();
    server.run(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    link.doubt();
    let replica = ConnectionError::WrongRole { role: "replica".into() };
    until(
        &link,
        |state| matches!(state, LinkState::Disconnected { error, .. } if *error == replica),
    )
    .await;
    server.run(["REPLICAOF", "NO", "ONE"]).unwrap();
    until(&link, LinkState::is_connected).await;
}

#[tokio::test]
async fn what_is_wrong_at_first_is_named() {
    let server = Server::builder().password("secret").start().unwrap();
    let open = format!("redis://{}", server.address());
    assert_eq!(connect(quick(&open)).await.unwrap_err(), ConnectionError::WrongPassword);
    let wrong = format!("redis://:wrong@{}", server.address());
    assert_eq!(connect(quick(&wrong)).await.unwrap_err(), ConnectionError::WrongPassword);
    connect(quick(&server.url())).await.unwrap();

    let nobody = connect(quick("redis://127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(nobody, ConnectionError::Unreachable { .. }), "{nobody}");
    let no_socket = connect(quick("unix:///nowhere/redis.sock")).await.unwrap_err();
    assert!(matches!(no_socket, ConnectionError::Unreachable { .. }), "{no_socket}");

    let server = Server::builder().user("limited", "on >pw ~* &* +@all -ping").start().unwrap();
    let limited = format!("redis://limited:pw@{}", server.address());
    let error = connect(quick(&limited)).await.unwrap_err();
    assert!(
        matches!(&error, ConnectionError::NoPermission { command, .. } if command == "PING"),
        "{error}"
    );
    server.run(["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let error = connect(quick(&server.url())).await.unwrap_err();
    assert_eq!(error, ConnectionError::WrongRole { role: "replica".into() });
}

#[tokio::test]
async fn encrypted_connections_check_the_certificate() {
    let server = Server::builder().tls().start().unwrap();
    let url = server.tls_url().unwrap();
    let trusted = quick(&url).root_certificates(fs::read(server.certificate()).unwrap());
    answers(&connect(trusted).await.unwrap()).await;
    let stranger = connect(quick(&url)).await.unwrap_err();
    assert!(matches!(stranger, ConnectionError::Tls(_)), "{stranger}");
    // A port without TLS waits for the end of a line that never comes.
    let limit = Duration::from_millis(300);
    let no_tls = quick(&format!("rediss://{}", server.address())).connect_timeout(limit);
    assert_eq!(connect(no_tls).await.unwrap_err(), ConnectionError::TimedOut(limit));
}

#[tokio::test]
async fn closed_is_closed() {
    let server = Server::start().unwrap();
    let link = connect(quick(&server.url())).await.unwrap();
    let waiting = tokio::spawn({
        let link = link.clone();
        async move { link.next(100).await.map(|(number, _)| number) }
    });
    link.close();
    assert_eq!(waiting.await.unwrap(), Err(ConnectionError::Closed));
    assert_eq!(link.ready(LONG).await.map(|_| ()), Err(ConnectionError::Closed));
    assert_eq!(*link.state().borrow(), LinkState::Closed);
}

#[tokio::test]
async fn the_last_clone_ends_it() {
    let server = Server::start().unwrap();
    let link = connect(quick(&server.url())).await.unwrap();
    let mut state = link.state();
    drop(link.clone());
    assert!(state.borrow().is_connected());
    drop(link);
    timeout(LONG, state.wait_for(|state| *state == LinkState::Closed)).await.unwrap().unwrap();
}
