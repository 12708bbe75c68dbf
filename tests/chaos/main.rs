//! Much going wrong at once. All of it under the paused clock, so that hours of
//! trouble take no time, and a busy machine changes nothing of them.
//!
//! Which worker serves a source is decided by a secret of each bus, so the order
//! of events differs by run: what is asserted holds for every order.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod case;
mod faults;
mod recovery;
mod storm;
