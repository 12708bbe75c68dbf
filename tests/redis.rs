//! Each fault of the chaos run on Redis once, with few events.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::Command;

#[test]
fn what_redis_breaks_is_repaired_or_reported() {
    let chaos = Command::new(env!("CARGO_BIN_EXE_redis-chaos")).arg("--quick").output().unwrap();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(chaos.status.success(), "{}{}", shown(&chaos.stderr), shown(&chaos.stdout));
}
