//! [`Header`]: what is said about a frame, in an entry of a log and in the
//! message that is published before the frame: the [`Envelope`] of pub/sub
//! messages, and after it
//!
//! | offset | type | holds |
//! | --- | --- | --- |
//! | 32 | `u64` | append: a random number of this appending |
//! | 40 | `u64` | publisher |
//! | 48 | `u64` | number: of the frame, counted by its publisher; 0 if it was published with a key |
//!
//! An entry has the header in its field `h` and the frame in its field `f`.
//! The age of the envelope is the term: how often the server changed.
//!
//! An entry in front of which events are lost says in its field `l` which: the
//! term, and after and up to which of its offsets, as `u64`.
//!
//! All but the first eight bytes are put together on the server, by
//! `lua/log_append.lua`.

use bytes::Bytes;
use swarmbus::transport::{Gap, GapReason, Incoming, Received};
use swarmbus_core::codec::Frame;
use xxhash_rust::xxh64::xxh64;

use super::reader::{Lost, Stamp};
use crate::envelope::{self, Envelope, EnvelopeError, Kind};

/// Bytes of a header.
const LEN: usize = envelope::LEN + 24;

/// An entry of a log, or two messages, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) header: Bytes,
    pub(super) frame: Bytes,
    pub(super) lost: Option<Lost>,
}

impl Entry {
    pub(super) fn len(&self) -> usize {
        self.header.len() + self.frame.len()
    }
}

/// Whether a message is a header, so that the next is its frame.
pub(super) fn is_header(message: &[u8]) -> bool {
    message.len() == LEN && message.starts_with(&prefix())
}

/// An entry, taken apart. The frame is not looked into.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) stamp: Stamp,
    frame: Bytes,
}

impl Header {
    pub(super) fn parse(entry: &Entry) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::read(&entry.header)?;
        let more = entry.header.get(envelope::LEN..LEN);
        let (Kind::Durable, Some(more)) = (envelope.kind, more) else {
            return Err(EnvelopeError::Foreign);
        };
        let (append, publication) = more.split_at(8);
        let stamp = Stamp {
            epoch: envelope.origin,
            first: envelope.first,
            count: u64::from(envelope.count),
            append: <[u8; 8]>::try_from(append).map_or(0, u64::from_le_bytes),
            // Publisher and number, as one number.
            mark: xxh64(publication, 0),
            term: envelope.age,
            lost: entry.lost,
        };
        Ok(Self { stamp, frame: entry.frame.clone() })
    }

    /// The events but the first `skip`, each with its position, and gaps for
    /// those that cannot be read.
    pub(super) fn unpack(&self, skip: u64, mut each: impl FnMut(Incoming)) {
        let stamp = &self.stamp;
        let Ok(frame) = Frame::parse(self.frame.clone()) else {
            return each(unreadable(stamp, skip));
        };
        let mut done = skip;
        for view in frame.iter().take(stamp.count as usize).skip(skip as usize) {
            let position = stamp.position(stamp.first + done);
            each(match view.and_then(|view| view.to_event()) {
                Ok(event) => Incoming::Event(Received::durable(event, position)),
                Err(_) => Incoming::Gap(Gap::new(1, GapReason::Unreadable).up_to(position)),
            });
            done += 1;
        }
        if done < stamp.count {
            each(unreadable(stamp, done));
        }
    }
}

/// What stands for events that cannot be read: all of a frame but the first
/// `skip`.
pub(super) fn unreadable(stamp: &Stamp, skip: u64) -> Incoming {
    let position = stamp.position(stamp.last());
    Incoming::Gap(Gap::new(stamp.count - skip, GapReason::Unreadable).up_to(position))
}

/// The bytes that the server does not make.
pub(super) fn prefix() -> [u8; 8] {
    let envelope = Envelope { kind: Kind::Durable, origin: 0, first: 0, count: 0, age: 0 };
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&envelope.to_bytes()[..8]);
    prefix
}
