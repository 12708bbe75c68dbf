//! The program as its users meet it: arguments in, output and exit code out.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use swarmbus::{Event, Timestamp};
use swarmbus_store::{EventLog, LogReader, Query};

/// Longer than anything here takes; only a test that fails waits for it.
#[cfg(target_os = "linux")]
const LONG: Duration = Duration::from_secs(120);

fn swarmbus(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmbus"));
    command.args(args.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(args: &str) -> Output {
    swarmbus(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs a load test for a short while and reads its JSON.
fn load_test(args: &str) -> Value {
    balanced(&output(&format!("load-test --seconds 0.3 --json {args}")))
}

/// Runs for longer and longer, until it has come as far as the test wants: how
/// far that is in a second is the machine's business. The caller asserts it.
fn until(
    mut seconds: f64,
    mut run: impl FnMut(f64) -> Value,
    enough: impl Fn(&Value) -> bool,
) -> Value {
    loop {
        let report = run(seconds);
        if enough(&report) || seconds > 60.0 {
            return report;
        }
        seconds *= 4.0;
    }
}

/// A load test that has come so far that all of these are above 0.
fn load_test_until(args: &str, counts: &[&str]) -> Value {
    let run = |seconds| balanced(&output(&format!("load-test --seconds {seconds} --json {args}")));
    let report = until(0.3, run, |report| counts.iter().all(|path| count(report, path) > 0));
    for path in counts {
        assert!(count(&report, path) > 0, "{path}: {report}");
    }
    report
}

/// The JSON of a run whose books balance.
fn balanced(output: &Output) -> Value {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(out.trim_end().lines().count(), 1, "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ledger_balanced"], true, "{report}");
    assert_eq!(report["imbalances"], serde_json::json!([]), "{report}");
    assert_eq!(report["corrupted"], 0, "{report}");
    report
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn count(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {report}"))
}

/// A run that reads its events from standard input.
fn replay(lines: &str) -> Output {
    let mut child = swarmbus("load-test --seconds 0.3 --json --agents 10 --events -")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever finds an error may stop reading before the end.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn help_names_every_flag() {
    let help = text(&output("load-test --help").stdout);
    for flag in [
        "agents",
        "seconds",
        "payload",
        "workers",
        "mode",
        "overflow",
        "capacity",
        "window",
        "rate",
        "fail-rate",
        "slow-rate",
        "events",
        "store",
        "durability",
        "chaos",
        "panic-rate",
        "stuck-rate",
        "outage",
        "burst",
        "json",
        "seed",
    ] {
        assert!(
            help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n")),
            "{flag}\n{help}"
        );
    }
    assert!(text(&output("--help").stdout).contains("load-test"));
    assert!(!output("").status.success());
}

#[test]
fn wrong_values_say_what_would_be_right() {
    for (args, says) in [
        ("--agents 2", "a coordinator, a worker and a validator, so at least 3"),
        ("--agents many", "invalid digit"),
        ("--agents 10001", "at most 10000"),
        ("--seconds 0", "from 0.01"),
        ("--payload 39", "header alone takes 40 bytes"),
        ("--window 0", "at least 1 task"),
        ("--rate 0", "at least 1 event"),
        ("--fail-rate 1.5", "from 0 (none) to 1 (all)"),
        ("--slow-rate NaN", "from 0 (none) to 1 (all)"),
        ("--mode fast", "queued, inline, batch"),
        ("--overflow none", "reject, drop-oldest, drop-lowest, adaptive"),
        ("--store x --durability none", "commit, group"),
        ("--durability group", "--store <FILE>"),
        ("--chaos --panic-rate 2", "from 0 (none) to 1 (all)"),
        ("--chaos --outage NaN", "from 0 (none) to 86400"),
        ("--chaos --burst 0", "1 is as many as ever"),
        ("--chaos --burst 101", "at most 100"),
        ("--chaos --mode inline", "cannot be used with '--mode"),
        ("--chaos earthquake", "[possible values: "),
        ("--outage 1", "--chaos"),
    ] {
        let output = output(&format!("load-test {args}"));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {error}");
        assert!(error.contains(says), "{args}: {error}");
    }
    for (args, says) in [
        ("--workers 0", "workers must be 1 to"),
        ("--chaos --fail-rate 0.9 --panic-rate 0.2", "more than 1 together"),
        ("--chaos --seconds 1 --outage 2", "--outage is longer than --seconds"),
        ("--chaos cascade --store x", "--chaos cascade has none"),
        ("--chaos cascade --seconds 4.9", "at least 5 --seconds"),
    ] {
        let output = output(&format!("load-test {args}"));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}

#[test]
fn every_mode_balances() {
    for mode in ["queued", "inline", "batch"] {
        let report = load_test_until(&format!("--mode {mode}"), &["/tasks/accepted"]);
        // A result goes to both validators of a team.
        assert!(count(&report, "/delivered") > count(&report, "/published"), "{report}");
        assert_eq!(count(&report, "/outcomes/delivered"), count(&report, "/delivered"));
        assert_eq!(report["settings"]["mode"], mode);
        let times = ["p50_us", "p95_us", "p99_us", "p999_us", "max_us"];
        let used = ["rss_start_mb", "rss_peak_mb", "cpu_seconds", "cpu_ns_per_event"];
        for figure in times.iter().chain(&used) {
            assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
        }
        assert!(count(&report, "/delivered_per_s") > 0);
        assert_eq!(count(&report, "/peak_queue_depth") == 0, mode == "inline", "{report}");
    }
}

#[test]
fn every_overflow_policy_balances_in_a_queue_that_is_too_small() {
    // Whether it overflows is a matter of time: the tests of the bus, whose
    // handlers are held, ask for it.
    for policy in ["reject", "drop-oldest", "drop-lowest", "adaptive"] {
        for mode in ["queued", "batch"] {
            let args = format!("--overflow {policy} --mode {mode} --capacity 16 --workers 2");
            load_test_until(&args, &["/delivered"]);
        }
    }
}

#[test]
fn failures_open_breakers_and_stop_nobody() {
    for mode in ["queued", "inline", "batch"] {
        let report = load_test_until(
            &format!("--fail-rate 0.8 --mode {mode}"),
            &["/outcomes/dead_lettered", "/outcomes/rejected_by_breaker", "/breakers/opens"],
        );
        let [timed_out, unfinished] =
            ["timed_out", "unfinished"].map(|n| count(&report, &format!("/tasks/{n}")));
        assert!(timed_out + unfinished > 0, "{report}");
    }
    let report = load_test("--fail-rate 1 --agents 10");
    assert_eq!(count(&report, "/delivered"), 0);
}

#[test]
fn slow_handlers_are_waited_for() {
    load_test_until("--slow-rate 0.02 --fail-rate 0.02", &["/tasks/accepted"]);
    load_test("--slow-rate 1 --workers 64");
}

#[test]
fn the_smallest_swarm_and_a_limited_rate() {
    let report = load_test_until("--agents 3 --rate 2000", &["/published"]);
    assert_eq!(report["agents"]["workers"], 1);
    let (published, seconds) = (count(&report, "/published"), report["seconds"].as_f64().unwrap());
    // Twice what is allowed, for what was begun before the end is finished.
    assert!((1..(4_000.0 * seconds) as u64).contains(&published), "{report}");
}

#[test]
fn cloud_events_and_plain_lines_are_replayed() {
    let lines = [
        r#"{"specversion":"1.0","id":"1","source":"s","type":"build.done","data":{"a":1},"priority":7}"#,
        r#"{"reason":"compiler-artifact","package_id":"x"}"#,
        "",
        r#"{"no":"type"}"#,
    ];
    let report = balanced(&replay(&lines.join("\n")));
    assert!(count(&report, "/tasks/accepted") > 0, "{report}");
    assert_eq!(count(&report, "/unmatched"), 0);
    assert_eq!(report["settings"]["events"], "-");
}

#[test]
fn a_bad_line_is_named() {
    for (lines, says) in [
        ("{}\n{\"a\":1}\nnonsense\n", "standard input, line 3: not a JSON object"),
        ("{\"specversion\":\"1.0\",\"type\":\"t\"}", "standard input, line 1: not a CloudEvents"),
        ("\n\n", "standard input has no events"),
    ] {
        let output = replay(lines);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    let missing = output("load-test --events no/such/file");
    assert!(
        text(&missing.stderr).contains("cannot open no/such/file"),
        "{}",
        text(&missing.stderr)
    );
}

#[test]
fn the_log_says_what_the_bus_says() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, durability) in [("queued", "commit"), ("inline", "group"), ("batch", "group")] {
        let file = dir.path().join(mode);
        let stored = format!("--store {} --durability {durability}", file.display());
        let mut published = 0;
        let run = |seconds| {
            let args = format!("--seconds {seconds} --json {stored} --mode {mode} --fail-rate 0.2");
            let report = balanced(&output(&format!("load-test {args}")));
            let more = count(&report, "/published");
            assert_eq!(count(&report, "/store/appended"), more, "{report}");
            published += more;
            report
        };
        let report = until(0.3, run, |report| count(report, "/store/dead") > 0);
        assert_eq!(count(&report, "/store/pending"), 0, "{report}");
        assert!(count(&report, "/store/dead") > 0, "{report}");
        assert!(count(&report, "/store/commits") > 0, "{report}");
        assert_eq!(report["settings"]["durability"], durability);
        // Once more: what is there is not counted again.
        let report = load_test(&stored);
        assert_eq!(count(&report, "/store/appended"), count(&report, "/published"), "{report}");
        let all = LogReader::open(&file).unwrap().count(&Query::new()).unwrap();
        assert_eq!(all.total(), published + count(&report, "/published"));
    }
}

/// Leaves a log with a pending event of this source.
async fn pending_event_in(file: &Path, source: &str) {
    let log = EventLog::open(file).unwrap();
    let event = Event::of("worker.0.task", "text")
        .with_source(source)
        .with_id("1")
        .with_timestamp(Timestamp::from_micros(1).unwrap());
    log.append(&[event]).await.unwrap();
    log.close().await.unwrap();
}

#[tokio::test]
async fn what_an_earlier_load_test_left_is_settled_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let run =
        |file: &Path| output(&format!("load-test --seconds 0.3 --json --store {}", file.display()));
    let pending = |file| LogReader::open(file).unwrap().count(&Query::new()).unwrap().pending;

    pending_event_in(&ours, "worker-7").await;
    let done = run(&ours);
    assert!(text(&done.stderr).contains("1 pending events of an earlier load test"));
    let report = balanced(&done);
    assert_eq!(count(&report, "/store/taken_over"), 1);
    assert_eq!(count(&report, "/store/appended"), count(&report, "/published"));
    assert_eq!(pending(&ours), 0);

    pending_event_in(&theirs, "payments").await;
    let refused = run(&theirs);
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains("\"payments\"") && error.contains("name another file"), "{error}");
    assert_eq!(pending(&theirs), 1);
}

#[test]
fn a_log_that_cannot_be_used_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("text"), "this is no database, whatever its name says").unwrap();
    let taken = EventLog::open(file("taken")).unwrap();
    for (name, says) in [
        ("missing/events.db", "make its folder"),
        ("text", "name another file"),
        ("taken", "close that one first"),
        ("", "cannot open"),
    ] {
        let output = output(&format!("load-test --store {}", file(name).display()));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with("error: cannot use --store: "), "{error}");
        assert!(error.contains(says), "{error}");
        assert!(output.stdout.is_empty());
    }
    drop(taken);
}

/// All ends of events in a report of the chaos.
fn ends(report: &Value) -> u64 {
    let balance = report["balance"].as_object().unwrap();
    balance.values().map(|n| n.as_u64().unwrap()).sum()
}

/// The JSON of a run in which nothing was lost. Whether a service was served
/// again in time, and what helped how much, is a matter of time: the unit tests
/// of the chaos ask for it, under the paused clock.
fn chaos(args: &str) -> Value {
    let output = output(&format!("load-test --chaos --json {args}"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    let late = report.pointer("/recovery/in_time") == Some(&false.into());
    assert_eq!(output.status.code(), Some(i32::from(late)), "{out}{err}");
    assert_eq!(report["ledger_balanced"], true, "{report}");
    assert_eq!(count(&report, "/balance/unaccounted"), 0, "{report}");
    assert_eq!(ends(&report), count(&report, "/published"), "{report}");
    report
}

#[test]
fn chaos_is_accounted_for() {
    let wanted = [
        "/balance/delivered_after_retries",
        "/calls/retries",
        "/calls/failed",
        "/calls/panicked",
        "/calls/timed_out",
        "/calm/delivered",
        "/chaos/delivered",
    ];
    let run = |seconds| chaos(&format!("--seconds {seconds} --stuck-rate 0.005"));
    let report = until(2.0, run, |report| wanted.iter().all(|path| count(report, path) > 0));
    assert_eq!(report["scenario"], "faults");
    for path in wanted {
        assert!(count(&report, path) > 0, "{path}: {report}");
    }
    for figure in ["service", "down_for_s", "opened", "asked_s", "in_time"] {
        assert!(report["recovery"].get(figure).is_some(), "{figure}: {report}");
    }
}

/// That breakers help is shown where time cannot get in the way: in the unit
/// test of the chain.
#[test]
fn a_cascade_is_accounted_for() {
    let cascade = output("load-test --chaos cascade --json");
    let report: Value = serde_json::from_str(&text(&cascade.stdout)).unwrap();
    assert_eq!(report["scenario"], "cascade");
    let [without, with] = ["without_breakers", "with_breakers"].map(|run| {
        let figure = |name| count(&report, &format!("/{run}/{name}"));
        let hit = figure("failed") + figure("held_up");
        assert_eq!(figure("calls"), 1_500, "{report}");
        assert!(hit + figure("hit_before") + figure("in_need") <= 1_500, "{report}");
        hit
    });
    assert_eq!(count(&report, "/without_breakers/trips"), 0, "{report}");
    let halved = (without > 0).then_some(with * 2 <= without);
    assert_eq!(report["halved"].as_bool(), halved, "{report}");
    assert_eq!(cascade.status.code(), Some(i32::from(halved == Some(false))), "{report}");
}

#[test]
fn the_log_has_every_event_of_the_chaos() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("--store {}", dir.path().join("events.db").display());
    let small = "--seconds 1 --capacity 32 --workers 2 --burst 50 --stuck-rate 0.1";
    let report = chaos(&format!("{small} --overflow drop-oldest {store} --durability group"));
    // Whether the queue overflows is a matter of time: the tests of the log,
    // with a handler that is held, ask for it.
    assert_eq!(count(&report, "/store/appended"), count(&report, "/published"));
    let what_if = output(&format!("replay {store} --what-if retries=0,breaker=off --json"));
    let what_if: Value = serde_json::from_str(&text(&what_if.stdout)).unwrap();
    assert_eq!(count(&what_if, "/recorded/calls"), count(&report, "/calls/begun"), "{what_if}");
}

#[test]
fn the_table_shows_what_matters_and_fits() {
    let table = text(&output("load-test --seconds 0.2").stdout);
    for row in ["published", "delivered", "publish → handler", "p99.9", "ledger", "balances"] {
        assert!(table.contains(row), "{row}\n{table}");
    }
    for args in ["", "--chaos"] {
        let mut narrow = swarmbus(&format!("load-test --seconds 0.2 {args}"));
        let table = text(&narrow.env("COLUMNS", "50").output().unwrap().stdout);
        assert!(table.lines().all(|line| line.chars().count() <= 50), "{table}");
    }
}

/// A load test that got Ctrl-C in the middle.
#[cfg(target_os = "linux")]
fn interrupted(args: &str) -> Output {
    let child = swarmbus(&format!("load-test --seconds 600 {args}")).spawn().unwrap();
    let pid = child.id().to_string();
    let started = std::time::Instant::now();
    while !(catches_interrupts(&pid) && has_worked(&pid)) {
        assert!(started.elapsed() < LONG, "it never begins");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[cfg(target_os = "linux")]
fn catches_interrupts(pid: &str) -> bool {
    const SIGINT: u64 = 2;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (SIGINT - 1) != 0
}

/// Whether it has used a tenth of a second of processor time.
#[cfg(target_os = "linux")]
fn has_worked(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(11).unwrap().parse::<u64>().unwrap() >= 10
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_drains_and_still_reports() {
    for args in ["--json", "--json --slow-rate 0.1", "--json --fail-rate 0.5 --capacity 16"] {
        let report = balanced(&interrupted(args));
        assert_eq!(report["interrupted"], true);
        assert!(report["seconds"].as_f64().unwrap() < 600.0);
        assert!(count(&report, "/published") > 0);
    }
    for args in ["", "--chaos", "--chaos cascade"] {
        let table = text(&interrupted(args).stdout);
        assert!(table.contains("interrupted"), "{table}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = swarmbus("load-test --seconds 0.2").spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
