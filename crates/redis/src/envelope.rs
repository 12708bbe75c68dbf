//! [`Envelope`]: the bytes in front of a frame, on pub/sub channels.
//!
//! 32 bytes, integers little-endian, then the frame of ADR 0002 up to the end
//! of the message:
//!
//! | offset | type | holds |
//! | --- | --- | --- |
//! | 0 | 4 bytes | `C1 53 57 52`: no frame, no MessagePack and no text begins so |
//! | 4 | `u8` | version: 1 |
//! | 5 | `u8` | [`Kind`]: 1 live events, 2 live position, 3 durable events |
//! | 6 | `u16` | flags: 0 |
//! | 8 | `u64` | origin: of live messages the number of the publisher, of durable ones the epoch |
//! | 16 | `u64` | first: the number of the first event, counted from 1; of a position, of the next event |
//! | 24 | `u32` | count: events in the frame; 0 of a position, which has none |
//! | 28 | `u32` | age: of live messages and positions, milliseconds since the publisher began to number this channel, at most 2³² - 1; else 0 |
//!
//! A durable message has no frame but 24 bytes more, and the frame is the next
//! message: see `durable/header.rs`.
//!
//! A publisher numbers the events of each live channel. So a subscriber sees
//! how many it missed, and a position tells it when nothing else comes. By the
//! age it knows of a publisher that it hears for the first time whether it
//! missed the beginning, or came later itself.

use bytes::Bytes;
use swarmbus_core::codec::{DecodeError, Frame, limits::MAX_EVENTS};

/// Bytes in front of a frame.
pub(crate) const LEN: usize = 32;

const MAGIC: [u8; 4] = [0xC1, b'S', b'W', b'R'];
const VERSION: u8 = 1;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Live = 1,
    Position = 2,
    Durable = 3,
}

/// What is said in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) kind: Kind,
    pub(crate) origin: u64,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) age: u32,
}

/// Why a message is none of ours, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("not a message of swarmbus")]
    Foreign,
    #[error("written by version {0}, this reader knows version 1")]
    Version(u8),
    #[error("it is of the unknown kind {0}")]
    Kind(u8),
    #[error("its numbers make no sense")]
    Numbers,
    #[error("its frame holds {found} events, {stated} are stated")]
    Count { found: usize, stated: u32 },
    #[error(transparent)]
    Frame(#[from] DecodeError),
}

impl Envelope {
    pub(crate) fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.origin.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.age.to_le_bytes());
        bytes
    }

    /// Reads what a stranger may have sent. Ok: what follows the envelope is
    /// not looked at yet, see [`frame`](Self::frame).
    pub(crate) fn read(message: &[u8]) -> Result<Self, EnvelopeError> {
        let header = message.first_chunk::<LEN>().ok_or(EnvelopeError::Foreign)?;
        if header[..4] != MAGIC {
            return Err(EnvelopeError::Foreign);
        }
        if header[4] != VERSION {
            return Err(EnvelopeError::Version(header[4]));
        }
        let kind = match header[5] {
            1 => Kind::Live,
            2 => Kind::Position,
            3 => Kind::Durable,
            other => return Err(EnvelopeError::Kind(other)),
        };
        let envelope = Self {
            kind,
            origin: u64_at(header, 8),
            first: u64_at(header, 16),
            count: u32_at(header, 24),
            age: u32_at(header, 28),
        };
        let has_frame = message.len() > LEN;
        let fits = match kind {
            Kind::Position => envelope.count == 0 && !has_frame,
            Kind::Live | Kind::Durable => (1..=MAX_EVENTS).contains(&(envelope.count as usize)),
        };
        let overflows = envelope.first.checked_add(u64::from(envelope.count)).is_none();
        let has_flags = header[6..8] != [0; 2];
        if !fits || overflows || has_flags || envelope.first == 0 {
            return Err(EnvelopeError::Numbers);
        }
        Ok(envelope)
    }

    /// The frame behind the envelope. Its events are checked as they are read.
    pub(crate) fn frame(&self, message: &Bytes) -> Result<Frame, EnvelopeError> {
        let frame = Frame::parse(message.slice(LEN.min(message.len())..))?;
        if frame.count() != self.count as usize {
            return Err(EnvelopeError::Count { found: frame.count(), stated: self.count });
        }
        Ok(frame)
    }
}

fn u64_at(header: &[u8; LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn u32_at(header: &[u8; LEN], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use swarmbus_core::{Event, codec};

    use super::*;

    fn message(envelope: Envelope, events: &[Event]) -> Bytes {
        let mut bytes = envelope.to_bytes().to_vec();
        if !events.is_empty() {
            bytes.extend_from_slice(&codec::encode_batch(events).unwrap());
        }
        bytes.into()
    }

    const LIVE: Envelope = Envelope { kind: Kind::Live, origin: 7, first: 41, count: 2, age: 9 };

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = LIVE.to_bytes();
        let expected = [
            &[0xC1, 0x53, 0x57, 0x52, 1, 1, 0, 0][..],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &[41, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 9, 0, 0, 0],
        ];
        assert_eq!(bytes[..], expected.concat());
    }

    #[test]
    fn what_was_written_is_read() {
        let events = [Event::of("a", "1"), Event::of("a", "2")];
        let live = message(LIVE, &events);
        assert_eq!(Envelope::read(&live), Ok(LIVE));
        let frame = LIVE.frame(&live).unwrap();
        let read: Vec<_> = frame.iter().map(|view| view.unwrap().to_event().unwrap()).collect();
        assert_eq!(read, events);
        let position = Envelope { kind: Kind::Position, count: 0, ..LIVE };
        assert_eq!(Envelope::read(&message(position, &[])), Ok(position));
    }

    #[test]
    fn nonsense_is_refused() {
        let events = [Event::of("a", "1")];
        let read = |envelope| Envelope::read(&message(envelope, &events));
        assert_eq!(read(Envelope { first: 0, ..LIVE }), Err(EnvelopeError::Numbers));
        assert_eq!(read(Envelope { count: 0, ..LIVE }), Err(EnvelopeError::Numbers));
        assert_eq!(read(Envelope { first: u64::MAX, ..LIVE }), Err(EnvelopeError::Numbers));
        let position = Envelope { kind: Kind::Position, count: 0, ..LIVE };
        assert_eq!(read(position), Err(EnvelopeError::Numbers));
        let short = message(LIVE, &events);
        let miscounted = LIVE.frame(&short);
        assert_eq!(miscounted.unwrap_err(), EnvelopeError::Count { found: 1, stated: 2 });
        let mut newer = LIVE.to_bytes();
        newer[4] = 2;
        assert_eq!(Envelope::read(&newer), Err(EnvelopeError::Version(2)));
        assert_eq!(Envelope::read(b"hello"), Err(EnvelopeError::Foreign));
    }

    proptest! {
        #[test]
        fn strangers_do_no_harm(
            flips in prop::collection::vec((0_usize..200, any::<u8>()), 0..6),
            len in 0_usize..200,
        ) {
            let mut bytes = message(LIVE, &[Event::of("a", "1"), Event::of("a", "2")]).to_vec();
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(len);
            let bytes = Bytes::from(bytes);
            if let Ok(envelope) = Envelope::read(&bytes)
                && let Ok(frame) = envelope.frame(&bytes)
            {
                for view in &frame {
                    let _ = view.map(|view| view.to_event());
                }
            }
        }
    }
}
