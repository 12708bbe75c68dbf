//! [`Server`]: somebody to ask, once or until there is an answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::time::{Instant, sleep};

use crate::{
    connection::Link, dialer::Dialer, error::ConnectionError, script::Script, wire::Connection,
};

/// Names one run of a server: it changes when the server is started again, or
/// another takes over. 0 if that is not known.
pub(crate) type Run = u64;

/// This bit of a [`Run`] says that the server has everything on disk before it answers,
/// and no replica that could take over: if it is started again, nothing is missing.
const KEEPS: Run = 1;

/// A supervised connection for calls and their answers.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) link: Link,
    /// The number of a connection, and who answers there.
    run: Arc<Mutex<(u64, Run)>>,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    Command(&'a Cmd),
    /// A call that [`Script::call`] made.
    Script(&'a Script, &'a Cmd),
    /// The same, of a call that names who answers.
    Signed(&'a Script, &'a (dyn Fn(Run) -> Cmd + Send + Sync)),
}

/// Between tries.
const AGAIN: Duration = Duration::from_millis(50);

impl Server {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, run: Arc::default() }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.link.dialer().settings.prefix
    }

    /// Waits for a connection, at most as long as for an answer, and asks once:
    /// again only if a node of a cluster has sent us away.
    pub(crate) async fn once(&self, call: Call<'_>) -> Result<Value, ConnectionError> {
        self.until(call, ConnectionError::is_elsewhere).await
    }

    /// Asks over as many connections as it takes, within the time for one
    /// answer: only for what may be done twice.
    pub(crate) async fn insist(&self, call: Call<'_>) -> Result<Value, ConnectionError> {
        let passing = |error: &ConnectionError| {
            error.breaks_connection() || error.is_elsewhere() || *error == ConnectionError::Loading
        };
        self.until(call, passing).await
    }

    /// Asks again as long as this is so, within the time for one answer.
    async fn until(
        &self,
        call: Call<'_>,
        passing: impl Fn(&ConnectionError) -> bool,
    ) -> Result<Value, ConnectionError> {
        let deadline = Instant::now() + self.link.dialer().settings.response_timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.within(left, call).await {
                Err(error) if passing(&error) && Instant::now() + AGAIN < deadline => {}
                answer => return answer,
            }
            sleep(AGAIN).await;
        }
    }

    async fn within(&self, patience: Duration, call: Call<'_>) -> Result<Value, ConnectionError> {
        let (number, connection) = self.link.ready(patience).await?;
        let dialer = self.link.dialer();
        let answer = match call {
            Call::Command(command) => dialer.ask(&connection, command).await,
            Call::Script(script, call) => script.run(dialer, &connection, call).await,
            Call::Signed(script, call) => match self.run(number, &connection).await {
                Ok(run) => script.run(dialer, &connection, &call(run)).await,
                Err(error) => Err(error),
            },
        };
        answer.inspect_err(|error| self.link.suspect(number, error))
    }

    /// Who answers on the connection of this number.
    async fn run(&self, number: u64, connection: &Connection) -> Result<Run, ConnectionError> {
        let known = *self.run.lock();
        if known.0 == number {
            return Ok(known.1);
        }
        let run = run_of(self.link.dialer(), connection).await?;
        *self.run.lock() = (number, run);
        Ok(run)
    }
}

/// Asks who answers. A user that may not ask INFO does without.
pub(crate) async fn run_of(
    dialer: &Dialer,
    connection: &Connection,
) -> Result<Run, ConnectionError> {
    let mut ask = redis::cmd("INFO");
    ask.arg("server").arg("replication").arg("persistence");
    let info = allowed(dialer, connection, &ask).await?.and_then(|info| text(&info));
    let info = info.map(|info| lines(&info)).unwrap_or_default();
    let id = info.get("run_id").and_then(|id| u64::from_str_radix(id.get(..16)?, 16).ok());
    let Some(id) = id else { return Ok(0) };
    let is = |name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
    // Nobody else has what it has, nor did it get that from anybody while it runs.
    let alone =
        is("role", "master") && is("connected_slaves", "0") && is("second_repl_offset", "-1");
    let keeps = alone && is("aof_enabled", "1") && syncs_always(dialer, connection).await?;
    Ok(if keeps { id | KEEPS } else { id & !KEEPS })
}

/// Whether everything is on disk before it is answered.
async fn syncs_always(dialer: &Dialer, connection: &Connection) -> Result<bool, ConnectionError> {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("appendfsync").arg("no-appendfsync-on-rewrite");
    let config = allowed(dialer, connection, &ask).await?.as_ref().map(pairs).unwrap_or_default();
    let is = |name: &str, value: &str| config.get(name).is_some_and(|found| found == value);
    Ok(is("appendfsync", "always") && is("no-appendfsync-on-rewrite", "no"))
}

/// Asks what not every user may ask and not every server answers; `None` without an
/// answer.
pub(crate) async fn allowed(
    dialer: &Dialer,
    connection: &Connection,
    command: &Cmd,
) -> Result<Option<Value>, ConnectionError> {
    match dialer.ask(connection, command).await {
        Ok(value) => Ok(Some(value)),
        // A server of a cloud has renamed or removed some.
        Err(
            ConnectionError::NoPermission { .. }
            | ConnectionError::TooOld { .. }
            | ConnectionError::Protocol(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `name:value` lines.
pub(crate) fn lines(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

pub(crate) fn pairs(map: &Value) -> HashMap<String, String> {
    let Value::Map(pairs) = map else { return HashMap::new() };
    pairs.iter().filter_map(|(name, value)| text(name).zip(text(value))).collect()
}

pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// As scripts take it: nothing if it is not known.
pub(crate) fn run_bytes(run: Run) -> Vec<u8> {
    if run == 0 { Vec::new() } else { run.to_le_bytes().to_vec() }
}
