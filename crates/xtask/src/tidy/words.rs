//! Words that no file should hold, comments and strings included.

use std::sync::LazyLock;

use regex::Regex;

use super::tree::{File, Finding, Tree};

// Joined, so that this file keeps the rules it states.
static MARKER: LazyLock<Regex> = LazyLock::new(|| regex(concat!(r"\b(?:FIX", r"ME|XX", r"X)\b")));

/// Home and work folders, and drive letters. A word or a
/// `~` or `}` in front means that the path is relative to something.
static MACHINE_PATH: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"(?:^|[^\w.~}\-])(/(?:home|root|work|Users)/)",
        r"|\b([A-Z]:\\(?:\\|Users|Windows|Program|Temp|[A-Z]))",
    ))
});

pub(super) fn markers(tree: &Tree) -> Vec<Finding> {
    let files = tree.files.iter().filter(|file| file.is_rust_or_script());
    files.flat_map(|file| matches(file, &MARKER, "is left in the code")).collect()
}

pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().flat_map(|file| matches(file, &MACHINE_PATH, "names a machine")).collect()
}

fn matches(file: &File, pattern: &Regex, message: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if let Some(captures) = pattern.captures(line) {
            let word = captures.iter().flatten().last().map_or("", |found| found.as_str());
            findings.push(file.finding(index + 1, format!("`{word}` {message}")));
        }
    }
    findings
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_in_code_and_comments() {
        let bad = concat!("//! A.\n// FIX", "ME: later\n");
        let findings = markers(&Tree::of(&[("crates/a/src/b.rs", bad)]));
        assert_eq!(findings[0].line, 2);
        let good = "//! FIXMEUP and XXXL are words.\n";
        assert!(markers(&Tree::of(&[("crates/a/src/b.rs", good)])).is_empty());
    }

    /// The tests spell `/` as `|` and `:` as `;`, so that this file passes too.
    fn count(text: &str) -> usize {
        let text = text.replace('|', "/").replace(';', ":");
        machine_paths(&Tree::of(&[("a.md", &text)])).len()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for bad in
            ["cd |home|me", "open(\"|root|x\")", "file;|||work|x", "C;\\Users\\me", "D;\\\\x"]
        {
            assert_eq!(count(bad), 1, "{bad}");
        }
    }

    #[test]
    fn other_paths_are_left_alone() {
        for good in
            ["agents|work|1", "~|work|x", "$HOME|work|x", "${X}|home|y", "A;\\n", "..|work|x"]
        {
            assert_eq!(count(good), 0, "{good}");
        }
    }
}
