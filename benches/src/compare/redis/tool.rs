//! `redis-benchmark -P 64`, with its 50 connections.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::arena::{Arena, PAYLOAD};

/// Requests of one write. It sends whole ones, so all numbers are multiples.
const PIPELINE: u64 = 64;

const STREAM: &str = "bench:tool:log";

/// PUBLISH, received by a thread that does nothing else, on a channel that nobody
/// else uses.
pub(super) fn publish(
    arena: &Arc<Arena>,
    channel: &'static str,
) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let payload = "x".repeat(PAYLOAD);
    let mut listener = Listener::start(&arena, channel, &payload);
    move |n| {
        let sent = n.next_multiple_of(PIPELINE);
        listener.expect(sent);
        run(&arena, sent, &["PUBLISH", channel, &payload]);
        // A smaller number takes as much less time.
        listener.took().mul_f64(n as f64 / sent as f64)
    }
}

/// XADD, without anybody who reads. The figure is its own.
pub(super) fn xadd(arena: &Arc<Arena>) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let payload = "x".repeat(PAYLOAD);
    move |n| {
        let sent = n.next_multiple_of(PIPELINE);
        let report = run(&arena, sent, &["XADD", STREAM, "*", "data", &payload]);
        let entries = arena.server.run(["XLEN", STREAM]).expect("a number");
        assert_eq!(entries, sent.to_string(), "entries");
        arena.server.run(["UNLINK", STREAM]).expect("gone");
        Duration::from_secs_f64(n as f64 / per_second(&report))
    }
}

fn run(arena: &Arena, requests: u64, command: &[&str]) -> String {
    let address = arena.server.address();
    let output = Command::new("redis-benchmark")
        .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
        .args(["-P", &PIPELINE.to_string(), "-n", &requests.to_string(), "--csv"])
        .args(command)
        .output()
        .expect("redis-benchmark is installed: it comes with redis-cli");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// From its report: a line of names, and one of quoted values.
fn per_second(report: &str) -> f64 {
    let mut lines = report.lines().rev().find(|line| line.starts_with('"'));
    let line = lines.take().expect("a report");
    // The command, which is the first value, has no quotes in it.
    let value = line.split("\",\"").nth(1).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no figure in {line}"))
}

/// A subscriber that knows what will come.
struct Listener {
    expect: mpsc::Sender<u64>,
    took: mpsc::Receiver<Duration>,
}

impl Listener {
    fn start(arena: &Arena, channel: &str, payload: &str) -> Self {
        let mut socket = TcpStream::connect(arena.server.address()).expect("a connection");
        let of_channel = format!("${}\r\n{channel}\r\n", channel.len());
        let subscribe = format!("*2\r\n$9\r\nSUBSCRIBE\r\n{of_channel}");
        socket.write_all(subscribe.as_bytes()).expect("it is sent");
        let mut answer = vec![0; format!("*3\r\n$9\r\nsubscribe\r\n{of_channel}:1\r\n").len()];
        socket.read_exact(&mut answer).expect("an answer");
        let message =
            format!("*3\r\n$7\r\nmessage\r\n{of_channel}${}\r\n{payload}\r\n", payload.len());
        let (expect, expected) = mpsc::channel();
        let (done, took) = mpsc::channel();
        // Ends when this value is dropped.
        thread::spawn(move || {
            for count in expected {
                let _ = done.send(receive(&mut socket, message.as_bytes(), count));
            }
        });
        Self { expect, took }
    }

    fn expect(&mut self, messages: u64) {
        self.expect.send(messages).expect("it lives");
    }

    /// From the first to the last.
    fn took(&mut self) -> Duration {
        self.took.recv_timeout(Duration::from_secs(60)).expect("all messages")
    }
}

/// Reads so many of these messages, and nothing else.
fn receive(socket: &mut TcpStream, message: &[u8], count: u64) -> Duration {
    const BUFFER: usize = 256 << 10;
    let pattern = message.repeat(BUFFER / message.len() + 2);
    let (mut buffer, mut began) = (vec![0; BUFFER], None);
    let (mut read, all) = (0, message.len() * count as usize);
    while read < all {
        let len = socket.read(&mut buffer).expect("it is not cut off");
        assert!(len > 0, "the server has cut it off");
        let at = read % message.len();
        assert!(buffer[..len] == pattern[at..at + len], "not what was sent");
        began.get_or_insert_with(Instant::now);
        read += len;
    }
    assert_eq!(read, all, "more than was sent");
    began.map_or(Duration::ZERO, |began| began.elapsed())
}
