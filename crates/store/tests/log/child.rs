//! Running a part of a test in a process of its own: the test program again,
//! with a role.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

const ROLE: &str = "SWARMBUS_LOG_ROLE";
const DIR: &str = "SWARMBUS_LOG_DIR";

/// The command that plays a role in a folder.
pub(crate) fn command(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::play", "--nocapture"]).env(ROLE, role).env(DIR, dir);
    command
}

/// The same behind a line of shell, which ends with `exec "$@"`.
pub(crate) fn behind(shell: &[&str], role: &str, dir: &Path) -> Command {
    let child = command(role, dir);
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg("sh").arg(child.get_program()).args(child.get_args());
    command.env(ROLE, role).env(DIR, dir);
    command
}

/// Does nothing unless this process was started for a role.
#[test]
fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    match role.as_str() {
        "publish" => crate::crash::publish_for_ever(&dir, swarmbus_store::Options::new()),
        "publish-group" => {
            let group = swarmbus_store::Durability::GROUP;
            crate::crash::publish_for_ever(&dir, swarmbus_store::Options::new().durability(group));
        }
        "failing-commit" => crate::disk::with_a_failing_commit(&dir),
        "failing-sync" => crate::disk::with_a_failing_sync(&dir),
        "small-disk" => crate::space::on_a_small_disk(&dir),
        "small-files" => crate::space::with_small_files(&dir),
        "read-only" => crate::faults::in_a_read_only_file(&dir),
        role => panic!("no such role: {role}"),
    }
}
