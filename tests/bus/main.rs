//! The bus as its users meet it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod backpressure;
mod batches;
mod commands;
mod dead_letters;
mod delivery;
mod failures;
mod journal;
mod nesting;
mod observation;
mod resilience;
mod rules;
mod shutdown;
mod stalls;
