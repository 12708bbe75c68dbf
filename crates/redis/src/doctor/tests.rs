//! Rules on answers that were seen, then real servers.

use std::{collections::HashMap, time::Duration};

use super::{facts::Facts, judge, *};
use crate::{
    local::{Cluster, Fsync, Server},
    server::lines,
};

/// A server that is well.
const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
    total_system_memory:8589934592\r\nconnected_clients:3\r\nmaxclients:10000\r\n\
    used_memory:1048576\r\nmaxmemory:4294967296\r\nmaxmemory_policy:noeviction\r\n\
    aof_enabled:1\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:ok\r\n\
    aof_last_bgrewrite_status:ok\r\nrole:master\r\nconnected_slaves:0\r\n";

const CONFIG: [(&str, &str); 3] = [
    ("appendfsync", "always"),
    ("client-output-buffer-limit", "normal 0 0 0 slave 1 1 60 pubsub 33554432 8388608 60"),
    ("save", ""),
];

fn facts(changes: &[(&str, &str)]) -> Facts {
    let mut info = lines(INFO);
    let mut config: HashMap<_, _> =
        CONFIG.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in changes {
        let map = if config.contains_key(*name) { &mut config } else { &mut info };
        map.insert((*name).to_owned(), (*value).to_owned());
    }
    Facts { info, config, user: Some("default".to_owned()) }
}

fn bad(changes: &[(&str, &str)]) -> Vec<(&'static str, Verdict, String)> {
    let findings = judge::all(&facts(changes)).into_iter();
    let bad = findings.filter(|finding| finding.verdict != Verdict::Ok);
    bad.map(|finding| (finding.check, finding.verdict, finding.advice.unwrap())).collect()
}

#[test]
fn what_is_wrong_is_found_alone_with_what_to_do() {
    assert_eq!(bad(&[]), []);
    for (changes, check, verdict, advice) in [
        (&[("aof_enabled", "0")][..], "persistence", Verdict::Warning, "CONFIG SET appendonly yes"),
        (&[("appendfsync", "no")], "persistence", Verdict::Warning, "appendfsync everysec"),
        (&[("aof_last_write_status", "err")], "disk", Verdict::Problem, "disk"),
        (&[("rdb_last_bgsave_status", "err")], "disk", Verdict::Problem, "log"),
        (&[("maxmemory", "0")], "memory", Verdict::Warning, "CONFIG SET maxmemory 4096mb"),
        (&[("maxmemory", "1048577")], "memory", Verdict::Problem, "CONFIG SET maxmemory"),
        (
            &[("maxmemory_policy", "allkeys-lru")],
            "eviction",
            Verdict::Problem,
            "CONFIG SET maxmemory-policy noeviction",
        ),
        (
            &[("client-output-buffer-limit", "pubsub 1048576 262144 1")],
            "output buffers",
            Verdict::Warning,
            "CONFIG SET client-output-buffer-limit \"pubsub 33554432 8388608 60\"",
        ),
        (
            &[("client-output-buffer-limit", "pubsub 0 0 0")],
            "output buffers",
            Verdict::Warning,
            "CONFIG SET client-output-buffer-limit",
        ),
        (&[("connected_clients", "9999")], "clients", Verdict::Warning, "maxclients 20000"),
        (&[("connected_slaves", "2")], "role", Verdict::Warning, "min-replicas-to-write 1"),
    ] {
        let found = bad(changes);
        let [(what, how, advised)] = &found[..] else { panic!("{changes:?}: {found:?}") };
        assert_eq!((*what, *how), (check, verdict), "{changes:?}");
        assert!(advised.contains(advice), "{advised}");
    }
}

#[test]
fn time_is_judged() {
    let slow = vec![Duration::from_millis(20); 10];
    assert_eq!(judge::latency(slow).verdict, Verdict::Warning);
    assert_eq!(judge::latency(vec![Duration::from_micros(80)]).verdict, Verdict::Ok);
    assert_eq!(judge::clock(Some(-1_500_000)).verdict, Verdict::Warning);
    assert_eq!(judge::clock(Some(400)).verdict, Verdict::Ok);
    assert_eq!(judge::clock(None).verdict, Verdict::Warning);
}

async fn seen(url: &str) -> Vec<Finding> {
    examine(&Settings::new(url).unwrap()).await.unwrap()
}

fn find(findings: &[Finding], check: &str) -> Finding {
    let found = findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("{check}: {findings:?}")).clone()
}

#[tokio::test]
async fn a_server_that_is_well_is_said_to_be() {
    let builder = Server::builder().append_only(Fsync::Always).max_memory(64 << 20, "noeviction");
    let server = builder.start().unwrap();
    let findings = seen(&server.url()).await;
    assert_eq!(findings.len(), 12, "{findings:?}");
    // How fast it is, is the machine's affair.
    let bad = |finding: &&Finding| finding.verdict != Verdict::Ok && finding.check != "latency";
    assert_eq!(findings.iter().find(bad), None);
    assert_eq!(server.run(["DBSIZE"]).unwrap(), "0");
}

#[tokio::test]
async fn what_a_user_may_not_do_is_named() {
    let rules = "on >secret ~swarmbus:* &* +@all -xclaim -publish";
    let server = Server::builder().user("worker", rules).start().unwrap();
    let findings = seen(&format!("redis://worker:secret@{}", server.address())).await;
    let found = find(&findings, "permissions");
    assert_eq!(found.verdict, Verdict::Problem);
    assert!(found.found.contains("XCLAIM, PUBLISH"), "{found:?}");
    let advice = found.advice.unwrap();
    let words: Vec<_> = advice.split(' ').collect();
    assert_eq!(words[..3], ["ACL", "SETUSER", "worker"], "{advice}");
    // What it says helps.
    server.run(words).unwrap();
    let findings = seen(&format!("redis://worker:secret@{}", server.address())).await;
    assert_eq!(find(&findings, "permissions").verdict, Verdict::Ok);
}

#[tokio::test]
async fn a_user_with_other_keys_or_channels_is_found() {
    let keys = "on >secret ~other:* &* +@all";
    let channels = "on >secret ~* resetchannels &other:* +@all";
    let server = Server::builder().user("a", keys).user("b", channels).start().unwrap();
    for (user, rule) in [("a", "~swarmbus:*"), ("b", "&swarmbus:*")] {
        let findings = seen(&format!("redis://{user}:secret@{}", server.address())).await;
        let found = find(&findings, "permissions");
        let advice = format!("ACL SETUSER {user} {rule}");
        assert_eq!((found.verdict, found.advice), (Verdict::Problem, Some(advice)));
    }
}

#[tokio::test]
async fn a_cluster_is_looked_at_as_a_whole() {
    let cluster = Cluster::start(3, 0).unwrap();
    let findings = seen(&cluster.url()).await;
    let found = find(&findings, "cluster");
    assert_eq!((found.verdict, found.found), (Verdict::Ok, "3 masters serve all slots".into()));
    assert_eq!(find(&findings, "nodes").verdict, Verdict::Ok);
    assert_eq!(find(&findings, "replicas").verdict, Verdict::Warning);
    assert_eq!(find(&findings, "permissions").verdict, Verdict::Ok);
    // A node alone is none of the servers that are fit.
    let alone = seen(&cluster.nodes()[0].url()).await;
    assert_eq!(find(&alone, "mode").verdict, Verdict::Problem);
    let server = Server::start().unwrap();
    let none = seen(&format!("redis+cluster://{}", server.address())).await;
    assert_eq!(find(&none, "mode").verdict, Verdict::Problem);
    // A slot that nobody has.
    cluster.nodes()[0].run(["CLUSTER", "DELSLOTS", "1"]).unwrap();
    let findings = seen(&format!("redis+cluster://{}", cluster.nodes()[0].address())).await;
    let found = find(&findings, "cluster");
    assert_eq!(found.verdict, Verdict::Problem, "{found:?}");
    assert!(found.advice.unwrap().contains("--cluster fix"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_finding() {
    let findings = seen("redis://:secret@127.0.0.1:9").await;
    let [found] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((found.check, found.verdict), ("connection", Verdict::Problem));
    assert!(!format!("{found:?}").contains("secret"));
}
