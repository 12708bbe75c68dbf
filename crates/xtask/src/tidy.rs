//! `cargo xtask tidy`: the rules of this repository, as tests.
//!
//! A rule is a function from the [`Tree`] to what breaks it. To add one, write
//! the function beside its relatives, give it a line in [`RULES`] with the
//! reason that a reader needs when it strikes, and test it on invented files,
//! good ones and bad ones (`Tree::of`).

mod adr;
mod commands;
mod layers;
mod length;
mod links;
mod modules;
mod names;
mod purity;
mod source;
mod tree;
mod words;

use anyhow::{Result, bail};

use self::tree::{Finding, Tree};
use crate::workspace::Workspace;

struct Rule {
    name: &'static str,
    /// Printed once above the findings.
    why: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { name: "readable", check: modules::readable,
        why: "a Rust file that is no Rust escapes every other rule" },
    Rule { name: "module-docs", check: modules::docs,
        why: "a module opens with `//!`: what it is for, before how it works" },
    Rule { name: "unsafe", check: modules::unsafe_code,
        why: "unsafe code lives in a file that allows it by name and argues its safety at the top" },
    Rule { name: "length", check: length::check,
        why: "a file that does one job is short; split by reason to change" },
    Rule { name: "pure-core", check: purity::check,
        why: "core takes `now` as an argument and does no I/O: tests invent time, and wasm has neither" },
    Rule { name: "layers", check: layers::layers,
        why: "dependencies point one way: core <- bus <- {redis, store} <- gateway <- cli; core <- wasm" },
    Rule { name: "owners", check: layers::owners,
        why: "one crate names each foreign API, so that it can be replaced in one place" },
    Rule { name: "rivals", check: layers::rivals,
        why: "what we measure against must not be what we are made of" },
    Rule { name: "sleep", check: names::sleep,
        why: "a test that sleeps is slow or flaky: use invented time, the paused clock, or a condition with a deadline; \
              `// sleep: <reason>` on the line excuses it" },
    Rule { name: "unfinished", check: names::unfinished,
        why: "a skipped test or a placeholder is an open issue, not a commit" },
    Rule { name: "markers", check: words::markers,
        why: "a marker in the code is an issue that nobody can find" },
    Rule { name: "machine-paths", check: words::machine_paths,
        why: "a path of somebody's machine works on that machine alone" },
    Rule { name: "links", check: links::links,
        why: "a document must not point at what is not there" },
    Rule { name: "doc-paths", check: links::named_files,
        why: "a document must not name a file that is not there" },
    Rule { name: "adr-references", check: adr::references,
        why: "a decision that is referred to must be written down" },
    Rule { name: "adr-form", check: adr::form,
        why: "each decision says problem, options, outcome, consequences, and what holds it true" },
    Rule { name: "adr-numbers", check: adr::numbers,
        why: "a number names one decision for ever" },
    Rule { name: "commands", check: commands::check,
        why: "a reader types what a document shows" },
];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(workspace)?;
    let mut broken = 0;
    for Rule { name, why, check } in RULES {
        let findings = check(&tree);
        if findings.is_empty() {
            continue;
        }
        broken += findings.len();
        println!("{name}: {why}");
        for finding in findings {
            println!("  {finding}");
        }
    }
    if broken > 0 {
        bail!("places that break a rule: {broken}");
    }
    println!("tidy: {} files, ok", tree.files.len());
    Ok(())
}
