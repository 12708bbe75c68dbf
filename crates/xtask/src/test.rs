//! `cargo xtask test`: the one command that runs every test in every language.
//!
//! To add a step, write a function of the [`Workspace`] and give it a line in
//! [`STEPS`]; the order there is the order of the run, cheap answers first.

mod node;
mod setup;
mod smoke;
mod steps;
mod summary;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use self::summary::{Outcome, Summary};
use crate::tidy;
use crate::wasm;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this step alone; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Go on after a failed step; the exit code still tells.
    #[arg(long)]
    keep_going: bool,
    /// Print the steps and stop.
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "setup", about: "install the tools that are missing", run: setup::run },
    Step { name: "fmt", about: "formatting of all Rust code", run: steps::fmt },
    Step { name: "clippy", about: "lints, warnings denied", run: steps::clippy },
    Step { name: "test", about: "unit, property, system and doc tests", run: steps::test },
    Step { name: "doc", about: "rustdoc, warnings denied", run: steps::doc },
    Step { name: "tidy", about: "the repository's own rules", run: tidy::run },
    Step { name: "loom", about: "every interleaving of the lock-free parts", run: steps::loom },
    Step { name: "wasm", about: "core for WebAssembly, the npm package", run: wasm::run },
    Step { name: "node", about: "the npm package as it is, and as users get it", run: node::run },
    Step { name: "smoke", about: "the program under load for a second", run: smoke::run },
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.list {
        for Step { name, about, .. } in STEPS {
            println!("{name:<8} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let steps = select(&args.only)?;
    let summary = run_steps(workspace, &steps, args.keep_going);
    let failed = summary.failed();
    for step in &failed {
        eprintln!("error: the step {step} failed; alone it is `cargo xtask test --only {step}`");
    }
    // Last, so that the line with the counts ends the output.
    print!("{summary}");
    std::io::stdout().flush()?;
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn select(only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("there is no step `{unknown}`; the steps are {}", names.join(", "));
    }
    Ok(STEPS.iter().filter(|step| only.is_empty() || only.iter().any(|n| n == step.name)).collect())
}

fn run_steps(workspace: &Workspace, steps: &[&Step], keep_going: bool) -> Summary {
    let mut summary = Summary::default();
    let mut stopped = false;
    for Step { name, about, run } in steps {
        if stopped {
            summary.add(name, None, Outcome::Skipped);
            continue;
        }
        println!("\n== {name}: {about}");
        let start = Instant::now();
        let result = run(workspace);
        let seconds = start.elapsed().as_secs_f64();
        let outcome = match result {
            Ok(()) => Outcome::Ok,
            Err(error) => {
                eprintln!("error: {name}: {error:#}");
                stopped = !keep_going;
                Outcome::Failed
            }
        };
        println!("== {name}: {outcome} after {seconds:.1} s");
        summary.add(name, Some(seconds), outcome);
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Step = Step { name: "good", about: "passes", run: |_| Ok(()) };
    const BAD: Step = Step { name: "bad", about: "fails", run: |_| bail!("no") };

    #[test]
    fn the_first_failure_stops_the_run() {
        let workspace = Workspace::find().unwrap();
        let summary = run_steps(&workspace, &[&BAD, &GOOD], false).to_string();
        assert!(summary.ends_with("\n0 passed, 1 failed\n"), "{summary}");
        assert!(summary.contains("skipped"), "{summary}");
    }

    #[test]
    fn keep_going_runs_the_rest() {
        let workspace = Workspace::find().unwrap();
        let summary = run_steps(&workspace, &[&BAD, &GOOD], true);
        assert_eq!(summary.failed(), ["bad"]);
        assert!(summary.to_string().ends_with("\n1 passed, 1 failed\n"));
    }

    #[test]
    fn an_unknown_step_is_an_error_that_names_the_known_ones() {
        let error = select(&["clipy".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("clipy") && error.contains("clippy"), "{error}");
        let names: Vec<_> =
            select(&["tidy".to_owned()]).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, ["tidy"]);
    }
}
