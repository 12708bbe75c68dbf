//! Whether a user may do what transport, state and leases do.

use redis::{Cmd, aio::MultiplexedConnection, cmd};

use super::Finding;
use crate::{dialer::Dialer, error::ConnectionError};

/// Commands on keys of a channel, by themselves or in scripts. They are queued
/// and never run, so that the arguments need only be as many as there must be.
const COMMANDS: [&[&str]; 35] = [
    &["DEL", KEY],
    &["EXISTS", KEY],
    &["GET", KEY],
    &["SET", KEY, "0"],
    &["PERSIST", KEY],
    &["PEXPIRE", KEY, "1"],
    &["PTTL", KEY],
    &["UNLINK", KEY],
    &["HDEL", KEY, "a"],
    &["HEXISTS", KEY, "a"],
    &["HGET", KEY, "a"],
    &["HGETALL", KEY],
    &["HLEN", KEY],
    &["HMGET", KEY, "a"],
    &["HSET", KEY, "a", "0"],
    &["XACK", KEY, "a", "0-1"],
    &["XADD", KEY, "*", "a", "0"],
    &["XCLAIM", KEY, "a", "a", "1", "0-1"],
    &["XGROUP", "CREATE", KEY, "a", "0"],
    &["XINFO", "STREAM", KEY],
    &["XLEN", KEY],
    &["XPENDING", KEY, "a"],
    &["XRANGE", KEY, "-", "+"],
    &["XREADGROUP", "GROUP", "a", "a", "STREAMS", KEY, ">"],
    &["XREVRANGE", KEY, "+", "-"],
    &["XTRIM", KEY, "MAXLEN", "1"],
    &["ZADD", KEY, "1", "a"],
    &["ZRANGE", KEY, "0", "0"],
    &["ZREM", KEY, "a"],
    &["ZSCORE", KEY, "a"],
    &["PUBLISH", KEY, "0"],
    &["EVALSHA", "0000000000000000000000000000000000000000", "1", KEY],
    &["SCRIPT", "LOAD", "return 0"],
    &["SCAN", "0"],
    &["TIME"],
];

/// Stands for a key.
const KEY: &str = "\0";

/// Tries what the user may do in a transaction that is given up: the server
/// looks at permissions when it queues a command.
pub(super) async fn look(
    dialer: &Dialer,
    connection: &mut MultiplexedConnection,
    user: Option<&str>,
) -> Result<Finding, ConnectionError> {
    let prefix = &dialer.settings.prefix;
    let key = format!("{prefix}:{{doctor}}:log");
    let mut denied = Vec::new();
    match dialer.ask(connection, &cmd("MULTI")).await {
        Ok(_) => {}
        Err(ConnectionError::NoPermission { .. }) => return Ok(unasked(user)),
        Err(error) => return Err(error),
    }
    for words in COMMANDS {
        match dialer.ask(connection, &command(words, &key)).await {
            Ok(_) => {}
            Err(ConnectionError::NoPermission { .. }) => denied.push(words),
            Err(ConnectionError::Protocol(_) | ConnectionError::TooOld { .. }) => {
                denied.push(words);
            }
            Err(error) => return Err(error),
        }
    }
    dialer.ask(connection, &cmd("DISCARD")).await?;
    // It cannot be queued.
    let subscribe: &[&str] = &["SUBSCRIBE", KEY];
    match dialer.ask(connection, &command(subscribe, &key)).await {
        Err(ConnectionError::NoPermission { .. }) => denied.push(subscribe),
        Ok(_) => {
            dialer.ask(connection, &command(&["UNSUBSCRIBE", KEY], &key)).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(finding(user, prefix, &denied))
}

fn command(words: &[&str], key: &str) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(if *word == KEY { key } else { word });
    }
    command
}

fn unasked(user: Option<&str>) -> Finding {
    let advice = format!("ACL SETUSER {} +multi +discard, to have it looked at", name(user));
    Finding::warning("permissions", "this user may not use MULTI, so they are not known", advice)
}

fn name(user: Option<&str>) -> &str {
    user.unwrap_or("NAME")
}

fn finding(user: Option<&str>, prefix: &str, denied: &[&[&str]]) -> Finding {
    const CHECK: &str = "permissions";
    let who = name(user);
    if denied.is_empty() {
        let all = COMMANDS.len() + 1;
        return Finding::ok(
            CHECK,
            format!("user {who} may use all {all} commands that are needed"),
        );
    }
    let mut names: Vec<_> = denied.iter().map(|words| words[0]).collect();
    names.dedup();
    let mut rules: Vec<_> = names.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    rules.push(format!("~{prefix}:*"));
    rules.push(format!("&{prefix}:*"));
    let found = format!("user {who} may not use {} on {prefix}:*", names.join(", "));
    Finding::problem(CHECK, found, format!("ACL SETUSER {who} {}", rules.join(" ")))
}
