//! [`GroupCarrier`]: appends parcels to tasks.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, Value, aio::MultiplexedConnection};
use swarmbus::transport::EntryId;

use super::scripts::{APPEND, Append, Appended, Limits};
use crate::{
    carrier::{Answer, Carrier, Parcel},
    channel::key,
    dialer::Dialer,
    error::ConnectionError,
    reached::Reached,
};

/// Sends parcels by `lua/task_append.lua`, again and again until there is an
/// answer: the script appends none twice.
pub(super) struct GroupCarrier {
    dialer: Arc<Dialer>,
    limits: Limits,
    /// The last task of each publisher that was confirmed.
    reached: Reached<EntryId>,
}

impl GroupCarrier {
    pub(super) fn new(dialer: Arc<Dialer>, limits: Limits) -> Self {
        Self { dialer, limits, reached: Reached::new(limits.known) }
    }
}

#[async_trait]
impl Carrier for GroupCarrier {
    fn name(&self) -> &'static str {
        "group"
    }

    fn numbered(&self) -> bool {
        false
    }

    fn resends(&self) -> bool {
        true
    }

    async fn prepare(&self, connection: &mut MultiplexedConnection) -> Result<(), ConnectionError> {
        APPEND.load(&self.dialer, connection).await
    }

    fn command(&self, parcel: &Parcel) -> Cmd {
        let (prefix, lane) = (&self.dialer.settings.prefix, &parcel.lane);
        let append = Append {
            frame: &parcel.frame,
            count: parcel.count,
            publisher: lane.publisher,
            record: &key(prefix, &lane.channel, &format!("sent:{:016x}", lane.publisher)),
            number: parcel.first,
            reached: self.reached.get(lane.publisher),
            again: parcel.again,
        };
        append.call(&lane.key, &self.limits)
    }

    fn judge(&self, answer: Value) -> Answer {
        if let Value::ServerError(error) = &answer {
            return Answer::of_script(error);
        }
        match Appended::read(answer) {
            Ok((who, Appended::Done(id))) => {
                self.reached.note(who.publisher, id, who.number, |_, _| false);
                Answer::Taken
            }
            Ok((_, Appended::Known | Appended::KeyUsed)) => Answer::Taken,
            Ok((_, Appended::Full)) => {
                Answer::NotNow(ConnectionError::TooManyTasks { limit: self.limits.tasks })
            }
            Err(error) => Answer::Refused(error),
        }
    }
}
