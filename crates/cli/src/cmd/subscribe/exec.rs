//! A command for each event.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use swarmbus::{
    Event,
    core::codec::json,
    transport::{Channel, Received},
};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::cmd::{say, store::one_line};

/// Runs a command for each event. Nothing an event says gets into the command's
/// text: it comes as standard input and in the environment.
pub(super) struct Exec {
    command: String,
    channel: String,
    retry_after: Duration,
}

impl Exec {
    pub(super) fn new(command: &str, channel: &Channel, retry_after: Duration) -> Self {
        Self { command: command.to_owned(), channel: channel.to_string(), retry_after }
    }

    /// Whether all is well: the command succeeded, or will be run again.
    ///
    /// # Errors
    ///
    /// When it cannot be run at all. A task is given back then.
    pub(super) async fn run(&self, received: Received) -> Result<bool> {
        let id = received.event.id().map_or_else(String::new, |id| one_line(&id.to_string()));
        let Ok(mut line) = json::to_json(&received.event) else {
            say(format_args!(
                "note: event {id} cannot be written as JSON; its command was not run"
            ));
            received.nack(self.retry_after);
            return Ok(false);
        };
        line.push(b'\n');
        let ended = run(self.command(&received, &id), &line).await;
        let again = received.is_task();
        match ended {
            Ok(status) if status.success() => {
                received.ack();
                Ok(true)
            }
            Ok(status) => {
                let then = if again { "; it comes again" } else { "" };
                say(format_args!("note: the command for event {id} failed ({status}){then}"));
                received.nack(self.retry_after);
                Ok(again)
            }
            Err(error) => {
                received.nack(Duration::ZERO);
                Err(error).context("cannot run `sh` for --exec")
            }
        }
    }

    fn command(&self, received: &Received, id: &str) -> Command {
        let event: &Event = &received.event;
        let mut command = Command::new("sh");
        command.args(["-c", &self.command]).stdin(Stdio::piped()).kill_on_drop(true);
        command
            .env("SWARMBUS_TYPE", event.ty().as_str())
            .env("SWARMBUS_ID", id)
            .env("SWARMBUS_SOURCE", one_line(event.source()))
            .env("SWARMBUS_PRIORITY", event.priority().get().to_string())
            .env("SWARMBUS_CHANNEL", &self.channel)
            .env("SWARMBUS_DELIVERIES", received.deliveries().to_string());
        if let Some(at) = event.timestamp() {
            command.env("SWARMBUS_TIME", at.to_string());
        }
        if let Some(position) = received.position() {
            command.env("SWARMBUS_POSITION", position.to_string());
        }
        command
    }
}

async fn run(mut command: Command, input: &[u8]) -> io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin.take() {
            // A command need not read its input.
            let _ = stdin.write_all(input).await;
        }
    };
    // Together: one that does not read and ends must not be waited for.
    let ((), status) = tokio::join!(write, child.wait());
    status
}
