//! Whether the package is what would be built now: a second run does nothing.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::PACKAGE;
use crate::workspace::Workspace;

/// Files and folders below the root that the package is made of. Those of `wasm` here are the
/// recipe; what npm installed is as `package-lock.json` says.
const INPUTS: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "crates/core/Cargo.toml",
    "crates/core/src",
    "crates/redis/src/lua",
    "crates/xtask/src/wasm",
    "crates/xtask/src/wasm.rs",
    "wasm",
    "js-bindings/package.json",
    "js-bindings/package-lock.json",
    "js-bindings/scripts",
    "js-bindings/src",
    "js-bindings/tsconfig.json",
    "js-bindings/tsconfig.types.json",
];

/// What is built of them, in the package's folder.
const OUTPUTS: &[&str] = &["generated", "dist"];

/// What the package was made of, and what came of it.
pub(super) struct Stamp<'a> {
    root: &'a Path,
    inputs: String,
}

impl<'a> Stamp<'a> {
    /// Of the files as they are.
    pub(super) fn of(workspace: &'a Workspace) -> Result<Self> {
        let compiler = workspace.command("rustc", &["-vV"]).read()?;
        let mut hasher = DefaultHasher::new();
        (compiler, env::var_os("SWARMBUS_WASM_TOOLCHAIN")).hash(&mut hasher);
        let root = workspace.root.as_path();
        for input in INPUTS {
            read(&root.join(input), &mut hasher).with_context(|| (*input).to_owned())?;
        }
        Ok(Self { root, inputs: format!("{:016x}", hasher.finish()) })
    }

    /// Whether what is there was made of these very files, and is whole.
    pub(super) fn is_current(&self) -> bool {
        let said = fs::read_to_string(self.file());
        said.is_ok_and(|said| self.outputs().is_ok_and(|outputs| said == self.text(&outputs)))
    }

    /// After a build.
    pub(super) fn write(&self) -> Result<()> {
        Ok(fs::write(self.file(), self.text(&self.outputs()?))?)
    }

    fn outputs(&self) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        for output in OUTPUTS {
            read(&self.root.join(PACKAGE).join(output), &mut hasher)?;
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn text(&self, outputs: &str) -> String {
        format!("{} {outputs}\n", self.inputs)
    }

    fn file(&self) -> PathBuf {
        self.root.join(PACKAGE).join("build/stamp")
    }
}

/// A file, or all files of a folder: names and bytes, the same on each machine.
fn read(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    if path.is_dir() {
        let mut entries =
            fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        entries.sort();
        for name in entries {
            name.hash(hasher);
            read(&path.join(name), hasher)?;
        }
        return Ok(());
    }
    fs::read(path)?.hash(hasher);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_names_and_bytes() {
        let root = env::temp_dir().join(format!("swarmbus-stamp-{}", std::process::id()));
        fs::create_dir_all(root.join("a")).unwrap();
        let hash = || {
            let mut hasher = DefaultHasher::new();
            read(&root, &mut hasher).unwrap();
            hasher.finish()
        };
        let empty = hash();
        fs::write(root.join("a/b"), "c").unwrap();
        let one = hash();
        assert_ne!(one, empty);
        assert_eq!(one, hash());
        fs::rename(root.join("a/b"), root.join("a/d")).unwrap();
        assert_ne!(one, hash());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn all_that_it_is_made_of_is_there() {
        let workspace = Workspace::find().unwrap();
        let stamp = Stamp::of(&workspace).unwrap();
        assert_eq!(stamp.inputs, Stamp::of(&workspace).unwrap().inputs);
    }
}
