//! Events as JSON Lines on standard output.

use std::{
    io::{self, ErrorKind, Write},
    ops::ControlFlow,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use swarmbus::{Event, Timestamp, core::codec::json};
use swarmbus_store::{Replay, ReplayError};

use crate::cmd::say;

/// The exit code of a program that got Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// Bytes that are written at once, unless the output is paced.
const CHUNK: usize = 64 << 10;

/// `paced` output is written event by event.
pub(super) async fn run(replay: Replay, paced: bool) -> Result<ExitCode> {
    let done = Done::default();
    // In a task of its own: a reader that does not read must not keep this one
    // from seeing Ctrl-C.
    let mut printing = tokio::spawn(print(replay, Lines::new(paced, done.clone())));
    tokio::select! {
        printed = &mut printing => {
            conclude(&printed.context("printing ended in a panic")??);
            Ok(ExitCode::SUCCESS)
        }
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("cannot wait for Ctrl-C")?;
            interrupted(&done)
        }
    }
}

/// Ends the process, whatever the printing task waits for.
fn interrupted(done: &Done) -> ! {
    match *done.0.lock() {
        (events, Some(at)) => {
            say(format_args!("interrupted after {events} events; to go on: --from {at}"));
        }
        (_, None) => say("interrupted before the first event"),
    }
    std::process::exit(INTERRUPTED)
}

struct Printed {
    events: u64,
    damaged: u64,
    unwritable: u64,
}

async fn print(replay: Replay, mut lines: Lines) -> Result<Printed> {
    let replayed = replay.for_each(|event| lines.write(&event)).await;
    let (events, unwritable) = lines.end()?;
    let replayed = replayed.map_err(|error| match error {
        // Its own words are enough.
        ReplayError::Open(error) => error.into(),
        error => anyhow::Error::from(error).context("the replay ended early"),
    })?;
    Ok(Printed { events, damaged: replayed.damaged, unwritable })
}

/// How many events the reader has, or can have, and the time of the last.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<(u64, Option<Timestamp>)>>);

struct Lines {
    out: io::Stdout,
    buffer: Vec<u8>,
    /// Events so far, those in the buffer among them, and the time of the last.
    events: (u64, Option<Timestamp>),
    chunk: usize,
    done: Done,
    error: Option<io::Error>,
    unwritable: u64,
}

impl Lines {
    fn new(paced: bool, done: Done) -> Self {
        let chunk = if paced { 0 } else { CHUNK };
        let (out, buffer) = (io::stdout(), Vec::new());
        Self { out, buffer, events: (0, None), chunk, done, error: None, unwritable: 0 }
    }

    fn write(&mut self, event: &Event) -> ControlFlow<()> {
        let Ok(line) = json::to_json(event) else {
            self.unwritable += 1;
            return ControlFlow::Continue(());
        };
        self.buffer.extend_from_slice(&line);
        self.buffer.push(b'\n');
        self.events = (self.events.0 + 1, event.timestamp());
        if self.buffer.len() >= self.chunk { self.flush() } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        match written {
            Ok(()) => {
                *self.done.0.lock() = self.events;
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Returns how many events came, and how many have no JSON. A reader that
    /// left early is no error.
    fn end(mut self) -> Result<(u64, u64)> {
        if self.error.is_none() {
            let _ = self.flush();
        }
        match self.error {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("cannot write events")
            }
            _ => Ok((self.events.0, self.unwritable)),
        }
    }
}

fn conclude(printed: &Printed) {
    let notes = [
        (printed.damaged, "rows of the log are damaged and were left out"),
        (printed.unwritable, "events cannot be written as JSON and were left out"),
    ];
    for (count, note) in notes {
        if count > 0 {
            say(format_args!("note: {count} {note}"));
        }
    }
    if printed.events == 0 {
        say("note: no events");
    }
}
