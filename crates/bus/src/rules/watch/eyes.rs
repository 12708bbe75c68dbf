//! What the file system tells of a file, through `notify`.
//!
//! The folder is watched, not the file: an editor puts another file in its
//! place. If the file is a link, the folder that it leads to is watched too.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use parking_lot::Mutex;
use tokio::{sync::Notify, task::spawn_blocking, time::Instant};

use super::WatcherState;

/// How the watcher's thread tells the task.
#[derive(Default)]
pub(super) struct Signal {
    notify: Notify,
    failed: AtomicBool,
    why: Mutex<String>,
}

impl Signal {
    /// Waits until something may have changed. Cancel safe.
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Why the watcher has failed, if it has.
    pub(super) fn take_failure(&self) -> Option<String> {
        self.failed.swap(false, SeqCst).then(|| std::mem::take(&mut *self.why.lock()))
    }

    fn fail(&self, why: String) {
        *self.why.lock() = why;
        self.failed.store(true, SeqCst);
    }
}

/// Whether changes are told of.
pub(super) enum Eyes {
    Open {
        _watcher: RecommendedWatcher,
        folders: Vec<PathBuf>,
        since: Instant,
    },
    /// A try to open has failed just now.
    Failed {
        why: String,
    },
    /// The next try is at `until`; which of the three, or one while polling.
    Closed {
        until: Instant,
        attempt: Option<u32>,
    },
}

impl Eyes {
    /// Starts watching. Its thread ends soon after this is dropped.
    pub(super) async fn open(path: PathBuf, signal: Arc<Signal>) -> Self {
        let opened = spawn_blocking(move || {
            let folders = folders_of(&path);
            Ok((watch(&folders, signal)?, folders))
        });
        match opened.await {
            Ok(Ok((_watcher, folders))) => Self::Open { _watcher, folders, since: Instant::now() },
            Ok(Err::<_, notify::Error>(error)) => Self::Failed { why: error.to_string() },
            Err(stopped) => Self::Failed { why: stopped.to_string() },
        }
    }

    /// Whether the folders that are watched are still those of the file.
    pub(super) async fn aimed_at(&self, path: PathBuf) -> bool {
        let Self::Open { folders, .. } = self else { return true };
        let now = spawn_blocking(move || folders_of(&path)).await;
        now.is_ok_and(|now| now == *folders)
    }

    pub(super) fn state(&self) -> WatcherState {
        match self {
            Self::Open { .. } => WatcherState::Watching,
            Self::Closed { attempt: Some(attempt), .. } => {
                WatcherState::Restarting { attempt: *attempt }
            }
            Self::Failed { .. } | Self::Closed { attempt: None, .. } => WatcherState::Polling,
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// The file's folder first, then the one that a link leads to.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let mut folders = vec![parent(path)];
    if let Ok(target) = path.canonicalize() {
        let own = folders[0].canonicalize();
        let target = parent(&target);
        if own.is_ok_and(|own| own != target) {
            folders.push(target);
        }
    }
    folders
}

fn watch(folders: &[PathBuf], signal: Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let own = folders.to_owned();
    let ready = Arc::clone(&signal);
    let mut watcher =
        notify::recommended_watcher(move |told: notify::Result<notify::Event>| match told {
            Ok(event) => {
                if let Some(folder) = lost(&event, &own) {
                    signal.fail(format!("{} is gone", folder.display()));
                } else if !matters(&event.kind) {
                    return;
                }
                signal.notify.notify_one();
            }
            Err(error) => {
                signal.fail(error.to_string());
                signal.notify.notify_one();
            }
        })?;
    for folder in folders {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    // What happened before this is not known.
    ready.notify.notify_one();
    Ok(watcher)
}

/// The folder that was itself removed or moved away, if one was: nothing more
/// will be heard of it.
fn lost<'a>(event: &notify::Event, folders: &'a [PathBuf]) -> Option<&'a Path> {
    let moves = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    let lost = folders.iter().find(|folder| moves && event.paths.contains(folder));
    lost.map(PathBuf::as_path)
}

/// Reading the file is told of, too, and would never end.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => matches!(kind, AccessKind::Close(AccessMode::Write)),
        _ => true,
    }
}
