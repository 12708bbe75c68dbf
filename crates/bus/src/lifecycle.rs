//! [`System`]: the state of the whole program, driven by its checks and breakers.
//!
//! ```
//! use swarmbus::{Bus, health::{Check, Health}, lifecycle::{StateKind, System}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let bus = Bus::builder().build()?;
//! let health = Health::builder().start(&bus)?;
//! health.register(Check::startup("cache", async || { /* is it filled? */ }))?;
//!
//! let system = System::builder()
//!     .file(folder.join("state.json"))
//!     .on_transition(|change| println!("{change}"))
//!     .start(&bus, &health)
//!     .await?;
//! system.wait_for(StateKind::Healthy).await;
//!
//! system.enter_maintenance("the disk is moved").await?;
//! // Even if the process ends here, the next one starts in maintenance.
//! system.leave_maintenance().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What may follow what is decided in [`core::lifecycle`](crate::core::lifecycle).
//! What is seen leads there like this:
//!
//! | seen | the state heads for |
//! | --- | --- |
//! | a check that has not passed, in the time that starting may take | initializing |
//! | a liveness check is failing, or a startup check has not passed after that time | failed |
//! | a readiness check is failing, a breaker rejects calls, a fallback stands in for a handler, or [`degraded_when`](SystemBuilder::degraded_when) says so | degraded |
//! | nothing of that any more, or a breaker is half-open | recovering |
//! | nothing of that for 10 s | healthy |
//!
//! A breaker's open time ends when somebody asks for a call: without traffic its
//! open breaker keeps the system degraded, as nobody knows better.
//!
//! The reason of a state is the one it was entered for. What else is wrong since
//! is in [`Health::report`].

mod driver;
mod file;
mod look;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use swarmbus_core::lifecycle::Lifecycle;
pub use swarmbus_core::lifecycle::{Refused, State, StateKind, Transition};
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    driver::{Command, Driver, View},
    file::{Loaded, SaveStatus},
    look::Eyes,
};
use crate::{bus::Bus, clock::BusClock, health::Health};

/// The state of a program, and the last hundred changes of it.
///
/// A handle: clones share the state, and when the last one is dropped, nothing
/// changes it any more. It keeps the [`Health`] that it looks at, but not the
/// bus.
#[derive(Clone)]
pub struct System {
    view: watch::Receiver<View>,
    states: watch::Receiver<State>,
    saved: watch::Receiver<SaveStatus>,
    commands: mpsc::Sender<Command>,
    set_aside: Option<Arc<SetAside>>,
}

/// A state file that could not be understood, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Beside the file, with `.corrupt` added; an older one there is replaced.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// Why the state cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The state file is there but cannot be read, or cannot be set aside.
    #[error("cannot read the state from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The state cannot be written.
    #[error("cannot save the state to {}: {source}", path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The state is looked after by a tokio task, and this is in no runtime.
    #[error("the state of a system needs a tokio runtime")]
    NoRuntime,
    /// This setting must be more than zero.
    #[error("{0} must be more than zero")]
    Interval(&'static str),
}

/// Why the system was not taken into maintenance or out of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The state does not allow it: it is in maintenance already, or is not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It is done, but not saved: it will not survive the process, unless a
    /// later try succeeds.
    #[error("the state changed, but was not saved: {0}")]
    NotSaved(#[source] Arc<io::Error>),
    /// The runtime is shutting down.
    #[error("nothing looks after the state any more")]
    Ended,
}

impl System {
    /// Settings first, then [`SystemBuilder::start`].
    pub fn builder() -> SystemBuilder {
        SystemBuilder::default()
    }

    /// What the system is right now.
    pub fn state(&self) -> State {
        self.states.borrow().clone()
    }

    /// The last hundred changes, oldest first, those of earlier processes
    /// included if there is a [`file`](SystemBuilder::file).
    pub fn history(&self) -> Vec<Transition> {
        self.view.borrow().lifecycle.history().cloned().collect()
    }

    /// The state as a channel. A slow reader misses states that were left again.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.states.clone()
    }

    /// Waits until the system is in a state of this kind; for ever, if the
    /// runtime shuts down. Cancel safe.
    pub async fn wait_for(&self, kind: StateKind) {
        let mut states = self.states.clone();
        if states.wait_for(|state| state.kind() == kind).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes the system out of service: whatever is seen, it stays in
    /// maintenance until [`leave_maintenance`](Self::leave_maintenance), over a
    /// restart too. The bus goes on as before: what to stop is the program's to
    /// say.
    ///
    /// Returns when the state is saved, if there is a file.
    ///
    /// # Errors
    ///
    /// See [`MaintenanceError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it may or may not be done.
    pub async fn enter_maintenance(
        &self,
        reason: impl Into<String>,
    ) -> Result<Transition, MaintenanceError> {
        self.command(StateKind::Maintenance, reason.into()).await
    }

    /// Puts the system back into service: it initializes, as at a start.
    ///
    /// # Errors
    ///
    /// See [`MaintenanceError`].
    ///
    /// # Cancel safety
    ///
    /// As [`enter_maintenance`](Self::enter_maintenance).
    pub async fn leave_maintenance(&self) -> Result<Transition, MaintenanceError> {
        self.command(StateKind::Initializing, "maintenance is over".to_owned()).await
    }

    /// Waits until the state as it is now is saved, or a try to save it failed.
    /// At once if there is no file. Cancel safe.
    ///
    /// # Errors
    ///
    /// What the operating system said. It is tried again every 10 s.
    pub async fn saved(&self) -> Result<(), Arc<io::Error>> {
        let version = self.view.borrow().version;
        self.saved_since(version).await
    }

    /// The state file that could not be understood at the start.
    pub fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_deref()
    }

    async fn command(&self, to: StateKind, reason: String) -> Result<Transition, MaintenanceError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { to, reason, reply };
        self.commands.send(command).await.map_err(|_| MaintenanceError::Ended)?;
        let (transition, version) = answer.await.map_err(|_| MaintenanceError::Ended)??;
        self.saved_since(version).await.map_err(MaintenanceError::NotSaved)?;
        Ok(transition)
    }

    async fn saved_since(&self, version: u64) -> Result<(), Arc<io::Error>> {
        let mut saved = self.saved.clone();
        match saved.wait_for(|saved| saved.tried >= version).await {
            Ok(status) => status.error.clone().map_or(Ok(()), Err),
            Err(_) => Err(Arc::new(io::Error::other("nothing saves the state any more"))),
        }
    }
}

/// tokio's intervals panic if they are so long that their end is no time.
const LONGEST_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

type OnTransition = Box<dyn Fn(&Transition) + Send + Sync>;

/// Settings of a [`System`].
///
/// | setting | default |
/// | --- | --- |
/// | [`file`](Self::file) | none: the state ends with the process |
/// | [`look_every`](Self::look_every) | 1 s |
/// | [`settle_for`](Self::settle_for) | 10 s |
#[must_use]
pub struct SystemBuilder {
    file: Option<PathBuf>,
    look_every: Duration,
    settle_for: Duration,
    on_transition: Vec<OnTransition>,
    degraded_when: Vec<look::DegradedWhen>,
}

impl Default for SystemBuilder {
    fn default() -> Self {
        Self {
            file: None,
            look_every: Duration::from_secs(1),
            settle_for: Duration::from_secs(10),
            on_transition: Vec::new(),
            degraded_when: Vec::new(),
        }
    }
}

impl SystemBuilder {
    /// Where state and history are kept over a restart. The folder must be
    /// there; two systems must not share a file. It is written after each change
    /// to a new file which then takes its place, so that it is whole whenever the
    /// process ends, and on Unix for its owner only. Default: nowhere.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.file = Some(path.as_ref().to_owned());
        self
    }

    /// How often breakers are looked at, at least once a day. What a check says
    /// is heard at once. Default: 1 s.
    pub fn look_every(mut self, interval: Duration) -> Self {
        self.look_every = interval;
        self
    }

    /// For how long nothing may be wrong before recovering becomes healthy.
    /// Default: 10 s.
    pub fn settle_for(mut self, time: Duration) -> Self {
        self.settle_for = time;
        self
    }

    /// Calls this after each change, one change at a time and in order, while no
    /// lock is held. It runs in the task that looks after the state, so keep it
    /// short. A panic is caught and logged. A `System` in here would keep itself
    /// alive.
    pub fn on_transition(mut self, f: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.on_transition.push(Box::new(f));
        self
    }

    /// Asks this at each look: a reason means that something is down that the bus
    /// does not know of, such as what a [`Guard`](crate::Guard) protects. It must
    /// not block. A panic is caught and counts
    /// as a reason.
    pub fn degraded_when(mut self, f: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.degraded_when.push(Box::new(f));
        self
    }

    /// Reads the file, if there is one, and starts to look. Register the checks
    /// that matter for the start before.
    ///
    /// What an earlier process left is kept as history; the state starts as
    /// initializing, or as maintenance if it was that. A file that cannot be
    /// understood is set aside and said: [`System::set_aside`].
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, nothing was started; the file may have been read
    /// and written.
    pub async fn start(self, bus: &Bus, health: &Health) -> Result<System, StartError> {
        tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        if self.look_every.is_zero() {
            return Err(StartError::Interval("look_every"));
        }
        let (lifecycle, set_aside) = match &self.file {
            Some(path) => restore(path).await?,
            None => (Lifecycle::new(BusClock::wall()), None),
        };
        let (states, states_seen) = watch::channel(lifecycle.state().clone());
        let (view, view_seen) = watch::channel(View { lifecycle, version: 0 });
        // Without a file everything that ever will be is saved.
        let tried = if self.file.is_some() { 0 } else { u64::MAX };
        let (saving, saved) = watch::channel(SaveStatus { tried, error: None });
        if let Some(path) = self.file {
            tokio::spawn(file::keep(path, view_seen.clone(), saving));
        }
        let (commands, commanded) = mpsc::channel(16);
        let eyes = Eyes::new(bus, health, self.degraded_when);
        let driver = Driver::new(view, states, eyes, self.on_transition, self.settle_for);
        let look_every = self.look_every.min(LONGEST_PERIOD);
        tokio::spawn(driver.run(commanded, health.changes(), look_every));
        let set_aside = set_aside.map(Arc::new);
        Ok(System { view: view_seen, states: states_seen, saved, commands, set_aside })
    }
}

/// The lifecycle in the file, gone on to this process and saved again: a file
/// that cannot be written shows at the start.
async fn restore(path: &Path) -> Result<(Lifecycle, Option<SetAside>), StartError> {
    let read = |source| StartError::Read { path: path.to_owned(), source };
    let save = |source| StartError::Save { path: path.to_owned(), source };
    let (found, set_aside) = match file::load(path).await.map_err(read)? {
        Loaded::Found(lifecycle) => (Some(lifecycle), None),
        Loaded::Missing => (None, None),
        Loaded::Corrupt(set_aside) => {
            let SetAside { path, why } = &set_aside;
            tracing::error!(path = %path.display(), why, "a state file was corrupt and is set aside");
            (None, Some(set_aside))
        }
    };
    let now = BusClock::wall();
    let lifecycle = match found {
        Some(mut lifecycle) => {
            lifecycle.restart(now);
            lifecycle
        }
        None => Lifecycle::new(now),
    };
    file::save(path, &lifecycle).await.map_err(save)?;
    Ok((lifecycle, set_aside))
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("state", &*self.states.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
