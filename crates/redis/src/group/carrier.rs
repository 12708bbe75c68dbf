//! [`GroupCarrier`]: appends parcels to tasks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use redis::Value;

use super::scripts::{APPEND, Append, Appended, Keys, Limits, Place};
use crate::{
    carrier::{Answer, Carrier, Parcel},
    channel::key,
    dialer::Dialer,
    error::ConnectionError,
    reached::Reached,
    server::run_of,
    wire::{Connection, request::Request},
};

/// Sends parcels by `lua/task_append.lua`, again and again until there is an
/// answer: the script appends none twice.
pub(super) struct GroupCarrier {
    dialer: Arc<Dialer>,
    limits: Limits,
    /// The last task of each publisher that was confirmed.
    reached: Reached<Place>,
    /// Who answers on the connection now.
    server: AtomicU64,
}

impl GroupCarrier {
    pub(super) fn new(dialer: Arc<Dialer>, limits: Limits) -> Self {
        let (reached, server) = (Reached::new(limits.known), AtomicU64::new(0));
        Self { dialer, limits, reached, server }
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

    async fn prepare(&self, connection: &Connection) -> Result<(), ConnectionError> {
        self.server.store(run_of(&self.dialer, connection).await?, Relaxed);
        APPEND.load(&self.dialer, connection).await
    }

    fn command(&self, parcel: &Parcel, request: &mut Request) {
        let (prefix, lane) = (&self.dialer.settings.prefix, &parcel.lane);
        let append = Append {
            frame: &parcel.frame,
            count: parcel.count,
            publisher: lane.publisher,
            record: &key(prefix, &lane.channel, &format!("sent:{:016x}", lane.publisher)),
            number: parcel.first,
            reached: self.reached.get(lane.publisher),
            again: parcel.again,
            server: self.server.load(Relaxed),
        };
        request.command(&append.call(&Keys::new(prefix, &lane.channel), &self.limits));
    }

    fn judge(&self, answer: Value) -> Answer {
        if let Value::ServerError(error) = &answer {
            return Answer::of_script(error);
        }
        match Appended::read(answer) {
            Ok((who, Appended::Done(place))) => {
                self.reached.note(who.publisher, place, who.number, |_, _| false);
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
