//! The set-up: which tools a run needs, and how the missing ones are got.
//!
//! To need another tool, give it a line in [`TOOLS`].

use std::fs;

use anyhow::{Context, Result, bail, ensure};

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
    let by_hand = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    if !is_debian(&fs::read_to_string("/etc/os-release").unwrap_or_default())
        || which::which("apt-get").is_err()
    {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        bail!(
            "install {} with your system's package manager, then run this again; \
             on Debian it would be `{by_hand}`",
            programs.join(", ")
        );
    }
    let Some(become_root) = become_root(workspace) else {
        bail!("installing needs root; run `sudo sh -c '{by_hand}'`, then run this again");
    };
    let apt = |args: &[&str]| {
        let mut line = become_root.to_vec();
        // `env` because sudo drops the caller's environment; the timeout
        // because another apt may hold the lock, as on a machine that just started.
        // The run level keeps Debian from starting servers that it installs.
        line.extend(["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]);
        line.extend(["-o", "DPkg::Lock::Timeout=120"]);
        line.extend(args);
        workspace.command(line[0], &line[1..]).run()
    };
    apt(&["update"]).context("`apt-get update` failed")?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(&packages);
    apt(&args).with_context(|| format!("`{by_hand}` failed"))?;
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

fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .any(|id| id == "debian" || id == "ubuntu")
}

/// The words in front of a command that needs root: none for root itself,
/// sudo where it asks for no password, and otherwise there is no way.
fn become_root(workspace: &Workspace) -> Option<&'static [&'static str]> {
    if workspace.command("id", &["-u"]).read().is_ok_and(|id| id == "0") {
        return Some(&[]);
    }
    let sudo = workspace.command("sudo", &["-n", "true"]).stderr_null().run();
    sudo.is_ok().then_some(&["sudo", "-n"])
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
    fn debian_and_its_children_are_known() {
        assert!(is_debian("NAME=x\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=pop\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nVARIANT_ID=debian\n"));
        assert!(!is_debian(""));
    }

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
