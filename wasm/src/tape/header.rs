//! The header of a record, when it is plain: what nearly all events have. Anything
//! odd is left to JavaScript, which knows all the rules and names the one that is
//! broken.

use swarmbus_core::{
    Timestamp,
    codec::{
        layout::{RECORD_HEADER, flag, record},
        limits::MAX_STRING_LEN,
    },
};

use super::walk::copy_ascii;

/// Strings of a header: type, source, id, target, session, correlation id,
/// causation id, traceparent.
pub(super) const STRINGS: usize = 8;

/// The most text of a header that is plain.
const PLAIN: usize = 2048;

/// For each string: where its length is (that of the type is one byte), and the bits
/// that say that it is there and that it is a UUID.
const FIELDS: [(usize, u16, u16); STRINGS] = [
    (record::TYPE_LEN, 0, 0),
    (record::SOURCE_LEN, 0, 0),
    (record::ID_LEN, flag::ID, flag::ID_UUID),
    (record::TARGET_LEN, flag::TARGET, 0),
    (record::SESSION_LEN, flag::SESSION, 0),
    (record::CORRELATION_LEN, flag::CORRELATION, flag::CORRELATION_UUID),
    (record::CAUSATION_LEN, flag::CAUSATION, flag::CAUSATION_UUID),
    (record::TRACEPARENT_LEN, flag::TRACEPARENT, 0),
];

pub(super) struct Found {
    /// Where the payload begins in the input.
    pub(super) payload: usize,
    pub(super) is_msgpack: bool,
    /// Bytes of text.
    pub(super) text: usize,
    pub(super) type_len: usize,
}

/// Checks the numbers, copies the strings to the text, UUIDs as characters, and writes
/// where each ends into the slots behind the first. None if they are not plain.
///
/// `input` goes on behind `end` with its padding.
pub(super) fn read(
    input: &[u8],
    start: usize,
    end: usize,
    text: &mut [u8],
    slots: &mut [u64],
) -> Option<Found> {
    let header = input.get(start..end)?.first_chunk::<RECORD_HEADER>()?;
    let flags = numbers(header)?;
    let mut ends = [0_u32; STRINGS];
    let (mut at, mut to) = (start + RECORD_HEADER, 0);
    for (n, (place, present, uuid)) in FIELDS.into_iter().enumerate() {
        let len =
            if n == 0 { usize::from(header[place]) } else { usize::from(short(header, place)) };
        if flags & uuid != 0 {
            if len != 16 || flags & present == 0 || at + len > end {
                return None;
            }
            write_uuid(input.get(at..)?.first_chunk()?, text.get_mut(to..)?.first_chunk_mut()?);
            to += 36;
        } else if len > 0 {
            let absent = present != 0 && flags & present == 0;
            // A UUID belongs into 16 bytes: whether this is one is a question for others.
            let perhaps_uuid = uuid != 0 && len == 36;
            let long = len > MAX_STRING_LEN || to + len > PLAIN || at + len > end;
            if absent || perhaps_uuid || long {
                return None;
            }
            if place == record::TARGET_LEN {
                to += put_kind(flags, text.get_mut(to..)?)?;
            }
            if !copy_ascii(input.get(at..)?, text.get_mut(to..)?, len)? {
                return None;
            }
            to += len;
        } else if place == record::TARGET_LEN && flags & present != 0 {
            to += put_kind(flags, text.get_mut(to..)?)?;
        }
        at += len;
        ends[n] = to as u32;
    }
    for (slot, pair) in slots.get_mut(1..)?.iter_mut().zip(ends.as_chunks::<2>().0) {
        *slot = u64::from(pair[0]) | u64::from(pair[1]) << 32;
    }
    let payload = at
        .checked_add(usize::from(short(header, record::HOPS_LEN)))?
        .checked_add(u32_at(header, record::ATTRIBUTES_LEN) as usize)?;
    if payload > end {
        return None;
    }
    let type_len = usize::from(header[record::TYPE_LEN]);
    Some(Found { payload, is_msgpack: header[record::CONTENT] == 1, text: to, type_len })
}

/// What stands before the name of a target, so that it is one string.
fn put_kind(flags: u16, to: &mut [u8]) -> Option<usize> {
    let kind = if flags & flag::TARGET_SWARM != 0 { b"swarm:" } else { b"agent:" };
    *to.first_chunk_mut()? = *kind;
    Some(kind.len())
}

/// The flags, if all numbers are such as an event may have.
#[inline(always)]
fn numbers(header: &[u8; RECORD_HEADER]) -> Option<u16> {
    let flags = short(header, record::FLAGS);
    let swarm_without_target = flags & flag::TARGET_SWARM != 0 && flags & flag::TARGET == 0;
    let (priority, content) = (header[record::PRIORITY], header[record::CONTENT]);
    let timestamp = u64_at(header, record::TIMESTAMP);
    let nonce = u64_at(header, record::NONCE);
    let latest = Timestamp::MAX.as_micros();
    let plain = flags & !flag::ALL == 0
        && !swarm_without_target
        && priority <= 9
        && content <= 3
        && timestamp <= latest
        && u64_at(header, record::DEADLINE) <= latest
        && (nonce == 0 || timestamp != 0);
    plain.then_some(flags)
}

#[inline(always)]
fn short(header: &[u8; RECORD_HEADER], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

#[inline(always)]
fn u32_at(header: &[u8; RECORD_HEADER], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[inline(always)]
fn u64_at(header: &[u8; RECORD_HEADER], at: usize) -> u64 {
    u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32
}

/// The canonical text: lower-case digits in five groups.
fn write_uuid(bytes: &[u8; 16], to: &mut [u8; 36]) {
    let digits = |at: usize| digits([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (second, third) = (digits(4), digits(8));
    to[..8].copy_from_slice(&digits(0));
    to[9..13].copy_from_slice(&second[..4]);
    to[14..18].copy_from_slice(&second[4..]);
    to[19..23].copy_from_slice(&third[..4]);
    to[24..28].copy_from_slice(&third[4..]);
    to[28..].copy_from_slice(&digits(12));
    for dash in [8, 13, 18, 23] {
        to[dash] = b'-';
    }
}

/// Eight digits at once: each half byte in a byte of its own, then its character.
#[inline(always)]
fn digits(bytes: [u8; 4]) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from(u32::from_le_bytes(bytes));
    let pairs = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let apart = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let halves = (apart >> 4 | apart << 8) & (15 * EACH);
    // 1 where it is above 9: the letters follow 39 places behind where digits would.
    let letters = ((halves + 6 * EACH) >> 4) & EACH;
    (halves + 0x30 * EACH + 39 * letters).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_core_writes_them() {
        for bytes in [[0; 16], [0xff; 16], std::array::from_fn(|n| (n * 37 + 9) as u8)] {
            let mut text = [0; 36];
            write_uuid(&bytes, &mut text);
            let expected = swarmbus_core::EventId::from_uuid_bytes(bytes).to_string();
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
    }
}
