//! The property of arbitrary bytes, used by the mutation test and the fuzz
//! target.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed assertion")]

use swarmbus_core::{
    Event,
    codec::{self, Frame, FrameWriter, Limits},
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

fn look(view: &codec::EventView<'_>) {
    let _ = (view.ty(), view.source(), view.target(), view.session(), view.id());
    let _ = (view.timestamp(), view.deadline(), view.hops().count());
    assert!(view.record_bytes().ends_with(view.payload_bytes()));
    assert_eq!(view.payload(), view.payload_bytes());
    let _ = format!("{view:?}");
}

fn json_round_trip(_event: &Event) {}
