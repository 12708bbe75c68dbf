//! What the answers of a server mean. Pure.

use std::time::Duration;

use super::{Finding, facts::Facts};

/// Redis's own defaults for subscribers. With less, a burst cuts them off.
const BUFFER_MIN: u64 = 8 << 20;
const BUFFER_SOFT: u64 = 8 << 20;
const BUFFER_HARD: u64 = 32 << 20;

/// A server in the next room answers faster.
const SLOW: Duration = Duration::from_millis(10);

/// Leases and deadlines are compared over several machines' clocks.
const CLOCKS_APART: i128 = 1_000_000;

/// All that is in INFO and CONFIG.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    if facts.info.is_empty() {
        let found = "this user may not use INFO";
        let advice = "ask as a user that may: ACL SETUSER NAME +info +config|get";
        return vec![Finding::warning("server", found, advice)];
    }
    vec![
        version(facts),
        role(facts),
        persistence(facts),
        disk(facts),
        memory(facts),
        eviction(facts),
        buffers(facts),
        clients(facts),
    ]
}

fn version(facts: &Facts) -> Finding {
    let (name, version) = match facts.get("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", facts.get("redis_version").unwrap_or("of no stated version")),
    };
    let found = format!("{name} {version}");
    match facts.get("redis_mode") {
        Some("cluster") => Finding::ok("version", format!("{found} in cluster mode")),
        _ => Finding::ok("version", found),
    }
}

fn role(facts: &Facts) -> Finding {
    let replicas = facts.number("connected_slaves");
    let found = match replicas {
        0 => "master, without replicas".to_owned(),
        1 => "master, 1 replica".to_owned(),
        n => format!("master, {n} replicas"),
    };
    // INFO has that line only if `min-replicas-to-write` is set.
    if replicas > 0 && facts.get("min_slaves_good_slaves").is_none() {
        let found = format!("{found}; writes wait for none of them");
        return Finding::warning("role", found, "CONFIG SET min-replicas-to-write 1");
    }
    Finding::ok("role", found)
}

fn persistence(facts: &Facts) -> Finding {
    const CHECK: &str = "persistence";
    let snapshots = facts.config.get("save").is_some_and(|save| !save.is_empty());
    if facts.get("aof_enabled") != Some("1") {
        let found = if snapshots {
            "only snapshots are kept: a crash loses what came after the last one"
        } else {
            "nothing is kept: a restart loses what durable and group channels hold"
        };
        let advice = "CONFIG SET appendonly yes, and the same in the configuration file";
        return Finding::warning(CHECK, found, advice);
    }
    match facts.config.get("appendfsync").map(String::as_str) {
        Some("always") => Finding::ok(CHECK, "append-only file, on the disk before each answer"),
        Some("everysec") => Finding::ok(
            CHECK,
            "append-only file, on the disk each second: a crash loses nothing, a power failure up \
             to a second (CONFIG SET appendfsync always: nothing)",
        ),
        Some(_) => Finding::warning(
            CHECK,
            "append-only file, on the disk when the system sees fit: a power failure loses half \
             a minute",
            "CONFIG SET appendfsync everysec",
        ),
        None => Finding::warning(
            CHECK,
            "append-only file; this user may not see when it is written to the disk",
            "ask as a user that may: ACL SETUSER NAME +config|get",
        ),
    }
}

fn disk(facts: &Facts) -> Finding {
    const CHECK: &str = "disk";
    let failed = |name| facts.get(name).is_some_and(|status| status != "ok");
    if failed("aof_last_write_status") || failed("aof_last_bgrewrite_status") {
        let found = "the last write of the append-only file failed";
        return Finding::problem(CHECK, found, "look at the server's log, and at its disk");
    }
    if failed("rdb_last_bgsave_status") {
        let found = "the last snapshot failed: the server may take no writes";
        return Finding::problem(CHECK, found, "look at the server's log, and at its disk");
    }
    Finding::ok(CHECK, "the last writes succeeded")
}

fn memory(facts: &Facts) -> Finding {
    const CHECK: &str = "memory";
    let (used, limit) = (facts.number("used_memory"), facts.number("maxmemory"));
    let (used_mb, limit_mb) = (used >> 20, limit >> 20);
    if limit == 0 {
        let system = facts.number("total_system_memory");
        let found = format!("{used_mb} MB used, without a limit: the system may end the server");
        // What is left is for forks, buffers and the system.
        let limit = if system == 0 { "SIZE".to_owned() } else { format!("{}mb", system >> 21) };
        return Finding::warning(CHECK, found, format!("CONFIG SET maxmemory {limit}"));
    }
    let found = format!("{used_mb} of {limit_mb} MB used");
    if used > limit / 10 * 9 {
        let advice = format!("CONFIG SET maxmemory {}mb, or keep less", limit_mb * 2);
        return Finding::problem(CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

fn eviction(facts: &Facts) -> Finding {
    const CHECK: &str = "eviction";
    let policy = facts.get("maxmemory_policy").unwrap_or("noeviction");
    if policy == "noeviction" {
        return Finding::ok(CHECK, "noeviction: a full server refuses, and forgets nothing");
    }
    let found = format!("{policy}: a full server throws channels and state away");
    let advice = "CONFIG SET maxmemory-policy noeviction";
    if facts.number("maxmemory") == 0 {
        // Without a limit it is never full.
        return Finding::warning(CHECK, found, advice);
    }
    Finding::problem(CHECK, found, advice)
}

fn buffers(facts: &Facts) -> Finding {
    const CHECK: &str = "output buffers";
    let set =
        format!("CONFIG SET client-output-buffer-limit \"pubsub {BUFFER_HARD} {BUFFER_SOFT} 60\"");
    let Some(limits) = facts.config.get("client-output-buffer-limit") else {
        let advice = "ask as a user that may: ACL SETUSER NAME +config|get";
        return Finding::warning(CHECK, "this user may not see the limits", advice);
    };
    let Some([hard, soft, seconds]) = pubsub(limits) else {
        return Finding::warning(CHECK, format!("no limits for pub/sub in {limits:?}"), set);
    };
    let found = format!(
        "a subscriber is cut off when {} wait for it, or {} for {seconds} s",
        size(hard),
        size(soft)
    );
    if hard == 0 {
        let found = "a subscriber that does not read takes all memory";
        return Finding::warning(CHECK, found, set);
    }
    if hard < BUFFER_MIN || (soft > 0 && soft < BUFFER_MIN / 8) {
        return Finding::warning(CHECK, format!("{found}: a burst is enough"), set);
    }
    Finding::ok(CHECK, found)
}

/// Hard limit, soft limit and its seconds.
fn pubsub(limits: &str) -> Option<[u64; 3]> {
    let mut words = limits.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    let mut number = || words.next()?.parse().ok();
    Some([number()?, number()?, number()?])
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "any number of bytes".to_owned(),
        bytes if bytes < 1 << 20 => format!("{} kB", bytes >> 10),
        bytes => format!("{} MB", bytes >> 20),
    }
}

fn clients(facts: &Facts) -> Finding {
    let (clients, limit) = (facts.number("connected_clients"), facts.number("maxclients"));
    let found = format!("{clients} of {limit}");
    // Each transport has 2 to 5 connections, and each worker of a group one.
    if limit > 0 && clients > limit / 5 * 4 {
        return Finding::warning("clients", found, format!("CONFIG SET maxclients {}", limit * 2));
    }
    Finding::ok("clients", found)
}

/// `times`: shortest first.
pub(super) fn latency(times: Vec<Duration>) -> Finding {
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let (p50, p99) = (at(50), at(99));
    let found = format!("PING p50 {p50:.1?}, p99 {p99:.1?} of {}", times.len());
    if p99 > SLOW {
        let advice = "see LATENCY DOCTOR and SLOWLOG GET, or move the server closer";
        return Finding::warning("latency", found, advice);
    }
    Finding::ok("latency", found)
}

/// `ahead`: microseconds.
pub(super) fn clock(ahead: Option<i128>) -> Finding {
    let Some(ahead) = ahead else {
        return Finding::warning("clock", "this user may not use TIME", "ACL SETUSER NAME +time");
    };
    let apart = Duration::from_micros(u64::try_from(ahead.abs()).unwrap_or(u64::MAX));
    let direction = if ahead < 0 { "behind" } else { "ahead of" };
    let found = format!("{apart:.1?} {direction} this machine");
    if ahead.abs() > CLOCKS_APART {
        return Finding::warning("clock", found, "set both clocks by NTP");
    }
    Finding::ok("clock", found)
}
