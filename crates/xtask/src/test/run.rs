//! The run of the steps: one after the other, or two at a time.
//!
//! Compiling keeps all cores busy and tests wait for servers and clocks, so the two sides
//! of [`Lane`] go together. A step of the side is a process of its own, for the sake of
//! its output: it goes to a file, and from there to the terminal when nobody else writes.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use super::summary::{Outcome, Row, Summary};
use super::{Lane, Step};
use crate::workspace::Workspace;

pub(super) struct Run<'a> {
    workspace: &'a Workspace,
    /// This very one.
    program: PathBuf,
    keep_going: bool,
    /// Set by the first failure, unless the run is to go on.
    stopped: AtomicBool,
}

impl<'a> Run<'a> {
    pub(super) fn new(workspace: &'a Workspace, program: PathBuf, keep_going: bool) -> Self {
        Self { workspace, program, keep_going, stopped: AtomicBool::new(false) }
    }

    pub(super) fn all(&self, steps: &[&Step]) -> Summary {
        let start = Instant::now();
        let together = |a: &&Step, b: &&Step| a.lane != Lane::Alone && b.lane != Lane::Alone;
        let rows = steps.chunk_by(together).flat_map(|group| self.group(group)).collect();
        Summary::new(rows, start.elapsed().as_secs_f64())
    }

    /// Neighbours: the main side, and beside it the other one, unless either is missing.
    fn group(&self, steps: &[&Step]) -> Vec<Row> {
        let (side, main): (Vec<&Step>, Vec<&Step>) =
            steps.iter().copied().partition(|step| step.lane == Lane::Side);
        if main.is_empty() || side.is_empty() {
            return steps.iter().map(|step| self.here(step)).collect();
        }
        let names: Vec<&str> = side.iter().map(|step| step.name).collect();
        println!("\n== beside what follows: {}", names.join(", "));
        let (mut rows, beside) = thread::scope(|scope| {
            let beside = scope.spawn(|| side.iter().map(|step| self.beside(step)).collect());
            let rows: Vec<Row> = main.iter().map(|step| self.here(step)).collect();
            if !beside.is_finished() {
                println!("\n== waiting for what runs beside");
            }
            (rows, beside.join())
        });
        let beside: Vec<Row> = beside.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        for (step, row) in side.iter().zip(&beside) {
            self.show(step, row);
        }
        rows.extend(beside);
        rows
    }

    /// A step that has the terminal.
    fn here(&self, step: &Step) -> Row {
        self.timed(step, || {
            println!("\n== {}: {}", step.name, step.about);
            (step.run)(self.workspace)
        })
    }

    /// A step of which only the end is told.
    fn beside(&self, step: &Step) -> Row {
        self.timed(step, || {
            let log = self.log(step);
            fs::create_dir_all(log.parent().context("the log has a folder")?)?;
            duct::cmd(&self.program, ["test", "--bare", step.name])
                .stdin_null()
                .stderr_to_stdout()
                .stdout_path(log)
                .run()?;
            Ok(())
        })
    }

    fn timed(&self, step: &Step, run: impl FnOnce() -> Result<()>) -> Row {
        let name = step.name;
        if self.stopped.load(Relaxed) {
            return Row { name, seconds: None, outcome: Outcome::Skipped };
        }
        let start = Instant::now();
        let result = run();
        let seconds = start.elapsed().as_secs_f64();
        let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Failed };
        if let Err(error) = result {
            eprintln!("error: {name}: {error:#}");
            self.stopped.fetch_or(!self.keep_going, Relaxed);
        }
        println!("== {name}: {outcome} after {seconds:.1} s");
        Row { name, seconds: Some(seconds), outcome }
    }

    /// What a step printed that ran beside others.
    fn show(&self, step: &Step, row: &Row) {
        if row.outcome == Outcome::Skipped {
            return;
        }
        println!("\n== {}: {}", step.name, step.about);
        let said = fs::read(self.log(step)).unwrap_or_default();
        print!("{}", String::from_utf8_lossy(&said));
        println!("== {}: {}, as said above", step.name, row.outcome);
    }

    fn log(&self, step: &Step) -> PathBuf {
        self.workspace.target.join("xtask").join(format!("{}.log", step.name))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    const GOOD: Step = Step { name: "good", about: "passes", lane: Lane::Main, run: |_| Ok(()) };
    const BAD: Step = Step { name: "bad", about: "fails", lane: Lane::Alone, run: |_| bail!("no") };

    /// Steps beside others are these processes.
    fn run(program: &str, keep_going: bool, steps: &[&Step]) -> Summary {
        let workspace = Workspace::find().unwrap();
        Run::new(&workspace, which::which(program).unwrap(), keep_going).all(steps)
    }

    #[test]
    fn the_first_failure_stops_the_run() {
        let summary = run("true", false, &[&BAD, &GOOD]).to_string();
        assert!(summary.ends_with("\n0 passed, 1 failed\n"), "{summary}");
        assert!(summary.contains("skipped"), "{summary}");
    }

    #[test]
    fn keep_going_runs_the_rest() {
        let summary = run("true", true, &[&BAD, &GOOD]);
        assert_eq!(summary.failed(), ["bad"]);
        assert!(summary.to_string().ends_with("\n1 passed, 1 failed\n"));
    }

    #[test]
    fn what_fails_beside_others_has_failed() {
        // Here it would pass.
        let side = Step { name: "test-beside", lane: Lane::Side, ..GOOD };
        assert_eq!(run("false", true, &[&GOOD, &side, &GOOD]).failed(), ["test-beside"]);
        assert!(run("true", true, &[&GOOD, &side]).failed().is_empty());
        assert!(run("false", true, &[&side]).failed().is_empty(), "nothing is beside it");
    }
}
