//! The property of arbitrary bytes, used by the mutation test and the fuzz
//! target.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed assertion")]

use swarmbus_core::{
    Event,
    codec::{
        self, Frame, FrameWriter, Limits,
        json::{from_json, to_json},
        msgpack,
    },
};

/// Reads bytes in every way there is. Nothing may panic, and a frame that
/// decodes must encode to the same bytes. Returns whether it decoded.
pub(crate) fn frame(bytes: &[u8]) -> bool {
    let _ = codec::frame_len(bytes, &Limits::DEFAULT);
    if let Ok(view) = codec::peek(bytes) {
        look(&view);
    }
    let Ok(frame) = Frame::parse(bytes.to_vec()) else { return false };
    let mut copied = FrameWriter::new();
    let mut events = Vec::new();
    let mut whole = true;
    for view in &frame {
        let Ok(view) = view else {
            whole = false;
            continue;
        };
        look(&view);
        copied.append_record(&view).unwrap();
        match view.to_event() {
            Ok(event) => events.push(event),
            Err(_) => whole = false,
        }
    }
    if !whole {
        return false;
    }
    assert_eq!(copied.finish().unwrap(), bytes, "copied records are the same frame");
    let again = codec::encode_batch(&events).unwrap();
    assert_eq!(again, bytes, "one event, one encoding");
    events.iter().for_each(json_round_trip);
    true
}

/// Reads a document: what is read can be written, and is read again equal.
/// Returns whether it was an event.
pub(crate) fn json(bytes: &[u8]) -> bool {
    let Ok(event) = from_json(bytes) else { return false };
    assert_eq!(from_json(&to_json(&event).unwrap()).unwrap(), event);
    if let Ok(bytes) = codec::encode(&event) {
        assert_eq!(codec::peek(&bytes).unwrap().to_event().unwrap(), event);
    }
    true
}

/// Walks over a payload: what is valid, a decoder can read. Returns whether
/// it was valid.
pub(crate) fn msgpack(bytes: &[u8]) -> bool {
    let valid = msgpack::validate(bytes, &Limits::DEFAULT).is_ok();
    if valid {
        rmp_serde::from_slice::<serde::de::IgnoredAny>(bytes).unwrap();
    }
    valid
}

fn look(view: &codec::EventView<'_>) {
    let _ = (view.ty(), view.source(), view.target(), view.session(), view.id());
    let _ = (view.timestamp(), view.deadline(), view.hops().count());
    assert!(view.record_bytes().ends_with(view.payload_bytes()));
    assert_eq!(view.payload(), view.payload_bytes());
    let _ = format!("{view:?}");
}

/// The same event by way of JSON, unless its source or id has a meaning there.
fn json_round_trip(event: &Event) {
    let Ok(text) = to_json(event) else { return };
    let back = from_json(&text).unwrap();
    assert_eq!(to_json(&back).unwrap(), text);
    assert_eq!(back.id(), event.id());
    // An id of its own that repeats the stamp is kept once.
    if codec::encode(&back) != codec::encode(event) {
        assert_eq!(back.clone().with_id(event.id().unwrap()), *event);
    }
}
