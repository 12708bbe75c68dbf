//! Rounds, medians, the table and the JSON rows.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

/// What a figure means, and which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Events per second: more is better.
    PerSecond,
    /// Nanoseconds per operation: less is better.
    Nanoseconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "events/s",
            Self::Nanoseconds => "ns/op",
        }
    }

    /// How many times better `ours` is.
    fn ratio(self, ours: f64, rival: f64) -> f64 {
        match self {
            Self::PerSecond => ours / rival,
            Self::Nanoseconds => rival / ours,
        }
    }
}

/// One finished comparison. `ratio` says how many times better ours is: the
/// median of the rounds' ratios.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub case: String,
    /// Our median.
    pub ours: f64,
    /// The rival's median.
    pub rival: f64,
    /// Who the rival is.
    pub rival_name: String,
    /// How many times better ours is.
    pub ratio: f64,
    /// What the figures are.
    pub unit: &'static str,
    /// What was asked for, if anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<f64>,
}

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds that count.
    pub rounds: usize,
    /// Divides the work of a round.
    pub divide: usize,
}

impl Effort {
    /// Five rounds of full size, or three short ones.
    pub fn new(quick: bool) -> Self {
        if quick { Self { rounds: 3, divide: 20 } } else { Self { rounds: 7, divide: 1 } }
    }

    /// The work of one round.
    pub fn of(self, n: usize) -> usize {
        (n / self.divide).max(1)
    }
}

/// Lets both sides take turns; a first round warms up and does not count.
pub fn duel(
    effort: Effort,
    case: &str,
    unit: Unit,
    asked: Option<f64>,
    rival_name: &str,
    mut ours: impl FnMut() -> f64,
    mut rival: impl FnMut() -> f64,
) -> Row {
    let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=effort.rounds {
        // Who begins changes, so that neither always runs on a warmer machine.
        let (x, y) = if round % 2 == 0 {
            let x = ours();
            (x, rival())
        } else {
            let y = rival();
            (ours(), y)
        };
        if round > 0 {
            a.push(x);
            b.push(y);
            ratios.push(unit.ratio(x, y));
        }
    }
    let row = Row {
        case: case.to_owned(),
        ours: median(&mut a),
        rival: median(&mut b),
        rival_name: rival_name.to_owned(),
        ratio: median(&mut ratios),
        unit: unit.name(),
        asked,
    };
    eprintln!("  {case} vs {rival_name}: {:.2}", row.ratio);
    row
}

/// The middle value.
///
/// # Panics
///
/// When there is none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All rows as a table for people.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["case", "ours", "rival", "", "unit", "ratio", "asked"]);
    for row in rows {
        table.add_row([
            row.case.clone(),
            figure(row.ours),
            row.rival_name.clone(),
            figure(row.rival),
            row.unit.to_owned(),
            format!("{:.2}", row.ratio),
            row.asked.map(|asked| format!("{asked:.1}")).unwrap_or_default(),
        ]);
    }
    for column in [1, 3, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn figure(value: f64) -> String {
    if value >= 1e6 { format!("{:.2} M", value / 1e6) } else { format!("{value:.1}") }
}
