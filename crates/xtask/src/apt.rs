//! Debian's packages: whether they can be had, and how.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Whether this is Debian or a child of it.
pub(crate) fn is_here() -> bool {
    is_debian(&fs::read_to_string("/etc/os-release").unwrap_or_default())
        && which::which("apt-get").is_ok()
}

/// `apt-get update`, then `apt-get install` of these; as root or by a sudo that
/// asks for no password.
pub(crate) fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let by_hand = by_hand(packages);
    let Some(become_root) = become_root(workspace) else {
        bail!("installing needs root; run `sudo sh -c '{by_hand}'`, then run this again");
    };
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages);
    get(workspace, become_root, &["update"]).context("`apt-get update` failed")?;
    get(workspace, become_root, &args).with_context(|| format!("`{by_hand}` failed"))
}

/// `apt-get update`, for those who download packages without installing them.
pub(crate) fn update(workspace: &Workspace) -> Result<()> {
    let become_root = become_root(workspace).context("`apt-get update` needs root")?;
    get(workspace, become_root, &["update"]).context("`apt-get update` failed")
}

/// What a person would type.
pub(crate) fn by_hand(packages: &[&str]) -> String {
    format!("apt-get update && apt-get install -y {}", packages.join(" "))
}

fn get(workspace: &Workspace, become_root: &[&str], args: &[&str]) -> Result<()> {
    let mut line = become_root.to_vec();
    // `env` because sudo drops the caller's environment; the timeout
    // because another apt may hold the lock, as on a machine that just started.
    // The run level keeps Debian from starting servers that it installs.
    line.extend(["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]);
    line.extend(["-o", "DPkg::Lock::Timeout=120"]);
    line.extend(args);
    workspace.command(line[0], &line[1..]).run()?;
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
}
