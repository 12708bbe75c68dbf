//! Where the workspace is and how its tools are called.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use duct::Expression;

/// The workspace that the current folder belongs to.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's target folder, which follows `CARGO_TARGET_DIR`.
    pub(crate) target: PathBuf,
    /// The members and their direct dependencies, nothing resolved.
    pub(crate) metadata: Metadata,
}

impl Workspace {
    /// Asks cargo, so that a task may be started from any sub-folder.
    pub(crate) fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .no_deps()
            .exec()
            .context("cargo cannot read the workspace that this folder belongs to")?;
        Ok(Self {
            root: metadata.workspace_root.clone().into(),
            target: metadata.target_directory.clone().into(),
            metadata,
        })
    }

    /// A command run in the root. Its output goes straight to the terminal;
    /// it stays in this process group, so Ctrl-C ends it along with the task.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Expression {
        duct::cmd(program, args).dir(&self.root)
    }

    pub(crate) fn cargo(&self, args: &[&str]) -> Expression {
        self.command("cargo", args)
    }
}
