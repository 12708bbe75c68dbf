//! What a cached route costs, beside what the table and a plain list of
//! patterns cost in the same run:
//! `cargo test -p swarmbus-core --release --test router_cost -- --nocapture`.
//!
//! Only ratios are asserted, and far from their limits, so that neither a busy
//! machine nor a debug build fails.

#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{hint::black_box, time::Instant};

use swarmbus_core::{
    EventType,
    router::{Pattern, RouteCache, Router},
};

/// Looked up in an order that no prefetcher guesses.
const LOOKUPS: usize = 1 << 15;

#[test]
fn a_cached_route_costs_a_fiftieth_of_asking_a_thousand_patterns() {
    for (name, patterns) in swarms() {
        println!("{name}, nanoseconds:");
        println!("{:>8} {:>8} {:>8} {:>8} {:>8}", "types", "cached", "by bytes", "table", "list");
        for types in [1, 100, 10_000] {
            let [cached, by_bytes, table, list] = costs(&patterns, types);
            println!("{types:>8} {cached:>8.1} {by_bytes:>8.1} {table:>8.1} {list:>8.0}");
            assert!(cached * 50.0 < list, "{cached} ns to a list's {list}");
        }
    }
}

#[test]
fn a_hundred_thousand_inboxes_cost_little_more_than_a_thousand() {
    let mut costs = [0.0; 2];
    for (cost, agents) in costs.iter_mut().zip([1000, 100_000]) {
        let mut router = Router::new();
        for n in 0..agents {
            router.insert(&Pattern::parse(&format!("agent.{n}.>")).unwrap(), n);
        }
        let types = types(agents);
        *cost = measure(&types, |ty| {
            router.for_each_match(ty.as_str(), |n| {
                black_box(n);
            });
        });
        println!("{agents} inboxes: {cost:.1} ns");
    }
    // Only the processor's caches see a difference.
    assert!(costs[1] < costs[0] * 20.0, "{costs:?}");
}

/// A thousand wildcard subscriptions each, by what they have in common.
fn swarms() -> [(&'static str, Vec<Pattern>); 3] {
    let make = |pattern: fn(usize) -> String| {
        (0..1000).map(|n| Pattern::parse(&pattern(n)).unwrap()).collect()
    };
    [
        ("an inbox each, at most 1 matches", make(|n| format!("agent.{n}.>"))),
        (
            "mixed, about 50 match",
            make(|n| match n % 100 {
                0 => ">".into(),
                1 => "agent.>".into(),
                2..=4 => "agent.*.created".into(),
                5..=29 => format!("*.{n}.created"),
                30..=49 => format!("agent.*.done{n}"),
                _ => format!("agent.{n}.>"),
            }),
        ),
        (
            "all 1,000 match",
            make(|n| [">", "agent.>", "agent.*.created", "*.*.>"][n % 4].to_string()),
        ),
    ]
}

fn types(count: usize) -> Vec<EventType> {
    (0..count).map(|n| EventType::new(format!("agent.{n}.created")).unwrap()).collect()
}

fn costs(patterns: &[Pattern], count: usize) -> [f64; 4] {
    let mut router = Router::new();
    for (n, pattern) in patterns.iter().enumerate() {
        router.insert(pattern, n);
    }
    let ask_table = |ty: &EventType| {
        let mut found = Vec::new();
        router.for_each_match(ty.as_str(), |n| found.push(*n));
        found
    };
    let ask_list = |ty: &EventType| {
        let wanted = |(n, pattern): (usize, &Pattern)| pattern.matches(ty.as_str()).then_some(n);
        patterns.iter().enumerate().filter_map(wanted).collect::<Vec<usize>>()
    };

    let types = types(count);
    let generation = router.generation();
    let mut cache = RouteCache::new(RouteCache::<()>::DEFAULT_CAPACITY);
    for ty in &types {
        cache.get_or_insert_with(generation, ty, || ask_table(ty));
    }
    for ty in types.iter().take(20) {
        assert_eq!(cache.get_by_bytes(generation, ty.as_str().as_bytes()), Some(&ask_list(ty)));
    }
    [
        measure(&types, |ty| {
            black_box(cache.get_or_insert_with(generation, ty, || unreachable!()).len());
        }),
        measure(&types, |ty| {
            black_box(cache.get_by_bytes(generation, ty.as_str().as_bytes()).unwrap().len());
        }),
        measure(&types, |ty| {
            black_box(ask_table(ty));
        }),
        measure(&types, |ty| {
            black_box(ask_list(ty));
        }),
    ]
}

/// The best of five rounds, in nanoseconds a lookup: what disturbs only adds.
fn measure(types: &[EventType], mut look_up: impl FnMut(&EventType)) -> f64 {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let order: Vec<usize> = (0..LOOKUPS)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % types.len()
        })
        .collect();
    let round = || {
        let start = Instant::now();
        let mut done = 0;
        // A slow candidate need not be measured for minutes.
        while done < LOOKUPS && (done % 64 != 0 || start.elapsed().as_millis() < 10) {
            look_up(black_box(&types[order[done]]));
            done += 1;
        }
        start.elapsed().as_nanos() as f64 / done as f64
    };
    std::iter::repeat_with(round).take(5).fold(f64::INFINITY, f64::min)
}
