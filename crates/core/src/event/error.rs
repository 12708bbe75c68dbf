//! What can be wrong with the parts of an event.

use crate::hops::attribute;

/// Why a string is not an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// There is nothing in it, or nothing between two dots.
    #[error("an event type needs at least one character in each token between dots")]
    EmptyToken,
    /// It does not fit one length byte.
    #[error("an event type is at most 255 bytes long, this one has {0}")]
    TooLong(usize),
    /// White space, a control character, or a wildcard.
    #[error("an event type has no white space, control characters, `*` or `>`: found {0:?}")]
    Character(char),
}

/// Why a name cannot be an extension attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// `CloudEvents` allows 1 to 20 of `a-z0-9`.
    #[error("an attribute name is 1 to 20 lower-case letters and digits")]
    Name,
    /// The event has a field of its own for it.
    #[error("this attribute name is taken by a field of the event")]
    Reserved,
}

impl AttributeError {
    /// Names that `CloudEvents` or swarmbus give a meaning to.
    const RESERVED: &[&str] = &[
        "budget",
        "causationid",
        "correlationid",
        "data",
        "datacontenttype",
        "dataschema",
        "deadline",
        "hops",
        "id",
        "nonce",
        "priority",
        "replayed",
        "session",
        "source",
        "specversion",
        "subject",
        "target",
        "time",
        "traceparent",
        "type",
    ];

    /// Reserved names that travel as attributes all the same: the two of
    /// `CloudEvents` are passed on without a meaning, the others are read by
    /// [`hops`](crate::hops), which has setters of its own.
    const CARRIED: &[&str] = &[attribute::BUDGET, "dataschema", attribute::REPLAYED, "subject"];

    /// The rules for a name that a decoder found.
    pub(crate) fn check_carried(name: &str) -> Result<(), Self> {
        if Self::CARRIED.contains(&name) { Ok(()) } else { Self::check(name) }
    }

    pub(crate) fn check(name: &str) -> Result<(), Self> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if name.is_empty() || name.len() > 20 || !name.bytes().all(legal) {
            return Err(Self::Name);
        }
        if Self::RESERVED.binary_search(&name).is_ok() {
            return Err(Self::Reserved);
        }
        Ok(())
    }
}

/// Why a payload could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Text and plain bytes have no structure to decode.
    #[error("a {0:?} payload cannot be decoded into a type: read its bytes or text")]
    NotStructured(super::Content),
    /// It nests deeper than [`MAX_DEPTH`](crate::codec::limits::MAX_DEPTH).
    #[error("the payload nests deeper than {limit} levels", limit = crate::codec::limits::MAX_DEPTH)]
    TooDeep,
    /// The value cannot be written as MessagePack.
    #[error("cannot write the value as MessagePack: {0}")]
    MessagePackWrite(#[from] rmp_serde::encode::Error),
    /// The bytes are not MessagePack, or do not fit the type.
    #[error("cannot read the payload as MessagePack: {0}")]
    MessagePackRead(#[from] rmp_serde::decode::Error),
    /// The bytes are not JSON, or do not fit the type; or the value cannot be
    /// written as JSON.
    #[error("JSON payload: {0}")]
    Json(#[from] serde_json::Error),
}
