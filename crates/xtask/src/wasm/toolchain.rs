//! A Rust compiler for WebAssembly: the user's own with one target more, or else
//! Debian's in a private folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cache::Cache;
use super::debian;
use crate::workspace::Workspace;

pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// How cargo is told which compiler to use.
#[derive(Default)]
pub(super) struct Toolchain {
    /// `RUSTC`, unless the user's own will do.
    pub(super) rustc: Option<PathBuf>,
}

/// `SWARMBUS_WASM_TOOLCHAIN=debian` skips the user's own compiler: for testing
/// the other way.
pub(super) fn ensure(workspace: &Workspace, cache: &Cache) -> Result<Toolchain> {
    let forced = std::env::var_os("SWARMBUS_WASM_TOOLCHAIN") == Some(OsString::from("debian"));
    if !forced && (has_target(workspace) || rustup_adds(workspace)) {
        return Ok(Toolchain::default());
    }
    Ok(Toolchain { rustc: Some(debian::ensure(workspace, cache)?) })
}

/// Whether the compiler that cargo takes in this workspace has the target's
/// standard library.
fn has_target(workspace: &Workspace) -> bool {
    let args = ["--print", "target-libdir", "--target", TARGET];
    let libdir = workspace.command("rustc", &args).stderr_null().read();
    libdir.is_ok_and(|libdir| holds_std(Path::new(libdir.trim())))
}

fn holds_std(libdir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(libdir) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

fn rustup_adds(workspace: &Workspace) -> bool {
    if which::which("rustup").is_err() {
        return false;
    }
    println!("missing: the target {TARGET}; trying `rustup target add {TARGET}`");
    let added = workspace.command("rustup", &["target", "add", TARGET]).run();
    added.is_ok() && has_target(workspace)
}
