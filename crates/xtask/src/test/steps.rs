//! The steps that are one or two calls of cargo. Their output is streamed, so
//! that a log shows cargo's own `test result` lines.

use anyhow::{Result, ensure};

use crate::workspace::Workspace;

pub(super) fn fmt(workspace: &Workspace) -> Result<()> {
    workspace.cargo(&["fmt", "--all", "--check"]).run()?;
    Ok(())
}

pub(super) fn clippy(workspace: &Workspace) -> Result<()> {
    let args = "clippy --workspace --all-targets --all-features -- -D warnings";
    workspace.cargo(&words(args)).run()?;
    Ok(())
}

pub(super) fn test(workspace: &Workspace) -> Result<()> {
    // One red test must not hide what the other crates say.
    workspace.cargo(&words("test --workspace --all-features --no-fail-fast")).run()?;
    Ok(())
}

pub(super) fn doc(workspace: &Workspace) -> Result<()> {
    let targets = workspace.metadata.packages.iter().flat_map(|package| &package.targets);
    let bins: Vec<String> = targets
        .filter(|target| target.is_bin() && target.doc)
        .map(|target| format!("--bin={}", target.name))
        .collect();
    // Examples use dev-dependencies. Without them cargo would choose fewer features, and
    // look again at what clippy looked at.
    let mut args = words("doc --workspace --all-features --no-deps --lib --examples");
    args.extend(bins.iter().map(String::as_str));
    workspace.cargo(&args).env("RUSTDOCFLAGS", "-D warnings").run()?;
    Ok(())
}

/// Loom replaces the atomics and locks of core under `cfg(loom)` and tries
/// every interleaving.
pub(super) fn loom(workspace: &Workspace) -> Result<()> {
    let cargo = |args: &str| {
        workspace
            .cargo(&words(args))
            .env("RUSTFLAGS", "--cfg loom")
            // Other flags would rebuild everything that the steps before made.
            .env("CARGO_TARGET_DIR", workspace.target.join("loom"))
    };
    let tests = "test --package swarmbus-core --lib loom";
    // A filter that matches nothing passes; a moved module must not go unseen.
    let list = cargo(&format!("{tests} -- --list")).read()?;
    ensure!(list.lines().any(|line| line.ends_with(": test")), "core has no test named *loom*");
    cargo(tests).run()?;
    Ok(())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
