//! `compare GROUP [--json FILE] [--quick]`: measures, prints a table, and
//! writes the rows.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use swarmbus_benches::{
    compare,
    harness::{Effort, table},
};

/// Compares swarmbus with its rivals in one run.
#[derive(Parser)]
struct Arguments {
    /// What to compare.
    #[arg(value_enum)]
    group: Group,
    /// Writes the rows to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Less work, rougher figures.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Bus,
    All,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let effort = Effort::new(arguments.quick);
    let wants = |group| arguments.group == group || arguments.group == Group::All;
    let mut rows = Vec::new();
    if wants(Group::Bus) {
        rows.extend(compare::bus::run(effort));
    }
    println!("{}", table(&rows));
    if let Some(path) = arguments.json {
        let json = serde_json::to_vec_pretty(&rows)?;
        std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
