//! Where each field of a frame lies; ADR 0002 shows it as tables.
//!
//! All integers are little-endian. A frame is its header and then `count`
//! records without padding; a record is its header, the strings in the order
//! of `Section`, and the payload up to the record's end.

/// First four bytes of a frame. 0xC1 begins neither a MessagePack value nor
/// UTF-8 text, so a frame is never taken for a bare payload.
pub const MAGIC: [u8; 4] = [0xC1, b'S', b'W', b'B'];

/// The version that this code writes and the only one it reads.
pub const VERSION: u16 = 1;

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 16;

/// Bytes of a record's header: one cache line. The type begins right after.
pub const RECORD_HEADER: usize = 64;

/// Offsets within a frame's header.
pub mod frame {
    /// `u16`: [`VERSION`](super::VERSION).
    pub const VERSION: usize = 4;
    /// `u16`: no bit has a meaning yet, so 0.
    pub const FLAGS: usize = 6;
    /// `u32`: number of records, at least 1.
    pub const COUNT: usize = 8;
    /// `u32`: bytes of the whole frame, this header included.
    pub const LEN: usize = 12;
}

/// Offsets within a record's header.
pub mod record {
    /// `u32`: bytes of the whole record, this header included.
    pub const LEN: usize = 0;
    /// `u16`: see [`flag`](super::flag).
    pub const FLAGS: usize = 4;
    /// `u8`: 0 to 9.
    pub const PRIORITY: usize = 6;
    /// `u8`: the number of a [`Content`](crate::Content).
    pub const CONTENT: usize = 7;
    /// `u64`: XXH64 with seed 0 of the type's bytes.
    pub const TYPE_HASH: usize = 8;
    /// `u64`: microseconds since 1970, 0 for none.
    pub const TIMESTAMP: usize = 16;
    /// `u64`: what the id is made of together with the timestamp, 0 for none.
    pub const NONCE: usize = 24;
    /// `u64`: microseconds since 1970, 0 for none.
    pub const DEADLINE: usize = 32;
    /// `u8`: bytes of the type.
    pub const TYPE_LEN: usize = 40;
    /// `u8`: number of hops.
    pub const HOP_COUNT: usize = 41;
    /// `u16`: bytes of the source.
    pub const SOURCE_LEN: usize = 42;
    /// `u16`: bytes of the id, 0 when it is absent.
    pub const ID_LEN: usize = 44;
    /// `u16`: bytes of the target's name.
    pub const TARGET_LEN: usize = 46;
    /// `u16`: bytes of the session.
    pub const SESSION_LEN: usize = 48;
    /// `u16`: bytes of the correlation id.
    pub const CORRELATION_LEN: usize = 50;
    /// `u16`: bytes of the causation id.
    pub const CAUSATION_LEN: usize = 52;
    /// `u16`: bytes of the traceparent.
    pub const TRACEPARENT_LEN: usize = 54;
    /// `u16`: bytes of all hops, each a length byte and its name.
    pub const HOPS_LEN: usize = 56;
    /// `u16`: number of attributes.
    pub const ATTRIBUTE_COUNT: usize = 58;
    /// `u32`: bytes of all attributes, each a length byte, its name, two
    /// length bytes, its value; sorted by name.
    pub const ATTRIBUTES_LEN: usize = 60;
}

/// Bits of a record's flags. An optional string is there when its bit is set,
/// so that an empty one differs from none.
pub mod flag {
    /// The event has an id of its own (not made from timestamp and nonce).
    pub const ID: u16 = 1;
    /// That id is the 16 bytes of a UUID, else text.
    pub const ID_UUID: u16 = 1 << 1;
    /// The event is for one agent or swarm.
    pub const TARGET: u16 = 1 << 2;
    /// That target is a swarm, else an agent.
    pub const TARGET_SWARM: u16 = 1 << 3;
    /// The event belongs to a session.
    pub const SESSION: u16 = 1 << 4;
    /// The event has a correlation id.
    pub const CORRELATION: u16 = 1 << 5;
    /// That id is a UUID.
    pub const CORRELATION_UUID: u16 = 1 << 6;
    /// The event has a causation id.
    pub const CAUSATION: u16 = 1 << 7;
    /// That id is a UUID.
    pub const CAUSATION_UUID: u16 = 1 << 8;
    /// The event carries a traceparent.
    pub const TRACEPARENT: u16 = 1 << 9;
    /// Every bit that has a meaning.
    pub const ALL: u16 = (1 << 10) - 1;
}

/// The strings between a record's header and its payload, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Section {
    Type,
    Source,
    Id,
    Target,
    Session,
    Correlation,
    Causation,
    Traceparent,
    Hops,
    Attributes,
}

/// How many [`Section`]s there are.
pub(super) const SECTIONS: usize = 10;

/// Bytes of each section as a header states them.
#[inline]
pub(super) fn section_lengths(header: &[u8; RECORD_HEADER]) -> [u32; SECTIONS] {
    let short = |at| u32::from(u16_at(header, at));
    [
        u32::from(header[record::TYPE_LEN]),
        short(record::SOURCE_LEN),
        short(record::ID_LEN),
        short(record::TARGET_LEN),
        short(record::SESSION_LEN),
        short(record::CORRELATION_LEN),
        short(record::CAUSATION_LEN),
        short(record::TRACEPARENT_LEN),
        short(record::HOPS_LEN),
        u32_at(header, record::ATTRIBUTES_LEN),
    ]
}

#[inline(always)]
pub(super) fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
pub(super) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
pub(super) fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[inline(always)]
pub(super) fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, value: [u8; M]) {
    bytes[at..at + M].copy_from_slice(&value);
}
