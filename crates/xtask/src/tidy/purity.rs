//! Core knows no clock, no runtime and no I/O.

use super::source::Name;
use super::tree::{Finding, Tree};

const CORE: &str = "crates/core";
const RUNTIMES: &[&str] = &["tokio", "tokio-util", "tokio-stream", "async-std", "smol", "mio"];
/// What core's product code must not name, with everything below it.
const IMPURE: &[&str] =
    &["tokio", "std::thread", "std::fs", "std::net", "std::process", "std::env", "std::io::stdin"];
/// Clocks: `<this>::now`.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "Timestamp", "Zoned", "Utc"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages.iter().filter(|package| package.dir == CORE) {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            if RUNTIMES.contains(&dependency.name.as_str()) {
                let message = format!("core depends on the runtime {}", dependency.name);
                findings.push(package.finding(tree, &dependency.name, message));
            }
        }
    }
    for (file, source) in tree.rust().filter(|(file, _)| file.is_in(CORE)) {
        for name in source.product_names().filter(|name| is_impure(name)) {
            findings.push(file.finding(name.line, format!("core names `{}`", name.path)));
        }
    }
    findings
}

fn is_impure(name: &Name) -> bool {
    IMPURE.iter().any(|path| name.is_under(path))
        || CLOCKS.iter().any(|clock| name.ends_with(&format!("{clock}::now")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::{Dependency, Package};

    fn count(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn clocks_and_runtimes_are_found() {
        for bad in [
            "fn a() { let now = std::time::Instant::now(); }",
            "use std::time::SystemTime;\nfn a() { SystemTime::now(); }",
            "use std::{sync::Arc, thread};",
            "async fn a() { tokio::spawn(b()); }",
            "use tokio;",
        ] {
            assert_eq!(count("crates/core/src/a.rs", bad), 1, "{bad}");
            assert_eq!(count("crates/bus/src/a.rs", bad), 0, "{bad}");
        }
    }

    #[test]
    fn tests_and_words_are_free() {
        for good in [
            "#[cfg(test)]\nmod tests { use std::thread; fn a() { std::time::Instant::now(); } }",
            "//! Unlike tokio, `Instant::now` is an argument.\nfn a(now: Instant) {}",
            "fn a() { self.now(); }",
        ] {
            assert_eq!(count("crates/core/src/a.rs", good), 0, "{good}");
        }
        assert_eq!(count("crates/core/src/a/tests.rs", "use std::thread;"), 0);
    }

    #[test]
    fn a_runtime_in_the_manifest_is_found_at_its_line() {
        let manifest = "[dependencies]\nbytes = \"1\"\ntokio.workspace = true\n";
        let mut tree = Tree::of(&[("crates/core/Cargo.toml", manifest)]);
        let tokio = |dev| Dependency { name: "tokio".into(), ours: false, dev };
        let core = |dependency| Package {
            name: "swarmbus-core".into(),
            dir: CORE.into(),
            dependencies: vec![dependency],
        };
        tree.packages = vec![core(tokio(false))];
        assert_eq!(check(&tree)[0].line, 3);
        tree.packages = vec![core(tokio(true))];
        assert!(check(&tree).is_empty());
    }
}
