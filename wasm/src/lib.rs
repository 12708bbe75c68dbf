//! swarmbus-core for JavaScript.
//!
//! Exports are thin, and speak numbers: `u32` and `f64`, never 64-bit integers (a
//! `BigInt` each) and never JavaScript objects. Bytes cross in the buffers of a
//! [`tape::Tape`], which never move. Errors are numbers too, as texts would bring the code that
//! formats them. The package in `js-bindings` gives these exports names, types and
//! errors; nobody else calls them.

pub mod backoff;
pub mod breaker;
pub mod budget;
mod clock;
pub mod gate;
mod report;
pub mod router;
mod settings;
pub mod tape;
