//! The commands that work on an event log, as their users meet them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod dlq;
mod replay;
mod support;
