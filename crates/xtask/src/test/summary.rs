//! What a run of the steps came to: a table, and last a line for machines.

use std::fmt;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    Ok,
    Failed,
    /// Not run, because a step before it failed.
    Skipped,
}

#[derive(Default)]
pub(super) struct Summary {
    rows: Vec<(&'static str, Option<f64>, Outcome)>,
}

impl Summary {
    pub(super) fn add(&mut self, step: &'static str, seconds: Option<f64>, outcome: Outcome) {
        self.rows.push((step, seconds, outcome));
    }

    pub(super) fn failed(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.2 == Outcome::Failed).map(|row| row.0).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<10}{:>9}  result", "step", "seconds")?;
        for (step, seconds, outcome) in &self.rows {
            let seconds = seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
            writeln!(f, "{step:<10}{seconds:>9}  {outcome}")?;
        }
        let total: f64 = self.rows.iter().filter_map(|row| row.1).sum();
        writeln!(f, "{:<10}{total:>9.1}\n", "total")?;
        let passed = self.rows.iter().filter(|row| row.2 == Outcome::Ok).count();
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
        let mut summary = Summary::default();
        summary.add("fmt", Some(1.25), Outcome::Ok);
        summary.add("clippy", Some(60.0), Outcome::Failed);
        summary.add("test", None, Outcome::Skipped);
        let text = summary.to_string();
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed"));
        assert!(text.contains("total          61.2"), "{text}");
    }
}
