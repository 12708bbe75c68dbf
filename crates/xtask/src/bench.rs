//! `cargo xtask bench`: swarmbus and its rivals, measured in one run.
//!
//! The measuring lives in the `compare` program of the benches package; this
//! only spares the reader its cargo line.

mod node;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    #[arg(value_enum, default_value_t = Group::All)]
    group: Group,
    /// Also write the rows (case, both figures, ratio, unit) to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Short runs: shows that everything works, too noisy to quote.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Group {
    Bus,
    Breaker,
    Codec,
    /// The npm package, in Node.js; not part of `all`.
    Node,
    Pipeline,
    Redis,
    Router,
    State,
    Store,
    All,
}

/// Clients for Node that the group `redis` is measured beside.
const REDIS_FOR_NODE: &str = "benches/node/redis";

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if matches!(args.group, Group::Node) {
        return node::run(workspace, args.json.as_deref(), args.quick);
    }
    if matches!(args.group, Group::Redis | Group::All) {
        install(workspace, REDIS_FOR_NODE)?;
    }
    let words = words(args)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    workspace.cargo(&words).run().context("the comparison failed")?;
    Ok(())
}

/// Gets what a folder's lock file lists. Without npm, the comparison says which
/// rivals it leaves out.
fn install(workspace: &Workspace, folder: &str) -> Result<()> {
    if which::which("npm").is_err() {
        return Ok(());
    }
    let words = ["ci", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error"];
    workspace.command("npm", &words).run().with_context(|| format!("npm ci failed in {folder}"))?;
    Ok(())
}

fn words(args: &Args) -> Result<Vec<String>> {
    let mut words: Vec<String> =
        ["run", "--release", "--package", "swarmbus-benches", "--bin", "compare", "--"]
            .map(String::from)
            .into();
    let group = args.group.to_possible_value().context("every group has a name")?;
    words.push(group.get_name().to_owned());
    if let Some(file) = &args.json {
        // The comparison runs in the root; FILE is meant from where we are.
        let file = std::path::absolute(file)?;
        let file = file.to_str().context("the name of the JSON file is not UTF-8")?;
        words.extend(["--json".to_owned(), file.to_owned()]);
    }
    if args.quick {
        words.push("--quick".to_owned());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_group() {
        let args = Args { group: Group::Codec, json: Some(PathBuf::from("out.json")), quick: true };
        let words = words(&args).unwrap();
        let tail: Vec<&str> = words.iter().skip(7).map(String::as_str).collect();
        let [group, json, file, quick] = tail[..] else { panic!("{tail:?}") };
        assert_eq!((group, json, quick), ("codec", "--json", "--quick"));
        assert!(std::path::Path::new(file).is_absolute());
    }
}
