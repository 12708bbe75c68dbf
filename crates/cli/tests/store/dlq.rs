//! `swarmbus dlq` as its users meet it.

use crate::support::{events, fails, letters, open, output, prints, swarmbus, text};
use serde_json::{Value, json};
use swarmbus::{Bus, Event};
use tempfile::TempDir;

fn listed(dir: &TempDir, args: &str) -> Vec<Value> {
    prints(dir, &format!("dlq list --store events.db --json {args}"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn help_names_every_command() {
    let help = prints(&TempDir::new().unwrap(), "dlq --help");
    for command in ["list", "show", "retry", "purge"] {
        assert!(help.contains(command), "{help}");
    }
}

#[tokio::test]
async fn letters_are_listed_and_shown() {
    let dir = TempDir::new().unwrap();
    letters(&dir).await;
    let all = listed(&dir, "");
    assert_eq!(all.len(), 3);
    assert_eq!((&all[0]["number"], &all[0]["handler"]), (&json!(1), &json!("payment")));
    assert_eq!((&all[0]["reason"], &all[0]["attempts"]), (&json!("failed"), &json!(1)));
    assert_eq!(all[0]["event"]["data"], "text");
    assert_eq!(listed(&dir, "--handler typed").len(), 1);
    assert_eq!(listed(&dir, "--reason payload_mismatch").len(), 1);
    assert_eq!(listed(&dir, "--type order.b").len(), 2);
    assert_eq!(listed(&dir, "--before -1h").len(), 0);
    assert_eq!(listed(&dir, "--limit 2").len(), 2);

    let table = prints(&dir, "dlq list --store events.db");
    assert!(table.contains("bank is"), "{table}");
    assert!(!table.contains('\u{1b}'), "other people's text does not colour the terminal");
    let narrow =
        swarmbus(&dir, "dlq list --store events.db").env("COLUMNS", "40").output().unwrap();
    let narrow = text(&narrow.stdout);
    assert!(narrow.contains("order.a for payment"), "{narrow}");
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    let shown = prints(&dir, "dlq show 2 --store events.db");
    for word in ["payment", "order.b", "not asked for", "\"data\":\"text\""] {
        assert!(shown.contains(word), "{word}\n{shown}");
    }
    let shown: Value =
        serde_json::from_str(&prints(&dir, "dlq show 3 --store events.db --json")).unwrap();
    assert_eq!(shown["handler"], "typed");
}

#[tokio::test]
async fn a_retry_is_made_by_the_next_run_of_the_program() {
    let dir = TempDir::new().unwrap();
    letters(&dir).await;
    let asked = prints(&dir, "dlq retry --store events.db 1");
    assert!(asked.starts_with("1 dead letter will be retried"), "{asked}");
    assert!(prints(&dir, "dlq list --store events.db").contains("to be retried"));
    assert!(prints(&dir, "dlq show 1 --store events.db").contains("asked for at"));
    let asked = prints(&dir, "dlq retry --store events.db --handler payment --json");
    assert_eq!(asked.trim(), r#"{"asked":2,"missing":[]}"#);

    let log = open(&dir);
    let bus = Bus::builder().journal(log.clone()).build().unwrap();
    let payment = bus.subscribe("order.*").name("payment").handle(|_: &Event| ()).unwrap();
    assert_eq!(log.make_retries(&bus).await.unwrap().delivered, 2);
    assert_eq!(payment.outcomes().delivered, 2);
    let left = listed(&dir, "");
    assert_eq!((left.len(), &left[0]["handler"]), (1, &json!("typed")), "while it is open");
}

#[tokio::test]
async fn letters_are_purged() {
    let dir = TempDir::new().unwrap();
    letters(&dir).await;
    let purged = prints(&dir, "dlq purge --store events.db --type order.a");
    assert_eq!(purged.trim(), "1 dead letter purged");
    let purged = prints(&dir, "dlq purge --store events.db --all --json");
    assert_eq!(purged.trim(), r#"{"missing":[],"purged":2}"#);
    assert_eq!(prints(&dir, "dlq list --store events.db").trim(), "no dead letters");
}

#[tokio::test]
async fn mistakes_say_what_to_do() {
    let dir = TempDir::new().unwrap();
    letters(&dir).await;
    for (args, says, code) in [
        ("dlq", "Usage", 2),
        ("dlq list", "--store", 2),
        ("dlq list --store missing.db", "there is no file missing.db", 1),
        ("dlq list --store events.db --reason bored", "payload_mismatch", 2),
        ("dlq list --store events.db --type a..b", "--type a..b", 1),
        ("dlq list --store events.db --limit 0", "limit", 2),
        ("dlq show --store events.db 77", "no dead letter 77: see `swarmbus dlq list`", 1),
        ("dlq show --store events.db one", "invalid digit", 2),
        ("dlq purge --store events.db", "--all", 1),
        ("dlq retry --store events.db 77", "no dead letter 77", 1),
        ("dlq purge --store events.db --all --handler x", "cannot be used with", 2),
        ("dlq purge --store events.db 1 --handler x", "cannot be used with", 2),
    ] {
        let (error, exit) = fails(&dir, args);
        assert!(error.contains(says) && exit == code, "{args}: {exit} {error}");
    }
    assert_eq!(listed(&dir, "").len(), 3, "nothing was changed");
    let some = output(&dir, "dlq purge --store events.db 1 77");
    assert_eq!(some.status.code(), Some(1));
    assert_eq!(text(&some.stdout).trim(), "1 dead letter purged");
}

#[cfg(unix)]
#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let dir = TempDir::new().unwrap();
    letters(&dir).await;
    for args in ["list", "list --json", "show 1", "retry --all"] {
        let mut child = swarmbus(&dir, &format!("dlq {args} --store events.db")).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args}: {}", text(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_log_without_letters_is_no_error() {
    let dir = TempDir::new().unwrap();
    events(&dir, 1).await;
    assert_eq!(prints(&dir, "dlq list --store events.db").trim(), "no dead letters");
    assert_eq!(listed(&dir, "").len(), 0);
    assert_eq!(
        prints(&dir, "dlq retry --all --store events.db --json").trim(),
        r#"{"asked":0,"missing":[]}"#
    );
}
