//! Hostile inputs by the hundred thousand, the same ones in every run.
//!
//! Runs until 2,000,000 inputs or 20 seconds are over, whichever is first. For
//! more: `SWARMBUS_FUZZ_INPUTS=10000000 cargo test --release -p swarmbus-core
//! --test codec_mutation`, which has no limit of time.

#[path = "codec_support/check.rs"]
mod check;
#[path = "codec_support/mutate.rs"]
mod mutate;

use mutate::{Random, mutate};
use std::time::{Duration, Instant};

/// Calls `one` with a counter until the budget is used up; returns how often.
#[expect(clippy::disallowed_methods, reason = "bounds the test, decides nothing in it")]
fn with_budget(share: u64, mut one: impl FnMut()) -> u64 {
    let (inputs, time) = match std::env::var("SWARMBUS_FUZZ_INPUTS") {
        Ok(wanted) => (wanted.parse().expect("a number of inputs"), Duration::MAX),
        Err(_) => (2_000_000_u64, Duration::from_secs(20)),
    };
    let start = Instant::now();
    let (inputs, time) = (inputs.div_ceil(share), time / share as u32);
    for n in 0..inputs {
        if n % 64 == 0 && start.elapsed() > time {
            return n;
        }
        one();
    }
    inputs
}

#[test]
fn no_frame_breaks_the_reader() {
    let corpus = mutate::frames();
    let mut random = Random(1);
    let mut decoded = 0;
    let tried = with_budget(2, || {
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate(&mut random, &mut input, &corpus, true);
        decoded += u64::from(check::frame(&input));
    });
    // Else the mutations are so coarse that nothing behind the header is met.
    assert!(decoded > tried / 100, "{decoded} of {tried}");
    println!("{tried} frames, {decoded} of them still events");
}

#[test]
fn no_json_breaks_the_reader() {
    let corpus = mutate::documents();
    let mut random = Random(2);
    let mut decoded = 0;
    let tried = with_budget(4, || {
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate(&mut random, &mut input, &corpus, false);
        decoded += u64::from(check::json(&input));
    });
    assert!(decoded > tried / 100, "{decoded} of {tried}");
    println!("{tried} documents, {decoded} of them still events");
}

#[test]
fn no_message_pack_breaks_the_walk() {
    let corpus: Vec<Vec<u8>> = vec![
        rmp_serde::to_vec(&(1, "two", [3.5, -4.0], Some(()))).unwrap(),
        rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("a", 1), ("b", 2)])).unwrap(),
        [0x91; 130].to_vec(),
    ];
    let mut random = Random(3);
    let mut valid = 0;
    let tried = with_budget(4, || {
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate(&mut random, &mut input, &corpus, false);
        valid += u64::from(check::msgpack(&input));
    });
    assert!(valid > tried / 100, "{valid} of {tried}");
    println!("{tried} payloads, {valid} of them valid");
}
