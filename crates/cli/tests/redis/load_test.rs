//! `swarmbus load-test --transport redis`.

use serde_json::Value;
use swarmbus_redis::local::Server;

use crate::support::{at, error, ok, swarmbus, text};

/// Against a server that it starts itself.
fn load_test(args: &str) -> Value {
    let mut command = at("", &format!("load-test --transport redis --seconds 0.5 --json {args}"));
    balanced(&ok(&mut command))
}

fn balanced(out: &str) -> Value {
    let report: Value = serde_json::from_str(out).unwrap();
    assert_eq!(report["ledger_balanced"], true, "{report}");
    assert_eq!(report["imbalances"], serde_json::json!([]), "{report}");
    report
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn every_mode_balances_over_processes() {
    for mode in ["live", "durable", "group"] {
        let report = load_test(&format!("--mode {mode} --processes 3 --agents 20 --window 8"));
        assert_eq!(report["mode"], mode);
        assert_eq!(count(&report, "processes"), 3);
        assert!(count(&report, "published") > 0, "{report}");
        assert_eq!(count(&report, "published"), count(&report, "delivered"), "{report}");
        assert!(report["tasks"]["accepted"].as_u64().unwrap() > 0, "{report}");
        for figure in ["p50_us", "p99_us", "rss_peak_mb"] {
            assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
        }
        for wrong in ["lost", "duplicated", "corrupted", "unsent"] {
            assert_eq!(count(&report, wrong), 0, "{wrong}: {report}");
        }
    }
}

/// Commands that the server has run.
fn commands(server: &Server) -> u64 {
    let stats = server.run(["INFO", "stats"]).unwrap();
    let mut lines = stats.lines();
    let line = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn connections_that_break_lose_nothing_in_silence() {
    for mode in ["live", "durable", "group"] {
        let server = Server::start().unwrap();
        let args = "load-test --transport redis --seconds 3 --json --agents 10 --processes 2";
        let mut load = swarmbus(&server, &format!("{args} --mode {mode}")).spawn().unwrap();
        let mut under_way = 1_000;
        for kind in ["pubsub", "normal", "pubsub"] {
            // On a slow machine it may end before.
            while commands(&server) < under_way && load.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            server.run(["CLIENT", "KILL", "TYPE", kind]).unwrap();
            under_way = commands(&server) + 1_000;
        }
        let output = load.wait_with_output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{mode}: {out}{err}");
        let report = balanced(&out);
        assert!(count(&report, "lost") <= count(&report, "reported"), "{report}");
        // What expires by itself is left, and nothing else.
        let keys = server.run(["KEYS", "*"]).unwrap();
        assert!(keys.lines().all(|key| key.contains(":sent:")), "{mode}: {keys}");
    }
}

#[test]
fn a_server_that_is_named_is_used_and_not_shown() {
    let server = Server::builder().password("pa55word").start().unwrap();
    let args = "load-test --transport redis --seconds 0.2 --json --agents 3 --rate 500";
    let out = ok(&mut swarmbus(&server, args));
    let report = balanced(&out);
    assert_eq!(report["server"], server.address().to_string());
    assert!(!out.contains("pa55word"), "{out}");
    let table = ok(&mut swarmbus(&server, "load-test --transport redis --seconds 0.2"));
    for row in ["delivered", "gaps", "publish → remote handler", "balances"] {
        assert!(table.contains(row), "{row}\n{table}");
    }
    let mut dead = at("redis://:pa55word@127.0.0.1:9", args);
    let said = error(&mut dead);
    assert!(said.contains("apt-get install redis-server"), "{said}");
    assert!(!said.contains("pa55word"), "{said}");
}

#[test]
fn without_the_package_node_agents_say_that_they_have_ended() {
    let mut command = at("", "load-test --transport redis --agents 5 --node-agents 1");
    let folder = tempfile::tempdir().unwrap();
    command.arg("--node-dir").arg(folder.path());
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("process 1 has ended") || said.contains("cannot start node"), "{said}");
}

#[test]
fn without_a_server_program_it_says_how_to_get_one() {
    let mut command = at("", "load-test --transport redis");
    let output = command.env("PATH", "").output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("apt-get install redis-server") && said.contains("--redis"), "{said}");
}

#[test]
fn what_does_not_go_together_is_said() {
    for (args, says) in [
        ("--mode live", "--mode live needs --transport redis"),
        ("--transport redis --mode batch", "it is live, durable or group"),
        ("--processes 2", "--transport"),
        ("--node-agents 1", "--transport"),
        ("--transport redis --agents 3 --node-agents 2", "3 agents have 1 workers"),
        ("--redis redis://:pa55word@host", "--redis is for --transport redis"),
        ("--transport redis --processes 65", "1..=64"),
        ("--transport redis --payload 50", "take 52 bytes"),
        ("--transport redis --store x", "cannot be used with"),
        ("--transport carrier-pigeon", "redis"),
    ] {
        let said = error(&mut at("", &format!("load-test {args}")));
        assert!(said.contains(says), "{args}: {said}");
        assert!(!said.contains("pa55word"), "{said}");
    }
}
