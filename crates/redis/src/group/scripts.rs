//! The scripts of group channels, with their arguments and answers as types.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};
use swarmbus::transport::{Channel, EntryId};

use crate::{
    channel::key,
    error::ConnectionError,
    reached::{Confirmed, Who},
    script::{Answer, Script, millis},
    server::{Run, run_bytes},
};

pub(super) static APPEND: Script =
    Script::new(concat!(include_str!("../lua/shared.lua"), include_str!("../lua/task_append.lua")));
pub(super) static MEET: Script =
    Script::new(concat!(include_str!("../lua/shared.lua"), include_str!("../lua/task_meet.lua")));
pub(super) static JOIN: Script = Script::new(include_str!("../lua/task_join.lua"));
pub(super) static CLAIM: Script = Script::new(include_str!("../lua/task_claim.lua"));
pub(super) static ACK: Script = Script::new(include_str!("../lua/task_ack.lua"));
pub(super) static RETURN: Script = Script::new(include_str!("../lua/task_return.lua"));
pub(super) static TIDY: Script = Script::new(include_str!("../lua/task_tidy.lua"));

/// How much is kept on the server, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Tasks of one channel that some group has yet to do.
    pub(crate) tasks: u64,
    /// Dead letters of one channel: the newest.
    pub(crate) dead_letters: u64,
    /// A group that nobody worked for this long no longer holds tasks back.
    pub(crate) group: Duration,
    /// A consumer that was silent this long and has nothing in hand is removed.
    pub(crate) consumer: Duration,
    /// How often a member looks for what can be removed.
    pub(crate) tidy_every: Duration,
    /// What publishers and keys have published before: longer than anybody
    /// sends something again.
    pub(crate) known: Duration,
}

impl Default for Limits {
    /// 1,000,000 tasks, 1,000 dead letters, a week, 5 min, 5 s, a day.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            tasks: 1_000_000,
            dead_letters: 1_000,
            group: DAY.saturating_mul(7),
            consumer: Duration::from_secs(300),
            tidy_every: Duration::from_secs(5),
            known: DAY,
        }
    }
}

/// Events on their way to a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append<'a> {
    pub(super) frame: &'a [u8],
    pub(super) count: u32,
    pub(super) publisher: u64,
    /// The publisher's record, or the key with which they are published.
    pub(super) record: &'a str,
    /// Of the frame, counted by its publisher; 0 with a key.
    pub(super) number: u64,
    /// What was confirmed to the publisher last.
    pub(super) reached: Option<Confirmed<Place>>,
    /// They were sent before, and nobody knows what became of that.
    pub(super) again: bool,
    /// The server that gets them.
    pub(super) server: Run,
}

/// Where a task is: its id, and in which term of the channel it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: EntryId,
    pub(super) term: u64,
}

impl Append<'_> {
    pub(super) fn call(&self, keys: &Keys, limits: &Limits) -> Cmd {
        let mut call = APPEND.call(&[&keys.tasks, self.record, &keys.groups]);
        call.arg(self.frame)
            .arg(self.count)
            .arg(&self.publisher.to_le_bytes())
            .arg(self.number)
            .arg(limits.tasks)
            .arg(millis(limits.known))
            .arg(fastrand::u64(1 << 32..1 << 53))
            .arg(self.reached.map_or(String::new(), |reached| life(reached.place.id).to_string()))
            .arg(self.reached.map_or(0, |reached| reached.place.id.0))
            .arg(u8::from(self.again))
            .arg(self.reached.map_or(0, |reached| reached.number))
            .arg(run_bytes(self.server))
            .arg(self.reached.map_or(0, |reached| reached.place.term));
        call
    }
}

/// What became of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// They are there; where the last is.
    Done(Place),
    /// They were there before this call.
    Known,
    /// Somebody else published with their key.
    KeyUsed,
    /// Too many tasks wait.
    Full,
}

impl Appended {
    /// The answer, and whom it is for.
    pub(super) fn read(value: Value) -> Result<(Who, Self), ConnectionError> {
        let mut answer = Answer::new(value)?;
        let (status, publisher) = (answer.int()?, answer.word()?.unwrap_or_default());
        let mut who = Who { publisher, number: 0 };
        let appended = match status {
            1 => {
                let id = answer.id()?;
                who.number = answer.count()?;
                Self::Done(Place { id, term: answer.count()? })
            }
            0 => Self::Known,
            2 => Self::KeyUsed,
            3 => Self::Full,
            other => {
                let odd = format!("task_append.lua answered {other}");
                return Err(ConnectionError::Protocol(odd));
            }
        };
        Ok((who, appended))
    }
}

/// What a channel is called on the server, as far as publishers need it.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) tasks: String,
    pub(super) groups: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, channel: &Channel) -> Self {
        Self { tasks: key(prefix, channel, "tasks"), groups: key(prefix, channel, "groups") }
    }
}

/// One consumer of one group of one channel.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) tasks: String,
    pub(super) dead: String,
    pub(super) groups: String,
    pub(super) delayed: String,
    pub(super) group: String,
    pub(super) consumer: String,
    /// Deliveries after which a task is dead.
    pub(super) tries: u32,
    /// Without an answer for this long, a task is given to another.
    pub(super) idle: Duration,
    pub(super) limits: Limits,
}

/// A task that was given to a consumer, as it came.
#[derive(Debug)]
pub(super) struct Given {
    /// Its number, and what names the stream's [`life`] and the call that
    /// appended it.
    pub(super) id: EntryId,
    /// Tasks that had been confirmed and were lost before this one.
    pub(super) lost: u64,
    /// This one included; one more if it may have been given to somebody by a
    /// server that was replaced.
    pub(super) deliveries: u32,
    pub(super) frame: Bytes,
}

/// Tasks that were delivered before.
#[derive(Debug)]
pub(super) struct Claimed {
    /// Where to go on; `None` at the end.
    pub(super) cursor: Option<String>,
    /// Until the next delay is over.
    pub(super) wait: Option<Duration>,
    /// Trimmed while they waited.
    pub(super) lost: u64,
    /// Now among the dead letters.
    pub(super) dead: u64,
    pub(super) tasks: Vec<Given>,
}

impl Seat {
    pub(super) fn new(prefix: &str, channel: &Channel, group: &str, limits: &Limits) -> Self {
        let key = |purpose: &str| key(prefix, channel, purpose);
        Self {
            tasks: key("tasks"),
            dead: key("dead"),
            groups: key("groups"),
            delayed: key(&format!("delayed:{group}")),
            group: group.to_owned(),
            consumer: String::new(),
            tries: 1,
            idle: Duration::ZERO,
            limits: *limits,
        }
    }

    /// Makes the group if it is not there.
    pub(super) fn join(&self, from_beginning: bool) -> Cmd {
        let mut call = JOIN.call(&[&self.tasks, &self.groups]);
        call.arg(&self.group).arg(if from_beginning { "0" } else { "$" });
        call
    }

    /// Says which server this is.
    pub(super) fn meet(&self, server: Run) -> Cmd {
        let mut call = MEET.call(&[&self.tasks, &self.groups]);
        call.arg(run_bytes(server));
        call
    }

    /// Waits for new tasks.
    pub(super) fn read(&self, most: usize, wait: Duration) -> Cmd {
        let mut call = redis::cmd("XREADGROUP");
        call.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(most);
        call.arg("BLOCK").arg(millis(wait)).arg("STREAMS").arg(&self.tasks).arg(">");
        call
    }

    /// What the consumer has by the server's word: a page of ids after one.
    pub(super) fn pending(&self, after: Option<EntryId>, most: usize) -> Cmd {
        let mut call = redis::cmd("XPENDING");
        let from = after.map_or("-".to_owned(), |id| format!("({}", text(id)));
        call.arg(&self.tasks).arg(&self.group).arg(from).arg("+").arg(most).arg(&self.consumer);
        call
    }

    /// Takes what others left, from a cursor on.
    pub(super) fn claim(&self, most: usize, cursor: Option<&str>) -> Cmd {
        self.claiming(most, cursor.unwrap_or("-"))
    }

    /// Takes again what the consumer was given and does not know of.
    pub(super) fn claim_own(&self, ids: &[EntryId]) -> Cmd {
        let mut call = self.claiming(ids.len().max(1), "-");
        for id in ids {
            call.arg(text(*id));
        }
        call
    }

    fn claiming(&self, most: usize, cursor: &str) -> Cmd {
        let mut call = CLAIM.call(&[&self.tasks, &self.delayed, &self.dead]);
        call.arg(&self.group).arg(&self.consumer).arg(millis(self.idle)).arg(most);
        call.arg(self.tries).arg(self.limits.dead_letters).arg(cursor);
        call
    }

    pub(super) fn ack(&self, ids: &[EntryId]) -> Cmd {
        let mut call = ACK.call(&[&self.tasks, &self.delayed]);
        call.arg(&self.group);
        for id in ids {
            call.arg(text(*id));
        }
        call
    }

    /// Gives a task back, for after a delay; `None`: it is dead.
    pub(super) fn give_back(&self, id: EntryId, delay: Option<Duration>) -> Cmd {
        let mut call = RETURN.call(&[&self.tasks, &self.delayed, &self.dead]);
        let delay = delay.map_or(-1, |delay| match delay.is_zero() {
            true => 0,
            false => i64::try_from(millis(delay)).unwrap_or(i64::MAX),
        });
        call.arg(&self.group).arg(&self.consumer).arg(text(id)).arg(delay);
        call.arg(self.tries).arg(self.limits.dead_letters);
        call
    }

    pub(super) fn tidy(&self) -> Cmd {
        let mut call = TIDY.call(&[&self.tasks, &self.groups]);
        call.arg(&self.group).arg(millis(self.limits.group)).arg(millis(self.limits.consumer));
        call
    }
}

/// What [`Seat::join`] found: whether the group is new, and what it missed.
pub(super) fn joined(value: Value) -> Result<(bool, u64), ConnectionError> {
    let mut answer = Answer::new(value)?;
    Ok((answer.int()? == 1, answer.count()?))
}

/// What [`Seat::meet`] found: the last task that another server may have given to
/// somebody.
pub(super) fn met(value: Value) -> Result<Option<EntryId>, ConnectionError> {
    match value {
        Value::BulkString(text) if text.is_empty() => Ok(None),
        id => Answer::new(Value::Array(vec![id]))?.id().map(Some),
    }
}

impl Claimed {
    pub(super) fn read(value: Value) -> Result<Self, ConnectionError> {
        let mut answer = Answer::new(value)?;
        let cursor = Some(answer.text()?).filter(|cursor| cursor != "-");
        let wait = u64::try_from(answer.int()?).ok().map(Duration::from_millis);
        let (lost, dead) = (answer.count()?, answer.count()?);
        let mut list = answer.array()?;
        let mut tasks = Vec::new();
        while !list.is_empty() {
            let (id, deliveries) = (list.id()?, list.count()?);
            let deliveries = u32::try_from(deliveries).unwrap_or(u32::MAX);
            tasks.push(Given { id, lost: 0, deliveries, frame: list.bytes()?.into() });
        }
        Ok(Self { cursor, wait, lost, dead, tasks })
    }
}

/// What XREADGROUP answered: a map with one stream, or nothing.
pub(super) fn new_tasks(value: Value) -> Result<Vec<Given>, ConnectionError> {
    let mut entries = match value {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(streams) => match streams.into_iter().next() {
            Some((_, entries)) => Answer::new(entries)?,
            None => return Ok(Vec::new()),
        },
        other => Answer::new(other)?,
    };
    let mut tasks = Vec::new();
    while !entries.is_empty() {
        let mut entry = entries.array()?;
        let id = entry.id()?;
        let mut fields = entry.array()?;
        let (mut frame, mut lost, mut deliveries) = (Bytes::new(), 0, 1);
        while !fields.is_empty() {
            match &*fields.bytes()? {
                b"e" => frame = fields.bytes()?.into(),
                b"lost" => lost = fields.text()?.parse().unwrap_or(0),
                b"again" => {
                    drop(fields.value()?);
                    deliveries = 2;
                }
                _ => drop(fields.value()?),
            }
        }
        tasks.push(Given { id, lost, deliveries, frame });
    }
    Ok(tasks)
}

/// The ids of an answer of XPENDING.
pub(super) fn pending_ids(value: Value) -> Result<Vec<EntryId>, ConnectionError> {
    let mut list = Answer::new(value)?;
    let mut ids = Vec::new();
    while !list.is_empty() {
        ids.push(list.array()?.id()?);
    }
    Ok(ids)
}

/// Which stream an id is of, when several have had one name.
pub(super) fn life(EntryId(_, rest): EntryId) -> u64 {
    rest >> 32
}

fn text(EntryId(number, rest): EntryId) -> String {
    format!("{number}-{rest}")
}
