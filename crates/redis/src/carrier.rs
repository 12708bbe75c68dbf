//! [`Carrier`]: how frames of one mode get to the server. The
//! [`Publisher`](crate::publisher::Publisher) collects events into frames and
//! keeps them in order; a carrier says what a frame is in Redis's terms.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use swarmbus::transport::Channel;
use swarmbus_core::{Event, codec::Frame};

use crate::{
    error::ConnectionError,
    outbox::Lane,
    wire::{Connection, request::Request},
};

/// Events of one channel that travel together.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) lane: Arc<Lane>,
    /// A frame of [`swarmbus_core::codec`].
    pub(crate) frame: Bytes,
    /// How many events it holds: at least 1.
    pub(crate) count: u32,
    /// The number of the first in its lane, from 1. The others follow without
    /// a hole, if [`Carrier::numbered`].
    pub(crate) first: u64,
    /// It was sent before, and nobody knows what became of that.
    pub(crate) again: bool,
}

impl Parcel {
    /// Its events again, for whoever takes them back.
    pub(crate) fn unpack(&self) -> Vec<(Channel, Event)> {
        // We have encoded it ourselves.
        let Ok(frame) = Frame::parse(self.frame.clone()) else { return Vec::new() };
        let events = frame.iter().filter_map(|view| view.and_then(|view| view.to_event()).ok());
        events.map(|event| (self.lane.channel.clone(), event)).collect()
    }
}

/// What the server made of a parcel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// It has it.
    Taken,
    /// It does not have it, and may take it later: the parcel is sent again,
    /// before anything newer.
    NotNow(ConnectionError),
    /// It does not have it and never will.
    Refused(ConnectionError),
}

impl Answer {
    /// What an error of a script means that changes nothing when it fails.
    pub(crate) fn of_script(error: &redis::ServerError) -> Self {
        let cause = ConnectionError::answered(error, "EVALSHA");
        if cause.is_final() { Self::Refused(cause) } else { Self::NotNow(cause) }
    }
}

/// How frames of one mode get to the server.
#[async_trait]
pub(crate) trait Carrier: Send + Sync + 'static {
    /// In metrics: the mode.
    fn name(&self) -> &'static str;

    /// Whether a hole in the numbers of a lane must show at the subscriber, so
    /// that a parcel ends where events were dropped.
    fn numbered(&self) -> bool;

    /// Whether a parcel is sent again when the connection broke before its
    /// answer: then [`command`](Self::command) must do nothing the second time.
    /// If not, its events count as lost.
    ///
    /// Such carriers have one parcel of a channel on its way at a time, so that
    /// none overtakes the one before it.
    fn resends(&self) -> bool;

    /// Whether parcels are kept until they are answered, because
    /// [`judge`](Self::judge) may say [`Answer::NotNow`].
    fn keeps(&self) -> bool {
        self.resends()
    }

    /// Called with each new connection before the first parcel, and after
    /// [`Answer::NotNow`]: loads scripts, for example.
    async fn prepare(&self, _connection: &Connection) -> Result<(), ConnectionError> {
        Ok(())
    }

    /// Adds the one command that carries a parcel.
    fn command(&self, parcel: &Parcel, request: &mut Request);

    /// Adds a command that tells subscribers the number of a lane's next event, so
    /// that they see what they missed although nothing follows. Its answer is
    /// not looked at.
    fn position(&self, _lane: &Lane, _next: u64, _request: &mut Request) {}

    /// What the answer to a parcel's command means. [`Value::ServerError`] is one too.
    fn judge(&self, answer: Value) -> Answer;
}
