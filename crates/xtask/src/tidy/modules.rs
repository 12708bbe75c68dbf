//! Rules about how a Rust file begins.

use super::tree::{File, Finding, Tree};

pub(super) fn readable(tree: &Tree) -> Vec<Finding> {
    let broken = |file: &File| Some(file.finding(1, file.source()?.as_ref().err()?));
    tree.files.iter().filter_map(broken).collect()
}

pub(super) fn docs(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust().filter(|(file, _)| {
        file.text
            .strip_prefix("//!")
            .is_none_or(|rest| rest.lines().next().unwrap_or("").trim().is_empty())
    });
    silent.map(|(file, _)| file.finding(1, "the module does not open with `//!`")).collect()
}

pub(super) fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        let Some(first) = source.names.iter().find(|name| name.path == "unsafe") else { continue };
        let head = || {
            let outer =
                |line: &&str| line.is_empty() || line.starts_with("//!") || line.starts_with("#!");
            file.text.lines().take_while(outer)
        };
        if !head().any(|line| line.starts_with("#![") && line.contains("(unsafe_code")) {
            findings.push(
                file.finding(first.line, "the file does not open with `#![allow(unsafe_code)]`"),
            );
        }
        if !head().any(|line| line.starts_with("//! #") && line.ends_with("# Safety")) {
            findings.push(file.finding(first.line, "the file's docs have no section `# Safety`"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: fn(&Tree) -> Vec<Finding>, text: &str) -> usize {
        rule(&Tree::of(&[("crates/a/src/b.rs", text)])).len()
    }

    #[test]
    fn a_module_opens_with_its_purpose() {
        assert_eq!(count(docs, "//! Queues.\n\nfn a() {}\n"), 0);
        assert_eq!(count(docs, "use a::b;\n//! Queues.\n"), 1);
        assert_eq!(count(docs, "//!\nfn a() {}\n"), 1);
        assert_eq!(count(docs, ""), 1);
    }

    #[test]
    fn unsafe_needs_its_permission_and_its_argument() {
        let body = "fn a() { unsafe { b() } }\n";
        assert_eq!(count(unsafe_code, &format!("//! Ring.\n\n{body}")), 2);
        assert_eq!(count(unsafe_code, &format!("//! Ring.\n#![allow(unsafe_code)]\n{body}")), 1);
        let good = format!(
            "//! Ring.\n//!\n//! # Safety\n//! One owner.\n\n#![allow(unsafe_code)]\n{body}"
        );
        assert_eq!(count(unsafe_code, &good), 0);
        assert_eq!(count(unsafe_code, "//! Says unsafe only in \"unsafe\" words.\n"), 0);
    }

    #[test]
    fn what_cannot_be_read_is_reported() {
        assert_eq!(count(readable, "//! Ring.\nfn a() {"), 1);
        assert_eq!(count(readable, "//! Ring.\nfn a() {}"), 0);
    }
}
