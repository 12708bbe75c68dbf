//! What the rules look at: the files under version control and the packages.

use std::cell::OnceCell;
use std::{fmt, fs};

use anyhow::{Context, Result};

use super::source::Source;
use crate::workspace::Workspace;

/// The whole repository.
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    pub(super) packages: Vec<Package>,
}

/// A text file, tracked or about to be.
pub(super) struct File {
    /// Relative to the root, with `/` between the parts.
    pub(super) path: String,
    pub(super) text: String,
    source: OnceCell<Result<Source, String>>,
}

/// A member of the workspace and what its manifest asks for.
pub(super) struct Package {
    pub(super) name: String,
    /// The folder, relative to the root.
    pub(super) dir: String,
    pub(super) dependencies: Vec<Dependency>,
}

pub(super) struct Dependency {
    pub(super) name: String,
    /// Another package of this repository.
    pub(super) ours: bool,
    /// Built for tests alone.
    pub(super) dev: bool,
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) path: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

impl Tree {
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        // A checkout made by another user is still only read here.
        let git = ["-c", "safe.directory=*", "ls-files", "-z"];
        let git = [&git[..], &["--cached", "--others", "--exclude-standard"]].concat();
        let list = workspace.command("git", &git).read().context("`git ls-files` failed")?;
        let mut paths: Vec<&str> = list.split_terminator('\0').collect();
        // A file in a merge conflict is listed once per side.
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            // Deleted but not yet committed, a link to a folder, or binary:
            // nothing that a rule could read.
            let Ok(bytes) = fs::read(workspace.root.join(path)) else { continue };
            let Ok(text) = String::from_utf8(bytes) else { continue };
            files.push(File::new(path, text));
        }
        let packages = workspace.metadata.packages.iter();
        let packages = packages.map(|package| Package::new(workspace, package)).collect();
        Ok(Self { files, packages })
    }

    /// An invented repository, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File::new(path, (*text).to_owned())).collect();
        Self { files, packages: Vec::new() }
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether `path` names a file or a folder that holds one.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| {
            file.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files.iter().filter_map(|file| Some((file, file.source()?.as_ref().ok()?)))
    }

    pub(super) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".md"))
    }
}

impl File {
    fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), text, source: OnceCell::new() }
    }

    /// The file as Rust; `None` where it has another language.
    pub(super) fn source(&self) -> Option<&Result<Source, String>> {
        let rust = self.path.ends_with(".rs");
        rust.then(|| self.source.get_or_init(|| Source::parse(&self.path, &self.text)))
    }

    pub(super) fn is_in(&self, dir: &str) -> bool {
        self.path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
    }

    pub(super) fn is_rust_or_script(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').is_some_and(|(_, extension)| {
            ["rs", "ts", "mts", "cts", "js", "mjs", "cjs", "lua", "sh", "toml", "yml", "yaml"]
                .contains(&extension)
        })
    }

    pub(super) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default()
    }

    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    pub(super) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

impl Package {
    fn new(workspace: &Workspace, package: &cargo_metadata::Package) -> Self {
        let manifest = package.manifest_path.as_std_path();
        let dir = manifest.parent().and_then(|dir| dir.strip_prefix(&workspace.root).ok());
        let dependencies = package.dependencies.iter().map(|dependency| Dependency {
            name: dependency.name.clone(),
            ours: dependency.path.is_some(),
            dev: dependency.kind == cargo_metadata::DependencyKind::Development,
        });
        Self {
            name: package.name.to_string(),
            dir: dir.map(|dir| dir.to_string_lossy().replace('\\', "/")).unwrap_or_default(),
            dependencies: dependencies.collect(),
        }
    }

    /// A finding at the dependency's line in the manifest.
    pub(super) fn finding(&self, tree: &Tree, dependency: &str, message: String) -> Finding {
        let path = format!("{}/Cargo.toml", self.dir);
        let names = |line: &str| {
            line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        };
        let line = tree.get(&path).and_then(|manifest| manifest.text.lines().position(names));
        Finding { path, line: line.map_or(1, |index| index + 1), message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_read() {
        let tree = Tree::read(&Workspace::find().unwrap()).unwrap();
        assert!(tree.has("crates/core/src"));
        assert!(tree.get("Cargo.toml").is_some());
        assert!(!tree.files.iter().any(|file| file.is_in("target")));
        let core = tree.packages.iter().find(|package| package.name == "swarmbus-core").unwrap();
        assert_eq!(core.dir, "crates/core");
    }

    #[test]
    fn folders_exist_by_their_files_and_only_whole_names_count() {
        let tree = Tree::of(&[("adrs/0001-a.md", "")]);
        assert!(tree.has("adrs") && tree.has("adrs/0001-a.md"));
        assert!(!tree.has("adr") && !tree.has("adrs/0001"));
    }
}
