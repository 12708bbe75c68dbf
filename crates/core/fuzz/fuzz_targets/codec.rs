//! Coverage-guided fuzzing of everything that reads bytes of strangers: the
//! same property that `tests/codec_mutation.rs` holds with blind mutations.
//!
//! In `crates/core`: `cargo +nightly fuzz run codec`. Needs `cargo-fuzz`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/codec_support/check.rs"]
mod check;

fuzz_target!(|bytes: &[u8]| {
    check::frame(bytes);
    check::json(bytes);
    check::msgpack(bytes);
});
