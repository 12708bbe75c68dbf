//! [`Frame`]: one or many events as they travel.

use bytes::Bytes;

use super::{
    DecodeError, EventView, Limits,
    layout::{FRAME_HEADER, MAGIC, RECORD_HEADER, VERSION, frame, u16_at, u32_at},
    view::split_record,
};

/// A frame whose header was checked. Its events are found one by one, as the
/// iteration goes.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    count: usize,
    limits: Limits,
}

impl Frame {
    /// Takes exactly one frame, within [`Limits::DEFAULT`].
    ///
    /// # Errors
    ///
    /// When the header is malformed or its length is not that of the bytes.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        Self::parse_with(bytes, Limits::DEFAULT)
    }

    /// Takes exactly one frame, within limits of the caller's choice.
    ///
    /// # Errors
    ///
    /// See [`parse`](Self::parse).
    pub fn parse_with(bytes: impl Into<Bytes>, limits: Limits) -> Result<Self, DecodeError> {
        let (bytes, limits) = (bytes.into(), limits.clamped());
        let count = whole(&bytes, &limits)?;
        Ok(Self { bytes, count, limits })
    }

    /// How many events the header states: at least 1, and never more than the
    /// bytes have room for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The events in their order. An event that is malformed in itself is an
    /// `Err` between good ones; one whose length is wrong is the last item,
    /// because nothing behind it can be found.
    pub fn iter(&self) -> Events<'_> {
        let rest = self.bytes.get(FRAME_HEADER..).unwrap_or_default();
        Events { frame: self, rest, left: Some(self.count) }
    }

    /// The whole frame as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<'a> IntoIterator for &'a Frame {
    type Item = Result<EventView<'a>, DecodeError>;
    type IntoIter = Events<'a>;

    fn into_iter(self) -> Events<'a> {
        self.iter()
    }
}

/// The events of a frame: see [`Frame::iter`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    frame: &'a Frame,
    rest: &'a [u8],
    /// Events still to come; `None` when the walk has ended.
    left: Option<usize>,
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventView<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Taken, and put back only when the next record can be found.
        let left = self.left.take()?;
        if left == 0 {
            let trailing = self.rest.len();
            return (trailing > 0).then_some(Err(DecodeError::TrailingBytes(trailing)));
        }
        match split_record(self.rest, &self.frame.limits) {
            Ok((record, rest)) => {
                self.rest = rest;
                self.left = Some(left - 1);
                Some(EventView::new(record, Some(&self.frame.bytes), &self.frame.limits))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// The first event of a frame, at the least possible cost: for routing and
/// forwarding by header. Nothing is allocated or copied.
///
/// # Errors
///
/// When the frame's header or the first record's is malformed, or the frame's
/// length is not that of the bytes.
#[inline]
pub fn peek(bytes: &[u8]) -> Result<EventView<'_>, DecodeError> {
    whole(bytes, &Limits::DEFAULT)?;
    let rest = bytes.get(FRAME_HEADER..).unwrap_or_default();
    let (record, _) = split_record(rest, &Limits::DEFAULT)?;
    EventView::new(record, None, &Limits::DEFAULT)
}

/// How long the frame is that these bytes begin with: `None` when there are
/// too few to tell. The frame itself need not be complete.
///
/// # Errors
///
/// As soon as the bytes cannot be the beginning of a frame within the limits.
pub fn frame_len(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, DecodeError> {
    let Some(header) = bytes.first_chunk() else {
        let known = bytes.len().min(MAGIC.len());
        return if bytes[..known] == MAGIC[..known] { Ok(None) } else { Err(DecodeError::Magic) };
    };
    check_header(header, limits).map(|(len, _)| Some(len))
}

/// Checks the header, and that the bytes are exactly the frame it announces;
/// returns the number of events.
#[inline]
fn whole(bytes: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    let Some(header) = bytes.first_chunk() else {
        frame_len(bytes, limits)?;
        return Err(DecodeError::Truncated { needed: FRAME_HEADER, have: bytes.len() });
    };
    let (len, count) = check_header(header, limits)?;
    if bytes.len() < len {
        return Err(DecodeError::Truncated { needed: len, have: bytes.len() });
    }
    if bytes.len() > len {
        return Err(DecodeError::TrailingBytes(bytes.len() - len));
    }
    Ok(count)
}

/// Length and number of events.
#[inline]
fn check_header(
    header: &[u8; FRAME_HEADER],
    limits: &Limits,
) -> Result<(usize, usize), DecodeError> {
    if header[..MAGIC.len()] != MAGIC {
        return Err(DecodeError::Magic);
    }
    let version = u16_at(header, frame::VERSION);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let flags = u16_at(header, frame::FLAGS);
    if flags != 0 {
        return Err(DecodeError::FrameFlags(flags));
    }
    let count = u32_at(header, frame::COUNT) as usize;
    let len = u32_at(header, frame::LEN) as usize;
    if count == 0 {
        return Err(DecodeError::EmptyFrame);
    }
    if len > limits.frame_len {
        return Err(DecodeError::FrameTooLong { len, limit: limits.frame_len });
    }
    if count > limits.events {
        return Err(DecodeError::TooManyEvents { count, limit: limits.events });
    }
    // Divided, not multiplied: that cannot overflow where usize has 32 bits.
    if count > len.saturating_sub(FRAME_HEADER) / RECORD_HEADER {
        return Err(DecodeError::Count { count, len });
    }
    Ok((len, count))
}
