//! The README says what is true.

use swarmbus::{METRICS, MetricKind};

const README: &str = include_str!("../../../README.md");

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
