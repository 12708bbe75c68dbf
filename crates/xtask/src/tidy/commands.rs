//! The commands that the documents show exist.

use std::sync::LazyLock;

use clap::CommandFactory as _;
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use regex::Regex;

use super::tree::{Finding, Tree};

/// The folder with one file per command of the `swarmbus` program.
const COMMANDS: &str = "crates/cli/src/cmd";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    static SHOWN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)(?:^[ \t]*(?:\$ )?|&& )(cargo xtask|swarmbus) ([a-z][a-z0-9-]*)")
            .unwrap_or_else(|error| panic!("{error}"))
    });
    let tasks = crate::Cli::command();
    let mut findings = Vec::new();
    for file in tree.markdown() {
        for (start, code) in shell_code(&file.text) {
            for captures in SHOWN.captures_iter(&code) {
                let (program, word) = (&captures[1], &captures[2]);
                let known = match program {
                    "swarmbus" => is_command(tree, word),
                    _ => word == "help" || tasks.find_subcommand(word).is_some(),
                };
                if !known {
                    let line = file.line_at(start)
                        + code[..captures.get_match().start()].matches('\n').count();
                    findings.push(file.finding(line, format!("there is no `{program} {word}`")));
                }
            }
        }
    }
    findings
}

fn is_command(tree: &Tree, word: &str) -> bool {
    let module = format!("{COMMANDS}/{}", word.replace('-', "_"));
    // Before there is a program there is nothing to compare with.
    !tree.has(COMMANDS) || word == "help" || tree.has(&module) || tree.has(&format!("{module}.rs"))
}

/// Inline code and fenced shell blocks, each with its offset.
fn shell_code(text: &str) -> Vec<(usize, String)> {
    let mut code = Vec::new();
    let mut in_shell = false;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                in_shell = ["sh", "bash", "shell", "console"].contains(&&*language);
            }
            Event::End(TagEnd::CodeBlock) => in_shell = false,
            Event::Text(part) if in_shell => code.push((range.start, part.into_string())),
            Event::Code(part) => code.push((range.start, part.into_string())),
            _ => {}
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let tree = Tree::of(&[("README.md", text), ("crates/cli/src/cmd/load_test.rs", "")]);
        check(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn what_exists_may_be_shown() {
        let good = "Run `cargo xtask tidy`.\n\n```sh\n$ swarmbus load-test --json\ncargo xtask help\n```\n";
        assert!(lines(good).is_empty());
    }

    #[test]
    fn what_does_not_is_found_at_its_line() {
        let bad = "Run `cargo xtask tidi`.\n\n```sh\ncargo xtask test && swarmbus lod-test\n```\n";
        assert_eq!(lines(bad), [1, 4]);
    }

    #[test]
    fn prose_and_other_languages_are_no_commands() {
        assert!(lines("swarmbus delivers.\n\n```rust\nswarmbus delivers\n```\n").is_empty());
    }
}
