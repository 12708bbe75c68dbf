//! `swarmbus replay` as its users meet it.

use crate::support::{events, fails, letters, output, prints, swarmbus, text};
use serde_json::Value;
use tempfile::TempDir;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn help_names_every_flag() {
    let help = prints(&TempDir::new().unwrap(), "replay --help");
    for flag in ["store", "from", "to", "type", "speed", "dry-run", "what-if", "baseline", "json"] {
        assert!(help.contains(&format!("--{flag}")), "{flag}\n{help}");
    }
    assert!(help.contains("JSON Lines on standard output"), "{help}");
}

#[tokio::test]
async fn events_are_cloud_events_in_order() {
    let dir = TempDir::new().unwrap();
    events(&dir, 600).await;
    let all = lines(&prints(&dir, "replay --store events.db"));
    assert_eq!(all.len(), 600);
    for (n, event) in all.iter().enumerate() {
        assert_eq!(
            (event["data"]["n"].as_u64(), event["specversion"].as_str()),
            (Some(n as u64), Some("1.0"))
        );
    }
    let some = "replay --store events.db --from 2026-01-01T00:00:10Z --to 2026-01-01T00:00:20Z";
    assert_eq!(lines(&prints(&dir, some)).len(), 10);
    assert_eq!(lines(&prints(&dir, &format!("{some} --type *.done"))).len(), 5);
    assert_eq!(lines(&prints(&dir, &format!("{some} --type /.*created/ --speed 1000"))).len(), 5);
    assert_eq!(prints(&dir, "replay --store events.db --to 2026-01-01T00:00:00Z"), "");
    assert_eq!(prints(&dir, "replay --store events.db --from -1m --to now"), "");
}

#[tokio::test]
async fn a_dry_run_counts() {
    let dir = TempDir::new().unwrap();
    events(&dir, 7).await;
    let report: Value =
        serde_json::from_str(&prints(&dir, "replay --store events.db --dry-run --json")).unwrap();
    assert_eq!(report["events"], 7);
    assert_eq!(report["from"], "2026-01-01T00:00:00Z");
    assert_eq!(
        report["types"][1],
        serde_json::json!({
            "type": "task.done",
            "events": 3,
            "first": "2026-01-01T00:00:01Z",
            "last": "2026-01-01T00:00:05Z",
        })
    );
    let table = prints(&dir, "replay --store events.db --dry-run");
    assert!(table.contains("task.created") && table.contains("7 events in all"), "{table}");
    let none = prints(&dir, "replay --store events.db --dry-run --type other");
    assert_eq!(none.trim(), "no events");
}

#[tokio::test]
async fn what_if_compares() {
    let dir = TempDir::new().unwrap();
    letters(&dir).await;
    let report: Value = serde_json::from_str(&prints(
        &dir,
        "replay --store events.db --what-if failures=1,scope=handler --json",
    ))
    .unwrap();
    assert_eq!(report["recorded"]["dead_lettered"], 3);
    assert_eq!(report["baseline"]["dead_lettered"], 3);
    assert_eq!(report["changed"]["rejected_by_breaker"], 1, "{report}");
    let table = prints(&dir, "replay --store events.db --what-if failures=1,scope=handler");
    for word in ["recorded", "baseline", "what if", "payment", "open for", "+1"] {
        assert!(table.contains(word), "{word}\n{table}");
    }
    let narrow = swarmbus(&dir, "replay --store events.db --what-if failures=1")
        .env("COLUMNS", "40")
        .output()
        .unwrap();
    assert!(narrow.status.success());
    let narrow = text(&narrow.stdout);
    assert!(
        narrow.lines().filter(|l| l.contains('│')).all(|l| l.chars().count() <= 40),
        "{narrow}"
    );
}

#[tokio::test]
async fn mistakes_say_what_to_do() {
    let dir = TempDir::new().unwrap();
    events(&dir, 1).await;
    std::fs::write(dir.path().join("other.txt"), "this is no database, but long enough").unwrap();
    std::fs::write(dir.path().join("empty.db"), "").unwrap();
    for (args, says, code) in [
        ("replay", "--store", 2),
        ("replay --store missing.db", "there is no file missing.db", 1),
        ("replay --store other.txt", "no SQLite database", 1),
        ("replay --store empty.db", "not an event log yet", 1),
        ("replay --store .", ". is a folder: --store names the file in it", 1),
        ("replay --store /dev/null", "/dev/null is no file", 1),
        ("replay --store events.db --from 2026-01-31T12:00:00", "2026-01-31T12:00:00Z is UTC", 2),
        ("replay --store events.db --from 2026-01-31", "2026-01-31T00:00:00Z", 2),
        ("replay --store events.db --from -1h --to -2h", "--from must be before --to", 1),
        ("replay --store events.db --what-if retries=1001", "at most 1000", 2),
        ("replay --store events.db --from yesterday", "-2d12h", 2),
        ("replay --store events.db --speed 0", "above 0", 2),
        ("replay --store events.db --type a..b", "pattern", 2),
        ("replay --store events.db --what-if failures", "has no value", 2),
        ("replay --store events.db --baseline failures=1", "--what-if", 2),
        ("replay --store events.db --dry-run --speed 2", "cannot be used with", 2),
        ("replay --store events.db --what-if retries=1", "no handler calls", 1),
    ] {
        let (error, exit) = fails(&dir, args);
        assert!(error.contains(says) && exit == code, "{args}: {exit} {error}");
    }
    assert!(!dir.path().join("missing.db").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let dir = TempDir::new().unwrap();
    events(&dir, 300).await;
    for args in ["", "--speed 10000", "--dry-run"] {
        let mut child =
            swarmbus(&dir, &format!("replay --store events.db {args}")).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args}: {}", text(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn ctrl_c_says_where_to_go_on() {
    use std::io::{BufRead, BufReader, Read};

    let dir = TempDir::new().unwrap();
    events(&dir, 1_000).await;
    let mut child = swarmbus(&dir, "replay --store events.db --speed 1").spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"n\":0"), "{line}");
    // With the second, the first is known to be done.
    out.read_line(&mut line).unwrap();
    interrupt(child.id());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let says = text(&output.stderr);
    assert!(says.contains("to go on: --from 2026-01-01T00:00:0"), "{says}");
}

/// Lines may be on their way when Ctrl-C comes: those are not done.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn ctrl_c_leaves_no_event_out() {
    use std::io::{BufRead, BufReader, Read};

    let dir = TempDir::new().unwrap();
    events(&dir, 1_500).await;
    let mut child = swarmbus(&dir, "replay --store events.db").spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    // More than one write's worth. The rest does not fit into the pipe.
    for _ in 0..500 {
        out.read_line(&mut printed).unwrap();
    }
    interrupt(child.id());
    // Before more is read, or it may come to its end.
    assert_eq!(child.wait().unwrap().code(), Some(130));
    out.read_to_string(&mut printed).unwrap();
    let mut says = String::new();
    child.stderr.take().unwrap().read_to_string(&mut says).unwrap();
    let (after, from) = says.trim().split_once(" events; to go on: --from ").unwrap();
    let after: usize = after.strip_prefix("interrupted after ").unwrap().parse().unwrap();
    let whole = printed.rfind('\n').unwrap();
    let printed = lines(&printed[..whole]);
    assert!((1..=printed.len()).contains(&after), "{after} of {}", printed.len());
    assert_eq!(printed[after - 1]["time"], from);
}

/// Sends what Ctrl-C sends, once the process waits for it.
#[cfg(target_os = "linux")]
fn interrupt(process: u32) {
    let pid = process.to_string();
    let started = std::time::Instant::now();
    while !catches_interrupts(&pid) {
        assert!(started.elapsed().as_secs() < 120, "it never waits for Ctrl-C");
        std::thread::yield_now();
    }
    let kill = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(kill.success());
}

#[cfg(target_os = "linux")]
fn catches_interrupts(pid: &str) -> bool {
    const SIGINT: u64 = 2;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (SIGINT - 1) != 0
}

#[tokio::test]
async fn an_empty_log_is_no_error() {
    let dir = TempDir::new().unwrap();
    events(&dir, 0).await;
    let output = output(&dir, "replay --store events.db");
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(text(&output.stderr), "note: no events\n");
    assert_eq!(prints(&dir, "replay --store events.db --dry-run").trim(), "no events");
}
