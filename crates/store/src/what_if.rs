//! [`what_if`](Recording::what_if): a recording through other settings.
//!
//! A [`Recording`] holds what handlers did: when each was called, for how
//! long, and how that went. Fed through the circuit breaker and the backoff of
//! `swarmbus-core` on recorded time, it says what other settings would have
//! come to, without waiting and without calling anything.
//!
//! # What is assumed
//!
//! - A call that was made in the recording ends as it did there, even if the
//!   other settings make it earlier or later.
//! - A call that was not made ends as the nearest in time of its handler. The
//!   load that it would have put on the handler changes nothing.
//! - A call that a time-out cut off is known by the dead letter it led to: a
//!   failure that took no time, and one for all its tries.
//! - Only breaker and retries are played through. Events that ended in another
//!   layer (filters, bulkheads, rate limits, deadlines, fallbacks) stay as
//!   they were. Retry budgets never run out, and jitter is left out.

mod recording;
mod settings;
mod simulate;
mod tally;

pub use recording::{CallEnd, CallRecord, Recording};
pub use settings::{Scope, Settings};
pub use tally::{ServiceWhatIf, Tally, WhatIf};

#[cfg(test)]
mod tests;
