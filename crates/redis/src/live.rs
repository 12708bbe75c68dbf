//! The live mode: PUBLISH, at most once, with numbers that show what is
//! missing.

pub(crate) mod mode;
mod numbers;
mod topic;

use redis::Value;

use crate::{
    carrier::{Answer, Carrier, Parcel},
    dialer::Dialer,
    envelope::{Envelope, Kind},
    error::ConnectionError,
    outbox::Lane,
    wire::request::Request,
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

    fn command(&self, parcel: &Parcel, request: &mut Request) {
        let envelope = Envelope {
            kind: Kind::Live,
            origin: parcel.lane.publisher,
            first: parcel.first,
            count: parcel.count,
            age: age(&parcel.lane),
        };
        publish(request, self.command, &parcel.lane.key, envelope, &parcel.frame);
    }

    fn position(&self, lane: &Lane, next: u64, request: &mut Request) {
        let envelope = Envelope {
            kind: Kind::Position,
            origin: lane.publisher,
            first: next,
            count: 0,
            age: age(lane),
        };
        publish(request, self.command, &lane.key, envelope, &[]);
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

/// Adds a PUBLISH of envelope and frame as one message.
fn publish(request: &mut Request, name: &str, key: &str, envelope: Envelope, frame: &[u8]) {
    request.begin(3);
    request.arg(name.as_bytes());
    request.arg(key.as_bytes());
    request.arg_in_two(&envelope.to_bytes(), frame);
}
