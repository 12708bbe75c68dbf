//! Coverage-guided fuzzing of what reads a server's answers and messages: the same
//! property that `src/wire/driver/tests.rs` holds with blind mutations.
//!
//! In `crates/redis`: `cargo +nightly fuzz run wire`. Needs `cargo-fuzz`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| swarmbus_redis::fuzz_wire(input));
