//! `cargo xtask wasm`: core as a WebAssembly module, and the npm package round it.
//!
//! What the build needs and the machine lacks is got once and kept in a folder of
//! its own (`cache.rs`); nothing that belongs to the user is replaced.

mod cache;
mod debian;
mod module;
mod npm;
mod paths;
mod toolchain;
mod tools;

use std::path::Path;

use anyhow::Result;

use crate::workspace::Workspace;

pub(crate) use self::npm::{install, npm};

/// The folder of the npm package, below the root.
pub(crate) const PACKAGE: &str = "js-bindings";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    npm::install(workspace, PACKAGE)?;
    let cache = cache::Cache::open()?;
    let toolchain = toolchain::ensure(workspace, &cache)?;
    let bindgen = tools::wasm_bindgen(workspace, &cache)?;
    let raw = module::compile(workspace, &toolchain)?;
    module::generate(workspace, &bindgen, &raw)?;
    npm::npm(workspace, PACKAGE, &["run", "--silent", "build"]).run()?;
    Ok(())
}

/// Builds the package `name` of the workspace as a module for Node.js into `to`, for measuring.
pub(crate) fn rival(workspace: &Workspace, name: &str, to: &Path) -> Result<()> {
    let cache = cache::Cache::open()?;
    let toolchain = toolchain::ensure(workspace, &cache)?;
    let bindgen = tools::wasm_bindgen(workspace, &cache)?;
    module::rival(workspace, &toolchain, &bindgen, name, to)
}
