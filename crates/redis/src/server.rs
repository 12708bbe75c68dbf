//! [`Server`]: somebody to ask, once or until there is an answer.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::{Cmd, Value};
use tokio::time::{Instant, sleep};

use crate::{
    connection::Link, dialer::Dialer, error::ConnectionError, script::Script, wire::Connection,
};

/// Names one run of a server: it changes when the server is started again, or
/// another takes over. 0 if that is not known.
pub(crate) type Run = u64;

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
    let answer = match dialer.ask(connection, redis::cmd("INFO").arg("server")).await {
        Err(ConnectionError::NoPermission { .. } | ConnectionError::Protocol(_)) => return Ok(0),
        answer => answer?,
    };
    let text = match &answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.as_str().into(),
        _ => return Ok(0),
    };
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(id.and_then(|id| u64::from_str_radix(id.get(..16)?, 16).ok()).unwrap_or(0))
}

/// As scripts take it: nothing if it is not known.
pub(crate) fn run_bytes(run: Run) -> Vec<u8> {
    if run == 0 { Vec::new() } else { run.to_le_bytes().to_vec() }
}
