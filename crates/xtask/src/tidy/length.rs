//! How long a file may be.

use super::tree::{File, Finding, Tree};

/// Lines without those of test items. The aim is 300; past this a file has two jobs.
const SOURCE: usize = 500;
/// Lines of a file that holds nothing but tests.
const TESTS: usize = 1000;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter_map(check_file).collect()
}

fn check_file(file: &File) -> Option<Finding> {
    let lines = file.text.lines().count();
    let (lines, limit) = match file.source() {
        Some(Ok(source)) if source.is_test => (lines, TESTS),
        Some(Ok(source)) => (
            lines - source.test_lines.iter().map(|range| range.clone().count()).sum::<usize>(),
            SOURCE,
        ),
        Some(Err(_)) => return None,
        None if is_test_script(&file.path) => (lines, TESTS),
        None if file.is_rust_or_script() => (lines, SOURCE),
        None => return None,
    };
    (lines > limit).then(|| file.finding(limit + 1, format!("{lines} lines, {limit} are allowed")))
}

/// Tests in TypeScript and JavaScript go by their folder or their double extension.
fn is_test_script(path: &str) -> bool {
    [".test.", ".spec.", "/test/", "/tests/"].iter().any(|mark| path.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn tests_do_not_count_against_the_source() {
        let code = "fn a() {}\n".repeat(SOURCE);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn b() {}\n".repeat(400));
        assert_eq!(count("crates/a/src/b.rs", &format!("{code}{tests}")), 0);
        assert_eq!(count("crates/a/src/b.rs", &format!("{code}fn c() {{}}\n{tests}")), 1);
    }

    #[test]
    fn files_of_tests_have_a_limit_of_their_own() {
        assert_eq!(count("crates/a/src/tests.rs", &"fn a() {}\n".repeat(TESTS)), 0);
        assert_eq!(count("crates/a/src/tests.rs", &"fn a() {}\n".repeat(TESTS + 1)), 1);
    }

    #[test]
    fn scripts_count_and_documents_do_not() {
        let text = "x\n".repeat(SOURCE + 1);
        assert_eq!(count("js-bindings/src/a.ts", &text), 1);
        assert_eq!(count("js-bindings/test/a.test.ts", &text), 0);
        assert_eq!(count("README.md", &text), 0);
    }
}
