//! The log as its users meet it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod journal;
mod schedules;
mod support;
