//! What is in a payload: a header that the agents read, then a body.
//!
//! | bytes | field |
//! | --- | --- |
//! | 0 | [`What`] |
//! | 1–3 | 0 |
//! | 4–7 | number of the coordinator |
//! | 8–15 | number of the task |
//! | 16–23 | when the task began |
//! | 24–31 | when this event was published |
//! | 32–39 | [`checksum`] of the body |
//!
//! Numbers are little-endian, times are nanoseconds of a [`Watch`].

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// Bytes before the body.
pub(super) const HEADER_LEN: usize = 40;

/// What one agent tells another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A coordinator wants something done.
    Task,
    /// A worker has done it.
    Result,
    /// A validator agrees with the result.
    Yes,
    /// A validator does not.
    No,
}

/// The part of a message that an agent acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) what: What,
    /// Whose task it is.
    pub(super) coordinator: u32,
    /// Unique for its coordinator.
    pub(super) task: u64,
    /// When the task began.
    pub(super) began: u64,
}

/// A payload, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) note: Note,
    pub(super) sent: u64,
    /// Whether the body is what the sender wrote.
    pub(super) intact: bool,
}

/// The bytes after the header, and their checksum.
#[derive(Clone, Debug)]
pub(super) struct Body {
    bytes: Bytes,
    checksum: u64,
}

impl Body {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let checksum = checksum(&bytes);
        Self { bytes, checksum }
    }

    /// A payload of its own: a buffer shared by many events would have its
    /// reference count written by all processors.
    #[inline]
    pub(super) fn payload(&self, note: Note, sent: u64) -> Bytes {
        let mut header = [0; HEADER_LEN];
        header[0] = note.what as u8;
        header[4..8].copy_from_slice(&note.coordinator.to_le_bytes());
        header[8..16].copy_from_slice(&note.task.to_le_bytes());
        header[16..24].copy_from_slice(&note.began.to_le_bytes());
        header[24..32].copy_from_slice(&sent.to_le_bytes());
        header[32..40].copy_from_slice(&self.checksum.to_le_bytes());
        let mut payload = Vec::with_capacity(HEADER_LEN + self.bytes.len());
        payload.extend_from_slice(&header);
        payload.extend_from_slice(&self.bytes);
        payload.into()
    }
}

impl Message {
    /// `None` if that is no message.
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (header, body) = payload.split_at_checked(HEADER_LEN)?;
        let what = match header[0] {
            0 => What::Task,
            1 => What::Result,
            2 => What::Yes,
            3 => What::No,
            _ => return None,
        };
        let coordinator = u32::from_le_bytes(header[4..8].try_into().ok()?);
        let number = |at: usize| Some(u64::from_le_bytes(header[at..at + 8].try_into().ok()?));
        Some(Self {
            note: Note { what, coordinator, task: number(8)?, began: number(16)? },
            sent: number(24)?,
            intact: number(32)? == checksum(body),
        })
    }
}

/// Fletcher's checksum over 64-bit words: every byte counts, and so does its
/// place. Far cheaper than what it checks, so that the bus is what is measured.
#[inline]
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let (mut sum, mut sums) = (bytes.len() as u64, 0_u64);
    for word in words.iter().chain([&last]) {
        sum = sum.wrapping_add(u64::from_le_bytes(*word));
        sums = sums.wrapping_add(sum);
    }
    sum ^ sums.rotate_left(32)
}

/// Nanoseconds, for all agents.
#[derive(Clone, Debug)]
pub(super) enum Watch {
    /// Since the test began, in one process.
    Cycles { clock: quanta::Clock, origin: u64 },
    /// Since 1970, for all processes of a machine.
    Wall,
}

impl Watch {
    pub(super) fn start() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self::Cycles { clock, origin }
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        match self {
            Self::Cycles { clock, origin } => clock.delta_as_nanos(*origin, clock.raw()),
            Self::Wall => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                since.as_nanos() as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for (what, len) in [(What::Task, 0), (What::Result, 7), (What::Yes, 8), (What::No, 161)] {
            let body = Body::new((0..len).map(|n| n as u8).collect::<Vec<_>>());
            let note = Note { what, coordinator: 3, task: 1 << 40, began: 17 };
            let payload = body.payload(note, 99);
            assert_eq!(payload.len(), HEADER_LEN + len);
            assert_eq!(Message::read(&payload), Some(Message { note, sent: 99, intact: true }));
            for at in HEADER_LEN..payload.len() {
                let mut changed = payload.to_vec();
                changed[at] ^= 0x40;
                assert!(!Message::read(&changed).unwrap().intact, "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        assert_eq!(Message::read(&[0; HEADER_LEN - 1]), None);
        assert_eq!(Message::read(&[9; HEADER_LEN]), None);
    }

    #[test]
    fn the_checksum_sees_an_exchange() {
        let ab = [[1_u8; 8], [2; 8]].concat();
        let ba = [[2_u8; 8], [1; 8]].concat();
        assert_ne!(checksum(&ab), checksum(&ba));
        assert_ne!(checksum(&[0; 8]), checksum(&[0; 9]));
    }
}
