//! [`Scanner`]: finds where an answer of the server ends, and what a message is.
//! Pure.
//!
//! What it is given comes from a network and may be anything.

use std::ops::Range;

/// Bytes of one answer: as long as the longest text of a server.
pub(super) const MAX_ANSWER: usize = 512 << 20;

/// Bytes of a line that has no length before it.
const MAX_LINE: usize = 64 << 10;

/// Finds the end of what begins at the front of a buffer. Bytes that it has
/// looked at it does not look at again, however often more of them come.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Up to here it is understood.
    at: usize,
    /// Values that are still to come, those inside of others included; 0 at the
    /// beginning.
    open: usize,
}

/// Why bytes are no answer of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    /// No value begins with this byte.
    #[error("no answer begins with byte {0}")]
    Kind(u8),
    /// A length is no number, or none that can be.
    #[error("an answer's length makes no sense")]
    Length,
    /// A line or a text has another end than it should.
    #[error("an answer does not end where it should")]
    End,
    /// It is longer than [`MAX_ANSWER`], or a line than [`MAX_LINE`].
    #[error("an answer is too long")]
    TooLong,
}

/// A published message, as places in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) name: Range<usize>,
    pub(super) payload: Range<usize>,
}

impl Scanner {
    /// How long the answer at the front is; `None` if the end is not there yet.
    /// After an answer it begins anew.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        if self.open == 0 {
            *self = Self { at: 0, open: 1 };
        }
        while self.open > 0 {
            let Some(kind) = bytes.get(self.at) else { return Ok(None) };
            if !b"+-:_,#($=!*~>%|".contains(kind) {
                return Err(ScanError::Kind(*kind));
            }
            let Some((line, after)) = line(bytes, self.at + 1)? else { return Ok(None) };
            let (next, inside) = match kind {
                b'$' | b'=' | b'!' => match length(line)? {
                    Some(len) => (text_end(bytes, after, len)?, 0),
                    None => (after, 0),
                },
                b'*' | b'~' | b'>' => (after, length(line)?.unwrap_or(0)),
                b'%' => (after, length(line)?.unwrap_or(0).saturating_mul(2)),
                // What follows an attribute is what it is about.
                b'|' => (after, length(line)?.unwrap_or(0).saturating_mul(2).saturating_add(1)),
                _ => (after, 0),
            };
            // Each value has three bytes at least.
            let least = self.open.saturating_sub(1).saturating_add(inside);
            if next > MAX_ANSWER || least > (MAX_ANSWER - next) / 3 {
                return Err(ScanError::TooLong);
            }
            if next > bytes.len() {
                return Ok(None);
            }
            (self.at, self.open) = (next, least);
        }
        Ok(Some(self.at))
    }
}

/// The message at `at`, and where it ends; `None` if it is something else, or not
/// all of it is there.
pub(super) fn message(bytes: &[u8], at: usize) -> Result<Option<(Place, usize)>, ScanError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let kind = [&b">3\r\n$7\r\nmessage\r\n"[..], b">3\r\n$8\r\nsmessage\r\n"];
    let Some(head) = kind.into_iter().find(|kind| rest.starts_with(kind)) else { return Ok(None) };
    let Some((name, after)) = text(bytes, at + head.len())? else { return Ok(None) };
    let Some((payload, end)) = text(bytes, after)? else { return Ok(None) };
    Ok(Some((Place { name, payload }, end)))
}

/// The text at `at`, and what follows it.
pub(super) fn text(bytes: &[u8], at: usize) -> Result<Option<(Range<usize>, usize)>, ScanError> {
    match bytes.get(at) {
        Some(b'$') => {}
        Some(other) => return Err(ScanError::Kind(*other)),
        None => return Ok(None),
    }
    let Some((line, after)) = line(bytes, at + 1)? else { return Ok(None) };
    let len = length(line)?.ok_or(ScanError::Length)?;
    let end = text_end(bytes, after, len)?;
    Ok((end <= bytes.len()).then_some((after..after + len, end)))
}

/// Where a text of this length ends, its line's end included.
fn text_end(bytes: &[u8], at: usize, len: usize) -> Result<usize, ScanError> {
    let end = at + len;
    match bytes.get(end..) {
        Some([b'\r', b'\n', ..] | [b'\r'] | []) | None => Ok(end + 2),
        Some(_) => Err(ScanError::End),
    }
}

/// The line at `at` without its end, and what follows it.
#[inline]
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, ScanError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let near = rest.get(..MAX_LINE).unwrap_or(rest);
    let Some(len) = near.iter().position(|byte| *byte == b'\r') else {
        return if near.len() == MAX_LINE { Err(ScanError::TooLong) } else { Ok(None) };
    };
    match rest.get(len + 1) {
        Some(b'\n') => Ok(Some((near.get(..len).unwrap_or_default(), at + len + 2))),
        Some(_) => Err(ScanError::End),
        None => Ok(None),
    }
}

/// A length; `None` for -1, which stands for nothing.
#[inline]
fn length(line: &[u8]) -> Result<Option<usize>, ScanError> {
    if line == b"-1" {
        return Ok(None);
    }
    if line.is_empty() {
        return Err(ScanError::Length);
    }
    let digit = |sum: usize, byte: &u8| match byte {
        b'0'..=b'9' if sum <= MAX_ANSWER => Some(sum * 10 + usize::from(byte - b'0')),
        _ => None,
    };
    let len = line.iter().try_fold(0, digit).ok_or(ScanError::Length)?;
    if len > MAX_ANSWER { Err(ScanError::TooLong) } else { Ok(Some(len)) }
}

/// A whole number.
pub(super) fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
