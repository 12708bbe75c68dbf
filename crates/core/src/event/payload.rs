//! [`Payload`]: bytes, and what they are.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::PayloadError;
use crate::codec::limits::MAX_DEPTH;

/// What the bytes of a payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Content {
    /// Bytes of no stated form (`application/octet-stream`).
    Binary = 0,
    /// One MessagePack value (`application/msgpack`).
    MessagePack = 1,
    /// One JSON value (`application/json`).
    Json = 2,
    /// UTF-8 text (`text/plain`).
    Text = 3,
}

impl Content {
    /// From its number on the wire.
    pub fn from_u8(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Binary),
            1 => Some(Self::MessagePack),
            2 => Some(Self::Json),
            3 => Some(Self::Text),
            _ => None,
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Binary => "application/octet-stream",
            Self::MessagePack => "application/msgpack",
            Self::Json => "application/json",
            Self::Text => "text/plain",
        }
    }
}

/// What an event carries: bytes with their [`Content`].
///
/// Text, byte vectors and [`Bytes`] convert by `into()`; values of the
/// program by [`Payload::msgpack`] or [`Payload::json`].
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    pub(super) bytes: Bytes,
    pub(super) content: Content,
}

impl Payload {
    /// Writes a value as MessagePack with field names, so that any language
    /// reads it back.
    ///
    /// # Errors
    ///
    /// When the value's `Serialize` fails.
    pub fn msgpack<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let bytes = rmp_serde::to_vec_named(value)?.into();
        Ok(Self { bytes, content: Content::MessagePack })
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// When the value's `Serialize` fails, or a map key is not a string.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let bytes = serde_json::to_vec(value)?.into();
        Ok(Self { bytes, content: Content::Json })
    }

    /// Bytes that already are what `content` says. They are not looked at: a
    /// reader finds out.
    pub fn raw(content: Content, bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), content }
    }
}

pub(super) fn decode<T: DeserializeOwned>(
    content: Content,
    bytes: &[u8],
) -> Result<T, PayloadError> {
    match content {
        Content::MessagePack => {
            let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
            reader.set_max_depth(MAX_DEPTH);
            T::deserialize(&mut reader).map_err(|error| match error {
                rmp_serde::decode::Error::DepthLimitExceeded => PayloadError::TooDeep,
                other => PayloadError::MessagePackRead(other),
            })
        }
        // serde_json stops at 128 levels of its own accord.
        Content::Json => Ok(serde_json::from_slice(bytes)?),
        Content::Binary | Content::Text => Err(PayloadError::NotStructured(content)),
    }
}

impl From<()> for Payload {
    fn from((): ()) -> Self {
        Self { bytes: Bytes::new(), content: Content::Binary }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, content: Content::Binary }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self { bytes: Bytes::from_static(text.as_bytes()), content: Content::Text }
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self { bytes: text.into(), content: Content::Text }
    }
}
