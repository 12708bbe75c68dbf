//! The log as its users meet it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod dead_letters;
mod journal;
mod recorder;
mod replay;
mod schedules;
mod support;
