//! The architecture decision records: number, form, and who refers to them.

use std::sync::LazyLock;

use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
use regex::Regex;

use super::tree::{File, Finding, Tree};

/// MADR's minimal form and `Confirmation`, in this order.
const SECTIONS: &[&str] =
    &["Context and problem", "Options considered", "Outcome", "Consequences", "Confirmation"];

pub(super) fn numbers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    for file in records(tree) {
        match number(&file.path) {
            None => {
                findings.push(file.finding(1, "the name is not `NNNN-title-in-small-letters.md`"));
            }
            Some(number) if number == expected => expected += 1,
            Some(number) if number < expected => {
                findings.push(file.finding(1, format!("the number {number:04} is taken")));
            }
            Some(number) => {
                findings.push(file.finding(1, format!("the number {expected:04} is missing")));
                expected = number + 1;
            }
        }
    }
    findings
}

pub(super) fn form(tree: &Tree) -> Vec<Finding> {
    records(tree).flat_map(form_of).collect()
}

/// `ADR-NNNN`, `ADR NNNN` and `adrs/NNNN-title.md`, wherever they are written
/// but in unit tests, which may invent some.
pub(super) fn references(tree: &Tree) -> Vec<Finding> {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\bADR[- ](\d{4})\b|\badrs/\d{4}-[\w-]+\.md")
            .unwrap_or_else(|error| panic!("{error}"))
    });
    let mut findings = Vec::new();
    let files = tree.files.iter().filter(|f| f.is_rust_or_script() || f.path.ends_with(".md"));
    for file in files {
        for captures in REFERENCE.captures_iter(&file.text) {
            let all = captures.get_match();
            let line = file.line_at(all.start());
            let exists = match captures.get(1) {
                None => tree.get(all.as_str()).is_some(),
                Some(digits) => {
                    let start = format!("adrs/{}-", digits.as_str());
                    records(tree).any(|record| record.path.starts_with(&start))
                }
            };
            if !exists && !in_unit_test(file, line) {
                findings.push(file.finding(line, format!("there is no `{}`", all.as_str())));
            }
        }
    }
    findings
}

fn in_unit_test(file: &File, line: usize) -> bool {
    let Some(Ok(source)) = file.source() else { return false };
    source.test_lines.iter().any(|range| range.contains(&line))
}

fn records(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.markdown().filter(|file| file.is_in("adrs") && file.path != "adrs/README.md")
}

fn number(path: &str) -> Option<u32> {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^adrs/(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$")
            .unwrap_or_else(|error| panic!("{error}"))
    });
    NAME.captures(path)?[1].parse().ok()
}

fn form_of(file: &File) -> Vec<Finding> {
    let headings = headings(&file.text);
    let mut findings = Vec::new();
    if headings.first().is_none_or(|(level, _)| *level != HeadingLevel::H1) {
        findings.push(file.finding(1, "the record does not open with its title, `# …`"));
    }
    let mut rest = headings.iter();
    for section in SECTIONS {
        // Sections in between are welcome; these five come in their order.
        if !rest.any(|(level, text)| *level == HeadingLevel::H2 && text == section) {
            findings.push(file.finding(1, format!("no section `## {section}` in its place")));
            return findings;
        }
    }
    findings
}

fn headings(text: &str) -> Vec<(HeadingLevel, String)> {
    let mut headings = Vec::new();
    let mut open: Option<(HeadingLevel, String)> = None;
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => open = Some((level, String::new())),
            Event::Text(part) | Event::Code(part) => {
                if let Some((_, text)) = &mut open {
                    text.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => headings.extend(open.take()),
            _ => {}
        }
    }
    headings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sections: &[&str]) -> String {
        let sections: Vec<String> =
            sections.iter().map(|name| format!("## {name}\n\ntext\n")).collect();
        format!("# Use frames\n\n{}", sections.join("\n"))
    }

    #[test]
    fn the_five_sections_are_there_in_order() {
        let count = |text: &str| form(&Tree::of(&[("adrs/0001-a.md", text)])).len();
        assert_eq!(count(&record(SECTIONS)), 0);
        assert_eq!(count(&record(&SECTIONS[..4])), 1);
        let mut turned = SECTIONS.to_vec();
        turned.swap(1, 2);
        assert_eq!(count(&record(&turned)), 1);
        assert_eq!(count(&record(SECTIONS).replacen("# Use frames", "Use frames", 1)), 1);
    }

    #[test]
    fn numbers_have_no_gap_and_no_double() {
        let count = |paths: &[&str]| {
            let files: Vec<(&str, &str)> = paths.iter().map(|path| (*path, "")).collect();
            numbers(&Tree::of(&files)).len()
        };
        assert_eq!(count(&["adrs/0001-a.md", "adrs/0002-b-c.md", "adrs/README.md"]), 0);
        assert_eq!(count(&["adrs/0001-a.md", "adrs/0003-b.md"]), 1);
        assert_eq!(count(&["adrs/0001-a.md", "adrs/0001-b.md"]), 1);
        assert_eq!(count(&["adrs/notes.md"]), 1);
    }

    #[test]
    fn references_meet_a_record() {
        let count = |text: &str| {
            references(&Tree::of(&[("adrs/0001-a.md", ""), ("crates/a/src/b.rs", text)])).len()
        };
        assert_eq!(count("//! See ADR-0001, adrs/0001-a.md."), 0);
        assert_eq!(count("//! See ADR-0002."), 1);
        assert_eq!(count("//! See ADR 0002."), 1);
        assert_eq!(count("//! See adrs/0001-b.md."), 1);
        assert_eq!(count("//! A.\n#[cfg(test)]\nmod tests {\n// ADR-0002\n}"), 0);
    }
}
