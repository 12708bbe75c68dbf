//! What Rust code must not call.

use super::source::Name;
use super::tree::{File, Finding, Tree};

/// Macros that stand for work not done.
const PLACEHOLDERS: &[&str] = &["todo", "unimplemented", "dbg"];

pub(super) fn sleep(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        let sleeps = source.test_names().filter(|name| sleeps(name) && !excused(file, name));
        findings.extend(
            sleeps.map(|name| file.finding(name.line, format!("a test calls `{}`", name.path))),
        );
    }
    findings
}

pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        for name in &source.names {
            if name.in_attribute && name.path == "ignore" {
                findings.push(file.finding(name.line, "a test is switched off"));
            }
            if name.is_macro && PLACEHOLDERS.iter().any(|word| name.ends_with(word)) {
                findings
                    .push(file.finding(name.line, format!("`{}!` is left in the code", name.path)));
            }
        }
    }
    findings
}

fn sleeps(name: &Name) -> bool {
    ["thread::sleep", "time::sleep", "thread::sleep_until", "time::sleep_until"]
        .iter()
        .any(|path| name.ends_with(path))
}

fn excused(file: &File, name: &Name) -> bool {
    let reason = file.line(name.line).split_once("// sleep:").map_or("", |(_, reason)| reason);
    // Under the paused clock tokio's sleep takes no time; the thread's does.
    let virtual_time = name.place.paused && name.path.contains("time::sleep");
    virtual_time || !reason.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: fn(&Tree) -> Vec<Finding>, text: &str) -> usize {
        rule(&Tree::of(&[("crates/a/src/b.rs", text)])).len()
    }

    #[test]
    fn tests_do_not_sleep() {
        assert_eq!(count(sleep, "#[test]\nfn a() { std::thread::sleep(b); }"), 1);
        assert_eq!(count(sleep, "#[cfg(test)]\nmod tests { use tokio::time::{self, sleep}; }"), 1);
        assert_eq!(count(sleep, "#[tokio::test]\nasync fn a() { time::sleep(b).await; }"), 1);
        assert_eq!(
            count(sleep, "#[tokio::test(start_paused = true)]\nfn a() { thread::sleep(b); }"),
            1
        );
        assert_eq!(count(sleep, "#[test]\nfn a() { thread::sleep(b); // sleep:\n}"), 1);
        assert_eq!(
            sleep(&Tree::of(&[("tests/src/a.rs", "fn a() { thread::sleep(b); }")])).len(),
            1
        );
    }

    #[test]
    fn product_code_invented_time_and_reasons_may() {
        assert_eq!(count(sleep, "async fn a() { tokio::time::sleep(b).await; }"), 0);
        assert_eq!(
            count(sleep, "#[tokio::test(start_paused = true)]\nfn a() { time::sleep(b); }"),
            0
        );
        assert_eq!(
            count(sleep, "#[test]\nfn a() { thread::sleep(b); // sleep: the child's clock\n}"),
            0
        );
    }

    #[test]
    fn nothing_is_left_unfinished() {
        assert_eq!(count(unfinished, "#[test]\n#[ignore = \"slow\"]\nfn a() {}"), 1);
        assert_eq!(count(unfinished, "fn a() { todo!() }"), 1);
        assert_eq!(count(unfinished, "fn a() { std::dbg!(b); }"), 1);
        assert_eq!(count(unfinished, "//! No todo!() here.\nfn todo(ignore: u8) {}"), 0);
    }
}
