//! The state file: whole at any instant, or set aside.

use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use swarmbus_core::lifecycle::Lifecycle;
use tokio::sync::watch;

use super::{SetAside, driver::View};

/// More than a hundred changes with the longest reasons need.
const MAX_LEN: u64 = 4 << 20;

/// From a failed try to save to the next.
const RETRY: Duration = Duration::from_secs(10);

/// What there was to read.
pub(super) enum Loaded {
    Missing,
    Found(Lifecycle),
    Corrupt(SetAside),
}

/// How saving goes.
#[derive(Clone)]
pub(super) struct SaveStatus {
    /// The newest version that was tried.
    pub(super) tried: u64,
    /// Why that failed.
    pub(super) error: Option<Arc<io::Error>>,
}

/// Saves each new version, or the newest if there are several, until nobody
/// changes the state any more; the last one too.
pub(super) async fn keep(
    path: PathBuf,
    mut views: watch::Receiver<View>,
    status: watch::Sender<SaveStatus>,
) {
    // What is there at the start is saved already.
    let mut failed = false;
    loop {
        let changed = if failed {
            tokio::time::timeout(RETRY, views.changed()).await.unwrap_or(Ok(()))
        } else {
            views.changed().await
        };
        if changed.is_err() {
            return;
        }
        let View { lifecycle, version } = views.borrow_and_update().clone();
        let error = save(&path, &lifecycle).await.err().map(Arc::new);
        if let Some(error) = error.as_ref().filter(|_| !failed) {
            tracing::error!(path = %path.display(), %error, "the system's state is not saved");
        }
        failed = error.is_some();
        status.send_replace(SaveStatus { tried: version, error });
    }
}

pub(super) async fn load(path: &Path) -> io::Result<Loaded> {
    let path = path.to_owned();
    blocking(move || load_now(&path)).await
}

pub(super) async fn save(path: &Path, lifecycle: &Lifecycle) -> io::Result<()> {
    let (path, lifecycle) = (path.to_owned(), lifecycle.clone());
    blocking(move || save_now(&path, &lifecycle)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn load_now(path: &Path) -> io::Result<Loaded> {
    sweep(path);
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MAX_LEN + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Missing),
        Err(error) => return Err(error),
    };
    let why = if bytes.len() as u64 > MAX_LEN {
        format!("it is longer than {MAX_LEN} bytes")
    } else {
        match serde_json::from_slice(&bytes) {
            Ok(lifecycle) => return Ok(Loaded::Found(lifecycle)),
            Err(error) => error.to_string(),
        }
    };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".corrupt");
    fs::rename(path, &aside)?;
    sync_folder(path)?;
    Ok(Loaded::Corrupt(SetAside { path: aside.into(), why }))
}

/// Writes a new file beside the old one, has both it and its name written to the
/// disk, and only then is it the file.
fn save_now(path: &Path, lifecycle: &Lifecycle) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(lifecycle)?;
    let mut new =
        tempfile::Builder::new().prefix(&prefix(path)).suffix(SUFFIX).tempfile_in(folder(path))?;
    new.write_all(&json)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Removes what a process left that was killed while it wrote. A file that
/// cannot be removed does no harm.
fn sweep(path: &Path) {
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    let prefix = prefix(path);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let between =
            name.to_str().and_then(|name| name.strip_prefix(&*prefix)?.strip_suffix(SUFFIX));
        // More than one word: of a file whose name begins like this one's.
        if between.is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

const SUFFIX: &str = ".new";

fn prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!(".{}-", name.to_string_lossy())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A renamed file is safe when its folder is written.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(folder(path))?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file; renaming is as safe as the
/// file system makes it.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
