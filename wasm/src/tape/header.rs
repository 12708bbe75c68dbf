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

/// Strings of a header: source, id, target, session, correlation id, causation id,
/// traceparent. The type goes by its number.
pub(super) const STRINGS: usize = 7;

/// The most text of a header that is plain.
const PLAIN: usize = 2048;

pub(super) struct Found {
    /// Where the payload begins in the input.
    pub(super) payload: usize,
    pub(super) is_msgpack: bool,
    /// Bytes of text.
    pub(super) text: usize,
    pub(super) type_len: usize,
    /// As the header states it.
    pub(super) type_hash: u64,
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
    let type_len = usize::from(header[record::TYPE_LEN]);
    let len = |place: usize| usize::from(short(header, place));
    let at = start + RECORD_HEADER + type_len;
    let mut strings = Strings { input, text, at, to: 0, end, flags };
    let source = strings.string(len(record::SOURCE_LEN), 0)?;
    let id = strings.id(len(record::ID_LEN), flag::ID, flag::ID_UUID)?;
    if flags & flag::TARGET != 0 {
        strings.put_kind()?;
    }
    let target = strings.string(len(record::TARGET_LEN), flag::TARGET)?;
    let session = strings.string(len(record::SESSION_LEN), flag::SESSION)?;
    let correlation =
        strings.id(len(record::CORRELATION_LEN), flag::CORRELATION, flag::CORRELATION_UUID)?;
    let causation =
        strings.id(len(record::CAUSATION_LEN), flag::CAUSATION, flag::CAUSATION_UUID)?;
    let trace = strings.string(len(record::TRACEPARENT_LEN), flag::TRACEPARENT)?;
    let (at, to) = (strings.at, strings.to);

    let ends = slots.get_mut(1..)?.first_chunk_mut::<{ STRINGS.div_ceil(2) }>()?;
    ends[0] = u64::from(source) | u64::from(id) << 32;
    ends[1] = u64::from(target) | u64::from(session) << 32;
    ends[2] = u64::from(correlation) | u64::from(causation) << 32;
    ends[3] = u64::from(trace);
    let payload = at
        .checked_add(len(record::HOPS_LEN))?
        .checked_add(u32_at(header, record::ATTRIBUTES_LEN) as usize)?;
    if payload > end {
        return None;
    }
    let is_msgpack = header[record::CONTENT] == 1;
    let type_hash = u64_at(header, record::TYPE_HASH);
    Some(Found { payload, is_msgpack, text: to, type_len, type_hash })
}

/// From the strings of the record, one behind the other, to those of the text.
struct Strings<'a> {
    input: &'a [u8],
    text: &'a mut [u8],
    at: usize,
    to: usize,
    end: usize,
    flags: u16,
}

impl Strings<'_> {
    /// Takes a string, which has this flag where it is not always there; returns where it
    /// ends in the text.
    #[inline(always)]
    fn string(&mut self, len: usize, present: u16) -> Option<u32> {
        if len > 0 {
            if present != 0 && self.flags & present == 0 {
                return None;
            }
            self.copy(len)?;
        }
        Some(self.to as u32)
    }

    /// The same for an id, which is a UUID where that flag is set.
    #[inline(always)]
    fn id(&mut self, len: usize, present: u16, uuid: u16) -> Option<u32> {
        if self.flags & uuid != 0 {
            if len != 16 || self.flags & present == 0 || self.at + len > self.end {
                return None;
            }
            self.copy_uuid()?;
            return Some(self.to as u32);
        }
        // A UUID belongs into 16 bytes: whether this is one is a question for others.
        if len == 36 {
            return None;
        }
        self.string(len, present)
    }

    #[inline(never)]
    fn copy(&mut self, len: usize) -> Option<()> {
        if len > MAX_STRING_LEN || self.to + len > PLAIN || self.at + len > self.end {
            return None;
        }
        if !copy_ascii(self.input.get(self.at..)?, self.text.get_mut(self.to..)?, len)? {
            return None;
        }
        self.at += len;
        self.to += len;
        Some(())
    }

    #[inline(never)]
    fn copy_uuid(&mut self) -> Option<()> {
        let to = self.text.get_mut(self.to..)?.first_chunk_mut()?;
        write_uuid(self.input.get(self.at..)?.first_chunk()?, to);
        self.at += 16;
        self.to += 36;
        Some(())
    }

    /// What stands before the name of a target, so that it is one string.
    #[inline(always)]
    fn put_kind(&mut self) -> Option<()> {
        let kind = if self.flags & flag::TARGET_SWARM != 0 { b"swarm:" } else { b"agent:" };
        *self.text.get_mut(self.to..)?.first_chunk_mut()? = *kind;
        self.to += kind.len();
        Some(())
    }
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
