//! [`FrameWriter`]: collects events into one frame.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Changes, EncodeError, EventView, Limits, encode, forward,
    layout::{FRAME_HEADER, MAGIC, VERSION, frame, put},
};
use crate::event::Event;

/// Collects events, new or forwarded, into frames, one after the other.
///
/// A call that fails leaves the frame as it was, and the writer goes on. The
/// memory of a finished frame is used again once its bytes have been dropped.
///
/// ```
/// use swarmbus_core::{Event, codec::{Frame, FrameWriter}};
///
/// let mut writer = FrameWriter::new();
/// writer.push(&Event::of("task.created", "17"))?;
/// writer.push(&Event::of("task.created", "18"))?;
/// let bytes = writer.finish()?;
/// assert_eq!(Frame::parse(bytes).unwrap().count(), 2);
/// assert_eq!(writer.count(), 0); // ready for the next frame
/// # Ok::<(), swarmbus_core::codec::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct FrameWriter {
    /// Empty, or room for the frame's header and the records so far.
    buffer: BytesMut,
    count: usize,
    limits: Limits,
}

impl FrameWriter {
    /// With [`Limits::DEFAULT`].
    pub fn new() -> Self {
        Self::with_limits(Limits::DEFAULT)
    }

    /// With limits of the caller's choice.
    pub fn with_limits(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), count: 0, limits: limits.clamped() }
    }

    /// Appends an event.
    ///
    /// # Errors
    ///
    /// When the event is beyond a limit, or the frame is full: then
    /// [`finish`](Self::finish) it and push again.
    pub fn push(&mut self, event: &Event) -> Result<(), EncodeError> {
        let (header, len) = encode::header(event, &self.limits)?;
        self.begin_record(len)?;
        self.buffer.put_slice(&header);
        encode::body(event, &mut self.buffer);
        self.count += 1;
        Ok(())
    }

    /// Appends an event of another frame, byte for byte. What a view has not
    /// checked yet stays unchecked: the reader at the end of the way does it.
    ///
    /// # Errors
    ///
    /// When the record is beyond the limit of this writer, or the frame is
    /// full.
    pub fn append_record(&mut self, event: &EventView<'_>) -> Result<(), EncodeError> {
        self.begin_record(event.record_bytes().len())?;
        self.buffer.put_slice(event.record_bytes());
        self.count += 1;
        Ok(())
    }

    /// Appends an event of another frame with some header fields changed; the
    /// payload is copied as it is.
    ///
    /// # Errors
    ///
    /// When the changed event is beyond a limit, or the frame is full.
    pub fn append_changed(
        &mut self,
        event: &EventView<'_>,
        changes: &Changes<'_>,
    ) -> Result<(), EncodeError> {
        let plan = forward::Plan::new(event, changes, &self.limits)?;
        self.begin_record(plan.len())?;
        plan.write(&mut self.buffer);
        self.count += 1;
        Ok(())
    }

    /// Events in the frame so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes that [`finish`](Self::finish) would return; 0 without events.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frame; the writer is empty afterwards.
    ///
    /// # Errors
    ///
    /// [`EncodeError::EmptyFrame`] without events.
    pub fn finish(&mut self) -> Result<Bytes, EncodeError> {
        let mut bytes = self.buffer.split();
        let (count, len) = (self.count as u32, bytes.len() as u32);
        let Some(header) = bytes.first_chunk_mut::<FRAME_HEADER>() else {
            return Err(EncodeError::EmptyFrame);
        };
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        put(header, frame::VERSION, VERSION.to_le_bytes());
        put(header, frame::COUNT, count.to_le_bytes());
        put(header, frame::LEN, len.to_le_bytes());
        self.count = 0;
        Ok(bytes.freeze())
    }

    /// Forgets the events so far.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.count = 0;
    }

    /// Makes room for a record of this length, and for the frame's header
    /// before the first one. Changes nothing when it fails.
    fn begin_record(&mut self, record: usize) -> Result<(), EncodeError> {
        if record > self.limits.record_len {
            return Err(EncodeError::RecordTooLong { len: record, limit: self.limits.record_len });
        }
        let len = self.buffer.len().max(FRAME_HEADER).saturating_add(record);
        if len > self.limits.frame_len {
            return Err(EncodeError::FrameTooLong { len, limit: self.limits.frame_len });
        }
        if self.count >= self.limits.events {
            return Err(EncodeError::TooManyEvents { limit: self.limits.events });
        }
        self.buffer.reserve(len - self.buffer.len());
        if self.buffer.is_empty() {
            self.buffer.put_bytes(0, FRAME_HEADER);
        }
        Ok(())
    }
}

impl Default for FrameWriter {
    fn default() -> Self {
        Self::new()
    }
}
