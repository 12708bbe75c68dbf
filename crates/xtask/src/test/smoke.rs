//! The program itself, optimised, under load for a second.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::Workspace;

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let args = ["run", "--profile", "lean", "--", "load-test", "--seconds", "1", "--json"];
    let output = workspace.cargo(&args).stdout_capture().unchecked().run()?;
    let report = String::from_utf8(output.stdout).context("the report is not UTF-8")?;
    println!("{}", report.trim_end());
    ensure!(output.status.success(), "`cargo {}`: {}", args.join(" "), output.status);
    check(&report)
}

/// A run counts only when events arrived and the ledger accounts for each.
fn check(report: &str) -> Result<()> {
    let report: Value = serde_json::from_str(report).context("the report is not JSON")?;
    let delivered = report["delivered"].as_u64().context("the report lacks `delivered`")?;
    ensure!(delivered > 0, "no event was delivered");
    ensure!(report["ledger_balanced"] == Value::Bool(true), "the ledger does not balance");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balanced_report_passes() {
        check(r#"{"delivered": 12, "ledger_balanced": true}"#).unwrap();
    }

    #[test]
    fn anything_less_fails() {
        for report in [
            "",
            "done",
            "{}",
            r#"{"delivered": 0, "ledger_balanced": true}"#,
            r#"{"delivered": 12, "ledger_balanced": false}"#,
            r#"{"delivered": 12, "ledger_balanced": "true"}"#,
            r#"{"delivered": 12}"#,
        ] {
            assert!(check(report).is_err(), "{report}");
        }
    }
}
