//! `swarmbus doctor`.

use serde_json::Value;
use swarmbus_redis::local::Server;

use crate::support::{at, error, ok, swarmbus, text};

#[test]
fn a_fresh_server_has_warnings_with_advice() {
    let server = Server::start().unwrap();
    let said = ok(&mut swarmbus(&server, "doctor"));
    for part in ["persistence", "permissions", "PING p50", "persistence: CONFIG SET appendonly yes"]
    {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let report: Value = serde_json::from_str(&ok(&mut swarmbus(&server, "doctor --json"))).unwrap();
    assert_eq!(report["verdict"], "warning", "{report}");
    let checks = report["findings"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["check"] == "clock"), "{report}");
}

#[test]
fn a_problem_is_exit_code_1() {
    let server = Server::builder().max_memory(64 << 20, "allkeys-lru").start().unwrap();
    let output = swarmbus(&server, "doctor --json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(report["verdict"], "problem");
    let output = at("redis://:pa55word@127.0.0.1:9", "doctor").output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("install redis-server") && !said.contains("pa55word"), "{said}");
    let server = Server::builder().password("right").start().unwrap();
    let url = server.url().replace("right", "pa55word");
    let output = at(&url, "doctor").output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("check them in the URL") && !said.contains("install"), "{said}");
    let said = error(&mut at("http://:pa55word@host", "doctor"));
    assert!(said.contains("it looks like redis://") && !said.contains("pa55word"), "{said}");
}
