//! [`Script`]: Lua that runs on the server, and what it answers.
//!
//! A script is sent by its hash. A server that does not know it, because it was
//! restarted for example, gets it as a whole and is asked again.

use std::{sync::OnceLock, time::Duration};

use redis::{Cmd, Value};
use swarmbus::transport::EntryId;

use crate::{dialer::Dialer, error::ConnectionError, wire::Connection};

/// A file of `lua/`, with `shared.lua` before it if it does not begin with `#!lua`.
pub(crate) struct Script {
    source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(source: &'static str) -> Self {
        Self { source, hash: OnceLock::new() }
    }

    /// A call to which its arguments are still to be added.
    pub(crate) fn call(&self, keys: &[&str]) -> Cmd {
        let hash = self.hash.get_or_init(|| redis::Script::new(self.source).get_hash().to_owned());
        let mut call = redis::cmd("EVALSHA");
        call.arg(hash).arg(keys.len()).arg(keys);
        call
    }

    /// Runs one call and gives its answer.
    pub(crate) async fn run(
        &self,
        dialer: &Dialer,
        connection: &Connection,
        call: &Cmd,
    ) -> Result<Value, ConnectionError> {
        match dialer.ask(connection, call).await {
            Err(error) if is_unknown(&error) => {
                self.load(dialer, connection).await?;
                dialer.ask(connection, call).await
            }
            answer => answer,
        }
    }

    /// Sends the script without running it.
    pub(crate) async fn load(
        &self,
        dialer: &Dialer,
        connection: &Connection,
    ) -> Result<(), ConnectionError> {
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(self.source).to_owned();
        match dialer.ask(connection, &load).await {
            Err(ConnectionError::NoPermission { detail, .. }) => {
                Err(ConnectionError::NoPermission { command: "SCRIPT LOAD".to_owned(), detail })
            }
            answer => answer.map(drop),
        }
    }
}

/// A time as scripts take it: at least 1 ms. Redis refuses times that overflow
/// when they are added to its clock's.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 42)
}

fn is_unknown(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Protocol(text) if text.starts_with("NOSCRIPT"))
}

/// Takes a script's answer apart, item by item.
pub(crate) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(crate) fn new(value: Value) -> Result<Self, ConnectionError> {
        match value {
            Value::Array(items) | Value::Set(items) => Ok(Self(items.into_iter())),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(crate) fn value(&mut self) -> Result<Value, ConnectionError> {
        self.0.next().ok_or_else(|| unexpected(&Value::Nil))
    }

    pub(crate) fn int(&mut self) -> Result<i64, ConnectionError> {
        match self.value()? {
            Value::Int(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }

    /// A number that cannot be negative.
    pub(crate) fn count(&mut self) -> Result<u64, ConnectionError> {
        let number = self.int()?;
        u64::try_from(number).map_err(|_| unexpected(&Value::Int(number)))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        match self.value()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, ConnectionError> {
        String::from_utf8(self.bytes()?).map_err(|_| unexpected(&Value::Nil))
    }

    /// The two numbers of a stream's id.
    pub(crate) fn id(&mut self) -> Result<EntryId, ConnectionError> {
        let text = self.text()?;
        let numbers = text.split_once('-');
        let id = numbers.and_then(|(a, b)| Some(EntryId(a.parse().ok()?, b.parse().ok()?)));
        id.ok_or_else(|| unexpected(&Value::Nil))
    }

    pub(crate) fn array(&mut self) -> Result<Self, ConnectionError> {
        Self::new(self.value()?)
    }

    /// 8 bytes as a number; `None` for no bytes.
    pub(crate) fn word(&mut self) -> Result<Option<u64>, ConnectionError> {
        let bytes = self.bytes()?;
        match <[u8; 8]>::try_from(bytes.as_slice()) {
            Ok(word) => Ok(Some(u64::from_le_bytes(word))),
            Err(_) if bytes.is_empty() => Ok(None),
            Err(_) => Err(unexpected(&Value::Nil)),
        }
    }
}

/// Says what kind of answer came, not what is in it: that may be long and
/// somebody's own.
pub(crate) fn unexpected(value: &Value) -> ConnectionError {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    ConnectionError::Protocol(format!("a script answered {kind} where it should not"))
}

#[cfg(test)]
pub(crate) mod tests;
