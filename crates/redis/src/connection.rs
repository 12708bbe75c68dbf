//! [`Link`]: a connection that is made again whenever it breaks.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use swarmbus_core::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{
    cluster::trunk::Line,
    dialer::{Dialed, Dialer},
    error::ConnectionError,
    meter,
    wire::{Connection, Push},
};

/// How one connection is at the moment. What the program sees of it is
/// [`ConnectionState`](swarmbus::transport::ConnectionState).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LinkState {
    /// The first connection is being made.
    Connecting,
    /// It works, as far as is known.
    Connected,
    /// It broke or was never made. It is tried again without end, with growing
    /// delays.
    Disconnected {
        /// Since when. Later failures do not change it.
        since: Timestamp,
        /// What the last try failed with.
        error: ConnectionError,
    },
    /// The program closed it.
    Closed,
}

#[cfg(test)]
impl LinkState {
    /// Whether it works, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// What one connection is for.
#[async_trait]
pub(crate) trait Duty: Send + Sync + 'static {
    /// Shows in the server's list of clients: one word.
    fn name(&self) -> &'static str;

    /// Whether its commands wait on the server, so that no answer is no sign
    /// of trouble. Such a connection is not checked between commands.
    fn blocking(&self) -> bool {
        false
    }

    /// Takes what came without being asked for, in the task that reads the
    /// connection: briefly. `number` is that of [`begin`](Self::begin). An error ends
    /// the connection.
    fn push(&self, _number: u64, _push: Push<'_>) -> Result<(), ConnectionError> {
        Ok(())
    }

    /// Called with each new connection before anybody else gets it. They are
    /// numbered from 1. An error has it thrown away and tried again.
    async fn begin(&self, _number: u64, _connection: &Connection) -> Result<(), ConnectionError> {
        Ok(())
    }

    /// Called when a connection is of no use any more.
    fn ended(&self) {}
}

/// A supervised connection. Clones share it; when the last is dropped, it
/// ends.
///
/// A task of its own makes the connection, notices its end at once when the
/// server or the system closes it, and otherwise asks the server for its role
/// every [`Settings::probe_every`](crate::Settings::probe_every): a server that
/// does not answer or is a replica now is left.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    /// Ends the task.
    _alive: Arc<DropGuard>,
}

struct Shared {
    dialer: Arc<Dialer>,
    duty: Arc<dyn Duty>,
    state: watch::Sender<LinkState>,
    /// The connection that works, with its number.
    current: watch::Sender<Option<(u64, Connection)>>,
    /// Somebody has a doubt about the connection.
    doubt: Notify,
    /// The connection of this number is broken for certain.
    broken: watch::Sender<(u64, Option<ConnectionError>)>,
    end: CancellationToken,
}

impl Link {
    /// Connects, and fails if the first try fails.
    pub(crate) async fn connect(
        dialer: Arc<Dialer>,
        duty: Arc<dyn Duty>,
    ) -> Result<Self, ConnectionError> {
        let link = Self::start(dialer, duty);
        let mut state = link.state();
        // The task that changes it cannot be gone before the link.
        let _ = state.wait_for(|state| *state != LinkState::Connecting).await;
        let first = state.borrow().clone();
        match first {
            LinkState::Disconnected { error, .. } => Err(error),
            LinkState::Closed => Err(ConnectionError::Closed),
            LinkState::Connecting | LinkState::Connected => Ok(link),
        }
    }

    /// Connects in the background, however long it takes.
    pub(crate) fn start(dialer: Arc<Dialer>, duty: Arc<dyn Duty>) -> Self {
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            dialer,
            duty,
            state: watch::Sender::new(LinkState::Connecting),
            current: watch::Sender::new(None),
            doubt: Notify::new(),
            broken: watch::Sender::new((0, None)),
            end: end.clone(),
        });
        tokio::spawn(supervise(Arc::clone(&shared)));
        Self { shared, _alive: Arc::new(end.drop_guard()) }
    }

    /// The connection with its number, as soon as there is one. Cancel safe.
    ///
    /// # Errors
    ///
    /// After `patience`, what the last try failed with; at once when closed.
    pub(crate) async fn ready(
        &self,
        patience: Duration,
    ) -> Result<(u64, Connection), ConnectionError> {
        if let Some(current) = &*self.shared.current.borrow() {
            return Ok(current.clone());
        }
        timeout(patience, self.next(0)).await.unwrap_or_else(|_| {
            let state = self.shared.state.borrow();
            match &*state {
                LinkState::Disconnected { error, .. } => Err(error.clone()),
                _ => Err(ConnectionError::TimedOut(patience)),
            }
        })
    }

    /// A command failed with this on the connection of this number: whatever that
    /// says about the connection is done about it.
    pub(crate) fn suspect(&self, number: u64, error: &ConnectionError) {
        if error.is_another_node() {
            self.give_up(number, error.clone());
        } else if error.breaks_connection() {
            self.doubt();
        }
    }

    /// The connection with its number, as soon as there is one with a higher
    /// number than this. Fails only when closed. Cancel safe.
    pub(crate) async fn next(&self, after: u64) -> Result<(u64, Connection), ConnectionError> {
        let mut current = self.shared.current.subscribe();
        let newer = current.wait_for(|c| c.as_ref().is_some_and(|(number, _)| *number > after));
        tokio::select! {
            () = self.shared.end.cancelled() => Err(ConnectionError::Closed),
            newer = newer => newer.ok().and_then(|c| c.clone()).ok_or(ConnectionError::Closed),
        }
    }

    /// A command failed in a way that may be the connection's fault: it is
    /// checked at once, and replaced if it does not answer or the server is no
    /// master any more.
    pub(crate) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }

    /// The connection of this number is of no use: replace it.
    pub(crate) fn give_up(&self, number: u64, error: ConnectionError) {
        self.shared.give_up(number, error);
    }

    /// Whether the connection of this number is the one that works.
    pub(crate) fn is_current(&self, number: u64) -> bool {
        self.shared.current.borrow().as_ref().is_some_and(|(current, _)| *current == number)
    }

    /// Returns when the connection of this number is gone. Cancel safe.
    pub(crate) async fn lost(&self, number: u64) {
        let mut current = self.shared.current.subscribe();
        let other = |c: &Option<(u64, _)>| c.as_ref().is_none_or(|(at, _)| *at != number);
        // The sender lives as long as this link.
        let _ = current.wait_for(other).await;
    }

    /// Why there is no connection; `None` if there is one, or was none yet.
    pub(crate) fn error(&self) -> Option<ConnectionError> {
        match &*self.shared.state.borrow() {
            LinkState::Disconnected { error, .. } => Some(error.clone()),
            LinkState::Closed => Some(ConnectionError::Closed),
            LinkState::Connecting | LinkState::Connected => None,
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.shared.state.subscribe()
    }

    pub(crate) fn dialer(&self) -> &Arc<Dialer> {
        &self.shared.dialer
    }

    /// Ends it for all clones.
    pub(crate) fn close(&self) {
        self.shared.end.cancel();
        // The task does this too, but later.
        self.shared.state.send_replace(LinkState::Closed);
        self.shared.current.send_replace(None);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("duty", &self.shared.duty.name())
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn give_up(&self, number: u64, error: ConnectionError) {
        self.broken.send_if_modified(|broken| {
            let news = broken.0 < number;
            if news {
                *broken = (number, Some(error));
            }
            news
        });
    }

    /// Why a connection is of no use.
    fn failed(&self, line: &Line, error: &ConnectionError) {
        line.failed(error);
        self.dialer.note(error);
    }

    fn disconnected(&self, error: ConnectionError) {
        self.current.send_replace(None);
        self.state.send_modify(|state| match state {
            LinkState::Closed => {}
            LinkState::Disconnected { error: last, .. } => *last = error,
            LinkState::Connecting | LinkState::Connected => {
                let name = self.duty.name();
                warn!(connection = name, %error, "not connected to Redis; trying again");
                let since = now();
                *state = LinkState::Disconnected { since, error };
            }
        });
    }
}

/// A connection that lived this long shows that the server is well: the next
/// failure begins with short delays again.
const STABLE: Duration = Duration::from_secs(1);

async fn supervise(shared: Arc<Shared>) {
    let (mut number, mut failures) = (0, 0);
    let mut reached = shared.dialer.reached();
    let life = async {
        loop {
            number += 1;
            reached.borrow_and_update();
            let refused = match open(&shared, number).await {
                Ok(Dialed { connection, line }) => {
                    shared.dialer.note_reached();
                    let born = Instant::now();
                    shared.current.send_replace(Some((number, connection.clone())));
                    shared.state.send_replace(LinkState::Connected);
                    meter::connected(shared.duty.name());
                    info!(connection = shared.duty.name(), number, "connected to Redis");
                    let error = watch_over(&shared, number, connection).await;
                    shared.duty.ended();
                    shared.failed(&line, &error);
                    drop(line);
                    shared.disconnected(error);
                    if born.elapsed() >= STABLE {
                        failures = 0;
                    }
                    false
                }
                Err(error) => {
                    shared.disconnected(error);
                    true
                }
            };
            tokio::select! {
                () = sleep(shared.dialer.settings.backoff.delay(failures, fastrand::u64(..))) => {}
                // Another connection to the server was made, so it is back. One that
                // was made and broke waits all the same, or two that break at once
                // would wake each other without end.
                Ok(()) = reached.changed(), if refused => {}
            }
            failures = failures.saturating_add(1);
        }
    };
    let ended: Option<std::convert::Infallible> = shared.end.run_until_cancelled(life).await;
    debug_assert!(ended.is_none());
    shared.current.send_replace(None);
    shared.state.send_replace(LinkState::Closed);
    shared.duty.ended();
}

async fn open(shared: &Arc<Shared>, number: u64) -> Result<Dialed, ConnectionError> {
    let duty = &shared.duty;
    let (receiver, weak) = (Arc::clone(duty), Arc::downgrade(shared));
    let on_push = move |push: Push<'_>| {
        let taken = match push {
            Push::Ended(error) => Err(error.clone()),
            Push::Messages(_) | Push::Left(_) => receiver.push(number, push),
        };
        if let (Err(error), Some(shared)) = (taken, weak.upgrade()) {
            shared.give_up(number, error);
        }
    };
    let dialed = shared.dialer.dial(duty.name(), duty.blocking(), Arc::new(on_push)).await?;
    if let Err(error) = duty.begin(number, &dialed.connection).await {
        shared.failed(&dialed.line, &error);
        return Err(error);
    }
    Ok(dialed)
}

/// Returns when the connection is of no use any more, and why.
async fn watch_over(shared: &Shared, number: u64, connection: Connection) -> ConnectionError {
    let mut broken = shared.broken.subscribe();
    let every = shared.dialer.settings.probe_every;
    loop {
        tokio::select! {
            // The sender is in `shared`, so this does not fail.
            Ok(broken) = broken.wait_for(|(at, _)| *at >= number) => {
                return broken.1.clone().unwrap_or(ConnectionError::Closed);
            }
            () = sleep(every), if !shared.duty.blocking() => {}
            () = shared.doubt.notified() => {}
        }
        if let Err(error) = shared.dialer.recheck(&connection).await {
            return error;
        }
    }
}

/// The wall clock; the beginning of 1970 if it stands before that.
fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(1)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
