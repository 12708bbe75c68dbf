//! Much going wrong at once. All of it under the paused clock, so that hours of
//! trouble take no time and every run is the same.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod case;
mod faults;
mod recovery;
mod storm;
