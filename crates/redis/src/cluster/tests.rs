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

/// Nodes that speak TLS with each other and with clients, with one certificate.
fn encrypted(nodes: usize) -> (Vec<Server>, Vec<u8>) {
    let scratch = Server::builder().tls().start().unwrap();
    let file = |name: &str| format!("\"{}\"", scratch.folder().join(name).display());
    let (certificate, key) = (file("server.crt"), file("server.key"));
    let node = || {
        let node = Server::builder().cluster().tls().setting("tls-cluster", "yes");
        let node = node.setting("tls-cert-file", &certificate).setting("tls-key-file", &key);
        node.setting("tls-ca-cert-file", &certificate).start().unwrap()
    };
    let nodes: Vec<Server> = (0..nodes).map(|_| node()).collect();
    let share = 16_384 / nodes.len();
    for (n, node) in nodes.iter().enumerate() {
        let last = if n + 1 == nodes.len() { 16_383 } else { (n + 1) * share - 1 };
        let (first, last) = ((n * share).to_string(), last.to_string());
        node.run(["CLUSTER", "ADDSLOTSRANGE", &first, &last]).unwrap();
        let port = node.run(["CONFIG", "GET", "cluster-port"]).unwrap();
        let port = port.lines().nth(1).unwrap();
        let tls = node.tls_url().unwrap();
        let tls = tls.rsplit(':').next().unwrap();
        nodes[0].run(["CLUSTER", "MEET", "127.0.0.1", tls, port]).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let ok = |node: &Server| {
        let slots = node.run(["CLUSTER", "SLOTS"]).unwrap();
        let info = node.run(["CLUSTER", "INFO"]).unwrap();
        info.contains("cluster_state:ok") && slots.matches("127.0.0.1").count() == nodes.len()
    };
    while !nodes.iter().all(ok) {
        assert!(Instant::now() < deadline, "{:?}", nodes[0].run(["CLUSTER", "NODES"]));
    }
    let certificate = std::fs::read(scratch.certificate()).unwrap();
    (nodes, certificate)
}

#[tokio::test]
async fn a_cluster_may_be_encrypted() {
    let (nodes, certificate) = encrypted(3);
    let seed = nodes[0].tls_url().unwrap().replacen("rediss://", "rediss+cluster://", 1);
    let connect = async |settings| RedisTransport::builder(settings).connect().await;
    let stranger = connect(Settings::new(&seed).unwrap()).await.unwrap_err();
    let refused = matches!(stranger, ConnectError::Connection(ConnectionError::Tls(_)));
    assert!(refused, "{stranger}");
    let settings = Settings::new(&seed).unwrap().root_certificates(certificate);
    let transport = connect(settings).await.unwrap();
    // In partitions on all nodes.
    for n in 0..12 {
        let name = n.to_string();
        for channel in [Channel::live(&name), Channel::durable(&name), Channel::group(&name)] {
            let channel = channel.unwrap();
            let mut inbox = transport.subscribe(&channel, SubscribeOptions::new()).await.unwrap();
            let event = swarmbus_core::Event::of("n", name.clone());
            transport.publish(&channel, event).await.unwrap();
            let came = timeout(Duration::from_secs(20), inbox.next()).await.unwrap().unwrap();
            let swarmbus::transport::Incoming::Event(came) = came else { panic!("{came:?}") };
            assert_eq!(came.event.text(), Some(&*name));
            came.ack();
        }
    }
    transport.ping().await.unwrap();
    let plain = |node: &Server| {
        let clients = node.run(["CLIENT", "LIST"]).unwrap();
        clients.lines().filter(|line| line.contains("name=swarmbus:")).count()
    };
    assert!(nodes.iter().all(|node| plain(node) > 0), "every node has some of it");
}
