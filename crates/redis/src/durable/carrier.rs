//! [`DurableCarrier`]: appends parcels to logs.

use std::{num::NonZeroUsize, sync::Arc};

use ahash::RandomState;
use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;
use redis::{Cmd, Value, aio::MultiplexedConnection};
use swarmbus::transport::Position;

use super::scripts::{APPEND, Append, Appended, Keys, Retention};
use crate::{
    carrier::{Answer, Carrier, Parcel},
    channel::key,
    dialer::Dialer,
    error::ConnectionError,
};

/// Publishers (of one channel each) of which it is known how far they came. One
/// that is forgotten does not notice that a failover lost what was confirmed.
const PUBLISHERS: NonZeroUsize = NonZeroUsize::new(4_096).expect("not 0");

/// Sends parcels by `lua/log_append.lua`, again and again until there is an
/// answer: the script appends none twice.
pub(crate) struct DurableCarrier {
    dialer: Arc<Dialer>,
    retention: Retention,
    /// Up to where each publisher's events were confirmed.
    reached: Mutex<LruCache<u64, Position, RandomState>>,
}

impl DurableCarrier {
    pub(super) fn new(dialer: Arc<Dialer>, retention: Retention) -> Self {
        let reached = LruCache::with_hasher(PUBLISHERS, RandomState::default());
        Self { dialer, retention, reached: Mutex::new(reached) }
    }

    fn confirmed(&self, publisher: u64, position: Position) {
        let mut reached = self.reached.lock();
        match reached.get_mut(&publisher) {
            Some(known) if known.epoch == position.epoch && known.offset > position.offset => {}
            Some(known) => *known = position,
            None => drop(reached.put(publisher, position)),
        }
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
            reached: self.reached.lock().get(&lane.publisher).copied(),
            publish: self.dialer.publish(),
        };
        append.call(&Keys::new(prefix, &lane.channel), &self.retention)
    }

    fn judge(&self, answer: Value) -> Answer {
        if let Value::ServerError(error) = &answer {
            return Answer::of_script(error);
        }
        match Appended::read(answer) {
            Ok((publisher, Appended::Done(position) | Appended::Known(position))) => {
                self.confirmed(publisher, position);
                Answer::Taken
            }
            Ok((_, Appended::KeyUsed)) => Answer::Taken,
            Err(error) => Answer::Refused(error),
        }
    }
}
