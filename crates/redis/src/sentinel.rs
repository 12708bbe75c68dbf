//! [`Sentinels`]: who knows where the master is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::Value;
use tokio::time::timeout;

use crate::{error::ConnectionError, wire::socket::Target};

/// The sentinels of one master. Any of them may be asked.
pub(crate) struct Sentinels {
    /// What they call it.
    master: String,
    targets: Vec<Target>,
    /// The one that answered last is asked first.
    last: AtomicUsize,
}

impl Sentinels {
    /// At least one.
    pub(crate) fn new(master: String, targets: Vec<Target>) -> Self {
        Self { master, targets, last: AtomicUsize::new(0) }
    }

    /// Where the master is, by the first sentinel that knows it. Each gets its
    /// share of the time.
    pub(crate) async fn master(
        &self,
        patience: Duration,
    ) -> Result<(String, u16), ConnectionError> {
        let count = self.targets.len();
        // Half of it is for the master itself.
        let share = patience / 2 / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let (last, mut answer) = (self.last.load(Relaxed), None);
        for at in (last..last + count).map(|at| at % count) {
            let Some(target) = self.targets.get(at) else { continue };
            let asked = timeout(share, self.ask(target, share)).await;
            match asked.unwrap_or(Err(ConnectionError::TimedOut(share))) {
                Ok(master) => {
                    self.last.store(at, Relaxed);
                    return Ok(master);
                }
                // That it is not known says more than that somebody is away.
                Err(error) => match (&answer, &error) {
                    (Some(ConnectionError::UnknownMaster(_)), _) => {}
                    _ => answer = Some(error),
                },
            }
        }
        Err(answer.unwrap_or_else(|| ConnectionError::UnknownMaster(self.master.clone())))
    }

    async fn ask(
        &self,
        target: &Target,
        patience: Duration,
    ) -> Result<(String, u16), ConnectionError> {
        const COMMAND: &str = "SENTINEL GET-MASTER-ADDR-BY-NAME";
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let asked = target.connect(Some(patience), Arc::new(|_| {}), &[ask]).await;
        let (_, _, mut answers) = asked.map_err(|error| match error {
            ConnectionError::Unreachable { address, detail } => {
                ConnectionError::Unreachable { address: format!("sentinel {address}"), detail }
            }
            other => other,
        })?;
        match answers.pop() {
            Some(Value::Array(place)) => read(&place),
            Some(Value::Nil) => Err(ConnectionError::UnknownMaster(self.master.clone())),
            Some(Value::ServerError(error)) => Err(ConnectionError::answered(&error, COMMAND)),
            _ => Err(nonsense()),
        }
    }
}

/// A host and a port, both as text.
fn read(place: &[Value]) -> Result<(String, u16), ConnectionError> {
    let [Value::BulkString(host), Value::BulkString(port)] = place else { return Err(nonsense()) };
    let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
    let host = String::from_utf8(host.clone()).ok();
    host.zip(port).ok_or_else(nonsense)
}

fn nonsense() -> ConnectionError {
    ConnectionError::Protocol("a sentinel names no host and port".to_owned())
}

#[cfg(test)]
mod tests;
