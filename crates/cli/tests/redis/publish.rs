//! `swarmbus publish`.

use swarmbus_redis::local::Server;

use crate::support::{at, error, feed, ok, swarmbus, text};

#[test]
fn it_says_what_it_did() {
    let server = Server::start().unwrap();
    let said = ok(&mut swarmbus(&server, "publish order.placed {\"id\":17} --mode durable"));
    assert!(said.starts_with("published order.placed to durable:events as "), "{said}");
    assert!(said.trim_end().ends_with(": JSON, 9 bytes"), "{said}");
    let said = ok(&mut swarmbus(&server, "publish note.taken hello --channel notes"));
    assert!(said.contains("to live:notes") && said.contains("text, 5 bytes"), "{said}");
    let said = ok(&mut swarmbus(&server, "publish tick"));
    assert!(said.contains("no payload"), "{said}");
    let said = ok(&mut swarmbus(&server, "publish note.taken 17 --content text"));
    assert!(said.contains("text, 2 bytes"), "{said}");
}

#[test]
fn standard_input_is_one_event_or_one_a_line() {
    let server = Server::start().unwrap();
    let output = feed(&mut swarmbus(&server, "publish note.taken - --mode durable"), "a\nb\n");
    assert!(text(&output.stdout).contains("text, 3 bytes"), "{}", text(&output.stdout));
    let lines = "publish note.taken - --lines --mode durable --channel lines";
    let output = feed(&mut swarmbus(&server, lines), "{\"n\":1}\n\ntwo\r\nthree");
    assert_eq!(text(&output.stdout), "published 3 events of note.taken to durable:lines\n");
    let read = "subscribe --mode durable --channel lines --from beginning --count 3";
    let read = ok(&mut swarmbus(&server, read));
    let payloads: Vec<_> = read.lines().map(|line| line.rsplit(": ").next().unwrap()).collect();
    assert_eq!(payloads, ["{\"n\":1}", "two", "three"]);
}

#[test]
fn a_key_publishes_once() {
    let server = Server::start().unwrap();
    for mode in ["durable", "group"] {
        let once = format!("publish order.placed 17 --key order-17 --mode {mode}");
        assert!(ok(&mut swarmbus(&server, &once)).starts_with("published"));
        assert!(ok(&mut swarmbus(&server, &once)).starts_with("not published"));
    }
    let said = error(&mut swarmbus(&server, "publish order.placed --key order-17"));
    assert!(said.contains("use --mode durable or --mode group"), "{said}");
}

#[test]
fn errors_say_what_to_do_and_show_no_password() {
    let server = Server::builder().password("pa55word").start().unwrap();
    let wrong = format!("redis://:wr0ng@{}", server.address());
    let nobody = "redis://:wr0ng@127.0.0.1:9";
    for (url, args, says) in [
        (nobody, "publish tick", "apt-get install redis-server"),
        (&wrong, "publish tick", "refuses this user or password"),
        ("redis://:wr0ng@host:port", "publish tick", "it looks like redis://"),
        ("redis://host", "publish tick --redis http://:wr0ng@host", "it looks like redis://"),
        (&server.url(), "publish tick --channel {a}", "--channel: "),
        ("", "publish tick --sentinels redis://:wr0ng@host", "name the master with --redis"),
        ("redis://mymaster", "publish tick --sentinels http://:wr0ng@host", "--sentinels: "),
        (&server.url(), "publish tick x --lines", "write `-` as the payload"),
        (&server.url(), "publish tick x --content json", "the payload is no JSON"),
        (&server.url(), "publish .tick", "TYPE"),
        (&server.url(), "publish tick --priority 10", "from 0 to 9"),
    ] {
        let said = error(&mut at(url, args));
        assert!(said.contains(says), "{args}: {said}");
        assert!(!said.contains("wr0ng") && !said.contains("pa55word"), "{said}");
    }
    ok(&mut swarmbus(&server, "publish tick"));
}
