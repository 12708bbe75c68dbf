//! Who may depend on whom.

use super::source::Source;
use super::tree::{File, Finding, Package, Tree};

/// The packages of the product, each with those it may build on.
const LAYERS: &[(&str, &[&str])] = &[
    ("swarmbus-core", &[]),
    ("swarmbus", &["swarmbus-core"]),
    ("swarmbus-redis", &["swarmbus-core", "swarmbus"]),
    ("swarmbus-store", &["swarmbus-core", "swarmbus"]),
    ("swarmbus-gateway", &["swarmbus-core", "swarmbus", "swarmbus-redis", "swarmbus-store"]),
    (
        "swarmbus-cli",
        &["swarmbus-core", "swarmbus", "swarmbus-redis", "swarmbus-store", "swarmbus-gateway"],
    ),
    ("swarmbus-wasm", &["swarmbus-core"]),
];

/// Folders of packages that are built on everything and that nothing builds on.
const LEAVES: &[&str] = &["tests", "benches", "benches/naive", "crates/xtask"];

/// A foreign API (its crates) and the one folder that names it.
const OWNERS: &[(&[&str], &str)] = &[
    (&["redis"], "crates/redis"),
    (&["rusqlite"], "crates/store"),
    (&["axum", "hyper", "tower-http"], "crates/gateway"),
    (&["wasm-bindgen", "js-sys", "web-sys", "serde-wasm-bindgen"], "wasm"),
];

/// Other people's breakers and queues, which the benches measure.
const RIVALS: &[&str] = &[
    "tower-resilience",
    "failsafe",
    "recloser",
    "circuitbreaker-rs",
    "kanal",
    "flume",
    "crossbeam-channel",
    "async-channel",
    "thingbuf",
    "eventbus",
    "bastion",
];

pub(super) fn layers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages.iter().filter(|package| !is_leaf(&package.dir)) {
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            let message = format!("{} has no place in the layers of xtask's tidy", package.name);
            findings.push(package.finding(tree, "name", message));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.ours) {
            let name = dependency.name.as_str();
            // A package may ask for itself in its tests, to switch features on.
            if name != package.name && !below.contains(&name) {
                let message = format!("{} must not depend on {name}", package.name);
                findings.push(package.finding(tree, name, message));
            }
        }
    }
    findings
}

pub(super) fn owners(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (apis, owner) in OWNERS {
        for api in *apis {
            let message = || format!("only {owner} names {api}");
            for package in tree.packages.iter().filter(|package| !may_name(&package.dir, owner)) {
                if asks_for(package, |name| name == *api) {
                    findings.push(package.finding(tree, api, message()));
                }
            }
            let crate_name = api.replace('-', "_");
            for (file, source) in tree.rust().filter(|(file, _)| !names_freely(file, owner)) {
                if let Some(line) = first_use(source, &crate_name) {
                    findings.push(file.finding(line, message()));
                }
            }
        }
    }
    findings
}

pub(super) fn rivals(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages.iter().filter(|package| package.dir != "benches") {
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            // tower-resilience is a family: tower-resilience-circuitbreaker, …
            if RIVALS.contains(&name) || name.starts_with("tower-resilience-") {
                let message = format!("the rival {name} is a dependency of benches alone");
                findings.push(package.finding(tree, name, message));
            }
        }
    }
    findings
}

fn is_leaf(dir: &str) -> bool {
    LEAVES.contains(&dir)
}

/// Leaves look at the other side directly, to check or to compare.
fn may_name(dir: &str, owner: &str) -> bool {
    dir == owner || is_leaf(dir)
}

fn names_freely(file: &File, owner: &str) -> bool {
    file.is_in(owner) || LEAVES.iter().any(|leaf| file.is_in(leaf))
}

fn asks_for(package: &Package, wanted: impl Fn(&str) -> bool) -> bool {
    package.dependencies.iter().any(|dependency| wanted(&dependency.name))
}

/// The first path that begins in the foreign crate, unless the word is a
/// module of ours in this file.
fn first_use(source: &Source, crate_name: &str) -> Option<usize> {
    let below = format!("{crate_name}::");
    let is_ours =
        source.names.windows(2).any(|pair| pair[0].path == "mod" && pair[1].path == crate_name)
            || source.names.iter().any(|name| name.path.ends_with(&format!("::{crate_name}")));
    if is_ours {
        return None;
    }
    source.names.iter().find(|name| name.path.starts_with(&below)).map(|name| name.line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Dependency;

    fn tree(name: &str, dir: &str, dependency: &str, ours: bool) -> Tree {
        let manifest = format!("[dependencies]\n{dependency}.workspace = true\n");
        let mut tree = Tree::of(&[(&format!("{dir}/Cargo.toml"), &manifest)]);
        let dependency = Dependency { name: dependency.into(), ours, dev: false };
        let (name, dir) = (name.into(), dir.into());
        tree.packages = vec![Package { name, dir, dependencies: vec![dependency] }];
        tree
    }

    #[test]
    fn dependencies_point_down() {
        assert!(layers(&tree("swarmbus-redis", "crates/redis", "swarmbus", true)).is_empty());
        assert!(layers(&tree("swarmbus", "crates/bus", "swarmbus", true)).is_empty());
        assert!(layers(&tree("swarmbus-tests", "tests", "swarmbus-cli", true)).is_empty());
        let up = layers(&tree("swarmbus", "crates/bus", "swarmbus-redis", true));
        assert_eq!((up[0].path.as_str(), up[0].line), ("crates/bus/Cargo.toml", 2));
        assert_eq!(
            layers(&tree("swarmbus-redis", "crates/redis", "swarmbus-store", true)).len(),
            1
        );
        assert_eq!(layers(&tree("swarmbus-cli", "crates/cli", "swarmbus-benches", true)).len(), 1);
        assert_eq!(layers(&tree("swarmbus-new", "crates/new", "swarmbus", true)).len(), 1);
    }

    #[test]
    fn foreign_crates_have_one_owner() {
        assert!(owners(&tree("swarmbus-redis", "crates/redis", "redis", false)).is_empty());
        assert!(owners(&tree("swarmbus-tests", "tests", "redis", false)).is_empty());
        assert_eq!(owners(&tree("swarmbus-cli", "crates/cli", "redis", false)).len(), 1);
        assert_eq!(owners(&tree("swarmbus-core", "crates/core", "js-sys", false)).len(), 1);
    }

    #[test]
    fn foreign_paths_have_one_owner() {
        let count = |path: &str, text: &str| owners(&Tree::of(&[(path, text)])).len();
        assert_eq!(count("crates/store/src/a.rs", "use rusqlite::Connection;"), 0);
        assert_eq!(count("crates/bus/src/a.rs", "use rusqlite::Connection;"), 1);
        assert_eq!(count("crates/cli/src/a.rs", "fn a(c: axum::Router) {}"), 1);
        assert_eq!(count("crates/core/src/a.rs", "use wasm_bindgen::prelude::*;"), 1);
        assert_eq!(count("wasm/src/a.rs", "use wasm_bindgen::prelude::*;"), 0);
        assert_eq!(count("crates/cli/src/a.rs", "mod redis;\nfn a() { redis::b(); }"), 0);
        assert_eq!(count("crates/cli/src/a.rs", "use crate::redis;\nfn a() { redis::b(); }"), 0);
        assert_eq!(count("crates/cli/src/a.rs", "use swarmbus_redis::Messenger;"), 0);
    }

    #[test]
    fn rivals_stay_in_the_benches() {
        assert!(rivals(&tree("swarmbus-benches", "benches", "kanal", false)).is_empty());
        assert!(rivals(&tree("swarmbus", "crates/bus", "tokio", false)).is_empty());
        assert_eq!(rivals(&tree("swarmbus", "crates/bus", "kanal", false)).len(), 1);
        let family = tree("swarmbus", "crates/bus", "tower-resilience-retry", false);
        assert_eq!(rivals(&family).len(), 1);
    }
}
