//! The cases of `compare`, each side by itself, for regressions. Names are
//! what/case/implementation.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use swarmbus_benches::{
    compare::{breaker, bus, codec, router, state},
    harness::Case,
};

fn group(criterion: &mut Criterion, what: &str, cases: Vec<Case>) {
    for mut case in cases {
        let mut group = criterion.benchmark_group(format!("{what}/{}", case.name));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for side in &mut case.sides {
            group.bench_function(side.name, |bencher| bencher.iter_custom(&mut side.run));
        }
        group.finish();
    }
}

fn all(criterion: &mut Criterion) {
    group(criterion, "bus", bus::cases());
    group(criterion, "breaker", breaker::cases());
    group(criterion, "router", router::cases());
    group(criterion, "codec", codec::cases());
    group(criterion, "state", state::cases());
}

criterion_group!(benches, all);
criterion_main!(benches);
