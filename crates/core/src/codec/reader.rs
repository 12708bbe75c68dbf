//! [`FrameReader`]: finds frames in a stream of bytes cut anywhere.

use bytes::{Bytes, BytesMut};

use super::{DecodeError, Frame, Limits, frame::frame_len};

/// Collects what a connection delivers and hands out whole frames.
///
/// Room is taken for bytes that have arrived, never for bytes that a header
/// announces. Take all frames after each [`extend`](Self::extend), and the
/// reader holds less than one frame and one delivery.
///
/// ```
/// use swarmbus_core::{Event, codec::{FrameReader, encode}};
///
/// let stream = [encode(&Event::of("a", "1"))?, encode(&Event::of("b", "2"))?].concat();
/// let mut reader = FrameReader::new();
/// let mut types = Vec::new();
/// for piece in stream.chunks(7) {
///     reader.extend(piece);
///     while let Some(frame) = reader.next_frame()? {
///         for event in &frame {
///             types.push(event?.to_event()?.ty().to_string());
///         }
///     }
/// }
/// assert_eq!(types, ["a", "b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    limits: Limits,
}

impl FrameReader {
    /// With [`Limits::DEFAULT`].
    pub fn new() -> Self {
        Self::default()
    }

    /// With limits of the caller's choice.
    pub fn with_limits(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), limits }
    }

    /// Adds what arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes arrive.
    ///
    /// # Errors
    ///
    /// When the stream does not continue with a frame. Where the next one
    /// begins cannot be known, so the error repeats until
    /// [`clear`](Self::clear); a caller usually closes the connection.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        match frame_len(&self.buffer, &self.limits)? {
            Some(len) if len <= self.buffer.len() => {
                let bytes: Bytes = self.buffer.split_to(len).freeze();
                Frame::parse_with(bytes, self.limits).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Bytes that arrived and are no whole frame yet.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets what is pending, to begin anew on another connection.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }
}
