//! The README and the guide say what is true.

use std::collections::BTreeSet;

use swarmbus::{METRICS, MetricKind, lifecycle::StateKind};

const README: &str = include_str!("../../../README.md");
const GUIDE: &str = include_str!("../../../docs/guide.md");

#[test]
fn readme_lists_every_metric() {
    let table = README.lines().skip_while(|line| !line.starts_with("| metric |"));
    let listed: Vec<_> = table.skip(2).take_while(|line| line.starts_with('|')).collect();
    let expected: Vec<_> = METRICS
        .iter()
        .map(|metric| {
            let kind = match metric.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            format!("| `{}` | {kind} | {} |", metric.name, metric.help)
        })
        .collect();
    assert_eq!(listed, expected);
}

/// The arrows of the diagram under a heading: `from --> to: why`.
fn arrows(heading: &str) -> BTreeSet<(&'static str, &'static str)> {
    let section = GUIDE.split_once(heading).map_or("", |(_, after)| after);
    let diagram = section.split("```").nth(1).unwrap_or_default();
    let arrows = diagram.lines().filter_map(|line| line.trim().split_once(" --> "));
    arrows.map(|(from, to)| (from, to.split(':').next().unwrap_or(to))).collect()
}

#[test]
fn the_guide_draws_every_transition_of_the_system() {
    let mut expected = BTreeSet::from([("[*]", "initializing")]);
    for from in StateKind::ALL {
        expected.extend(from.successors().iter().map(|to| (from.as_str(), to.as_str())));
    }
    assert_eq!(arrows("### The system"), expected);
}
