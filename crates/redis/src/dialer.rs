//! [`Dialer`]: makes connections, and checks who answers.

use std::{fmt, sync::Arc};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, PushInfo, Value, aio::MultiplexedConnection,
};
use tokio::time::timeout;

use crate::{
    error::{ConnectionError, NEEDED},
    sentinel::Sentinels,
    settings::{Settings, SettingsError},
};

/// What is done with a push message, in the task that reads the connection:
/// briefly, and without waiting.
pub(crate) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// One server, and how to make connections to it.
pub(crate) struct Dialer {
    pub(crate) settings: Settings,
    route: Route,
    /// Who we are, in the names of connections and of the probe's channel.
    pub(crate) instance: String,
}

/// How the server is found.
enum Route {
    Direct(Client),
    Sentinels(Sentinels),
}

impl Dialer {
    pub(crate) fn new(settings: Settings) -> Result<Self, SettingsError> {
        let client = settings.client()?;
        let route = match settings.master() {
            None => Route::Direct(client),
            Some(name) => {
                let sentinels = settings.sentinel_clients()?;
                Route::Sentinels(Sentinels::new(name.to_owned(), sentinels))
            }
        };
        let instance = format!("{:016x}", fastrand::u64(..));
        Ok(Self { settings, route, instance })
    }

    /// A connection to a master that is new enough and lets us in. `purpose`
    /// shows in the server's list of clients. `blocking`: its commands wait on
    /// the server, so that no answer is no sign of trouble.
    pub(crate) async fn dial(
        &self,
        purpose: &str,
        blocking: bool,
        on_push: OnPush,
    ) -> Result<MultiplexedConnection, ConnectionError> {
        let limit = self.settings.connect_timeout;
        let answers = (!blocking).then_some(self.settings.response_timeout);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(answers)
            .set_push_sender(move |push| {
                on_push(push);
                Ok::<(), ()>(())
            });
        let dial = async {
            let client = self.client().await?;
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(|error| self.refused(&error))?;
            let name = format!("swarmbus:{purpose}:{}", self.instance);
            // A name is for people; a user that may not set it does without.
            let _ = self.ask(&mut connection, redis::cmd("CLIENT").arg("SETNAME").arg(name)).await;
            check(&self.ask(&mut connection, &redis::cmd("HELLO")).await?)?;
            // Of the commands that everybody may use, this one is refused
            // while the server loads its data.
            self.ask(&mut connection, &redis::cmd("PING")).await?;
            Ok(connection)
        };
        timeout(limit, dial).await.unwrap_or(Err(ConnectionError::TimedOut(limit)))
    }

    /// The client for the server, wherever that is now.
    async fn client(&self) -> Result<Client, ConnectionError> {
        match &self.route {
            Route::Direct(client) => Ok(client.clone()),
            Route::Sentinels(sentinels) => {
                let (host, port) = sentinels.master(self.settings.connect_timeout).await?;
                let client = self.settings.client_at(host, port);
                client.map_err(|error| ConnectionError::Protocol(error.to_string()))
            }
        }
    }

    /// Asks the server for its role, in the middle of things.
    pub(crate) async fn recheck(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectionError> {
        let limit = self.settings.response_timeout;
        let asked = timeout(limit, self.ask(connection, &redis::cmd("HELLO"))).await;
        check(&asked.unwrap_or(Err(ConnectionError::TimedOut(limit)))?)
    }

    /// One command and its answer.
    pub(crate) async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
    ) -> Result<Value, ConnectionError> {
        match connection.send_packed_command(command).await {
            Ok(Value::ServerError(error)) => {
                Err(ConnectionError::answered(&error, &name_of(command)))
            }
            Ok(value) => Ok(value),
            Err(error) => Err(self.error(&error, &name_of(command))),
        }
    }

    /// What redis-rs reports about a command.
    pub(crate) fn error(&self, error: &redis::RedisError, command: &str) -> ConnectionError {
        ConnectionError::of(error, command, self.settings.response_timeout)
    }

    /// What redis-rs reports about a connection that was not made.
    fn refused(&self, error: &redis::RedisError) -> ConnectionError {
        let limit = self.settings.connect_timeout;
        match ConnectionError::of(error, "HELLO", limit) {
            ConnectionError::Lost(detail) => {
                ConnectionError::Unreachable { address: self.settings.address(), detail }
            }
            ConnectionError::Protocol(detail) if error.kind() == ErrorKind::InvalidClientConfig => {
                ConnectionError::Tls(detail)
            }
            other => other,
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The first word of a command, for errors.
fn name_of(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

/// Reads the answer to HELLO: version and role.
fn check(hello: &Value) -> Result<(), ConnectionError> {
    // A sentinel names no role.
    if let Some(mode) = field(hello, "mode").filter(|mode| mode == "sentinel") {
        return Err(ConnectionError::WrongRole { role: mode });
    }
    let (Some(version), Some(role)) = (field(hello, "version"), field(hello, "role")) else {
        return Err(ConnectionError::Protocol("HELLO names no version and role".to_owned()));
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < 7) {
        return Err(ConnectionError::TooOld { found: version, needed: NEEDED });
    }
    if role != "master" {
        return Err(ConnectionError::WrongRole { role });
    }
    Ok(())
}

/// A text of a map that the server sent.
fn field(map: &Value, name: &str) -> Option<String> {
    let Value::Map(pairs) = map else { return None };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).and_then(|(_, v)| text(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(pairs: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        Value::Map(pairs.iter().map(|(key, value)| (text(key), text(value))).collect())
    }

    #[test]
    fn who_answers_is_checked() {
        let server = |version, mode, role| {
            check(&hello(&[("version", version), ("mode", mode), ("role", role)]))
        };
        assert_eq!(server("7.0.15", "standalone", "master"), Ok(()));
        assert_eq!(server("8.1.0", "cluster", "master"), Ok(()));
        let old = ConnectionError::TooOld { found: "6.2.14".into(), needed: "7.0" };
        assert_eq!(server("6.2.14", "standalone", "master"), Err(old));
        let replica = ConnectionError::WrongRole { role: "replica".into() };
        assert_eq!(server("7.0.15", "standalone", "replica"), Err(replica));
        let sentinel = ConnectionError::WrongRole { role: "sentinel".into() };
        let hello = hello(&[("version", "7.0.15"), ("mode", "sentinel")]);
        assert_eq!(check(&hello), Err(sentinel));
        assert!(matches!(check(&Value::Nil), Err(ConnectionError::Protocol(_))));
    }
}
