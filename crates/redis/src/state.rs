//! [`RedisState`]: state that all processes share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};
use swarmbus::{
    state::{
        Cursor, MAX_FIELDS, MAX_PAGE, Page, StateError, StateStore, check_name, check_ttl,
        check_value,
    },
    transport::{Channel, ChannelError},
};

use crate::{
    channel,
    connection::{Link, LinkState},
    dialer::Dialer,
    duties::Commands,
    error::ConnectionError,
    lease::RedisLeases,
    script::{self, Script, millis},
    server::{Call, Server},
    settings::{Settings, SettingsError},
};

static COMPARE: Script = Script::new(include_str!("lua/state_compare.lua"));
static EXPIRE: Script = Script::new(include_str!("lua/state_expire.lua"));
static HASH_SET: Script = Script::new(include_str!("lua/state_hash_set.lua"));
static HASH_ALL: Script = Script::new(include_str!("lua/state_hash_all.lua"));

/// Steps of the server's own scan in one call.
const STEPS: usize = 32;

/// Keeps state in Redis, as plain strings and hashes that other programs can
/// read: the key `a` of the store `planner` is `swarmbus:{planner}:state:a`
/// there.
///
/// The contract is that of [`StateStore`]. Every call is one command or one
/// script on one key. All keys of a store are in one slot of a Redis Cluster.
///
/// - **Durability** is the server's: with `appendonly yes` and `appendfsync
///   always`, what was answered survives a crash.
/// - **A scan** walks over all keys of the server, others' too; it takes as long
///   as there are keys, in small steps. In a cluster these are all keys of one
///   node; if the store moves to another meanwhile, a scan may miss some.
/// - **Without a connection** a call waits for one, at most
///   [`response_timeout`](Settings::response_timeout), and then fails with
///   [`StateError::Unavailable`]. Put a [`ResilientStore`] before it to go on.
/// - A server at `maxmemory` refuses writes: [`StateError::Full`].
///
/// Clones share their connection.
///
/// ```no_run
/// use swarmbus::state::{ResilientStore, StateStore};
/// use swarmbus_redis::{RedisState, Settings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::new("redis://127.0.0.1:6379")?;
/// let store = ResilientStore::builder(RedisState::connect(settings, "planner").await?).build();
/// store.set("agent-1:task", "resize".into(), None).await?;
/// # Ok(())
/// # }
/// ```
///
/// [`ResilientStore`]: swarmbus::state::ResilientStore
#[derive(Clone, Debug)]
pub struct RedisState {
    server: Server,
    /// What all keys begin with.
    prefix: String,
}

/// Why a store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A store cannot have this name: the rules are those for channels.
    #[error("no name for a store: {0}")]
    Name(#[from] ChannelError),
    /// The server cannot be used.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl RedisState {
    /// Connects to a server. The name keeps stores that share it apart.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: the first try to connect must succeed.
    pub async fn connect(settings: Settings, name: &str) -> Result<Self, OpenError> {
        let name = Channel::live(name)?;
        let link = Link::connect(dialer(settings, &name)?, Arc::new(Commands("state"))).await?;
        Ok(Self::on(link, &name))
    }

    /// Connects in the background, for programs that start without a server:
    /// until it is there, calls fail.
    ///
    /// # Errors
    ///
    /// [`OpenError::Settings`], [`OpenError::Name`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect_later(settings: Settings, name: &str) -> Result<Self, OpenError> {
        let name = Channel::live(name)?;
        Ok(Self::on(Link::start(dialer(settings, &name)?, Arc::new(Commands("state"))), &name))
    }

    fn on(link: Link, name: &Channel) -> Self {
        let prefix = channel::key(&link.dialer().settings.prefix, name, "state:");
        Self { server: Server::new(link), prefix }
    }

    /// Leases over the same connection, with names of their own; in a cluster,
    /// over one to where their keys are.
    ///
    /// # Errors
    ///
    /// A store cannot have this name.
    ///
    /// # Panics
    ///
    /// With a cluster, outside of a tokio runtime.
    pub fn leases(&self, name: &str) -> Result<RedisLeases, ChannelError> {
        let name = Channel::live(name)?;
        let server = match self.server.link.dialer().for_name(name.name()) {
            Some(there) => Server::new(Link::start(Arc::new(there), Arc::new(Commands("leases")))),
            None => self.server.clone(),
        };
        Ok(RedisLeases::on(server, &name))
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        *self.server.link.state().borrow() == LinkState::Connected
    }

    /// Waits for a connection.
    ///
    /// Cancel safe.
    pub async fn connected(&self) {
        // The sender lives as long as the link, and so longer than this.
        let _ = self.server.link.state().wait_for(|state| *state == LinkState::Connected).await;
    }

    fn key(&self, key: &str) -> Result<String, StateError> {
        check_name(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    /// What changes nothing, so that it may be asked again.
    async fn read(&self, call: Call<'_>) -> Result<Value, StateError> {
        self.server.insist(call).await.map_err(state_error)
    }

    async fn write(&self, command: &Cmd) -> Result<(), StateError> {
        self.server.once(Call::Command(command)).await.map(drop).map_err(state_error)
    }

    /// A script that answers yes or no.
    async fn decide(&self, script: &Script, call: &Cmd) -> Result<bool, StateError> {
        match self.server.once(Call::Script(script, call)).await.map_err(state_error)? {
            Value::Int(answer) => Ok(answer != 0),
            other => Err(unexpected(&other)),
        }
    }
}

#[async_trait]
impl StateStore for RedisState {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        maybe_bytes(self.read(Call::Command(redis::cmd("GET").arg(self.key(key)?))).await?)
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), StateError> {
        check_value(&value)?;
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)?).arg(&value[..]);
        if let Some(ttl) = check_ttl(ttl)? {
            command.arg("PX").arg(millis(ttl));
        }
        self.write(&command).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, StateError> {
        check_value(&value)?;
        let ttl = check_ttl(ttl)?;
        let mut call = COMPARE.call(&[&self.key(key)?]);
        call.arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default());
        call.arg(&value[..]).arg(ttl.map_or(0, millis));
        self.decide(&COMPARE, &call).await
    }

    async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.write(redis::cmd("UNLINK").arg(self.key(key)?)).await
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, StateError> {
        let ttl = check_ttl(ttl)?;
        let mut call = EXPIRE.call(&[&self.key(key)?]);
        call.arg(ttl.map_or(0, millis));
        self.decide(&EXPIRE, &call).await
    }

    async fn scan(&self, prefix: &str, from: Cursor, limit: usize) -> Result<Page, StateError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let pattern = format!("{}*", literally(&format!("{}{prefix}", self.prefix)));
        let mut cursor = match from.as_str() {
            "" => 0,
            text => text.parse::<u64>().map_err(|_| StateError::Cursor)?,
        };
        let mut keys = Vec::new();
        // Most of what is there may be others': so some steps for a page, but
        // not all at once.
        for _ in 0..STEPS {
            let mut step = redis::cmd("SCAN");
            step.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(limit);
            let (next, found) = scanned(self.read(Call::Command(&step)).await?)?;
            let ours = found.iter().filter_map(|key| key.strip_prefix(self.prefix.as_str()));
            keys.extend(ours.map(str::to_owned));
            cursor = next;
            if cursor == 0 || keys.len() >= limit {
                break;
            }
        }
        let next = (cursor != 0).then(|| Cursor::new(cursor.to_string()));
        Ok(Page { keys, next })
    }

    async fn hash_get(&self, key: &str, field: &str) -> Result<Option<Bytes>, StateError> {
        check_name(field)?;
        let key = self.key(key)?;
        let command = redis::cmd("HGET").arg(key).arg(field).to_owned();
        maybe_bytes(self.read(Call::Command(&command)).await?)
    }

    async fn hash_set(&self, key: &str, field: &str, value: Bytes) -> Result<(), StateError> {
        check_name(field)?;
        check_value(&value)?;
        let mut call = HASH_SET.call(&[&self.key(key)?]);
        call.arg(field).arg(&value[..]).arg(MAX_FIELDS);
        if self.decide(&HASH_SET, &call).await? { Ok(()) } else { Err(StateError::Fields) }
    }

    async fn hash_delete(&self, key: &str, field: &str) -> Result<(), StateError> {
        check_name(field)?;
        self.write(redis::cmd("HDEL").arg(self.key(key)?).arg(field)).await
    }

    async fn hash_all(&self, key: &str) -> Result<BTreeMap<String, Bytes>, StateError> {
        let mut call = HASH_ALL.call(&[&self.key(key)?]);
        call.arg(MAX_FIELDS);
        match self.read(Call::Script(&HASH_ALL, &call)).await? {
            Value::Int(_) => Err(StateError::Fields),
            Value::Array(items) => pairs(items),
            other => Err(unexpected(&other)),
        }
    }
}

/// Makes connections to where the keys of a store are.
pub(crate) fn dialer(settings: Settings, name: &Channel) -> Result<Arc<Dialer>, SettingsError> {
    let dialer = Dialer::new(settings)?;
    Ok(Arc::new(dialer.for_name(name.name()).unwrap_or(dialer)))
}

fn state_error(error: ConnectionError) -> StateError {
    match error {
        ConnectionError::OutOfMemory => StateError::Full,
        ConnectionError::Protocol(text) if text.starts_with("WRONGTYPE") => StateError::WrongKind,
        other => StateError::unavailable(other),
    }
}

fn unexpected(value: &Value) -> StateError {
    StateError::unavailable(script::unexpected(value))
}

fn maybe_bytes(value: Value) -> Result<Option<Bytes>, StateError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(unexpected(&other)),
    }
}

/// Keys that are no text are not ours.
fn scanned(value: Value) -> Result<(u64, Vec<String>), StateError> {
    let Value::Array(parts) = value else { return Err(unexpected(&value)) };
    let Ok([cursor, found]) = <[Value; 2]>::try_from(parts) else {
        return Err(unexpected(&Value::Array(Vec::new())));
    };
    let cursor = match &cursor {
        Value::BulkString(text) => str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    let (Some(cursor), Value::Array(found)) = (cursor, found) else {
        return Err(unexpected(&Value::Nil));
    };
    let texts = found.into_iter().filter_map(|key| match key {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    });
    Ok((cursor, texts.collect()))
}

fn pairs(items: Vec<Value>) -> Result<BTreeMap<String, Bytes>, StateError> {
    let mut pairs = BTreeMap::new();
    let mut items = items.into_iter();
    while let (Some(field), Some(value)) = (items.next(), items.next()) {
        let (Value::BulkString(field), Value::BulkString(value)) = (field, value) else {
            return Err(unexpected(&Value::Nil));
        };
        // A field that is no text is not ours.
        if let Ok(field) = String::from_utf8(field) {
            pairs.insert(field, value.into());
        }
    }
    Ok(pairs)
}

/// A pattern that fits this text alone.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests;
