//! Checks a MessagePack payload without decoding it.
//!
//! A frame's payload is opaque to the codec. Whoever passes payloads of
//! strangers on to a decoder that trusts its input (a JavaScript reader
//! compiled per shape, for one) checks them here first.

use rmp::Marker;

use super::{Limits, limits::MAX_DEPTH};

/// Why bytes are not one MessagePack value within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsgpackError {
    /// The value goes on behind the end; also when an array or a map states
    /// more elements than there are bytes left.
    #[error("the MessagePack value is cut off")]
    Truncated,
    /// Bytes follow the value.
    #[error("{0} bytes follow the MessagePack value")]
    TrailingBytes(usize),
    /// Arrays and maps nest deeper than the limit.
    #[error("the MessagePack value nests deeper than {0} levels")]
    TooDeep(usize),
    /// A string is not UTF-8.
    #[error("a MessagePack string is not UTF-8")]
    Utf8,
    /// The one byte that begins no value.
    #[error("0xC1 begins no MessagePack value")]
    Reserved,
    /// More bytes than a record may have.
    #[error("the MessagePack value has {len} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
}

/// Walks over one value, without recursion and without allocating.
///
/// Arrays and maps count towards [`Limits::depth`], the whole towards
/// [`Limits::record_len`]. Keys may be of any type and may repeat.
///
/// ```
/// use swarmbus_core::codec::{Limits, msgpack::{MsgpackError, validate}};
///
/// assert_eq!(validate(&[0x92, 1, 2], &Limits::DEFAULT), Ok(()));
/// assert_eq!(validate(&[0x92, 1], &Limits::DEFAULT), Err(MsgpackError::Truncated));
/// ```
///
/// # Errors
///
/// When the bytes are anything but exactly one value within the limits.
pub fn validate(bytes: &[u8], limits: &Limits) -> Result<(), MsgpackError> {
    let (len, limit) = (bytes.len(), limits.record_len);
    if len > limit {
        return Err(MsgpackError::TooLong { len, limit });
    }
    let max_depth = limits.depth.min(MAX_DEPTH);
    // Values still to come, for each array or map that is open.
    let mut open = [0_u64; MAX_DEPTH];
    let mut depth = 0;
    let mut walk = Walk { rest: bytes };
    loop {
        if let Some(values) = walk.value()? {
            if depth == max_depth {
                return Err(MsgpackError::TooDeep(max_depth));
            }
            // A value takes a byte at least.
            if values > walk.rest.len() as u64 {
                return Err(MsgpackError::Truncated);
            }
            open[depth] = values;
            depth += 1;
        }
        // Close what is complete; the next value belongs to what is left.
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
        }
        match depth.checked_sub(1) {
            Some(top) => open[top] -= 1,
            None if walk.rest.is_empty() => return Ok(()),
            None => return Err(MsgpackError::TrailingBytes(walk.rest.len())),
        }
    }
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Steps over one scalar, or over the head of an array or a map: then
    /// returns how many values belong to it.
    fn value(&mut self) -> Result<Option<u64>, MsgpackError> {
        let [first] = *self.array()?;
        match Marker::from_u8(first) {
            Marker::FixPos(_) | Marker::FixNeg(_) => {}
            Marker::Null | Marker::True | Marker::False => {}
            Marker::U8 | Marker::I8 => self.skip(1)?,
            Marker::U16 | Marker::I16 => self.skip(2)?,
            Marker::U32 | Marker::I32 | Marker::F32 => self.skip(4)?,
            Marker::U64 | Marker::I64 | Marker::F64 => self.skip(8)?,
            Marker::FixStr(len) => self.text(u32::from(len))?,
            Marker::Str8 => self.length8().and_then(|len| self.text(len))?,
            Marker::Str16 => self.length16().and_then(|len| self.text(len))?,
            Marker::Str32 => self.length32().and_then(|len| self.text(len))?,
            Marker::Bin8 => self.length8().and_then(|len| self.skip(len))?,
            Marker::Bin16 => self.length16().and_then(|len| self.skip(len))?,
            Marker::Bin32 => self.length32().and_then(|len| self.skip(len))?,
            // An extension has a type byte before its data.
            Marker::FixExt1 => self.skip(1 + 1)?,
            Marker::FixExt2 => self.skip(1 + 2)?,
            Marker::FixExt4 => self.skip(1 + 4)?,
            Marker::FixExt8 => self.skip(1 + 8)?,
            Marker::FixExt16 => self.skip(1 + 16)?,
            Marker::Ext8 => self.length8().and_then(|len| self.extension(len))?,
            Marker::Ext16 => self.length16().and_then(|len| self.extension(len))?,
            Marker::Ext32 => self.length32().and_then(|len| self.extension(len))?,
            Marker::FixArray(len) => return Ok(Some(u64::from(len))),
            Marker::Array16 => return Ok(Some(u64::from(self.length16()?))),
            Marker::Array32 => return Ok(Some(u64::from(self.length32()?))),
            Marker::FixMap(len) => return Ok(Some(2 * u64::from(len))),
            Marker::Map16 => return Ok(Some(2 * u64::from(self.length16()?))),
            Marker::Map32 => return Ok(Some(2 * u64::from(self.length32()?))),
            Marker::Reserved => return Err(MsgpackError::Reserved),
        }
        Ok(None)
    }

    fn extension(&mut self, len: u32) -> Result<(), MsgpackError> {
        self.skip(1)?;
        self.skip(len)
    }

    fn text(&mut self, len: u32) -> Result<(), MsgpackError> {
        let text = self.take(len)?;
        std::str::from_utf8(text).map(|_| ()).map_err(|_| MsgpackError::Utf8)
    }

    fn skip(&mut self, len: u32) -> Result<(), MsgpackError> {
        self.take(len).map(|_| ())
    }

    fn take(&mut self, len: u32) -> Result<&'a [u8], MsgpackError> {
        let (taken, rest) =
            self.rest.split_at_checked(len as usize).ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], MsgpackError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn length8(&mut self) -> Result<u32, MsgpackError> {
        self.array().map(|[len]| u32::from(*len))
    }

    fn length16(&mut self) -> Result<u32, MsgpackError> {
        self.array().map(|bytes| u32::from(u16::from_be_bytes(*bytes)))
    }

    fn length32(&mut self) -> Result<u32, MsgpackError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Content, Event, Payload};

    fn check(bytes: &[u8]) -> Result<(), MsgpackError> {
        validate(bytes, &Limits::DEFAULT)
    }

    /// One value of every kind.
    const KINDS: &[&[u8]] = &[
        &[0x00],
        &[0xff],
        &[0xc0],
        &[0xc2],
        &[0xc3],
        &[0xcc, 1],
        &[0xcd, 1, 2],
        &[0xce, 1, 2, 3, 4],
        &[0xcf, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xd0, 1],
        &[0xd1, 1, 2],
        &[0xd2, 1, 2, 3, 4],
        &[0xd3, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xca, 1, 2, 3, 4],
        &[0xcb, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xa2, b'o', b'k'],
        &[0xd9, 1, b'a'],
        &[0xda, 0, 1, b'a'],
        &[0xdb, 0, 0, 0, 1, b'a'],
        &[0xc4, 1, 0xff],
        &[0xc5, 0, 1, 0xff],
        &[0xc6, 0, 0, 0, 1, 0xff],
        &[0xd4, 7, 1],
        &[0xd5, 7, 1, 2],
        &[0xd6, 7, 1, 2, 3, 4],
        &[0xd7, 7, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xd8, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        &[0xc7, 1, 7, 1],
        &[0xc8, 0, 1, 7, 1],
        &[0xc9, 0, 0, 0, 1, 7, 1],
        &[0x90],
        &[0x92, 0x90, 1],
        &[0xdc, 0, 1, 1],
        &[0xdd, 0, 0, 0, 1, 1],
        &[0x80],
        &[0x81, 0xa1, b'k', 0x91, 1],
        &[0xde, 0, 1, 1, 2],
        &[0xdf, 0, 0, 0, 1, 1, 2],
    ];

    #[test]
    fn every_kind_is_walked_and_each_cut_is_seen() {
        for kind in KINDS {
            assert_eq!(check(kind), Ok(()), "{kind:x?}");
            for end in 0..kind.len() {
                assert_eq!(check(&kind[..end]), Err(MsgpackError::Truncated), "{kind:x?} {end}");
            }
            let longer = [kind, &[0xc0, 0xc0][..]].concat();
            assert_eq!(check(&longer), Err(MsgpackError::TrailingBytes(2)), "{kind:x?}");
        }
        let all = [&[0xdc, 0, KINDS.len() as u8], &KINDS.concat()[..]].concat();
        assert_eq!(check(&all), Ok(()));
    }

    #[test]
    fn a_huge_count_is_refused_at_once() {
        assert_eq!(check(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]), Err(MsgpackError::Truncated));
        assert_eq!(check(&[0xdf, 0xff, 0xff, 0xff, 0xff, 1]), Err(MsgpackError::Truncated));
    }

    #[test]
    fn bad_bytes_are_named() {
        assert_eq!(check(&[0xc1]), Err(MsgpackError::Reserved));
        assert_eq!(check(&[0xa1, 0xff]), Err(MsgpackError::Utf8));
        let small = Limits { record_len: 2, ..Limits::DEFAULT };
        assert_eq!(
            validate(&[0x92, 1, 2], &small),
            Err(MsgpackError::TooLong { len: 3, limit: 2 })
        );
    }

    #[test]
    fn nesting_is_allowed_up_to_the_limit() {
        let nested = |levels: usize| [&vec![0x91; levels - 1][..], &[0x90]].concat();
        assert_eq!(check(&nested(128)), Ok(()));
        assert_eq!(check(&nested(129)), Err(MsgpackError::TooDeep(128)));
        let flat = Limits { depth: 1, ..Limits::DEFAULT };
        assert_eq!(validate(&nested(1), &flat), Ok(()));
        assert_eq!(validate(&nested(2), &flat), Err(MsgpackError::TooDeep(1)));
        let none = Limits { depth: 0, ..Limits::DEFAULT };
        assert_eq!(validate(&[1], &none), Ok(()));
        assert_eq!(validate(&nested(1), &none), Err(MsgpackError::TooDeep(0)));
    }

    #[test]
    fn what_decodes_is_within_the_depth() {
        let nested = |levels: usize| [&vec![0x91; levels - 1][..], &[0x90]].concat();
        let decodes = |levels| {
            let payload = Payload::raw(Content::MessagePack, nested(levels));
            Event::of("a", payload).decode::<serde_json::Value>().is_ok()
        };
        for levels in (1..200).filter(|levels| decodes(*levels)) {
            assert_eq!(check(&nested(levels)), Ok(()), "{levels}");
        }
    }
}
