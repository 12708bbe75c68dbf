//! The limits that every reader and writer of frames obeys.

/// Longest frame in bytes, its header included: 16 MiB.
pub const MAX_FRAME_LEN: usize = 16 << 20;

/// Longest record (one event within a frame) in bytes, its header included:
/// 8 MiB.
pub const MAX_RECORD_LEN: usize = 8 << 20;

/// Most events in one frame.
pub const MAX_EVENTS: usize = 65_536;

/// Longest event type in bytes; fixed by its length byte.
pub const MAX_TYPE_LEN: usize = crate::event::EventType::MAX_LEN;

/// Longest source, id, target name, session, correlation id, causation id and
/// traceparent, each in bytes.
pub const MAX_STRING_LEN: usize = 1_024;

/// Most places in a hop path.
pub const MAX_HOPS: usize = 64;

/// Longest name of one hop in bytes; fixed by its length byte.
pub const MAX_HOP_LEN: usize = 255;

/// Most extension attributes of one event.
pub const MAX_ATTRIBUTES: usize = 64;

/// Longest value of an extension attribute in bytes.
pub const MAX_ATTRIBUTE_LEN: usize = 4_096;

/// Deepest nesting of a payload that is decoded.
pub const MAX_DEPTH: usize = 128;

/// The limits of one reader or writer, for a program that wants them tighter
/// or wider than the constants of this module.
///
/// Both ends of a connection should agree: a frame within the writer's limits
/// and beyond the reader's is refused with a typed error.
///
/// ```
/// use swarmbus_core::codec::{Frame, Limits, encode};
/// use swarmbus_core::Event;
///
/// let small = Limits { frame_len: 64 << 10, ..Limits::DEFAULT };
/// let bytes = encode(&Event::of("log.line", "x".repeat(100_000)))?;
/// assert!(Frame::parse_with(bytes, small).is_err());
/// # Ok::<(), swarmbus_core::codec::EncodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a frame, or of one JSON document; at most `u32::MAX`.
    pub frame_len: usize,
    /// Bytes of one record; at most `u32::MAX`.
    pub record_len: usize,
    /// Events of one frame; at most `u32::MAX`.
    pub events: usize,
    /// Bytes of each string other than the type, hops and attributes; at most
    /// 65,535.
    pub string_len: usize,
    /// Places in the hop path; at most 255.
    pub hops: usize,
    /// Extension attributes; at most 65,535.
    pub attributes: usize,
    /// Bytes of an attribute's value; at most 65,535.
    pub attribute_len: usize,
    /// Nesting of a payload that is validated; can be tightened only, because
    /// the validator's stack has [`MAX_DEPTH`] places.
    pub depth: usize,
}

impl Limits {
    /// The constants of this module.
    pub const DEFAULT: Self = Self {
        frame_len: MAX_FRAME_LEN,
        record_len: MAX_RECORD_LEN,
        events: MAX_EVENTS,
        string_len: MAX_STRING_LEN,
        hops: MAX_HOPS,
        attributes: MAX_ATTRIBUTES,
        attribute_len: MAX_ATTRIBUTE_LEN,
        depth: MAX_DEPTH,
    };

    /// Lowered to what the fields of the wire format can hold, so that later
    /// code may cast lengths without a check.
    #[must_use]
    pub(super) fn clamped(self) -> Self {
        const U32: usize = u32::MAX as usize;
        const U16: usize = u16::MAX as usize;
        Self {
            frame_len: self.frame_len.min(U32),
            record_len: self.record_len.min(U32),
            events: self.events.min(U32),
            string_len: self.string_len.min(U16),
            hops: self.hops.min(u8::MAX as usize),
            attributes: self.attributes.min(U16),
            attribute_len: self.attribute_len.min(U16),
            depth: self.depth.min(MAX_DEPTH),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
