//! [`Child`]: a subscriber in a process of its own, which can be killed.
//!
//! It writes a line for each event: that it was done, and the position from
//! which to go on. So both are saved together or not at all, as a program would
//! do it in a transaction.

use std::{io::Write as _, process::Stdio, sync::Arc};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use swarmbus::transport::{Channel, Gap, Incoming, Mode, Position, Received, Transport as _};
use swarmbus_redis::{RedisTransport, Settings};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{self, ChildStdout, Command},
    task::JoinHandle,
};

use crate::{
    audience::{Seen, options},
    fault::Fault,
    load::{self, LANES},
};

/// Where its server is.
const URL: &str = "SWARMBUS_CHAOS_URL";

/// The name under which it gets its tasks back.
const CONSUMER: &str = "worker";

/// The first line.
const READY: &str = "ready";

pub(crate) struct Child {
    channel: Channel,
    url: String,
    seen: Arc<Mutex<Seen>>,
    saved: Option<Position>,
    running: Option<(process::Child, JoinHandle<Option<Position>>)>,
}

impl Child {
    /// Returns when it has subscribed.
    pub(crate) async fn start(channel: Channel, url: &str, seen: Arc<Mutex<Seen>>) -> Result<Self> {
        let mut child = Self { channel, url: url.to_owned(), seen, saved: None, running: None };
        child.resume().await?;
        Ok(child)
    }

    /// Starts it from the saved position.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").arg(self.channel.mode().name()).env(URL, &self.url);
        if let Some(saved) = self.saved {
            command.arg("--after").arg(saved.to_string());
        }
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("the subscriber's process cannot be started")?;
        let stdout = process.stdout.take().context("it has no output")?;
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        lines.read_line(&mut line).await?;
        if line.trim_end() != READY {
            bail!("the subscriber's process ended at once");
        }
        let reading = tokio::spawn(note(lines, Arc::clone(&self.seen)));
        self.running = Some((process, reading));
        Ok(())
    }

    /// Kills it, and reads what it had written before.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let Some((mut process, reading)) = self.running.take() else { return Ok(()) };
        process.kill().await?;
        self.saved = reading.await?.or(self.saved);
        Ok(())
    }
}

/// Notes what it writes, and returns the last position.
async fn note(mut lines: BufReader<ChildStdout>, seen: Arc<Mutex<Seen>>) -> Option<Position> {
    let (mut saved, mut rest, mut chunk) = (None, Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = lines.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            return saved;
        }
        rest.extend_from_slice(&chunk[..read]);
        // Half a line was not written.
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let mut seen = seen.lock();
        for line in rest[..end].split(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(line).unwrap_or_default();
            saved = note_line(line, &mut seen).or(saved);
        }
        rest.drain(..=end);
    }
}

fn note_line(line: &str, seen: &mut Seen) -> Option<Position> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["e", lane, number, redelivered, position] => {
            seen.event(lane.parse().ok()?, number.parse().ok()?, redelivered == "true");
            position.parse().ok()
        }
        ["g", missed, position] => {
            seen.gap(missed.parse().ok());
            position.parse().ok()
        }
        _ => None,
    }
}

/// The process itself: until it is killed.
pub(crate) async fn run(mode: &str, after: Option<Position>) -> Result<()> {
    let mode = [Mode::Durable, Mode::Group].into_iter().find(|known| known.name() == mode);
    let mode = mode.context("it is no mode of a subscriber with a process of its own")?;
    let url = std::env::var(URL).context("it is not known where the server is")?;
    let transport = RedisTransport::builder(Settings::new(&url)?).connect().await?;
    let options = match (mode, after) {
        (Mode::Group, _) => options(mode, Fault::Restart).consumer(CONSUMER),
        (_, Some(after)) => options(mode, Fault::Restart).after(after),
        (_, None) => options(mode, Fault::Restart),
    };
    let mut inbox = transport.subscribe(&channel(mode)?, options).await?;
    let mut text = format!("{READY}\n");
    let mut batch = Vec::new();
    loop {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        // What is written is done.
        for received in batch.drain(..).filter_map(Incoming::event) {
            Received::ack(received);
        }
        if inbox.next_batch(&mut batch).await == 0 {
            return Ok(());
        }
        text.clear();
        batch.iter().for_each(|incoming| write_line(&mut text, incoming));
    }
}

pub(crate) fn channel(mode: Mode) -> Result<Channel> {
    Ok(Channel::new(mode, &format!("chaos-{}", mode.name()))?)
}

fn write_line(text: &mut String, incoming: &Incoming) {
    use std::fmt::Write as _;
    let shown = |position: Option<Position>| {
        position.map_or_else(|| "-".to_owned(), |position| position.to_string())
    };
    let _ = match incoming {
        Incoming::Event(received) => match load::read(&received.event) {
            Some((lane, number, _)) if lane < LANES => {
                let (again, position) = (received.redelivered(), shown(received.position()));
                writeln!(text, "e {lane} {number} {again} {position}")
            }
            _ => Ok(()),
        },
        Incoming::Gap(Gap { missed, position, .. }) => {
            let missed = missed.map_or_else(|| "-".to_owned(), |missed| missed.to_string());
            writeln!(text, "g {missed} {}", shown(*position))
        }
        _ => Ok(()),
    };
}
