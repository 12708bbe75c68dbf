//! Where tools are kept that this repository got for itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context, Result};

/// A folder in the user's cache, shared by all checkouts.
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(crate) fn open() -> Result<Self> {
        let root = root(|name| env::var_os(name).map(PathBuf::from))
            .context("neither XDG_CACHE_HOME nor HOME says where tools may be kept")?;
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder `name`. When it is missing, `fill` fills it under another name
    /// first: one that was cut off is not taken for a whole one. Of several runs
    /// one fills it, and the others wait.
    pub(crate) fn folder(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let whole = self.root.join(name);
        if whole.is_dir() {
            return Ok(whole);
        }
        let lock = File::create(self.root.join(format!("{name}.lock")))?;
        if lock.try_lock().is_err() {
            println!("waiting for another run that gets {name}");
            lock.lock()?;
        }
        if whole.is_dir() {
            return Ok(whole);
        }
        let partial = self.root.join(format!("{name}.partial"));
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
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_folder_is_filled_once_and_whole() {
        let root = env::temp_dir().join(format!("swarmbus-cache-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let cache = Cache { root: root.clone() };
        cache.folder("a", |_| bail!("cut off")).unwrap_err();
        let made = cache.folder("a", |partial| Ok(fs::write(partial.join("b"), "c")?)).unwrap();
        assert_eq!(fs::read(made.join("b")).unwrap(), b"c");
        assert_eq!(cache.folder("a", |_| bail!("a second time")).unwrap(), made);
        fs::remove_dir_all(root).unwrap();
    }

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
