//! The scripts of durable channels, with their arguments and answers as types.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};
use swarmbus::transport::{Channel, EntryId, Position};

use super::{
    header::{self, Entry},
    reader::Lost,
};
use crate::{
    channel::key,
    error::ConnectionError,
    reached::{Confirmed, Who},
    script::{Answer, Script, millis},
    server::{Run, run_bytes},
};

pub(super) static APPEND: Script =
    Script::new(concat!(include_str!("../lua/shared.lua"), include_str!("../lua/log_append.lua")));
pub(super) static READ: Script =
    Script::new(concat!(include_str!("../lua/shared.lua"), include_str!("../lua/log_read.lua")));

/// What a channel is called on the server.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The stream, and the pub/sub channel of what is appended.
    pub(super) log: String,
    pub(super) meta: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, channel: &Channel) -> Self {
        Self { log: key(prefix, channel, "log"), meta: key(prefix, channel, "meta") }
    }
}

/// How long things are kept on the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Events of one channel.
    pub(crate) events: u64,
    /// The log of a channel to which nothing is published.
    pub(crate) log: Duration,
    /// Epoch and offset: far longer, so that it is known what a log had.
    pub(crate) meta: Duration,
    /// What publishers and keys have published before: longer than anybody
    /// sends something again.
    pub(crate) known: Duration,
}

impl Default for Retention {
    /// 1,000,000 events, a day, a month, a day.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self { events: 1_000_000, log: DAY, meta: DAY.saturating_mul(30), known: DAY }
    }
}

/// One frame on its way to the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append<'a> {
    pub(super) frame: &'a [u8],
    pub(super) count: u32,
    pub(super) publisher: u64,
    /// The publisher's record, or the key with which it is published.
    pub(super) record: &'a str,
    /// Of the frame, counted by its publisher; 0 with a key.
    pub(super) number: u64,
    /// What was confirmed to the publisher last.
    pub(super) reached: Option<Confirmed<Position>>,
    /// PUBLISH or SPUBLISH.
    pub(super) publish: &'static str,
    /// The server that gets it.
    pub(super) server: Run,
}

impl Append<'_> {
    pub(super) fn call(&self, keys: &Keys, retention: &Retention) -> Cmd {
        let mut call = APPEND.call(&[&keys.log, &keys.meta, self.record, &keys.log]);
        let known = self.reached.map(|reached| reached.place.epoch.to_le_bytes());
        call.arg(self.frame)
            .arg(self.count)
            .arg(&self.publisher.to_le_bytes())
            .arg(self.number)
            .arg(known.as_ref().map_or(&[][..], |known| known))
            .arg(self.reached.map_or(0, |reached| reached.place.offset))
            .arg(&fastrand::u64(..).to_le_bytes())
            .arg(retention.events)
            .arg(millis(retention.log))
            .arg(millis(retention.meta))
            .arg(millis(retention.known))
            .arg(&header::prefix())
            .arg(self.publish)
            .arg(self.reached.map_or(0, |reached| reached.number))
            .arg(run_bytes(self.server))
            .arg(self.reached.map_or(0, |reached| reached.place.term));
        call
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is in the log; where the log ended then.
    Done(Position),
    /// It was there before this call; where the log ends.
    Known(Position),
    /// Somebody else published with its key.
    KeyUsed,
}

impl Appended {
    /// The answer, and whom it is for.
    pub(super) fn read(value: Value) -> Result<(Who, Self), ConnectionError> {
        let mut answer = Answer::new(value)?;
        let (status, publisher) = (answer.int()?, answer.word()?.unwrap_or_default());
        let (epoch, offset) = (answer.word()?.unwrap_or_default(), answer.count()?);
        let who = Who { publisher, number: answer.count()? };
        let position = Position { epoch, term: term(&mut answer)?, offset };
        match status {
            1 => Ok((who, Self::Done(position))),
            0 => Ok((who, Self::Known(position))),
            2 => Ok((who, Self::KeyUsed)),
            other => Err(ConnectionError::Protocol(format!("log_append.lua answered {other}"))),
        }
    }
}

/// Which part of a log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Frames that end at this offset or later, oldest first.
    From(u64),
    /// The newest frames, newest first.
    Newest,
}

/// Reads so many frames at most, for a reader that is in this term.
pub(super) fn read(
    keys: &Keys,
    part: Part,
    frames: usize,
    its: Option<u32>,
    retention: &Retention,
    server: Run,
) -> Cmd {
    let mut call = READ.call(&[&keys.log, &keys.meta]);
    match part {
        Part::From(offset) => call.arg(offset),
        Part::Newest => call.arg("+"),
    };
    call.arg(frames).arg(&fastrand::u64(..).to_le_bytes()).arg(millis(retention.meta));
    call.arg(run_bytes(server)).arg(its.map_or(String::new(), |its| its.to_string()));
    call
}

/// Where a log ended, and the entries that were asked for.
#[derive(Debug)]
pub(super) struct LogPage {
    pub(super) end: Position,
    /// Each with the offset of its last event, which is its id.
    pub(super) entries: Vec<(u64, Entry)>,
    /// Up to here the log is what the reader's term had, if that is another one.
    pub(super) common: Option<u64>,
}

impl LogPage {
    pub(super) fn read(value: Value) -> Result<Self, ConnectionError> {
        let mut answer = Answer::new(value)?;
        let epoch = answer.word()?.unwrap_or_default();
        let mut end = Position { epoch, term: 0, offset: answer.count()? };
        let mut list = answer.array()?;
        let mut entries = Vec::new();
        while !list.is_empty() {
            let mut entry = list.array()?;
            let EntryId(id, _) = entry.id()?;
            let mut fields = entry.array()?;
            let (mut header, mut frame, mut lost) = (Bytes::new(), Bytes::new(), None);
            while !fields.is_empty() {
                match &*fields.bytes()? {
                    b"h" => header = fields.bytes()?.into(),
                    b"f" => frame = fields.bytes()?.into(),
                    b"l" => lost = Lost::read(&fields.bytes()?),
                    _ => drop(fields.value()?),
                }
            }
            entries.push((id, Entry { header, frame, lost }));
        }
        end.term = term(&mut answer)?;
        let common = u64::try_from(answer.int()?).ok();
        Ok(Self { end, entries, common })
    }
}

/// It has 32 bits in headers.
fn term(answer: &mut Answer) -> Result<u32, ConnectionError> {
    Ok(u32::try_from(answer.count()?).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
