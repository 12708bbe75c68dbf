//! Reads the strings of a record, each checked as it is read.

use super::{DecodeError, Field};

/// Bytes as text.
pub(super) fn text(bytes: &[u8], field: Field) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8(field))
}

/// Bytes as text of at most `limit` bytes.
pub(super) fn limited(bytes: &[u8], field: Field, limit: usize) -> Result<&str, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::FieldTooLong { field, len: bytes.len(), limit });
    }
    text(bytes, field)
}

/// `count` names, each after its length byte, that fill the bytes exactly.
pub(super) fn hops(bytes: &[u8], count: usize) -> impl Iterator<Item = Result<&str, DecodeError>> {
    let mut left = Some((bytes, count));
    std::iter::from_fn(move || {
        // Taken, and put back only by a good step: an error ends the walk.
        match left.take()? {
            ([], 0) => None,
            (_, 0) => Some(Err(DecodeError::Hops)),
            (bytes, count) => Some(match short(bytes) {
                Some((name, rest)) => {
                    left = Some((rest, count - 1));
                    text(name, Field::Hop).inspect_err(|_| left = None)
                }
                None => Err(DecodeError::Hops),
            }),
        }
    })
}

/// One attribute off the front: name and value as bytes, and what follows.
pub(super) fn attribute(bytes: &[u8]) -> Result<([&[u8]; 2], &[u8]), DecodeError> {
    let (name, rest) = short(bytes).ok_or(DecodeError::Attributes)?;
    let (len, rest) = rest.split_first_chunk().ok_or(DecodeError::Attributes)?;
    let len = usize::from(u16::from_le_bytes(*len));
    let (value, rest) = rest.split_at_checked(len).ok_or(DecodeError::Attributes)?;
    Ok(([name, value], rest))
}

/// What a length byte announces, and what follows it.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}
