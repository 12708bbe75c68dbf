//! Whether a user may do what transport, state and leases do.

use redis::{Cmd, Value, cmd};

use super::Finding;
use crate::{
    dialer::Dialer,
    error::ConnectionError,
    wire::{Connection, Subscription},
};

/// Commands on keys of a channel, by themselves or in scripts. They are queued
/// and never run, so that the arguments need only be as many as there must be.
const COMMANDS: [&[&str]; 36] = [
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
    // Without it, what a failover forgot is not always told.
    &["INFO", "server"],
    &["TIME"],
];

/// Stands for a key.
const KEY: &str = "\0";

/// In the name of the key that is asked for.
pub(super) const NAME: &str = "doctor";

/// Tries what the user may do in a transaction that is given up: the server
/// looks at permissions when it queues a command.
pub(super) async fn look(
    dialer: &Dialer,
    connection: &Connection,
    user: Option<&str>,
) -> Result<Finding, ConnectionError> {
    let prefix = &dialer.settings.prefix;
    let key = format!("{prefix}:{{{NAME}}}:log");
    let mut denied = Denied::default();
    match dialer.ask(connection, &cmd("MULTI")).await {
        Ok(_) => {}
        Err(ConnectionError::NoPermission { .. }) => return Ok(unasked(user)),
        Err(error) => return Err(error),
    }
    for words in COMMANDS {
        let name = if words[0] == "PUBLISH" { dialer.publish() } else { words[0] };
        match dialer.ask(connection, &command(name, &words[1..], &key)).await {
            Ok(_) => {}
            Err(ConnectionError::NoPermission { detail, .. }) => denied.note(name, &detail),
            // Renamed or removed.
            Err(ConnectionError::Protocol(_) | ConnectionError::TooOld { .. }) => {
                denied.commands.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    dialer.ask(connection, &cmd("DISCARD")).await?;
    // It cannot be queued.
    let (subscribe, unsubscribe) = match dialer.is_sharded() {
        true => (Subscription::SSubscribe, Subscription::SUnsubscribe),
        false => (Subscription::Subscribe, Subscription::Unsubscribe),
    };
    match connection.subscribe(subscribe, std::slice::from_ref(&key)).await?.pop() {
        Some(Value::ServerError(error)) => {
            match ConnectionError::answered(&error, subscribe.name()) {
                ConnectionError::NoPermission { detail, .. } => {
                    denied.note(subscribe.name(), &detail);
                }
                other => return Err(other),
            }
        }
        _ => drop(connection.subscribe(unsubscribe, &[key]).await?),
    }
    Ok(denied.finding(user, prefix))
}

/// What a user may not do.
#[derive(Debug, Default)]
struct Denied {
    commands: Vec<&'static str>,
    keys: bool,
    channels: bool,
}

impl Denied {
    /// The server says of what kind it is. A rule too many would be refused:
    /// nothing can be added to all channels.
    fn note(&mut self, command: &'static str, detail: &str) {
        match detail {
            detail if detail.contains("channel") => self.channels = true,
            detail if detail.contains("key") => self.keys = true,
            _ => self.commands.push(command),
        }
    }

    fn finding(&self, user: Option<&str>, prefix: &str) -> Finding {
        const CHECK: &str = "permissions";
        let (who, mut found, mut rules) = (name(user), Vec::new(), Vec::new());
        if !self.commands.is_empty() {
            found.push(self.commands.join(", "));
            rules.extend(self.commands.iter().map(|name| format!("+{}", name.to_lowercase())));
        }
        for (denied, what, mark) in [(self.keys, "keys", '~'), (self.channels, "channels", '&')] {
            if denied {
                found.push(format!("{what} that begin with {prefix}:"));
                rules.push(format!("{mark}{prefix}:*"));
            }
        }
        if found.is_empty() {
            let all = COMMANDS.len() + 1;
            let found = format!("user {who} may use all {all} commands that are needed");
            return Finding::ok(CHECK, found);
        }
        let found = format!("user {who} may not use {}", found.join(", nor "));
        Finding::problem(CHECK, found, format!("ACL SETUSER {who} {}", rules.join(" ")))
    }
}

fn command(name: &str, words: &[&str], key: &str) -> Cmd {
    let mut command = cmd(name);
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
