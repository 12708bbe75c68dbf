//! The set-up: which tools a run needs, and how the missing ones are got.
//!
//! To need another tool, give it a line in [`TOOLS`].

use anyhow::{Context, Result, bail, ensure};

use crate::apt;
use crate::workspace::Workspace;

struct Tool {
    /// The program that must be found on `PATH`.
    program: &'static str,
    /// One that does as well.
    or: Option<&'static str>,
    /// The Debian packages that bring it.
    packages: &'static [&'static str],
    /// What stands still without it.
    why: &'static str,
}

const TOOLS: &[Tool] = &[
    // Cargo needs it to build this very program; it is listed for machines
    // where only the programs came from a cache.
    Tool { program: "cc", or: None, packages: &["gcc", "libc6-dev"], why: "rustc links with it" },
    Tool {
        program: "git",
        or: None,
        packages: &["git"],
        why: "tidy asks it for the list of files",
    },
    Tool {
        program: "redis-server",
        or: Some("valkey-server"),
        packages: &["redis-server"],
        // As a sentinel too: `redis-server --sentinel` needs no package of its own.
        why: "tests of the messenger start servers of their own",
    },
    Tool {
        program: "redis-cli",
        or: Some("valkey-cli"),
        packages: &["redis-tools"],
        why: "tests of the messenger tell their servers what to do with it",
    },
    Tool {
        program: "openssl",
        or: None,
        packages: &["openssl"],
        why: "tests of the messenger make certificates with it",
    },
    Tool {
        program: "strace",
        or: None,
        packages: &["strace"],
        why: "tests of the event log have it make the disk fail",
    },
    Tool {
        program: "node",
        or: None,
        packages: &["nodejs"],
        why: "the npm package is built and tested with it",
    },
    Tool { program: "npm", or: None, packages: &["npm"], why: "it brings the package's tools" },
];

/// Rustup components: the cargo command that each brings, and its name.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let missing = missing(TOOLS, |program| which::which(program).is_ok());
    for tool in &missing {
        println!("missing: {} ({})", tool.program, tool.why);
    }
    if !missing.is_empty() {
        install(workspace, &missing)?;
    }
    for (command, component) in COMPONENTS {
        add_component(workspace, command, component)?;
    }
    println!("every tool is here");
    Ok(())
}

fn missing(tools: &[Tool], found: impl Fn(&str) -> bool) -> Vec<&Tool> {
    let found = |tool: &Tool| found(tool.program) || tool.or.is_some_and(&found);
    tools.iter().filter(|tool| !found(tool)).collect()
}

fn install(workspace: &Workspace, missing: &[&Tool]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    if !apt::is_here() {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        bail!(
            "install {} with your system's package manager, then run this again; \
             on Debian it would be `{}`",
            programs.join(", "),
            apt::by_hand(&packages)
        );
    }
    apt::install(workspace, &packages)?;
    for tool in missing {
        ensure!(
            which::which(tool.program).is_ok(),
            "`{}` is not on PATH, although apt-get installed {}",
            tool.program,
            tool.packages.join(", ")
        );
    }
    Ok(())
}

fn add_component(workspace: &Workspace, command: &str, component: &str) -> Result<()> {
    let works = || {
        let version = workspace.cargo(&[command, "--version"]);
        version.stdout_null().stderr_null().run().is_ok()
    };
    if works() {
        return Ok(());
    }
    println!("missing: {component}; trying `rustup component add {component}`");
    workspace.command("rustup", &["component", "add", component]).run().with_context(|| {
        format!("{component} is missing; `rustup component add {component}` must succeed first")
    })?;
    ensure!(works(), "`cargo {command}` still does not work after adding {component}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_found_is_missing() {
        let names: Vec<_> =
            missing(TOOLS, |program| program != "git").iter().map(|tool| tool.program).collect();
        assert_eq!(names, ["git"]);
        assert!(missing(TOOLS, |_| true).is_empty());
    }

    #[test]
    fn one_that_does_as_well_will_do() {
        assert!(missing(TOOLS, |program| !program.starts_with("redis")).is_empty());
    }
}
