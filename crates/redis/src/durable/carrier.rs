//! [`DurableCarrier`]: appends parcels to logs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use redis::Value;
use swarmbus::transport::Position;

use super::scripts::{APPEND, Append, Appended, Keys, Retention};
use crate::{
    carrier::{Answer, Carrier, Parcel},
    channel::key,
    dialer::Dialer,
    error::ConnectionError,
    reached::Reached,
    server::run_of,
    wire::{Connection, request::Request},
};

/// Sends parcels by `lua/log_append.lua`, again and again until there is an
/// answer: the script appends none twice.
pub(crate) struct DurableCarrier {
    dialer: Arc<Dialer>,
    retention: Retention,
    /// Up to where each publisher's events were confirmed.
    reached: Reached<Position>,
    /// Who answers on the connection now.
    server: AtomicU64,
}

impl DurableCarrier {
    pub(super) fn new(dialer: Arc<Dialer>, retention: Retention) -> Self {
        let (reached, server) = (Reached::new(retention.known), AtomicU64::new(0));
        Self { dialer, retention, reached, server }
    }
}

#[async_trait]
impl Carrier for DurableCarrier {
    fn name(&self) -> &'static str {
        "durable"
    }

    fn numbered(&self) -> bool {
        // The log has numbers of its own.
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
            publish: self.dialer.publish(),
            server: self.server.load(Relaxed),
        };
        request.command(&append.call(&Keys::new(prefix, &lane.channel), &self.retention));
    }

    fn judge(&self, answer: Value) -> Answer {
        if let Value::ServerError(error) = &answer {
            return Answer::of_script(error);
        }
        match Appended::read(answer) {
            Ok((who, Appended::Done(position) | Appended::Known(position))) => {
                // The position of a frame that was there already is the log's.
                self.reached.note(who.publisher, position, who.number, |new, known| {
                    (new.epoch, new.term) == (known.epoch, known.term) && new.offset < known.offset
                });
                Answer::Taken
            }
            Ok((_, Appended::KeyUsed)) => Answer::Taken,
            Err(error) => Answer::Refused(error),
        }
    }
}
