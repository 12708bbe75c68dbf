//! Keeps the folders of the machine that builds out of what is shipped: the compiler
//! writes the places of panics into a module.

use std::{env, fs};

use anyhow::{Result, ensure};

use crate::workspace::Workspace;

/// Folders, and what is written in their place; of several that fit, the last counts.
fn folders(workspace: &Workspace) -> Vec<(String, &'static str)> {
    let home = env::home_dir().map(|home| home.display().to_string());
    let cargo = env::var("CARGO_HOME").ok();
    let cargo = cargo.or_else(|| home.as_ref().map(|home| format!("{home}/.cargo")));
    let root = workspace.root.display().to_string();
    // The names of the folders with the sources of crates say where these come from.
    let sources = cargo.as_ref().map(|cargo| fs::read_dir(format!("{cargo}/registry/src")));
    let sources = sources.and_then(Result::ok).into_iter().flatten().flatten();
    let sources = sources.map(|entry| (Some(entry.path().display().to_string()), "/crates"));
    let all = [(home, "/home"), (cargo, "/cargo"), (Some(root), "/swarmbus")];
    // What is as short as `/` is in every module.
    let named = all.into_iter().chain(sources).filter_map(|(from, to)| Some((from?, to)));
    named.filter(|(from, _)| from.len() > 2).collect()
}

/// What `CARGO_ENCODED_RUSTFLAGS` takes. No other flags of the user get into the module.
pub(super) fn flags(workspace: &Workspace) -> String {
    let flag = |(from, to): (String, &str)| format!("--remap-path-prefix={from}={to}");
    folders(workspace).into_iter().map(flag).collect::<Vec<_>>().join("\u{1f}")
}

/// Fails when one of the folders is in `bytes`.
pub(super) fn ensure_none(workspace: &Workspace, bytes: &[u8]) -> Result<()> {
    for (folder, _) in folders(workspace) {
        let found = bytes.windows(folder.len()).any(|window| window == folder.as_bytes());
        ensure!(!found, "{folder} is in what would be shipped");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_this_machine_are_found_and_replaced() {
        let workspace = Workspace::find().unwrap();
        let root = workspace.root.display().to_string();
        assert!(flags(&workspace).contains(&format!("--remap-path-prefix={root}=/swarmbus")));
        ensure_none(&workspace, format!("a{root}/b").as_bytes()).unwrap_err();
        ensure_none(&workspace, b"/swarmbus/b /cargo/c").unwrap();
    }
}
