//! Where tools are kept that this repository got for itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context, Result};

/// A folder in the user's cache, shared by all checkouts and locked while held.
pub(super) struct Cache {
    root: PathBuf,
    _lock: File,
}

impl Cache {
    /// Waits while another run installs something.
    pub(super) fn open() -> Result<Self> {
        let root = root(|name| env::var_os(name).map(PathBuf::from))
            .context("neither XDG_CACHE_HOME nor HOME says where tools may be kept")?;
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let lock = File::create(root.join("lock"))?;
        if lock.try_lock().is_err() {
            println!("waiting for another run that sets up the same tools");
            lock.lock()?;
        }
        Ok(Self { root, _lock: lock })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder `name`. When it is missing, `fill` fills it under another name
    /// first: one that was cut off is not taken for a whole one.
    pub(super) fn folder(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let whole = self.path(name);
        if whole.is_dir() {
            return Ok(whole);
        }
        let partial = self.path(&format!("{name}.partial"));
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => fs::create_dir_all(&partial)?,
        }
        fill(&partial)?;
        fs::rename(&partial, &whole)?;
        Ok(whole)
    }
}

fn root(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let cache =
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("swarmbus"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_custom_of_the_system() {
        let of = |set: &[(&str, &str)]| {
            root(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/swarmbus".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/swarmbus".into()));
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "")]),
            Some("/h/.cache/swarmbus".into())
        );
        assert_eq!(of(&[]), None);
    }
}
