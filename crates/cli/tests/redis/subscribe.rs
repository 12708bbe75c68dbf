//! `swarmbus subscribe`.

use serde_json::Value;
use swarmbus_redis::local::Server;

use crate::support::{Listening, error, feed, ok, swarmbus};

#[test]
fn events_are_lines() {
    let server = Server::start().unwrap();
    let mut plain = Listening::start(&mut swarmbus(&server, "subscribe order.*"));
    let json = Listening::start(&mut swarmbus(&server, "subscribe --json --count 1 /order.+/"));
    ok(&mut swarmbus(&server, "publish note.taken"));
    ok(&mut swarmbus(&server, "publish order.placed {\"id\":17} --source shop --priority 7"));
    let line = plain.line();
    assert!(line.ends_with("order.placed from shop: {\"id\":17}"), "{line}");
    let (code, out, _) = json.end();
    let line: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(line["event"]["type"], "order.placed");
    assert_eq!(line["event"]["data"]["id"], 17);
    assert_eq!(line["event"]["priority"], 7);
    assert!(line.get("position").is_none() && line.get("deliveries").is_none(), "{line}");
    plain.kill();
}

#[cfg(unix)]
#[test]
fn ctrl_c_says_where_to_go_on() {
    let server = Server::start().unwrap();
    let durable = "--mode durable --channel orders";
    let lines = format!("publish order.placed - --lines {durable}");
    assert!(feed(&mut swarmbus(&server, &lines), "1\n2\n3\n").status.success());
    let all = format!("subscribe {durable} --from beginning --json");
    let mut listening = Listening::start(&mut swarmbus(&server, &all));
    let read: Vec<_> = (0..3).map(|_| listening.line()).collect();
    let second: Value = serde_json::from_str(&read[1]).unwrap();
    let third: Value = serde_json::from_str(&read[2]).unwrap();
    listening.interrupt();
    let (code, out, err) = listening.end();
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let position = third["position"].as_str().unwrap();
    assert!(err.contains(&format!("--from {position}")), "{err}");

    let from = second["position"].as_str().unwrap();
    let rest = format!("subscribe {durable} --from {from} --json --count 1");
    let rest: Value = serde_json::from_str(&ok(&mut swarmbus(&server, &rest))).unwrap();
    assert_eq!(rest["event"]["data"], 3);
    // Nothing is printed twice, and nothing is left.
    let mut end =
        Listening::start(&mut swarmbus(&server, &format!("subscribe {durable} --from {position}")));
    ok(&mut swarmbus(&server, &format!("publish order.placed 4 {durable}")));
    assert!(end.line().ends_with(": 4"));
    end.kill();
}

#[test]
fn a_gap_is_not_overlooked() {
    let server = Server::start().unwrap();
    ok(&mut swarmbus(&server, "publish order.placed 1 --mode durable"));
    let old = "subscribe --mode durable --from 0000000000000001-7 --count 1";
    let out = ok(&mut swarmbus(&server, old));
    assert!(out.lines().next().unwrap().contains("MISSING HERE: the server lost"), "{out}");
    let out = ok(&mut swarmbus(&server, &format!("{old} --json")));
    let gap: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(gap["gap"]["reason"], "new_epoch", "{out}");
}

#[cfg(unix)]
#[test]
fn a_command_that_fails_gets_its_task_again() {
    let server = Server::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    ok(&mut swarmbus(&server, "publish image.resize cat.png --mode group --channel images"));
    let script = format!(
        "read line; echo \"$SWARMBUS_TYPE $SWARMBUS_DELIVERIES $line\"; \
         test -e {mark} || {{ touch {mark}; exit 3; }}",
        mark = mark.display()
    );
    let work = "subscribe --mode group --channel images --retry-after 10ms --count 2 --exec";
    let output = swarmbus(&server, work).arg(&script).output().unwrap();
    let (out, err) = (crate::support::text(&output.stdout), crate::support::text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("image.resize 1 {\"specversion\""), "{out}");
    assert!(lines[1].starts_with("image.resize 2 {") && lines[1].contains("cat.png"), "{out}");
    assert!(err.contains("exit status: 3") && err.contains("it comes again"), "{err}");
    let pending = ["XPENDING", "swarmbus:{images}:tasks", "workers"];
    let pending = server.run(pending).unwrap();
    assert!(pending.starts_with('0') || pending.is_empty(), "{pending}");
}

#[cfg(unix)]
#[test]
fn a_command_that_fails_elsewhere_shows_in_the_exit_code() {
    let server = Server::start().unwrap();
    ok(&mut swarmbus(&server, "publish tick --mode durable"));
    let read = "subscribe --mode durable --from beginning --count 1 --exec false";
    let said = error(&mut swarmbus(&server, read));
    assert!(said.contains("failed (exit status: 1)"), "{said}");
    assert!(said.contains("--from "), "{said}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let server = Server::start().unwrap();
    let lines = "x\n".repeat(5_000);
    let publish = "publish note.taken - --lines --mode durable";
    assert!(feed(&mut swarmbus(&server, publish), &lines).status.success());
    let mut read =
        Listening::start(&mut swarmbus(&server, "subscribe --mode durable --from beginning"));
    read.line();
    read.leave();
    let (code, _, err) = read.end();
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("--from ") && !err.contains("error"), "{err}");
}

#[test]
fn a_reader_that_leaves_is_noticed_though_nothing_comes() {
    let server = Server::start().unwrap();
    let mut read = Listening::start(&mut swarmbus(&server, "subscribe"));
    ok(&mut swarmbus(&server, "publish note.taken x"));
    assert!(read.line().contains("note.taken"));
    read.leave();
    let (code, _, err) = read.end();
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn what_a_mode_cannot_do_is_said() {
    let server = Server::start().unwrap();
    for (args, says) in [
        ("subscribe --from beginning", "use --mode durable"),
        ("subscribe --group resizers", "add --mode group"),
        ("subscribe --from yesterday", "`new`, `beginning` or a position"),
        ("subscribe image.* --mode group", "cannot be filtered"),
        ("subscribe --mode group --from 0000000000000001-7", "goes on where it is"),
        ("subscribe --mode group --group a\u{1}b", "cannot be called"),
        ("subscribe a..b", "PATTERN"),
    ] {
        let said = error(&mut swarmbus(&server, args));
        assert!(said.contains(says), "{args}: {said}");
    }
}
