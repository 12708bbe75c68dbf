//! The log as its users meet it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod child;
mod crash;
mod dead_letters;
mod disk;
mod faults;
mod files;
mod journal;
mod recorder;
mod replay;
mod schedules;
mod space;
mod support;
