//! [`RulesWatch`]: rules that follow their file.
//!
//! The file system says that something has changed; what, is found out by
//! reading: only other content counts. So it does not matter whether an editor
//! writes the file or puts another in its place, or whether a link in front of
//! it is turned round, as Kubernetes does.

mod eyes;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use swarmbus_core::backoff::Backoff;
use tokio::{
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, timeout},
};

use self::eyes::{Eyes, Signal};
use super::{Routing, RuleReport, Rules, RulesError, parse, read_file};
use crate::{bus::Bus, error::SubscribeError};

/// A file is read when nothing has happened to it for so long, …
const QUIET: Duration = Duration::from_millis(50);
/// … or when things have happened for so long.
const LONGEST_UNREST: Duration = Duration::from_secs(1);
/// While the file system tells of changes, the file is looked at every 30 s
/// all the same: not every file system tells of all.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// While it does not, the file is looked at every 5 s.
const POLL: Duration = Duration::from_secs(5);
/// While polling, watching is tried again every 60 s. A watcher that has
/// worked for as long has its three tries again.
const RECOVERY: Duration = Duration::from_secs(60);
/// A watcher that fails is started again after 1, 2 and 4 s.
const RESTARTS: Backoff = Backoff::exponential(Duration::from_secs(1)).max_tries(3);

/// Rules at work on a bus that follow their file, made by
/// [`Bus::watch_rules`]. Dropping it ends the rules and the watching.
///
/// | what happens to the file | the rules |
/// | --- | --- |
/// | its content becomes other valid rules | are replaced, as by [`Routing::replace`] |
/// | its content becomes invalid | stay; [`state`](Self::state) says what is wrong |
/// | it is removed, or cannot be read | stay, likewise |
/// | the bus has no room for its rules | stay, likewise; tried again every 30 s |
/// | it is touched, or written again with the same content | stay |
///
/// It is read when nothing has happened to it for 50 ms, and after 1 s of
/// unrest at the latest.
///
/// # When the file system stops telling of changes
///
/// The watcher is started again after 1, 2 and 4 s. If it fails each time, the
/// file is looked at every 5 s instead, and every minute watching is tried
/// again. The state says so, and so does the log.
#[must_use = "dropping it ends the rules at once: keep it for as long as they are to work"]
pub struct RulesWatch {
    routing: Arc<Routing>,
    state: watch::Receiver<RulesState>,
    task: AbortHandle,
}

/// How a [`RulesWatch`] is doing.
#[derive(Clone, Debug)]
pub struct RulesState {
    /// How often rules were put to work: 1 in the beginning.
    pub loaded: u64,
    /// Why the file's present content is not at work; `None` while it is.
    pub last_error: Option<Arc<WatchRulesError>>,
    /// How it learns of changes.
    pub watcher: WatcherState,
}

/// How a [`RulesWatch`] learns of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatcherState {
    /// The file system tells.
    Watching,
    /// The watcher has failed and is started again soon.
    Restarting {
        /// Which try this is, from 1.
        attempt: u32,
    },
    /// The watcher has failed again and again: the file is looked at every 5 s.
    Polling,
}

/// Why the content of a file is not at work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchRulesError {
    /// It cannot be read, or is not a set of rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The bus does not take the rules.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
}

impl WatchRulesError {
    fn is_no_room(&self) -> bool {
        matches!(self, Self::Subscribe(SubscribeError::TooMany { .. }))
    }
}

impl RulesWatch {
    pub(crate) async fn start(bus: &Bus, path: &Path) -> Result<Self, WatchRulesError> {
        let path = std::path::absolute(path)
            .map_err(|source| RulesError::Read { path: path.to_owned(), source })?;
        let read = aside(&path, read_file).await;
        let seen = Seen::of(&read);
        let rules = rules_of(&path, read).await?;
        let routing = Arc::new(bus.use_rules(rules)?);
        let first = RulesState { loaded: 1, last_error: None, watcher: WatcherState::Watching };
        let (tell, state) = watch::channel(first);
        let signal = Arc::new(Signal::default());
        let follower = Follower {
            routing: Arc::downgrade(&routing),
            eyes: Eyes::open(path.clone(), Arc::clone(&signal)).await,
            path,
            seen,
            tell,
            signal,
            attempt: 0,
        };
        let task = tokio::spawn(follower.run()).abort_handle();
        Ok(Self { routing, state, task })
    }

    /// How it is doing now.
    pub fn state(&self) -> RulesState {
        self.state.borrow().clone()
    }

    /// Tells of each change of the state.
    pub fn changes(&self) -> watch::Receiver<RulesState> {
        self.state.clone()
    }

    /// Why the file's present content is not at work; `None` while it is.
    pub fn last_error(&self) -> Option<Arc<WatchRulesError>> {
        self.state.borrow().last_error.clone()
    }

    /// The rules that are at work.
    pub fn rules(&self) -> Rules {
        self.routing.rules()
    }

    /// What each rule has done since these rules are at work.
    pub fn report(&self) -> Vec<RuleReport> {
        self.routing.report()
    }
}

impl Drop for RulesWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for RulesWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RulesWatch").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// What was read the last time.
#[derive(PartialEq, Eq)]
enum Seen {
    Text(String),
    Nothing(std::io::ErrorKind),
    /// Rules that the bus had no room for: they are tried again at each look.
    NoRoom,
}

impl Seen {
    fn of(read: &Result<String, RulesError>) -> Self {
        match read {
            Ok(text) => Self::Text(text.clone()),
            Err(RulesError::Read { source, .. }) => Self::Nothing(source.kind()),
            Err(RulesError::Invalid { .. }) => Self::Nothing(std::io::ErrorKind::InvalidData),
        }
    }
}

/// Does something with the file on a thread that may block: the disk may be
/// slow, and so is compiling regexes.
async fn aside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, RulesError> + Send + 'static,
) -> Result<T, RulesError> {
    let path = path.to_owned();
    let own = path.clone();
    spawn_blocking(move || work(&own))
        .await
        .unwrap_or_else(|stopped| Err(RulesError::Read { path, source: stopped.into() }))
}

async fn rules_of(path: &Path, read: Result<String, RulesError>) -> Result<Rules, RulesError> {
    let text = read?;
    aside(path, move |path| parse(&text).map_err(|fault| fault.of_file(path))).await
}

/// The task behind a [`RulesWatch`].
struct Follower {
    /// Weak, so that the rules end with their handle and not with this task.
    routing: Weak<Routing>,
    path: PathBuf,
    seen: Seen,
    tell: watch::Sender<RulesState>,
    signal: Arc<Signal>,
    eyes: Eyes,
    /// Restarts since the watcher last worked for a while.
    attempt: u32,
}

impl Follower {
    async fn run(mut self) {
        loop {
            self.mind_the_watcher().await;
            if timeout(self.pause(), self.signal.changed()).await.is_ok() {
                self.wait_for_quiet().await;
            }
            if self.look().await.is_none() {
                return;
            }
        }
    }

    /// Starts the watcher again if it has failed, or says when to.
    async fn mind_the_watcher(&mut self) {
        let now = Instant::now();
        let failed = self.signal.take_failure();
        if let Eyes::Open { since, .. } = &self.eyes
            && now.saturating_duration_since(*since) >= RECOVERY
        {
            self.attempt = 0;
        }
        match (&self.eyes, failed) {
            (Eyes::Open { .. }, Some(why)) => self.close(why),
            (Eyes::Open { .. }, None) => {
                if !self.eyes.aimed_at(self.path.clone()).await {
                    self.reopen().await;
                }
            }
            (Eyes::Failed { why }, _) => {
                let why = why.clone();
                self.close(why);
            }
            (Eyes::Closed { until, .. }, _) if now >= *until => self.reopen().await,
            (Eyes::Closed { .. }, _) => {}
        }
        let state = self.eyes.state();
        self.tell.send_if_modified(|told| {
            let changed = told.watcher != state;
            told.watcher = state;
            changed
        });
    }

    async fn reopen(&mut self) {
        let was = self.eyes.state();
        self.eyes = Eyes::open(self.path.clone(), Arc::clone(&self.signal)).await;
        if let Eyes::Failed { why } = &self.eyes {
            let why = why.clone();
            self.close(why);
        } else if was != WatcherState::Watching {
            tracing::info!(file = %self.path.display(), "watching the rules again");
        }
    }

    /// The watcher has failed: says when the next try is.
    fn close(&mut self, why: String) {
        let file = self.path.display();
        let (wait, polling) = if self.attempt < RESTARTS.tries() {
            let wait = RESTARTS.delay(self.attempt, 0);
            self.attempt += 1;
            tracing::warn!(%file, why, ?wait, "the watcher of the rules failed, it is restarted");
            (wait, false)
        } else {
            if self.tell.borrow().watcher != WatcherState::Polling {
                tracing::error!(%file, why, "the watcher of the rules failed, polling instead");
            }
            (RECOVERY, true)
        };
        let until = Instant::now() + wait;
        let attempt = (!polling).then_some(self.attempt);
        self.eyes = Eyes::Closed { until, attempt };
    }

    /// How long to wait for a sign before looking without one.
    fn pause(&self) -> Duration {
        match &self.eyes {
            Eyes::Closed { until, .. } => until.saturating_duration_since(Instant::now()).min(POLL),
            Eyes::Open { .. } | Eyes::Failed { .. } => LOOK_ANYWAY,
        }
    }

    async fn wait_for_quiet(&self) {
        let unrest = async { while timeout(QUIET, self.signal.changed()).await.is_ok() {} };
        let _ = timeout(LONGEST_UNREST, unrest).await;
    }

    /// Reads the file and puts its rules to work if they are others. `None`
    /// if nobody holds the rules any more.
    async fn look(&mut self) -> Option<()> {
        let read = aside(&self.path, read_file).await;
        let seen = Seen::of(&read);
        if seen == self.seen {
            return self.routing.upgrade().map(drop);
        }
        self.seen = seen;
        let done = rules_of(&self.path, read).await.map_err(WatchRulesError::from);
        let routing = self.routing.upgrade()?;
        match done.and_then(|rules| Ok(routing.replace(rules)?)) {
            Ok(()) => {
                tracing::info!(file = %self.path.display(), "new rules are at work");
                self.tell.send_modify(|state| {
                    state.loaded += 1;
                    state.last_error = None;
                });
            }
            Err(error) if error.is_no_room() => {
                self.seen = Seen::NoRoom;
                let known = self.tell.borrow().last_error.clone();
                if !known.is_some_and(|known| known.is_no_room()) {
                    self.stay(error);
                }
            }
            Err(error) => self.stay(error),
        }
        Some(())
    }

    fn stay(&self, error: WatchRulesError) {
        tracing::warn!(%error, "the rules stay as they are");
        self.tell.send_modify(|state| state.last_error = Some(Arc::new(error)));
    }
}
