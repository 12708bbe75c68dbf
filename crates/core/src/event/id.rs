//! [`EventId`]: a UUID when it is one, any text when a stranger chose it.

use std::fmt;

use uuid::Uuid;

use super::{Str, Timestamp};

/// Names one event.
///
/// swarmbus makes `UUIDv7`s. Other `CloudEvents` producers use any text, so
/// that is kept as it came; a canonical UUID in text is stored as 16 bytes
/// and written back to the same characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventId(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Uuid(Uuid),
    Text(Str),
}

impl EventId {
    /// A version 7 UUID (RFC 9562): milliseconds, then the microseconds as
    /// method 3's extra clock precision, then 62 bits of `nonce`.
    pub fn v7(at: Timestamp, nonce: u64) -> Self {
        let micros = at.as_micros();
        let (millis, sub) = (micros / 1_000, micros % 1_000);
        // 12 bits for a fraction of a millisecond: scale 0..1000 to 0..4096.
        let fraction = (sub * 4_096 / 1_000) & 0xfff;
        let high = (millis << 16) | (7 << 12) | fraction;
        let low = (0b10 << 62) | (nonce & (u64::MAX >> 2));
        Self(Repr::Uuid(Uuid::from_u64_pair(high, low)))
    }

    /// The 16 bytes, when it is a UUID.
    pub fn as_uuid_bytes(&self) -> Option<&[u8; 16]> {
        match &self.0 {
            Repr::Uuid(uuid) => Some(uuid.as_bytes()),
            Repr::Text(_) => None,
        }
    }

    /// From the 16 bytes of a UUID of any version.
    pub fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        Self(Repr::Uuid(Uuid::from_bytes(bytes)))
    }

    /// The text, when it is not a UUID.
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Repr::Uuid(_) => None,
            Repr::Text(text) => Some(text),
        }
    }
}

impl From<&str> for EventId {
    fn from(text: &str) -> Self {
        let mut canonical = Uuid::encode_buffer();
        match Uuid::try_parse(text) {
            // Only the form that is written back unchanged.
            Ok(uuid) if uuid.hyphenated().encode_lower(&mut canonical) == text => {
                Self(Repr::Uuid(uuid))
            }
            _ => Self(Repr::Text(text.into())),
        }
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Repr::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}
