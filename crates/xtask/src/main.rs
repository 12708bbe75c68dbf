//! Developer tasks of swarmbus, run as `cargo xtask <task>`.
//!
//! `test` is the one command that sets a machine up and runs every check of
//! every language; `tidy` holds the repository's rules as code; `wasm` builds the
//! npm package, and `engines` tests it outside of the Node.js that is here; `bench`
//! prints the comparison with the rivals; `chaos` breaks Redis under load.

mod apt;
mod bench;
mod chaos;
mod engines;
mod test;
mod tidy;
mod wasm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Developer tasks of swarmbus.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set the machine up, then run every test in every language.
    Test(test::Args),
    /// Check the repository's rules: layering, purity, documents, links.
    Tidy,
    /// Build the WebAssembly module and the npm package round it.
    Wasm,
    /// Test the npm package in Deno, Bun and newer versions of Node.js.
    Engines(engines::Args),
    /// Measure swarmbus and its rivals in one run.
    Bench(bench::Args),
    /// Break Redis under load, again and again, and count what is lost.
    Chaos(chaos::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Workspace::find().and_then(|workspace| match cli.task {
        Task::Test(args) => test::run(&workspace, &args),
        Task::Tidy => tidy::run(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Wasm => wasm::run(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Engines(args) => engines::run(&workspace, &args).map(|()| ExitCode::SUCCESS),
        Task::Bench(args) => bench::run(&workspace, &args).map(|()| ExitCode::SUCCESS),
        Task::Chaos(args) => chaos::run(&workspace, &args),
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
