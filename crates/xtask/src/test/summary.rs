//! What a run of the steps came to: a table, and last a line for machines.

use std::fmt;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    Ok,
    Failed,
    /// Not run, because a step before it failed.
    Skipped,
}

/// What came of a step.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// None when it was skipped.
    pub(super) seconds: Option<f64>,
    pub(super) outcome: Outcome,
}

pub(super) struct Summary {
    rows: Vec<Row>,
    /// By the clock; steps that ran side by side add up to more.
    seconds: f64,
}

impl Summary {
    pub(super) fn new(rows: Vec<Row>, seconds: f64) -> Self {
        Self { rows, seconds }
    }

    pub(super) fn failed(&self) -> Vec<&'static str> {
        let failed = self.rows.iter().filter(|row| row.outcome == Outcome::Failed);
        failed.map(|row| row.name).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<10}{:>9}  result", "step", "seconds")?;
        for Row { name, seconds, outcome } in &self.rows {
            let seconds = seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
            writeln!(f, "{name:<10}{seconds:>9}  {outcome}")?;
        }
        writeln!(f, "{:<10}{:>9.1}\n", "all", self.seconds)?;
        let passed = self.rows.iter().filter(|row| row.outcome == Outcome::Ok).count();
        writeln!(f, "{passed} passed, {} failed", self.failed().len())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_the_steps() {
        let row = |name, seconds, outcome| Row { name, seconds, outcome };
        let rows = vec![
            row("fmt", Some(1.25), Outcome::Ok),
            row("clippy", Some(60.0), Outcome::Failed),
            row("test", None, Outcome::Skipped),
        ];
        let summary = Summary::new(rows, 61.25);
        let text = summary.to_string();
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed"));
        assert!(text.contains("all            61.2"), "{text}");
    }
}
