//! wasm-pack, which compiles a crate, and wasm-bindgen, by which it makes the JavaScript side of
//! the exports. Both are built here if they are missing: the programs that wasm-pack and npm would
//! fetch come from a place that closed networks do not reach.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::cache::Cache;
use crate::workspace::Workspace;

/// Another one may know other options.
const WASM_PACK: &str = "0.15.1";

/// Where the programs are.
pub(super) struct Tools {
    pub(super) wasm_pack: PathBuf,
    pub(super) wasm_bindgen: PathBuf,
}

/// wasm-pack, and the wasm-bindgen of the very version that the crate asks for: from PATH, from
/// the cache, or built and kept there, which takes some minutes each.
pub(super) fn ensure(workspace: &Workspace, cache: &Cache) -> Result<Tools> {
    // One for both: a third of what they are made of is the same.
    let target = workspace.target.join("tools");
    let tools = Tools {
        wasm_pack: program(cache, &target, "wasm-pack", "wasm-pack", WASM_PACK)?,
        wasm_bindgen: program(
            cache,
            &target,
            "wasm-bindgen",
            "wasm-bindgen-cli",
            &wanted(workspace)?,
        )?,
    };
    if target.is_dir() {
        fs::remove_dir_all(target)?;
    }
    Ok(tools)
}

fn program(
    cache: &Cache,
    target: &Path,
    name: &str,
    package: &str,
    version: &str,
) -> Result<PathBuf> {
    if let Ok(program) = which::which(name) {
        let said = duct::cmd!(&program, "--version").read();
        if said.is_ok_and(|said| said.split_whitespace().nth(1) == Some(version)) {
            return Ok(program);
        }
    }
    let folder = cache.folder(&format!("{name}-{version}"), |folder| {
        println!("missing: {name} {version}; building it, which takes some minutes");
        let version = format!("={version}");
        // Not `--locked`: its lock file names what a registry's copy may not have yet.
        let args = ["install", "--quiet", package, "--bin", name, "--version", &version, "--root"];
        let args = args.iter().map(AsRef::as_ref).chain([folder.as_os_str()]);
        duct::cmd("cargo", args)
            // It works on one small file; what takes long is building it.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_TARGET_DIR", target)
            .env_remove("RUSTC")
            .run()
            .with_context(|| format!("`cargo install {package}` failed"))?;
        Ok(())
    })?;
    let program = folder.join("bin").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    ensure!(program.is_file(), "{} is not there; remove {}", program.display(), folder.display());
    Ok(program)
}

/// The version in the manifest of swarmbus-wasm, pinned there with `=`.
fn wanted(workspace: &Workspace) -> Result<String> {
    let packages = &workspace.metadata.packages;
    let wasm = packages.iter().find(|package| package.name.as_str() == "swarmbus-wasm");
    let dependencies = wasm.map(|wasm| wasm.dependencies.as_slice()).unwrap_or_default();
    let asked = dependencies.iter().find(|dependency| dependency.name == "wasm-bindgen");
    let asked = asked.context("swarmbus-wasm does not depend on wasm-bindgen")?.req.to_string();
    let version = asked.strip_prefix('=').context("wasm-bindgen must be pinned with `=`")?;
    Ok(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_pinned() {
        let version = wanted(&Workspace::find().unwrap()).unwrap();
        assert_eq!(version.split('.').count(), 3, "{version}");
    }
}
