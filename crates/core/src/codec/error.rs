//! What can be wrong with an event that is written, or with bytes that are
//! read.

use crate::event::{AttributeError, EventTypeError};

/// A string of an event, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The event type.
    Type,
    /// The source.
    Source,
    /// The id.
    Id,
    /// The target's name.
    Target,
    /// The session.
    Session,
    /// The correlation id.
    CorrelationId,
    /// The causation id.
    CausationId,
    /// The traceparent.
    Traceparent,
    /// One hop.
    Hop,
    /// The name of an attribute.
    AttributeName,
    /// The value of an attribute.
    AttributeValue,
}

/// Why an event cannot be written into a frame. The frame stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string is longer than the limits allow.
    #[error("{field:?} has {len} bytes, the limit is {limit}")]
    FieldTooLong {
        /// Which one.
        field: Field,
        /// Its bytes.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The hop path is longer than the limits allow.
    #[error("the event has {count} hops, the limit is {limit}")]
    TooManyHops {
        /// Hops of the event.
        count: usize,
        /// The most it may have.
        limit: usize,
    },
    /// More attributes than the limits allow.
    #[error("the event has {count} attributes, the limit is {limit}")]
    TooManyAttributes {
        /// Attributes of the event.
        count: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The event as a whole is too long, mostly by its payload.
    #[error("the event takes {len} bytes, the limit is {limit}")]
    RecordTooLong {
        /// Bytes it would take.
        len: usize,
        /// The most it may take.
        limit: usize,
    },
    /// The frame has no room for this event; finish it and begin another.
    #[error("with this event the frame takes {len} bytes, the limit is {limit}")]
    FrameTooLong {
        /// Bytes the frame would have.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The frame has its full number of events; finish it and begin another.
    #[error("a frame holds at most {limit} events")]
    TooManyEvents {
        /// The most it may hold.
        limit: usize,
    },
    /// A frame without events was to be finished.
    #[error("a frame holds at least one event")]
    EmptyFrame,
}

/// Why bytes are not a frame, or a record of it not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends before its stated length, or within its header.
    #[error("the frame needs {needed} bytes, there are {have}")]
    Truncated {
        /// Bytes it must have at least.
        needed: usize,
        /// Bytes given.
        have: usize,
    },
    /// The first bytes are not those of a frame.
    #[error("not a swarmbus frame")]
    Magic,
    /// Written by another version of the format.
    #[error("the frame has version {0}, this reader knows version 1")]
    Version(u16),
    /// The frame asks for something that this reader does not know.
    #[error("the frame has unknown flags {0:#06x}")]
    FrameFlags(u16),
    /// The frame states that it holds no event.
    #[error("a frame holds at least one event")]
    EmptyFrame,
    /// The frame states a length beyond the limit.
    #[error("the frame has {len} bytes, the limit is {limit}")]
    FrameTooLong {
        /// Its stated length.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The frame states more events than the limit.
    #[error("the frame has {count} events, the limit is {limit}")]
    TooManyEvents {
        /// Its stated number.
        count: usize,
        /// The most it may have.
        limit: usize,
    },
    /// The frame's stated length has no room for its stated number of events.
    #[error("a frame of {len} bytes cannot hold {count} events")]
    Count {
        /// The stated number.
        count: usize,
        /// The stated length.
        len: usize,
    },
    /// Bytes follow the last record or the frame.
    #[error("{0} bytes follow the end")]
    TrailingBytes(usize),
    /// A record's stated length does not fit what is left of the frame. The
    /// records behind it cannot be found.
    #[error("a record states {len} bytes, {have} are left in the frame")]
    RecordLength {
        /// Its stated length.
        len: usize,
        /// Bytes from its start to the frame's end.
        have: usize,
    },
    /// A record states a length beyond the limit.
    #[error("the event takes {len} bytes, the limit is {limit}")]
    RecordTooLong {
        /// Its stated length.
        len: usize,
        /// The most it may take.
        limit: usize,
    },
    /// The strings of a record reach beyond its end.
    #[error("the strings of the event reach beyond its end")]
    Sections,
    /// The record asks for something that this reader does not know.
    #[error("the event has unknown flags {0:#06x}")]
    RecordFlags(u16),
    /// Above 9.
    #[error("priority {0} is above 9")]
    Priority(u8),
    /// No known kind of payload.
    #[error("unknown content kind {0}")]
    Content(u8),
    /// The timestamp lies after the year 9999.
    #[error("timestamp {0} lies after the year 9999")]
    Timestamp(u64),
    /// The deadline lies after the year 9999.
    #[error("deadline {0} lies after the year 9999")]
    Deadline(u64),
    /// A nonce makes an id only together with a timestamp.
    #[error("a nonce without a timestamp")]
    Nonce,
    /// The hash in the header is not that of the type.
    #[error("the type has hash {actual:#018x}, the header states {stated:#018x}")]
    TypeHash {
        /// As the header has it.
        stated: u64,
        /// Of the type's bytes.
        actual: u64,
    },
    /// The type breaks a rule of event types.
    #[error(transparent)]
    Type(#[from] EventTypeError),
    /// A string is not UTF-8.
    #[error("{0:?} is not UTF-8")]
    Utf8(Field),
    /// A string is longer than the limits allow.
    #[error("{field:?} has {len} bytes, the limit is {limit}")]
    FieldTooLong {
        /// Which one.
        field: Field,
        /// Its bytes.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// A field has a length or a kind, but its presence bit is not set.
    #[error("{0:?} is absent and yet has a length or a kind")]
    Absent(Field),
    /// A UUID that has not 16 bytes, or the text of one that belongs into 16
    /// bytes: every id has one encoding only.
    #[error("{0:?} is a UUID in the wrong form")]
    Uuid(Field),
    /// More hops than the limits allow.
    #[error("the event has {count} hops, the limit is {limit}")]
    TooManyHops {
        /// Its stated number.
        count: usize,
        /// The most it may have.
        limit: usize,
    },
    /// Number, length and contents of the hops disagree.
    #[error("number and length of the hops disagree")]
    Hops,
    /// More attributes than the limits allow.
    #[error("the event has {count} attributes, the limit is {limit}")]
    TooManyAttributes {
        /// Its stated number.
        count: usize,
        /// The most it may have.
        limit: usize,
    },
    /// Number, length and contents of the attributes disagree.
    #[error("number and length of the attributes disagree")]
    Attributes,
    /// A name that no attribute may have.
    #[error(transparent)]
    AttributeName(#[from] AttributeError),
    /// Attributes are sorted by name, and each name is there once.
    #[error("the attributes are not sorted or one is there twice")]
    AttributeOrder,
}

impl DecodeError {
    /// The error's name in the shared test vectors, the same in every
    /// language.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Magic => "magic",
            Self::Version(_) => "version",
            Self::FrameFlags(_) => "frame_flags",
            Self::EmptyFrame => "empty_frame",
            Self::FrameTooLong { .. } => "frame_too_long",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::Count { .. } => "count",
            Self::TrailingBytes(_) => "trailing_bytes",
            Self::RecordLength { .. } => "record_length",
            Self::RecordTooLong { .. } => "record_too_long",
            Self::Sections => "sections",
            Self::RecordFlags(_) => "record_flags",
            Self::Priority(_) => "priority",
            Self::Content(_) => "content",
            Self::Timestamp(_) => "timestamp",
            Self::Deadline(_) => "deadline",
            Self::Nonce => "nonce",
            Self::TypeHash { .. } => "type_hash",
            Self::Type(_) => "type",
            Self::Utf8(_) => "utf8",
            Self::FieldTooLong { .. } => "field_too_long",
            Self::Absent(_) => "absent",
            Self::Uuid(_) => "uuid",
            Self::TooManyHops { .. } => "too_many_hops",
            Self::Hops => "hops",
            Self::TooManyAttributes { .. } => "too_many_attributes",
            Self::Attributes => "attributes",
            Self::AttributeName(_) => "attribute_name",
            Self::AttributeOrder => "attribute_order",
        }
    }
}
