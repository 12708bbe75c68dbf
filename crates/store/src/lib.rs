//! The event log of swarmbus: what a bus accepted, kept in SQLite, found again
//! after a crash, and replayed.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus::{Bus, Event};
//! use swarmbus_store::EventLog;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("events.db");
//! let log = EventLog::open(&path)?;
//! let bus = Bus::builder().journal(log.clone()).build()?;
//! let _worker = bus.subscribe("task.*").handle(|event: &Event| println!("{}", event.ty()))?;
//!
//! // What an earlier run of the program accepted and did not finish.
//! log.recover(&bus).await?;
//!
//! // When this returns, the event outlives a crash and a power failure.
//! bus.publish(Event::of("task.created", "resize image 17")).await?;
//!
//! assert!(bus.shutdown(Duration::from_secs(1)).await.is_clean());
//! drop(bus);
//! log.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! - [`EventLog`] is a [`Journal`](swarmbus::Journal): one thread writes, many
//!   publishers share a commit. [`Options`] sets how safe an accepted event
//!   is, see [`Durability`].
//! - [`EventLog::recover`] offers again what was pending after a crash. An
//!   event is handled at least once: one that was being handled when the
//!   program died is handled again.
//! - [`LogReader`] reads by time, type and status, a bounded page at a time,
//!   also while another process writes.
//! - It keeps the bus's schedules too: see
//!   [`schedule`](swarmbus::schedule).
//! - [`Replay`] plays events once more, into a bus or a function: by time and
//!   type, as fast as possible or as recorded, times a factor.
//! - [`LetterFile`] lists, retries and purges the dead letters of a log, also
//!   beside the program that has it open ([`EventLog::serve_retries`]).
//! - [`Recorder`] writes down what handlers did, and [`what_if`] plays that
//!   through other breaker and retry settings.
//! - Events older than 30 days go ([`Options::keep_for`]), pending ones never.
//!
//! # What it does not do
//!
//! It is no queue between processes: one process at a time has a log as its
//! journal.

mod dead_letters;
mod error;
mod event_row;
mod intake;
mod journal;
mod letters;
mod log;
mod options;
mod reader;
mod recorder;
mod recovery;
mod replay;
mod retention;
mod retries;
mod schedules;
mod schema;
mod settle;
mod stats;
mod sync;
mod tracked;
mod waiters;
pub mod what_if;
mod writer;

pub use dead_letters::{LetterFile, LetterPage, StoredLetter};
pub use error::{Damage, Fault, FaultKind, OpenError, ReadError, RecoverError, WriteError};
pub use log::EventLog;
pub use options::{Durability, OnFailure, Options};
pub use reader::{Counts, Cursor, LogReader, MAX_PAGE, Page, Query, Record, Status};
pub use recorder::{Recorder, read_calls};
pub use recovery::Recovered;
pub use replay::{Progress, Replay, ReplayError, Replayed, TypeCount, Via};
pub use retries::Retries;
pub use stats::LogStats;
