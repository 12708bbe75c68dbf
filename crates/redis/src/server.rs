//! [`Server`]: somebody to ask, once or until there is an answer.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{Instant, sleep};

use crate::{connection::Link, error::ConnectionError, script::Script};

/// A supervised connection for calls and their answers.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) link: Link,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    Command(&'a Cmd),
    /// A call that [`Script::call`] made.
    Script(&'a Script, &'a Cmd),
}

/// Between tries.
const AGAIN: Duration = Duration::from_millis(50);

impl Server {
    pub(crate) fn new(link: Link) -> Self {
        Self { link }
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
        let (number, mut connection) = self.link.ready(patience).await?;
        let dialer = self.link.dialer();
        let answer = match call {
            Call::Command(command) => dialer.ask(&mut connection, command).await,
            Call::Script(script, call) => script.run(dialer, &mut connection, call).await,
        };
        answer.inspect_err(|error| self.link.suspect(number, error))
    }
}
