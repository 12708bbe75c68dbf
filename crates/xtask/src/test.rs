//! `cargo xtask test`: the one command that runs every test in every language.
//!
//! To add a step, write a function of the [`Workspace`] and give it a line in
//! [`STEPS`]; the order there is the order of the run, cheap answers first.

mod node;
mod run;
mod setup;
mod smoke;
mod steps;
mod summary;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use self::run::Run;
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
    /// A step without anything round it, for a run that has it beside another.
    #[arg(long, value_name = "STEP", hide = true)]
    bare: Option<String>,
}

struct Step {
    name: &'static str,
    about: &'static str,
    lane: Lane,
    run: fn(&Workspace) -> Result<()>,
}

/// What runs at the same time: neighbours in the list that are of the two sides.
#[derive(Clone, Copy, PartialEq)]
enum Lane {
    /// Has the machine to itself.
    Alone,
    /// Has the terminal, and cargo's target folder.
    Main,
    /// Has a target folder of its own, so that no cargo waits for another. What it prints
    /// is shown when both sides are done.
    Side,
}

#[rustfmt::skip]
const STEPS: &[Step] = &[
    Step { name: "setup", lane: Lane::Alone, run: setup::run,
        about: "install the tools that are missing" },
    Step { name: "fmt", lane: Lane::Alone, run: steps::fmt,
        about: "formatting of all Rust code" },
    Step { name: "tidy", lane: Lane::Alone, run: tidy::run,
        about: "the repository's own rules" },
    Step { name: "clippy", lane: Lane::Alone, run: steps::clippy,
        about: "lints, warnings denied" },
    Step { name: "test", lane: Lane::Main, run: steps::test,
        about: "unit, property, system and doc tests" },
    Step { name: "doc", lane: Lane::Main, run: steps::doc,
        about: "rustdoc, warnings denied" },
    Step { name: "loom", lane: Lane::Side, run: steps::loom,
        about: "every interleaving of the lock-free parts" },
    Step { name: "smoke", lane: Lane::Side, run: smoke::run,
        about: "the program, optimised, under load for a second" },
    Step { name: "wasm", lane: Lane::Side, run: wasm::run,
        about: "core for WebAssembly, the npm package" },
    Step { name: "node", lane: Lane::Alone, run: node::run,
        about: "the npm package as it is, and as users get it" },
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.list {
        for Step { name, about, .. } in STEPS {
            println!("{name:<8} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(step) = &args.bare {
        let steps = select(std::slice::from_ref(step))?;
        steps.iter().try_for_each(|step| (step.run)(workspace))?;
        return Ok(ExitCode::SUCCESS);
    }
    let steps = select(&args.only)?;
    let program = std::env::current_exe().context("where is this very program?")?;
    let summary = Run::new(workspace, program, args.keep_going).all(&steps);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_step_is_an_error_that_names_the_known_ones() {
        let error = select(&["clipy".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("clipy") && error.contains("clippy"), "{error}");
        let names: Vec<_> =
            select(&["tidy".to_owned()]).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(names, ["tidy"]);
    }
}
