//! The live mode: PUBLISH, at most once, with numbers that show what is
//! missing.

pub(crate) mod mode;
mod numbers;
mod topic;

use std::io::Write as _;

use redis::{Cmd, RedisWrite, ToRedisArgs, Value};

use crate::{
    carrier::{Answer, Carrier, Parcel},
    dialer::Dialer,
    envelope::{Envelope, Kind, LEN},
    error::ConnectionError,
    outbox::Lane,
};

/// Sends parcels as PUBLISH. One whose answer did not come is not sent again:
/// twice would be worse than a gap that shows.
///
/// In a cluster, what a node did not take because the keys are elsewhere is sent
/// there: that has not arrived for certain.
#[derive(Debug)]
pub(crate) struct LiveCarrier {
    /// PUBLISH or SPUBLISH.
    command: &'static str,
    sharded: bool,
}

impl LiveCarrier {
    pub(crate) fn new(dialer: &Dialer) -> Self {
        Self { command: dialer.publish(), sharded: dialer.is_sharded() }
    }
}

impl Carrier for LiveCarrier {
    fn name(&self) -> &'static str {
        "live"
    }

    fn numbered(&self) -> bool {
        true
    }

    fn resends(&self) -> bool {
        false
    }

    fn keeps(&self) -> bool {
        self.sharded
    }

    fn command(&self, parcel: &Parcel) -> Cmd {
        let envelope = Envelope {
            kind: Kind::Live,
            origin: parcel.lane.publisher,
            first: parcel.first,
            count: parcel.count,
            age: age(&parcel.lane),
        };
        publish(self.command, &parcel.lane.key, envelope, &parcel.frame)
    }

    fn position(&self, lane: &Lane, next: u64) -> Option<Cmd> {
        let envelope = Envelope {
            kind: Kind::Position,
            origin: lane.publisher,
            first: next,
            count: 0,
            age: age(lane),
        };
        Some(publish(self.command, &lane.key, envelope, &[]))
    }

    fn judge(&self, answer: Value) -> Answer {
        match answer {
            Value::ServerError(error) => match ConnectionError::answered(&error, self.command) {
                error if error.is_elsewhere() => Answer::NotNow(error),
                error => Answer::Refused(error),
            },
            _ => Answer::Taken,
        }
    }
}

fn age(lane: &Lane) -> u32 {
    u32::try_from(lane.born.elapsed().as_millis()).unwrap_or(u32::MAX)
}

fn publish(name: &str, key: &str, envelope: Envelope, frame: &[u8]) -> Cmd {
    let message = Message { envelope: envelope.to_bytes(), frame };
    let mut command = Cmd::with_capacity(3, name.len() + key.len() + LEN + frame.len());
    command.arg(name).arg(key).arg(message);
    command
}

/// Envelope and frame as one argument, copied once.
pub(crate) struct Message<'a> {
    pub(crate) envelope: [u8; LEN],
    pub(crate) frame: &'a [u8],
}

impl ToRedisArgs for Message<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut out = out.writer_for_next_arg();
        // Writing to memory does not fail.
        let _ = out.write_all(&self.envelope).and_then(|()| out.write_all(self.frame));
    }
}

impl redis::ToSingleRedisArg for Message<'_> {}
