//! Events as JSON Lines on standard output.

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    ops::ControlFlow,
    process::ExitCode,
};

use anyhow::{Context, Result};
use swarmbus::{Event, core::codec::json};
use swarmbus_store::{Progress, Replay, ReplayError, Replayed};

use crate::cmd::say;

/// The exit code of a program that got Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// `paced` output is written event by event.
pub(super) async fn run(replay: Replay, paced: bool) -> Result<ExitCode> {
    let progress = replay.progress();
    // In a task of its own: a reader that does not read must not keep this one
    // from seeing Ctrl-C.
    let mut printing = tokio::spawn(print(replay, paced));
    tokio::select! {
        printed = &mut printing => {
            let (replayed, unwritable) = printed.context("printing ended in a panic")??;
            conclude(&replayed, unwritable);
            Ok(ExitCode::SUCCESS)
        }
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.context("cannot wait for Ctrl-C")?;
            interrupted(&progress)
        }
    }
}

/// Ends the process, whatever the printing task waits for.
fn interrupted(progress: &Progress) -> ! {
    match progress.at() {
        Some(at) => say(format_args!(
            "interrupted after {} events; to go on: --from {at}",
            progress.events()
        )),
        None => say("interrupted before the first event"),
    }
    std::process::exit(INTERRUPTED)
}

async fn print(replay: Replay, paced: bool) -> Result<(Replayed, u64)> {
    let mut lines = Lines::new(paced);
    let replayed = replay.for_each(|event| lines.write(&event)).await;
    let ended = lines.end();
    let replayed = replayed.map_err(|error| match error {
        // Its own words are enough.
        ReplayError::Open(error) => error.into(),
        error => anyhow::Error::from(error).context("the replay ended early"),
    })?;
    Ok((replayed, ended?))
}

struct Lines {
    out: BufWriter<io::Stdout>,
    paced: bool,
    error: Option<io::Error>,
    unwritable: u64,
}

impl Lines {
    fn new(paced: bool) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Self { out, paced, error: None, unwritable: 0 }
    }

    fn write(&mut self, event: &Event) -> ControlFlow<()> {
        let Ok(mut line) = json::to_json(event) else {
            self.unwritable += 1;
            return ControlFlow::Continue(());
        };
        line.push(b'\n');
        let mut written = self.out.write_all(&line);
        if self.paced {
            written = written.and_then(|()| self.out.flush());
        }
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Returns how many events have no JSON. A reader that left early is no
    /// error.
    fn end(mut self) -> Result<u64> {
        let written = match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        // What is left in the buffer has nowhere to go.
        drop(self.out.into_parts());
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(self.unwritable),
            written => written.map(|()| self.unwritable).context("cannot write events"),
        }
    }
}

fn conclude(replayed: &Replayed, unwritable: u64) {
    let notes = [
        (replayed.damaged, "rows of the log are damaged and were left out"),
        (unwritable, "events cannot be written as JSON and were left out"),
    ];
    for (count, note) in notes {
        if count > 0 {
            say(format_args!("note: {count} {note}"));
        }
    }
}
