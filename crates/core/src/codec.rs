//! How events travel as bytes, and how strangers' bytes are read safely.
//!
//! A *frame* holds one or many events. Its numbers lie at fixed offsets, the
//! payload comes last: a reader routes and forwards by looking at the header,
//! and payload bytes are shared, not copied, until somebody decodes them.
//!
//! ```
//! use swarmbus_core::{Event, codec::{self, Frame}};
//!
//! let event = Event::of("vote.cast", "yes").with_source("validator-3");
//! let bytes = codec::encode(&event)?;
//!
//! // Route by a glance at the header …
//! let seen = codec::peek(&bytes)?;
//! assert_eq!(seen.type_hash(), event.ty().stable_hash());
//! assert_eq!(seen.type_bytes(), b"vote.cast");
//!
//! // … and read what is meant for this place.
//! for view in &Frame::parse(bytes)? {
//!     assert_eq!(view?.to_event()?, event);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each event has exactly one encoding, so that equal events are equal bytes
//! in every language: whatever decodes, encodes to the same bytes again.
//! Malformed, truncated or oversized input ends in a typed error, without a
//! panic and without taking memory that the input does not justify. The
//! layout is byte by byte in ADR 0002.
//!
//! | module or type | for |
//! | --- | --- |
//! | [`encode`](encode()), [`encode_batch`], [`FrameWriter`] | writing |
//! | [`peek`], [`Frame`], [`EventView`] | reading |
//! | [`FrameReader`], [`frame_len`] | byte streams |
//! | [`Changes`] | forwarding with another priority, deadline, target, hop |
//! | [`json`] | people and other `CloudEvents` programs |
//! | [`msgpack`] | checking a MessagePack payload without decoding it |
//! | [`limits`], [`Limits`] | how much a reader or writer accepts |
//! | [`layout`] | offsets, for readers written elsewhere |

mod decode;
mod encode;
mod error;
mod forward;
mod frame;
pub mod json;
pub mod layout;
pub mod limits;
pub mod msgpack;
mod reader;
mod strings;
mod view;
mod writer;

use bytes::Bytes;

pub use error::{DecodeError, EncodeError, Field};
pub use forward::Changes;
pub use frame::{Events, Frame, frame_len, peek};
pub use limits::Limits;
pub use reader::FrameReader;
pub use view::EventView;
pub use writer::FrameWriter;

use crate::event::Event;

/// A frame of one event.
///
/// # Errors
///
/// When the event is beyond one of the [`limits`].
pub fn encode(event: &Event) -> Result<Bytes, EncodeError> {
    let mut writer = FrameWriter::new();
    writer.push(event)?;
    writer.finish()
}

/// A frame of these events in their order.
///
/// # Errors
///
/// When there are none, one of them is beyond one of the [`limits`], or
/// together they are: a [`FrameWriter`] tells when a frame is full.
pub fn encode_batch<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Bytes, EncodeError> {
    let mut writer = FrameWriter::new();
    for event in events {
        writer.push(event)?;
    }
    writer.finish()
}

/// Bytes that an event takes within a frame, without its share of the frame's
/// header: 16 bytes for each frame.
///
/// # Errors
///
/// When the event is beyond one of the [`limits`], so that no frame can hold
/// it.
pub fn record_len(event: &Event) -> Result<usize, EncodeError> {
    encode::header(event, &Limits::DEFAULT).map(|(_, len)| len)
}
