//! What the first process and the others say to each other: one JSON value on
//! each line.

use std::{
    io::{self, BufRead},
    thread,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::cmd::load_test::coordinator::Tasks;

/// What a process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Begin tasks.
    Go,
    /// Begin no more, and say when those in flight have ended.
    Stop,
    /// Send what waits, and say how much was published.
    Quiet,
    /// Wait until so many events have come in, and report.
    Expect(u64),
}

/// What a process answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It listens.
    Ready,
    /// What there was when it was told to stop.
    Stopped {
        published: u64,
        delivered: u64,
    },
    /// All that it published, to the channel of each process.
    Published(Vec<u64>),
    Report(Box<Part>),
}

/// What one process saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Part {
    /// Events that came in for the first time.
    pub(super) delivered: u64,
    /// Calls of handlers: some events have two.
    pub(super) handled: u64,
    /// Events that came in again.
    pub(super) duplicated: u64,
    /// The same, but marked as redelivered.
    pub(super) redelivered: u64,
    pub(super) gaps: u64,
    /// Events missing in gaps, as far as known.
    pub(super) reported: u64,
    /// Gaps of unknown size.
    pub(super) unknown: u64,
    /// Events of which the publisher was told that they were lost.
    pub(super) unsent: u64,
    /// Events that agents gave up to publish.
    pub(super) given_up: u64,
    pub(super) corrupted: u64,
    /// Agents that did not come to an end.
    pub(super) stuck: usize,
    pub(super) tasks: Tasks,
    /// Latencies in nanoseconds and how often each was.
    pub(super) latency: Vec<(u64, u64)>,
    pub(super) rss_peak: u64,
    /// Time of the processor, in microseconds.
    pub(super) cpu_us: u64,
}

/// The orders on standard input, read in a thread that the end of the program
/// does not wait for.
pub(super) fn orders() -> Result<mpsc::UnboundedReceiver<Order>> {
    // As few as the first process says.
    let (to, orders) = mpsc::unbounded_channel();
    let read = move || {
        for line in io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(order) = order else { return };
            if to.send(order).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("orders".to_owned()).spawn(read).context("cannot read")?;
    Ok(orders)
}
