//! The `swarmbus` program: one file in `cmd` for each command.

mod cmd;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An event bus for swarms of agents.
#[derive(Parser)]
#[command(name = "swarmbus", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Let many agents coordinate over one bus, and measure it.
    LoadTest(cmd::load_test::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::LoadTest(args) => cmd::load_test::run(args).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
