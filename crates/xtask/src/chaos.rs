//! `cargo xtask chaos`: breaks what swarmbus depends on, and counts what is lost.
//!
//! The work is done by the `redis-chaos` program of the tests package; this only
//! spares the reader its cargo line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to break.
    #[arg(value_enum)]
    target: Target,
    /// Also write the rows to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this fault; may be given several times. A wrong name lists them.
    #[arg(long, value_name = "NAME")]
    fault: Vec<String>,
    /// How often each fault happens [default: 10].
    #[arg(long, value_name = "N")]
    repeat: Option<u16>,
    /// How long the server is away in `--fault outage` [default: 300].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Each fault once, with few events: shows that everything works.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// The messenger's server, and the connections to it.
    Redis,
}

/// The exit code is 1 when a promise was broken.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let words = words(args)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = workspace.cargo(&words).unchecked().run().context("cargo cannot be started")?;
    Ok(if ended.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(args: &Args) -> Result<Vec<String>> {
    let Target::Redis = args.target;
    let mut words: Vec<String> =
        ["run", "--release", "--package", "swarmbus-tests", "--bin", "redis-chaos", "--"]
            .map(String::from)
            .into();
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    if let Some(file) = &args.json {
        // It runs in the root; FILE is meant from where we are.
        let file = std::path::absolute(file)?;
        option("--json", file.to_str().context("the name of the JSON file is not UTF-8")?);
    }
    args.fault.iter().for_each(|fault| option("--fault", fault));
    args.repeat.iter().for_each(|times| option("--repeat", &times.to_string()));
    args.seconds.iter().for_each(|seconds| option("--seconds", &seconds.to_string()));
    if args.quick {
        words.push("--quick".to_owned());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on() {
        let args = Args {
            target: Target::Redis,
            json: Some(PathBuf::from("out.json")),
            fault: vec!["cut".to_owned()],
            repeat: Some(3),
            seconds: None,
            quick: true,
        };
        let words = words(&args).unwrap();
        let tail: Vec<&str> = words.iter().skip(7).map(String::as_str).collect();
        let ["--json", file, "--fault", "cut", "--repeat", "3", "--quick"] = tail[..] else {
            panic!("{tail:?}")
        };
        assert!(std::path::Path::new(file).is_absolute());
    }
}
