//! A Rust file as the rules see it: every path it names, with the line and
//! whether test code names it. Comments and strings are no code and are not seen.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The names in a file.
pub(super) struct Source {
    pub(super) names: Vec<Name>,
    /// Lines of items that exist in tests alone, attributes included.
    pub(super) test_lines: Vec<RangeInclusive<usize>>,
    /// The whole file is test code.
    pub(super) is_test: bool,
}

/// A path as written, with `use` trees spread out: `use a::{b, c}` names
/// `a::b` and `a::c`.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) place: Place,
    /// Followed by `!`.
    pub(super) is_macro: bool,
    /// Named inside `#[…]`.
    pub(super) in_attribute: bool,
}

/// What surrounds a name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) in_test: bool,
    /// In a function under `start_paused`, where sleeping takes no time.
    pub(super) paused: bool,
}

impl Source {
    /// Splits `text` into tokens as the compiler would.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| {
            format!("{error} at line {}", error.span().start().line)
        })?;
        let is_test = is_test_file(path);
        let mut source = Self { names: Vec::new(), test_lines: Vec::new(), is_test };
        source.walk(tokens, &[], Place { in_test: is_test, paused: false });
        Ok(source)
    }

    pub(super) fn test_names(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().filter(|name| name.place.in_test)
    }

    pub(super) fn product_names(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().filter(|name| !name.place.in_test)
    }

    /// `prefix` is the path in front of the braces of a `use` tree.
    fn walk(&mut self, tokens: TokenStream, prefix: &[String], around: Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut around = around;
        // Attributes hold from their `#` to the end of the item after them.
        let mut item: Option<(usize, Place)> = None;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let place = item.map_or(around, |(_, place)| place);
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let inner = is_punct(tokens.get(at + 1), '!');
                    let Some(TokenTree::Group(group)) = tokens.get(at + 1 + usize::from(inner))
                    else {
                        at += 1;
                        continue;
                    };
                    let place = attribute_place(group, place);
                    if inner {
                        around = place;
                    } else {
                        let start = item.map_or(punct.span().start().line, |(start, _)| start);
                        item = Some((start, place));
                    }
                    self.attribute(group, place);
                    at += 2 + usize::from(inner);
                    continue;
                }
                TokenTree::Ident(_) => {
                    at = self.path(&tokens, at, prefix, place);
                    // A brace that ends a `use` tree is not the end of the item.
                    continue;
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), &[], place);
                    if group.delimiter() == Delimiter::Brace {
                        self.end_item(item.take(), group.span_close().end().line, around);
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    self.end_item(item.take(), punct.span().start().line, around);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    fn end_item(&mut self, item: Option<(usize, Place)>, last: usize, around: Place) {
        if let Some((first, place)) = item
            && place.in_test
            && !around.in_test
        {
            self.test_lines.push(first..=last);
        }
    }

    fn attribute(&mut self, group: &Group, place: Place) {
        let before = self.names.len();
        self.walk(group.stream(), &[], place);
        for name in &mut self.names[before..] {
            name.in_attribute = true;
        }
    }

    /// Reads the path that starts at `at`; returns where it ends.
    fn path(&mut self, tokens: &[TokenTree], at: usize, prefix: &[String], place: Place) -> usize {
        let line = tokens[at].span().start().line;
        let mut segments = prefix.to_vec();
        segments.push(tokens[at].to_string());
        let mut end = at + 1;
        while is_punct(tokens.get(end), ':') && is_punct(tokens.get(end + 1), ':') {
            match tokens.get(end + 2) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
                Some(TokenTree::Group(tree)) if tree.delimiter() == Delimiter::Brace => {
                    self.walk(tree.stream(), &segments, place);
                    return end + 3;
                }
                _ => break,
            }
            end += 3;
        }
        let is_macro = is_punct(tokens.get(end), '!') && !is_punct(tokens.get(end + 1), '=');
        let path = segments.join("::");
        self.names.push(Name { path, line, place, is_macro, in_attribute: false });
        end
    }
}

impl Name {
    /// The path is `path` or goes on below it.
    pub(super) fn is_under(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }

    /// The path ends with the segments of `path`.
    pub(super) fn ends_with(&self, path: &str) -> bool {
        self.path.strip_suffix(path).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
    }
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

fn is_test_file(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default();
    file == "tests.rs" || file.ends_with("_tests.rs") || parts.any(|part| part == "tests")
}

/// The place of what follows (or, for `#![…]`, surrounds) an attribute.
fn attribute_place(group: &Group, around: Place) -> Place {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let head = tokens.first().map(ToString::to_string).unwrap_or_default();
    let arguments = tokens.iter().rev().find_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    });
    let conditional = head == "cfg" && arguments.clone().is_some_and(needs_test);
    // `#[test]`, and `#[tokio::test(…)]` and its like.
    let last = tokens.iter().rev().find(|token| !matches!(token, TokenTree::Group(_)));
    let is_test_function = last.is_some_and(|token| token.to_string() == "test");
    let mentions = |word: &str| {
        arguments.clone().is_some_and(|a| a.into_iter().any(|token| token.to_string() == word))
    };
    Place {
        in_test: around.in_test || conditional || is_test_function,
        paused: around.paused || (is_test_function && mentions("start_paused")),
    }
}

/// Whether a `cfg` holds in test builds (or loom's model checking) alone.
fn needs_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    let mut parts =
        tokens.split(|token| is_punct(Some(token), ',')).filter(|part| !part.is_empty());
    parts.any(|part| match part {
        [TokenTree::Ident(word)] => word == "test" || word == "loom",
        [TokenTree::Ident(word), TokenTree::Group(group)] if word == "all" => {
            needs_test(group.stream())
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let source = Source::parse("src/a.rs", text).unwrap();
        source.names.into_iter().map(|name| name.path).collect()
    }

    fn product(text: &str) -> Vec<String> {
        let source = Source::parse("src/a.rs", text).unwrap();
        source.product_names().map(|name| name.path.clone()).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        let found = names("use std::{thread, sync::{Arc, atomic::*}};");
        assert!(found.contains(&"std::thread".to_owned()), "{found:?}");
        assert!(found.contains(&"std::sync::Arc".to_owned()), "{found:?}");
        assert!(found.contains(&"std::sync::atomic::*".to_owned()), "{found:?}");
    }

    #[test]
    fn comments_strings_and_docs_are_not_code() {
        let text =
            "//! tokio::spawn\n/// tokio\nfn f() { /* tokio */ g(\"tokio::x\", 't'); } // tokio";
        assert!(!names(text).iter().any(|name| name.contains("tokio")));
    }

    #[test]
    fn test_code_is_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c::d(); } }\nfn e() {}";
        let found = product(text);
        assert!(
            found.contains(&"e".to_owned()) && !found.contains(&"c::d".to_owned()),
            "{found:?}"
        );
        assert_eq!(Source::parse("src/a.rs", text).unwrap().test_lines, [2..=3]);
    }

    #[test]
    fn conditions_that_hold_elsewhere_too_are_product_code() {
        for condition in ["not(test)", "any(test, windows)", "feature = \"test\""] {
            assert!(product(&format!("#[cfg({condition})] fn a() {{}}")).contains(&"a".into()));
        }
        for condition in ["test", "all(test, not(loom))", "all(unix, test)", "loom"] {
            assert!(!product(&format!("#[cfg({condition})] fn a() {{}}")).contains(&"a".into()));
        }
    }

    #[test]
    fn a_test_only_import_does_not_hide_what_follows() {
        let found =
            product("#[cfg(test)]\nuse a::{b, c};\nfn d() {}\n#[cfg(test)] mod tests;\nfn e() {}");
        assert!(found.contains(&"d".to_owned()) && found.contains(&"e".to_owned()), "{found:?}");
        assert!(!found.contains(&"a::b".to_owned()), "{found:?}");
    }

    #[test]
    fn attributes_and_macros_are_marked() {
        let source =
            Source::parse("src/a.rs", "#[ignore = \"x\"] fn f() { g!(); a != b; }").unwrap();
        let name = |path: &str| source.names.iter().find(|name| name.path == path).unwrap();
        assert!(name("ignore").in_attribute);
        assert!(name("g").is_macro && !name("g").in_attribute);
        assert!(!name("a").is_macro);
    }

    #[test]
    fn the_paused_clock_covers_its_function_alone() {
        let text = "#[tokio::test(start_paused = true)]\nasync fn a() { b::c(); }\n#[tokio::test]\nasync fn d() {}";
        let source = Source::parse("src/a.rs", text).unwrap();
        let place = |path: &str| source.names.iter().find(|name| name.path == path).unwrap().place;
        assert!(place("b::c").paused && place("b::c").in_test);
        assert!(!place("d").paused && place("d").in_test);
    }

    #[test]
    fn files_of_tests_are_known_by_their_name() {
        assert!(is_test_file("tests/src/flow.rs") && is_test_file("crates/a/src/b/tests.rs"));
        assert!(!is_test_file("crates/a/src/contests.rs") && !is_test_file("crates/a/src/test.rs"));
    }

    #[test]
    fn half_a_file_is_an_error_with_a_line() {
        assert!(Source::parse("src/a.rs", "fn a() {\n(\n}").err().unwrap().contains("line"));
    }
}
