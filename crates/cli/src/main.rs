//! The `swarmbus` program: one file in `cmd` for each command.

mod cmd;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Payloads are made in one thread and freed in another, which the system's
/// allocator does under a lock: a third of the load test was spent there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An event bus for swarms of agents.
#[derive(Parser)]
#[command(name = "swarmbus", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    // Their help is on `Args`: a doc here would take its place.
    Dlq(cmd::dlq::Args),
    Doctor(cmd::doctor::Args),
    LoadTest(Box<cmd::load_test::Args>),
    Publish(cmd::publish::Args),
    Replay(Box<cmd::replay::Args>),
    Subscribe(Box<cmd::subscribe::Args>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dlq(args) => cmd::dlq::run(args).await,
        Command::Doctor(args) => cmd::doctor::run(args).await,
        Command::Publish(args) => cmd::publish::run(args).await,
        Command::Replay(args) => cmd::replay::run(*args).await,
        Command::Subscribe(args) => cmd::subscribe::run(*args).await,
        Command::LoadTest(args) => cmd::load_test::run(*args).await,
    };
    done.unwrap_or_else(|error| {
        cmd::say(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
