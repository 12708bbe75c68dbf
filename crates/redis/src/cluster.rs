//! [`Cluster`]: who knows where the keys are.
//!
//! A slot's master is looked up each time that a connection for it is made, and
//! whatever shows that a slot has moved ends a connection: a command that is sent
//! elsewhere, a server that ends a subscription, a master that is gone or is a
//! replica now. So there is nothing to be followed but connections.

pub(crate) mod slots;
pub(crate) mod trunk;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use redis::Value;
use tokio::time::{Instant, timeout};

use self::{
    slots::{Node, Topology},
    trunk::{Line, Trunks},
};
use crate::{
    error::ConnectionError,
    settings::{Settings, SettingsError},
    wire::{Connection, OnPush, socket::Target},
};

/// A topology that is younger serves everybody who asks, so that a failure that
/// many connections notice at once costs one question.
const FRESH: Duration = Duration::from_millis(100);

/// Nodes that are asked for one answer.
const ASKED: usize = 5;

/// The nodes of a cluster, as far as they are known.
pub(crate) struct Cluster {
    settings: Settings,
    known: tokio::sync::Mutex<Known>,
    /// Where a node that does not have a slot any more says it is. Each is
    /// believed once.
    hints: Mutex<HashMap<u16, Node>>,
    trunks: Trunks,
}

#[derive(Default)]
struct Known {
    topology: Topology,
    since: Option<Instant>,
    /// Another node is asked each time: one may be cut off from the others, and
    /// wrong.
    turn: usize,
}

impl Cluster {
    pub(crate) fn new(settings: Settings) -> Self {
        let (known, hints) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { settings, known, hints, trunks: Trunks::default() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the master of a slot is, as far as is known at the moment.
    pub(crate) async fn master(&self, slot: u16) -> Result<Node, ConnectionError> {
        if let Some(node) = self.hints.lock().remove(&slot) {
            return Ok(node);
        }
        let topology = self.topology().await?;
        let nobody = || ConnectionError::Unsettled(format!("nobody has slot {slot}"));
        topology.master(slot).cloned().ok_or_else(nobody)
    }

    /// A node has said where a slot is now.
    pub(crate) fn learn(&self, slot: u16, to: &str) {
        let node = to.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        // Without a host it means the one that was asked.
        if let Some((host, port)) = node.filter(|(host, _)| !host.is_empty()) {
            self.hints.lock().insert(slot, (host.to_owned(), port));
        }
    }

    /// Who has what, at most [`FRESH`] old.
    pub(crate) async fn topology(&self) -> Result<Topology, ConnectionError> {
        let wanted = Instant::now();
        let mut known = self.known.lock().await;
        if known.since.is_some_and(|since| since + FRESH >= wanted) {
            return Ok(known.topology.clone());
        }
        let mut nodes: Vec<Node> = known.topology.nodes().into_iter().cloned().collect();
        let seeds: Vec<_> = self.settings.seeds().filter(|seed| !nodes.contains(seed)).collect();
        nodes.extend(seeds);
        let begin = known.turn % nodes.len().max(1);
        nodes.rotate_left(begin);
        known.turn = known.turn.wrapping_add(1);
        // Half of the time is for the master itself.
        let count = u32::try_from(nodes.len().clamp(1, ASKED)).unwrap_or(1);
        let share = self.settings.connect_timeout / 2 / count;
        let mut failure = None;
        for node in nodes.iter().take(ASKED) {
            let asked = timeout(share, self.ask(node, share)).await;
            match asked.unwrap_or(Err(ConnectionError::TimedOut(share))) {
                Ok(topology) => {
                    *known = Known { topology, since: Some(Instant::now()), ..*known };
                    return Ok(known.topology.clone());
                }
                // That somebody refuses says more than that somebody is away.
                Err(error) => match (&failure, &error) {
                    (Some(_), ConnectionError::Unreachable { .. }) => {}
                    _ => failure = Some(error),
                },
            }
        }
        Err(failure.unwrap_or(ConnectionError::Closed))
    }

    async fn ask(&self, node: &Node, patience: Duration) -> Result<Topology, ConnectionError> {
        const COMMAND: &str = "CLUSTER SLOTS";
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let target = self.target(node)?;
        let (_, _, mut answers) =
            target.connect(Some(patience), Arc::new(|_| {}), &[command]).await?;
        match answers.pop() {
            Some(Value::ServerError(error)) => {
                Err(match ConnectionError::answered(&error, COMMAND) {
                    ConnectionError::Protocol(text)
                        if text.contains("cluster support disabled") =>
                    {
                        ConnectionError::WrongMode { found: "standalone".to_owned() }
                    }
                    other => other,
                })
            }
            answer => Topology::read(&answer.unwrap_or(Value::Nil), &node.0),
        }
    }

    /// A connection to a node, which others may use, too; see [`Trunks::line`].
    pub(crate) async fn line<D>(
        &self,
        node: &Node,
        purpose: &str,
        prefix: &str,
        on_push: OnPush,
        dial: impl FnOnce(OnPush) -> D,
    ) -> Result<(Connection, Line), ConnectionError>
    where
        D: Future<Output = Result<Connection, ConnectionError>>,
    {
        self.trunks.line(node, purpose, prefix, on_push, dial).await
    }

    pub(crate) fn target(&self, (host, port): &Node) -> Result<Target, ConnectionError> {
        let target = self.settings.target_at(host.clone(), *port);
        target.map_err(|error: SettingsError| ConnectionError::Protocol(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
