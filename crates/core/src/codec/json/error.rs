//! Why an event has no JSON form, or JSON is not an event.

use crate::event::{AttributeError, EventTypeError, Str, TimestampError};

/// Why an event cannot be written as `CloudEvents` JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToJsonError {
    /// The source or the id is text that stands for "none" in JSON, or the id
    /// is empty.
    #[error("{name} {value:?} means \"none\" in the JSON form")]
    Reserved {
        /// `source` or `id`.
        name: &'static str,
        /// Its text.
        value: Str,
    },
    /// The serializer failed, for which no case is known.
    #[error(transparent)]
    Write(#[from] serde_json::Error),
}

/// Why JSON is not an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FromJsonError {
    /// Longer than the limit on frames.
    #[error("the JSON has {len} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// Not one JSON object.
    #[error("not a JSON object: {0}")]
    Syntax(#[from] serde_json::Error),
    /// More members than fields and allowed attributes.
    #[error("the event has more than {0} members")]
    TooManyMembers(usize),
    /// A member is there twice.
    #[error("member {0:?} is there twice")]
    Duplicate(Str),
    /// A member that `CloudEvents` requires is missing or empty.
    #[error("member {0:?} is missing or empty")]
    Missing(&'static str),
    /// Another version of `CloudEvents`.
    #[error("specversion is {0:?}, not \"1.0\"")]
    SpecVersion(Str),
    /// A member that must be a string is not. Extension attributes with
    /// boolean or integer values belong here: an event keeps strings only.
    #[error("member {0:?} is not a string")]
    NotAString(Str),
    /// The type breaks a rule of event types.
    #[error(transparent)]
    Type(#[from] EventTypeError),
    /// `time` or `deadline` is not a timestamp.
    #[error("member {name:?}: {error}")]
    Time {
        /// Which of them.
        name: &'static str,
        /// Why.
        error: TimestampError,
    },
    /// `priority` is not an integer from 0 to 9.
    #[error("priority is an integer from 0 to 9")]
    Priority,
    /// `nonce` is not 16 lower-case hexadecimal digits, is zero, or comes
    /// without a time.
    #[error("nonce is 16 hexadecimal digits, not all zero, beside a time and an id")]
    Nonce,
    /// `target` has neither of the two forms.
    #[error("target is `agent:NAME` or `swarm:NAME`")]
    Target,
    /// `hops` has a `%` that begins neither `%25` nor `%2C`.
    #[error("in hops, `%` is written `%25` and a comma `%2C`")]
    Hops,
    /// A media type that no content of an event stands for.
    #[error("media type {0:?} has no content kind")]
    MediaType(Str),
    /// Both `data` and `data_base64`.
    #[error("an event has either data or data_base64")]
    TwoPayloads,
    /// `data` is no string, but the media type is neither JSON nor absent; or
    /// it is one although MessagePack cannot be text.
    #[error("data does not fit its media type")]
    Data,
    /// `data_base64` is not base64 with padding.
    #[error("data_base64 is not base64")]
    Base64,
    /// A name that no attribute may have.
    #[error("member {name:?}: {error}")]
    Attribute {
        /// The member's name.
        name: Str,
        /// Why.
        error: AttributeError,
    },
}

impl FromJsonError {
    /// The error's name in the shared test vectors, the same in every
    /// language.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Syntax(_) => "syntax",
            Self::TooManyMembers(_) => "too_many_members",
            Self::Duplicate(_) => "duplicate",
            Self::Missing(_) => "missing",
            Self::SpecVersion(_) => "specversion",
            Self::NotAString(_) => "not_a_string",
            Self::Type(_) => "type",
            Self::Time { .. } => "time",
            Self::Priority => "priority",
            Self::Nonce => "nonce",
            Self::Target => "target",
            Self::Hops => "hops",
            Self::MediaType(_) => "media_type",
            Self::TwoPayloads => "two_payloads",
            Self::Data => "data",
            Self::Base64 => "base64",
            Self::Attribute { .. } => "attribute",
        }
    }
}
