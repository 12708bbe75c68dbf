//! What the documents point at exists.

use std::collections::HashMap;
use std::sync::LazyLock;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;

use super::tree::{File, Finding, Tree};

pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.markdown() {
        for (event, range) in parser(&file.text).into_offset_iter() {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event
                && let Err(message) = resolve(tree, file, &dest_url)
            {
                findings.push(file.finding(file.line_at(range.start), message));
            }
        }
    }
    findings
}

/// Files named in `code` of a document, by their path from the root.
pub(super) fn named_files(tree: &Tree) -> Vec<Finding> {
    static FILE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"^(?:crates|wasm|js-bindings|benches|tests|adrs|xtask|\.ci|\.cargo)/[\w./-]+\.(?:rs|md|toml|lua|ts)$";
        Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
    });
    let mut findings = Vec::new();
    for file in tree.markdown() {
        for (event, range) in parser(&file.text).into_offset_iter() {
            if let Event::Code(path) = event
                && FILE.is_match(&path)
                && !tree.has(&path)
            {
                let message = format!("there is no file `{path}`");
                findings.push(file.finding(file.line_at(range.start), message));
            }
        }
    }
    findings
}

fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES)
}

fn resolve(tree: &Tree, file: &File, link: &str) -> Result<(), String> {
    let has_scheme = link.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    });
    if has_scheme || link.starts_with("//") {
        return Ok(());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { Some(file.path.clone()) } else { join(&file.path, path) };
    let target = target.ok_or_else(|| format!("`{link}` leads out of the repository"))?;
    if !target.is_empty() && !tree.has(&target) {
        return Err(format!("`{link}` leads nowhere: there is no `{target}`"));
    }
    match tree.get(&target) {
        Some(document) if !anchor.is_empty() && target.ends_with(".md") => {
            let found = anchors(&document.text).iter().any(|known| known == anchor);
            found.then_some(()).ok_or_else(|| format!("`{target}` has no heading `#{anchor}`"))
        }
        _ => Ok(()),
    }
}

/// `path` as seen from the folder of the file `from`; `None` above the root.
fn join(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> =
        if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    // The file itself is not a folder.
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that GitHub makes of the headings.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut heading: Option<String> = None;
    for event in parser(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let slug = slug(&heading.take().unwrap_or_default());
                let times = seen.entry(slug.clone()).or_default();
                anchors.push(if *times == 0 { slug } else { format!("{slug}-{times}") });
                *times += 1;
            }
            _ => {}
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        let files = [
            ("adrs/0001-a.md", text),
            ("README.md", "# The `bus`: why?\n## Run\n## Run\n"),
            ("crates/core/src/lib.rs", ""),
        ];
        links(&Tree::of(&files)).len()
    }

    #[test]
    fn links_that_resolve_pass() {
        for good in [
            "[a](../README.md)",
            "[a](../README.md#the-bus-why) [b](../README.md#run-1)",
            "[a](../crates/core) [b](../crates/core/src/lib.rs#L10)",
            "# Here\n[a](#here) [b](/README.md) [c](..)",
            "[a](https://example.org/x.md) <mailto:a@b.c>",
            "`[a](nowhere.md)`",
            "[a]: ../README.md\n[see][a]",
        ] {
            assert_eq!(count(good), 0, "{good}");
        }
    }

    #[test]
    fn links_that_do_not_are_found() {
        for bad in [
            "[a](README.md)",
            "[a](../README.md#nothing)",
            "[a](../../README.md)",
            "![a](../picture.png)",
            "[a](#nothing)",
            "[a]: ../nothing.md\n\n[see][a]",
        ] {
            assert_eq!(count(bad), 1, "{bad}");
        }
    }

    #[test]
    fn a_finding_knows_its_line() {
        let tree = Tree::of(&[("a.md", "# A\n\ntext\n[b](c.md)\n")]);
        assert_eq!(links(&tree)[0].line, 4);
    }

    #[test]
    fn files_named_in_code_exist() {
        let text = "`crates/a/src/b.rs` `crates/<name>/x.rs` `adrs/NNNN.md and more` `bus.rs`";
        assert_eq!(named_files(&Tree::of(&[("a.md", text), ("crates/a/src/b.rs", "")])).len(), 0);
        assert_eq!(named_files(&Tree::of(&[("a.md", text)])).len(), 1);
    }
}
