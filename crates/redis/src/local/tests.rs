//! Each against a real server.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::*;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn what_was_written_safely_survives_a_kill() {
    let server = Server::builder().append_only(Fsync::Always).start().unwrap();
    server.run(["SET", "kept", "1"]).unwrap();
    let port = server.address().port();
    server.kill9();
    assert!(!server.is_running());
    assert!(server.run(["PING"]).is_err());
    server.restart().unwrap();
    assert_eq!(server.address().port(), port);
    assert_eq!(server.run(["GET", "kept"]).unwrap(), "1");
    server.stop();
    assert!(!server.is_running());
}

#[test]
fn settings_reach_the_server() {
    let server = Server::builder()
        .password("a-secret")
        .max_memory(8 << 20, "noeviction")
        .pubsub_buffer(4096)
        .user("reader", "on >word ~* +@read")
        .start()
        .unwrap();
    assert_eq!(server.run(["CONFIG", "GET", "maxmemory"]).unwrap(), "maxmemory\n8388608");
    let limits = server.run(["CONFIG", "GET", "client-output-buffer-limit"]).unwrap();
    assert!(limits.contains("pubsub 4096 4096 1"), "{limits}");
    assert!(server.run(["ACL", "LIST"]).unwrap().contains("user reader"));
    assert!(!format!("{server:?}").contains("a-secret"));
    let refused = server.run(["NOSUCH"]).unwrap_err();
    assert!(matches!(&refused, StartError::Refused(why) if why.contains("unknown command")));
}

#[test]
fn nonsense_in_the_settings_is_told_with_the_servers_words() {
    let error = Server::builder().setting("no-such-setting", "1").start().unwrap_err();
    assert!(matches!(&error, StartError::Ended { .. }), "{error}");
}

#[test]
fn a_panic_leaves_no_server() {
    let address = std::panic::catch_unwind(|| {
        let server = Server::start().unwrap();
        std::panic::resume_unwind(Box::new(server.address()));
    })
    .unwrap_err()
    .downcast::<SocketAddr>()
    .unwrap();
    assert!(std::net::TcpStream::connect(*address).is_err());
}

#[test]
fn tls_has_a_port_of_its_own() {
    let server = Server::builder().tls().start().unwrap();
    let url = server.tls_url().unwrap();
    let output = Command::new("redis-cli")
        .args(["--tls", "-u", &url, "--cacert"])
        .arg(server.certificate())
        .arg("PING")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "PONG", "{output:?}");
}

/// Runs itself as the process that is killed.
#[test]
fn a_killed_process_leaves_no_server() {
    const ROLE: &str = "SWARMBUS_TEST_VICTIM";
    if std::env::var_os(ROLE).is_some() {
        let server = Server::start().unwrap();
        println!("\nport {}", server.address().port());
        // Until it is killed.
        loop {
            std::thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "local::tests::a_killed_process_leaves_no_server"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let port: u16 = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("port ")?.parse().ok())
        .unwrap();
    let mut open = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The server's end closes its connections.
    open.set_read_timeout(Some(LONG)).unwrap();
    let end = std::io::Read::read(&mut open, &mut [0; 1]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
}

#[test]
fn a_replica_takes_over_when_its_master_dies() {
    let set = Replicated::start(1, 3).unwrap();
    let first = set.master().unwrap();
    first.run(["SET", "a", "1"]).unwrap();
    first.run(["WAIT", "1", "5000"]).unwrap();
    first.kill9();
    set.wait_for_another_than(first.address()).unwrap();
    assert_eq!(set.master().unwrap().run(["GET", "a"]).unwrap(), "1");
}

#[test]
fn a_cluster_shares_its_slots_and_survives_a_node() {
    let cluster = Cluster::start(3, 1).unwrap();
    let [first, ..] = cluster.nodes() else { panic!("no node") };
    let slots = first.run(["CLUSTER", "INFO"]).unwrap();
    assert!(slots.contains("cluster_slots_ok:16384"), "{slots}");
    first.kill9();
    cluster.wait_until_replaced(first).unwrap();
    let slots = cluster.nodes()[1].run(["CLUSTER", "INFO"]).unwrap();
    assert!(slots.contains("cluster_slots_ok:16384"), "{slots}");
}

async fn ask(stream: &mut TcpStream) -> io::Result<[u8; 7]> {
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_proxy_cuts_refuses_and_swallows() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let connect = || TcpStream::connect(proxy.address());
    let mut first = connect().await.unwrap();
    assert_eq!(&ask(&mut first).await.unwrap(), b"+PONG\r\n");
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));

    proxy.cut();
    assert!(ask(&mut first).await.is_err());
    let mut second = connect().await.unwrap();
    assert_eq!(&ask(&mut second).await.unwrap(), b"+PONG\r\n");

    proxy.refuse();
    assert!(ask(&mut second).await.is_err());
    let mut third = connect().await.unwrap();
    assert!(ask(&mut third).await.is_err());
    proxy.wait_for_accepted(3).await;

    proxy.pass();
    let mut fourth = connect().await.unwrap();
    let mut fifth = connect().await.unwrap();
    assert_eq!(&ask(&mut fourth).await.unwrap(), b"+PONG\r\n");
    assert_eq!(&ask(&mut fifth).await.unwrap(), b"+PONG\r\n");
    proxy.swallow();
    let short = Duration::from_millis(50);
    assert!(timeout(short, ask(&mut fourth)).await.is_err(), "it is swallowed");
    proxy.pass();
    assert!(timeout(short, ask(&mut fourth)).await.is_err(), "and lost for ever");
    assert_eq!(&ask(&mut fifth).await.unwrap(), b"+PONG\r\n", "nothing of this one was lost");
}

#[tokio::test]
async fn a_proxy_holds_and_delays() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.set(Way::Held);
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    let early = timeout(Duration::from_millis(50), stream.read_exact(&mut answer)).await;
    assert!(early.is_err());
    proxy.set(Way::Slow(Duration::from_millis(20)));
    timeout(LONG, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    let before = std::time::Instant::now();
    ask(&mut stream).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(40), "20 ms there and 20 ms back");
    drop(proxy);
    assert!(ask(&mut stream).await.is_err());
}

#[tokio::test]
async fn frozen_it_holds_its_connections() {
    let server = Server::start().unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    ask(&mut stream).await.unwrap();
    server.freeze();
    // The order takes its way through a pipe and a shell.
    let frozen =
        async { while timeout(Duration::from_millis(50), ask(&mut stream)).await.is_ok() {} };
    timeout(LONG, frozen).await.unwrap();
    server.thaw();
    let mut other = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(&timeout(LONG, ask(&mut other)).await.unwrap().unwrap(), b"+PONG\r\n");
}
