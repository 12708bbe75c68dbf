//! Clusters of one node, which is all that these need.

use swarmbus::transport::{Channel, SubscribeOptions, Transport};

use super::*;
use crate::{ConnectError, RedisTransport, local::Server};

fn alone(password: &str) -> Server {
    let server = Server::builder().cluster().password(password).start().unwrap();
    server.run(["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    server
}

async fn connect(url: &str) -> Result<RedisTransport, ConnectError> {
    RedisTransport::connect(url).await
}

#[tokio::test]
async fn a_seed_that_is_gone_does_no_harm_and_every_node_is_given_the_password() {
    let server = alone("secret");
    let nodes = format!("127.0.0.1:9,{}", server.address());
    let transport = connect(&format!("redis+cluster://:secret@{nodes}")).await.unwrap();
    transport.ping().await.unwrap();
    for url in [format!("redis+cluster://:wrong@{nodes}"), format!("redis+cluster://{nodes}")] {
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error, ConnectError::Connection(ConnectionError::WrongPassword));
    }
    let gone = connect("redis+cluster://127.0.0.1:9").await.unwrap_err();
    let unreachable = matches!(gone, ConnectError::Connection(ConnectionError::Unreachable { .. }));
    assert!(unreachable, "{gone}");
}

#[tokio::test]
async fn all_partitions_share_the_connections_to_a_node() {
    let server = alone("secret");
    let url = format!("redis+cluster://:secret@{}", server.address());
    let transport = connect(&url).await.unwrap();
    let mut inboxes = Vec::new();
    for n in 0..200 {
        for channel in [Channel::live(&n.to_string()), Channel::durable(&n.to_string())] {
            let options = SubscribeOptions::new();
            inboxes.push(transport.subscribe(&channel.unwrap(), options).await.unwrap());
        }
    }
    let clients = server.run(["CLIENT", "LIST"]).unwrap();
    let named = |name| clients.lines().filter(|line| line.contains(name)).count();
    assert_eq!(named("name=swarmbus:subscriber:"), 1, "{clients}");
    assert_eq!(named("name=swarmbus:publisher:"), 1, "{clients}");
    assert_eq!(named("name=swarmbus:reader:"), 1, "{clients}");
    transport.close().await;
}

#[tokio::test]
async fn what_a_node_says_of_a_slot_is_believed_once() {
    let server = alone("secret");
    let url = format!("redis+cluster://:secret@{}", server.address());
    let cluster = Cluster::new(Settings::new(&url).unwrap());
    let here = ("127.0.0.1".to_owned(), server.address().port());
    assert_eq!(cluster.master(7).await, Ok(here.clone()));
    cluster.learn(7, "there:1");
    cluster.learn(7, "another node");
    cluster.learn(7, ":2");
    assert_eq!(cluster.master(8).await, Ok(here.clone()));
    assert_eq!(cluster.master(7).await, Ok(("there".to_owned(), 1)));
    assert_eq!(cluster.master(7).await, Ok(here));
    server.run(["CLUSTER", "DELSLOTS", "7"]).unwrap();
    let later = async {
        while cluster.master(7).await.is_ok() {
            tokio::task::yield_now().await;
        }
        cluster.master(7).await
    };
    let nobody = timeout(Duration::from_secs(20), later).await.unwrap().unwrap_err();
    assert!(matches!(nobody, ConnectionError::Unsettled(_)), "{nobody}");
}
