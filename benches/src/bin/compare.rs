//! `compare GROUP [--json FILE] [--quick]`: measures, prints a table, and
//! writes the rows.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use swarmbus_benches::{
    compare::{breaker, bus, codec, pipeline, redis, router, state, store},
    harness::{Case, Effort, Row, table},
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
    Breaker,
    Codec,
    Pipeline,
    Redis,
    Router,
    State,
    Store,
    All,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let effort = Effort::new(arguments.quick);
    let mut rows = Vec::new();
    let wants = |group| arguments.group == group || arguments.group == Group::All;
    let measure = |cases: Vec<Case>| -> Vec<Row> {
        cases.into_iter().flat_map(|case| case.measure(effort)).collect()
    };
    if wants(Group::Bus) {
        // Memory is among the limits and wants a fresh process.
        let limits = bus::limits(effort);
        rows.extend(measure(bus::cases()));
        rows.extend(limits);
    }
    if wants(Group::Breaker) {
        rows.extend(measure(breaker::cases()));
    }
    if wants(Group::Router) {
        rows.extend(measure(router::cases()));
    }
    if wants(Group::Codec) {
        rows.extend(measure(codec::cases()));
    }
    if wants(Group::Pipeline) {
        rows.extend(measure(pipeline::cases()));
    }
    if wants(Group::Redis) {
        rows.extend(measure(redis::cases()));
    }
    if wants(Group::State) || wants(Group::Redis) {
        rows.extend(measure(state::cases()));
        rows.extend(state::limits(effort));
    }
    if wants(Group::Store) {
        rows.extend(measure(store::cases()));
    }
    println!("{}", table(&rows));
    if let Some(path) = arguments.json {
        let json = serde_json::to_vec_pretty(&rows)?;
        std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
