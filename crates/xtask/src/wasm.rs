//! `cargo xtask wasm`: core as a WebAssembly module, and the npm package round it.
//!
//! What the build needs and the machine lacks is got once and kept in a folder of
//! its own (`cache.rs`); nothing that belongs to the user is replaced. When nothing
//! changed since the last build, nothing is built (`stamp.rs`).

mod cache;
mod debian;
mod module;
mod npm;
mod paths;
mod stamp;
mod toolchain;
mod tools;

use std::path::Path;

use anyhow::Result;

use crate::workspace::Workspace;

pub(crate) use self::cache::Cache;
pub(crate) use self::npm::{install, npm};

/// The folder of the npm package, below the root.
pub(crate) const PACKAGE: &str = "js-bindings";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    npm::install(workspace, PACKAGE)?;
    let stamp = stamp::Stamp::of(workspace)?;
    if stamp.is_current() {
        println!("{PACKAGE} is built of these very files");
        return Ok(());
    }
    let cache = Cache::open()?;
    let toolchain = toolchain::ensure(workspace, &cache)?;
    let tools = tools::ensure(workspace, &cache)?;
    module::generate(workspace, &module::compile(workspace, &toolchain, &tools)?)?;
    npm::npm(workspace, PACKAGE, &["run", "--silent", "build"]).run()?;
    stamp.write()
}

/// Builds the crate in `folder` as a module for Node.js into `to`, for measuring.
pub(crate) fn rival(workspace: &Workspace, folder: &str, to: &Path) -> Result<()> {
    let cache = Cache::open()?;
    let toolchain = toolchain::ensure(workspace, &cache)?;
    let tools = tools::ensure(workspace, &cache)?;
    module::rival(workspace, &toolchain, &tools, folder, to)
}
