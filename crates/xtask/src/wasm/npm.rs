//! Folders with a `package.json`: their packages and their scripts.

use std::fs;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use duct::Expression;

use crate::workspace::Workspace;

/// The oldest Node.js that the package is for.
const NODE: u32 = 20;

/// `npm ci` in `folder`, unless what is installed is as new as its lock file.
pub(crate) fn install(workspace: &Workspace, folder: &str) -> Result<()> {
    node_is_new_enough(workspace)?;
    let age = |name: &str| -> Result<SystemTime> {
        Ok(fs::metadata(workspace.root.join(folder).join(name))?.modified()?)
    };
    let wanted = age("package-lock.json")
        .with_context(|| format!("{folder} has no package-lock.json"))?
        .max(age("package.json")?);
    if age("node_modules/.package-lock.json").is_ok_and(|installed| installed >= wanted) {
        return Ok(());
    }
    let args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
    npm(workspace, folder, &args).run().with_context(|| format!("`npm ci` in {folder} failed"))?;
    // npm keeps the times of files it finds as they should be.
    fs::File::open(workspace.root.join(folder).join("node_modules/.package-lock.json"))?
        .set_modified(SystemTime::now())?;
    Ok(())
}

/// npm in `folder`.
pub(crate) fn npm(workspace: &Workspace, folder: &str, args: &[&str]) -> Expression {
    let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
    // Not `workspace.command`: of two folders, duct takes the inner one.
    duct::cmd(program, args).dir(workspace.root.join(folder))
}

fn node_is_new_enough(workspace: &Workspace) -> Result<()> {
    let version = workspace.command("node", &["--version"]).read().context(
        "Node.js is missing; `cargo xtask test --only setup` installs it where apt-get is",
    )?;
    let major = major(&version).with_context(|| format!("`node --version` says {version}"))?;
    ensure!(
        major >= NODE,
        "Node.js {NODE} or newer is needed, and this is {version}; install a newer one \
         in front of it on PATH"
    );
    Ok(())
}

fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v5"), Some(5));
        assert_eq!(major("20.1.0"), None);
        assert_eq!(major(""), None);
    }
}
