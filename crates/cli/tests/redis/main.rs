//! The commands that talk to a Redis server, as their users meet them: each
//! test has a server of its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod doctor;
mod load_test;
mod publish;
mod subscribe;
mod support;
