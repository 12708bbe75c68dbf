//! [`Dialer`]: makes connections, and checks who answers.

use std::{fmt, sync::Arc};

use redis::{Cmd, Value};
use tokio::{sync::watch, time::timeout};

use crate::{
    cluster::{
        Cluster,
        slots::{TAGS, slot_of},
        trunk::Line,
    },
    error::{ConnectionError, NEEDED},
    sentinel::Sentinels,
    settings::{Settings, SettingsError},
    wire::{Connection, OnPush, socket::Target},
};

/// One server, and how to make connections to it.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) settings: Settings,
    route: Route,
    /// Who we are, in the names of connections and of the probe's channel.
    pub(crate) instance: String,
    /// How many connections were made.
    reached: Arc<watch::Sender<u64>>,
}

/// How the server is found.
#[derive(Clone)]
enum Route {
    Direct(Box<Target>),
    Sentinels(Arc<Sentinels>),
    /// The master of a slot.
    Slot(Arc<Cluster>, u16),
}

/// A connection, and what is told when it is of no use any more.
pub(crate) struct Dialed {
    pub(crate) connection: Connection,
    pub(crate) line: Line,
}

impl Dialer {
    /// In a cluster, for the first partition.
    pub(crate) fn new(settings: Settings) -> Result<Self, SettingsError> {
        let target = settings.target()?;
        let instance = format!("{:016x}", fastrand::u64(..));
        if settings.is_cluster() {
            let cluster = Arc::new(Cluster::new(settings));
            return Ok(Self::in_cluster(cluster, 0, instance));
        }
        let route = match settings.master() {
            None => Route::Direct(Box::new(target)),
            Some(name) => {
                let sentinels = settings.sentinel_targets()?;
                Route::Sentinels(Arc::new(Sentinels::new(name.to_owned(), sentinels)))
            }
        };
        Ok(Self::on(settings, route, instance))
    }

    fn on(settings: Settings, route: Route, instance: String) -> Self {
        Self { settings, route, instance, reached: Arc::new(watch::Sender::new(0)) }
    }

    /// A connection was made and is of use: whoever failed to make one may try
    /// again.
    pub(crate) fn note_reached(&self) {
        self.reached.send_modify(|reached| *reached += 1);
    }

    /// Changes with each connection that is made.
    pub(crate) fn reached(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// The same for another partition; `None` if there are none.
    pub(crate) fn partition(&self, number: usize) -> Option<Self> {
        let cluster = Arc::clone(self.cluster()?);
        Some(Self::in_cluster(cluster, number, self.instance.clone()))
    }

    /// The same for the keys of a name that is in no partition: a cluster has them
    /// where `{NAME}` is.
    pub(crate) fn for_name(&self, name: &str) -> Option<Self> {
        self.for_slot(slot_of(name))
    }

    /// The same for the master of a slot.
    pub(crate) fn for_slot(&self, slot: u16) -> Option<Self> {
        let cluster = Arc::clone(self.cluster()?);
        let settings = cluster.settings().clone();
        Some(Self::on(settings, Route::Slot(cluster, slot), self.instance.clone()))
    }

    /// The names of a partition begin with its tag.
    fn in_cluster(cluster: Arc<Cluster>, partition: usize, instance: String) -> Self {
        let tag = TAGS.get(partition).copied().unwrap_or_default();
        let settings = cluster.settings().clone();
        let prefix = format!("{}:{{{tag}}}", settings.prefix);
        let route = Route::Slot(cluster, slot_of(tag));
        Self::on(settings.prefix(prefix), route, instance)
    }

    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.route {
            Route::Slot(cluster, _) => Some(cluster),
            Route::Direct(_) | Route::Sentinels(_) => None,
        }
    }

    /// Whether commands and messages are those of a cluster.
    pub(crate) fn is_sharded(&self) -> bool {
        self.cluster().is_some()
    }

    /// PUBLISH, or what a cluster has instead.
    pub(crate) fn publish(&self) -> &'static str {
        if self.is_sharded() { "SPUBLISH" } else { "PUBLISH" }
    }

    /// A connection to a master that is new enough and lets us in. `purpose`
    /// shows in the server's list of clients. `blocking`: its commands wait on
    /// the server, so that no answer is no sign of trouble.
    pub(crate) async fn dial(
        &self,
        purpose: &str,
        blocking: bool,
        on_push: OnPush,
    ) -> Result<Dialed, ConnectionError> {
        let limit = self.settings.connect_timeout;
        let dial = async {
            let (cluster, node) = match &self.route {
                Route::Slot(cluster, slot) => (cluster, cluster.master(*slot).await?),
                Route::Direct(_) | Route::Sentinels(_) => {
                    let target = self.target().await?;
                    let connection = self.dial_at(&target, purpose, blocking, on_push).await?;
                    return Ok(Dialed { connection, line: Line::default() });
                }
            };
            let target = cluster.target(&node)?;
            if blocking {
                // Who waits on the server needs it alone.
                let connection = self.dial_at(&target, purpose, blocking, on_push).await?;
                return Ok(Dialed { connection, line: Line::default() });
            }
            let dial = |on_push| self.dial_at(&target, purpose, blocking, on_push);
            let prefix = &self.settings.prefix;
            let (connection, line) = cluster.line(&node, purpose, prefix, on_push, dial).await?;
            Ok(Dialed { connection, line })
        };
        timeout(limit, dial).await.unwrap_or(Err(ConnectionError::TimedOut(limit)))
    }

    async fn dial_at(
        &self,
        target: &Target,
        purpose: &str,
        blocking: bool,
        on_push: OnPush,
    ) -> Result<Connection, ConnectionError> {
        let patience = (!blocking).then_some(self.settings.response_timeout);
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(format!("swarmbus:{purpose}:{}", self.instance));
        // Of the commands that everybody may use, this one is refused
        // while the server loads its data.
        let ping = redis::cmd("PING");
        let (connection, hello, mut answers) =
            target.connect(patience, on_push, &[name, ping]).await?;
        self.check(&hello)?;
        // A name is for people; a user that may not set it does without.
        match answers.pop() {
            Some(Value::ServerError(error)) => Err(ConnectionError::answered(&error, "PING")),
            _ => Ok(connection),
        }
    }

    /// A connection ended with this. What it says of where the keys are is
    /// remembered.
    pub(crate) fn note(&self, error: &ConnectionError) {
        if let (Route::Slot(cluster, slot), ConnectionError::Moved { to }) = (&self.route, error) {
            cluster.learn(*slot, to);
        }
    }

    fn check(&self, hello: &Value) -> Result<(), ConnectionError> {
        check(hello, self.is_sharded())
    }

    /// The server, wherever that is now.
    async fn target(&self) -> Result<Target, ConnectionError> {
        match &self.route {
            Route::Direct(target) => Ok(Target::clone(target)),
            Route::Sentinels(sentinels) => {
                let (host, port) = sentinels.master(self.settings.connect_timeout).await?;
                let target = self.settings.target_at(host, port);
                target.map_err(|error| ConnectionError::Protocol(error.to_string()))
            }
            Route::Slot(cluster, slot) => cluster.target(&cluster.master(*slot).await?),
        }
    }

    /// Asks the server for its role, in the middle of things.
    pub(crate) async fn recheck(&self, connection: &Connection) -> Result<(), ConnectionError> {
        let limit = self.settings.response_timeout;
        let asked = timeout(limit, self.ask(connection, &redis::cmd("HELLO"))).await;
        self.check(&asked.unwrap_or(Err(ConnectionError::TimedOut(limit)))?)
    }

    /// One command and its answer.
    pub(crate) async fn ask(
        &self,
        connection: &Connection,
        command: &Cmd,
    ) -> Result<Value, ConnectionError> {
        match connection.ask(command).await? {
            Value::ServerError(error) => Err(ConnectionError::answered(&error, &name_of(command))),
            value => Ok(value),
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

/// Reads the answer to HELLO: version, mode and role.
fn check(hello: &Value, sharded: bool) -> Result<(), ConnectionError> {
    match field(hello, "mode") {
        // A sentinel names no role.
        Some(mode) if mode == "sentinel" => return Err(ConnectionError::WrongRole { role: mode }),
        Some(mode) if (mode == "cluster") != sharded => {
            return Err(ConnectionError::WrongMode { found: mode });
        }
        _ => {}
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
        let answer =
            |version, mode, role| hello(&[("version", version), ("mode", mode), ("role", role)]);
        let server = |version, mode, role| check(&answer(version, mode, role), mode == "cluster");
        assert_eq!(server("7.0.15", "standalone", "master"), Ok(()));
        assert_eq!(server("8.1.0", "cluster", "master"), Ok(()));
        let old = ConnectionError::TooOld { found: "6.2.14".into(), needed: "7.0" };
        assert_eq!(server("6.2.14", "standalone", "master"), Err(old));
        let replica = ConnectionError::WrongRole { role: "replica".into() };
        assert_eq!(server("7.0.15", "standalone", "replica"), Err(replica));
        let sentinel = ConnectionError::WrongRole { role: "sentinel".into() };
        let hello = hello(&[("version", "7.0.15"), ("mode", "sentinel")]);
        assert_eq!(check(&hello, false), Err(sentinel));
        for (mode, sharded) in [("cluster", false), ("standalone", true)] {
            let wrong = ConnectionError::WrongMode { found: mode.into() };
            assert_eq!(check(&answer("7.0.15", mode, "master"), sharded), Err(wrong));
        }
        assert!(matches!(check(&Value::Nil, false), Err(ConnectionError::Protocol(_))));
    }
}
