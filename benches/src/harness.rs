//! Cases, rounds and medians.
//!
//! A [`Case`] has our side and one or more rivals. All sides take turns in
//! each round, and every ratio is taken within a round.

mod report;

use std::time::{Duration, Instant};

use serde::Serialize;

pub use report::table;

/// What a figure means, and which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Events per second: more is better.
    PerSecond,
    /// Nanoseconds per operation: less is better.
    Nanoseconds,
    /// Microseconds that stand for all operations, as a percentile does: less
    /// is better.
    Microseconds,
    /// Megabytes (2^20 bytes): less is better.
    Megabytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "events/s",
            Self::Nanoseconds => "ns/op",
            Self::Microseconds => "µs",
            Self::Megabytes => "MB",
        }
    }

    /// The figure of `n` operations that took this long.
    fn figure(self, n: u64, took: Duration) -> f64 {
        match self {
            Self::PerSecond => n as f64 / took.as_secs_f64(),
            Self::Microseconds => took.as_secs_f64() * 1e6,
            Self::Nanoseconds | Self::Megabytes => took.as_nanos() as f64 / n as f64,
        }
    }

    /// How many times better `ours` is.
    fn ratio(self, ours: f64, rival: f64) -> f64 {
        match self {
            Self::PerSecond => ours / rival,
            Self::Nanoseconds | Self::Microseconds | Self::Megabytes => rival / ours,
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
    /// The least ratio that was asked for, if any was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<f64>,
}

impl Row {
    /// A figure that is held against a limit. A ratio of 1 keeps it.
    pub fn limit(case: &str, unit: Unit, limit: f64, mut measured: Vec<f64>) -> Self {
        // Zero would make a ratio that JSON cannot write.
        let ours = median(&mut measured).max(0.01);
        let ratio = unit.ratio(ours, limit);
        Self::new(case, unit, ours, "limit", limit, ratio, Some(1.0))
    }

    fn new(
        case: &str,
        unit: Unit,
        ours: f64,
        rival_name: &str,
        rival: f64,
        ratio: f64,
        asked: Option<f64>,
    ) -> Self {
        eprintln!("  {case} vs {rival_name}: {ratio:.2}");
        let (case, rival_name) = (case.to_owned(), rival_name.to_owned());
        Self { case, ours, rival, rival_name, ratio, unit: unit.name(), asked }
    }

    /// Whether what was asked for was reached.
    pub fn reached(&self) -> Option<bool> {
        Some(self.ratio >= self.asked?)
    }
}

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds that count.
    pub rounds: usize,
    /// How long each side runs in a round.
    pub turn: Duration,
    /// Divides the work of what has a fixed size.
    pub divide: u64,
}

impl Effort {
    /// Seven rounds of full size, or five short ones.
    pub fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 5, turn: Duration::from_millis(20), divide: 20 }
        } else {
            Self { rounds: 7, turn: Duration::from_millis(300), divide: 1 }
        }
    }
}

/// Runs this many operations, checks what they did, and says how long they
/// took without the checks.
pub type Run = Box<dyn FnMut(u64) -> Duration>;

/// One way to do what a case is about.
pub struct Side {
    /// Whose way it is.
    pub name: &'static str,
    /// The least ratio of ours to this that was asked for.
    asked: Option<f64>,
    /// Does it.
    pub run: Run,
}

/// Our way to do something, and others.
pub struct Case {
    /// What is done.
    pub name: &'static str,
    unit: Unit,
    /// How many operations, if not as many as fit into a turn.
    count: Option<u64>,
    /// Ours first.
    pub sides: Vec<Side>,
}

impl Case {
    /// With our side, in events per second.
    pub fn per_second(name: &'static str, ours: impl FnMut(u64) -> Duration + 'static) -> Self {
        Self::new(name, Unit::PerSecond, ours)
    }

    /// With our side, in nanoseconds per operation.
    pub fn nanoseconds(name: &'static str, ours: impl FnMut(u64) -> Duration + 'static) -> Self {
        Self::new(name, Unit::Nanoseconds, ours)
    }

    /// With our side, in microseconds: its runs give a percentile of what so
    /// many operations took.
    pub fn percentile(
        name: &'static str,
        count: u64,
        ours: impl FnMut(u64) -> Duration + 'static,
    ) -> Self {
        Self { count: Some(count), ..Self::new(name, Unit::Microseconds, ours) }
    }

    fn new(name: &'static str, unit: Unit, ours: impl FnMut(u64) -> Duration + 'static) -> Self {
        let ours = Side { name: "swarmbus", asked: None, run: Box::new(ours) };
        Self { name, unit, count: None, sides: vec![ours] }
    }

    /// Adds a rival, and what ratio to it was asked for.
    #[must_use]
    pub fn against(
        mut self,
        name: &'static str,
        asked: impl Into<Option<f64>>,
        rival: impl FnMut(u64) -> Duration + 'static,
    ) -> Self {
        self.sides.push(Side { name, asked: asked.into(), run: Box::new(rival) });
        self
    }

    /// A row for each rival.
    pub fn measure(mut self, effort: Effort) -> Vec<Row> {
        // Finding the number of operations also warms up.
        let fixed = self.count.map(|count| count / effort.divide);
        let count = |side: &mut Side| match fixed {
            Some(count) => {
                (side.run)(count);
                count
            }
            None => operations(&mut side.run, effort.turn),
        };
        let counts: Vec<u64> = self.sides.iter_mut().map(count).collect();
        let mut figures = vec![Vec::with_capacity(effort.rounds); counts.len()];
        for round in 0..effort.rounds {
            for turn in 0..counts.len() {
                // Who begins changes, so that nobody always runs on a warmer
                // machine.
                let side = (round + turn) % counts.len();
                let took = (self.sides[side].run)(counts[side]);
                figures[side].push(self.unit.figure(counts[side], took));
            }
        }
        let (ours, rivals) = figures.split_first_mut().expect("a case has our side");
        let row = |(side, figures): (&Side, &mut Vec<f64>)| {
            let pairs = ours.iter().zip(figures.iter());
            let mut ratios: Vec<f64> = pairs.map(|(o, r)| self.unit.ratio(*o, *r)).collect();
            let (ours, rival) = (median(&mut ours.clone()), median(figures));
            let ratio = median(&mut ratios);
            Row::new(self.name, self.unit, ours, side.name, rival, ratio, side.asked)
        };
        self.sides[1..].iter().zip(rivals).map(row).collect()
    }
}

/// How many operations take about this long.
fn operations(run: &mut Run, turn: Duration) -> u64 {
    let mut n = 256;
    loop {
        let took = run(n);
        if took * 4 >= turn {
            return (n as f64 * turn.as_secs_f64() / took.as_secs_f64()) as u64;
        }
        n *= 4;
    }
}

/// Times a loop.
#[inline]
pub fn timed(n: u64, mut operation: impl FnMut()) -> Duration {
    let started = Instant::now();
    for _ in 0..n {
        operation();
    }
    started.elapsed()
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
