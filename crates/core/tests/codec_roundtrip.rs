//! Properties of frames: what is written is read back, and nothing else is.

#[path = "codec_support/arbitrary.rs"]
mod arbitrary;
#[path = "codec_support/check.rs"]
mod check;

use proptest::{collection::vec, prelude::*};
use swarmbus_core::{
    Event, Payload, Priority, Str, Target, Timestamp,
    codec::{self, Changes, DecodeError, EncodeError, Frame, FrameReader, FrameWriter, Limits},
};

fn read(bytes: impl Into<bytes::Bytes>) -> Result<Vec<Event>, DecodeError> {
    Frame::parse(bytes)?.iter().map(|view| view?.to_event()).collect()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn events_come_back_equal(events in vec(arbitrary::event(), 1..4)) {
        let bytes = codec::encode_batch(&events).unwrap();
        let back = read(bytes.clone()).unwrap();
        prop_assert_eq!(&back, &events);
        for (a, b) in back.iter().zip(&events) {
            prop_assert_eq!(a.id(), b.id());
        }
        prop_assert!(check::frame(&bytes));
    }

    #[test]
    fn events_come_back_equal_from_json(event in arbitrary::event()) {
        if let Ok(text) = codec::json::to_json(&event) {
            prop_assert!(check::json(&text));
        }
    }

    #[test]
    fn what_was_packed_is_valid(value in any::<Vec<(String, Option<f64>, Vec<u8>)>>()) {
        prop_assert!(check::msgpack(Event::of("a", Payload::msgpack(&value).unwrap()).payload()));
    }

    #[test]
    fn a_view_says_what_the_event_says(event in arbitrary::event()) {
        let bytes = codec::encode(&event).unwrap();
        let frame = Frame::parse(bytes.clone()).unwrap();
        for view in [codec::peek(&bytes).unwrap(), frame.iter().next().unwrap().unwrap()] {
            prop_assert_eq!(view.ty().unwrap(), event.ty().as_str());
            prop_assert_eq!(view.type_hash(), event.ty().stable_hash());
            prop_assert_eq!(view.priority(), event.priority());
            prop_assert_eq!(view.content(), event.content());
            prop_assert_eq!(view.timestamp(), event.timestamp());
            prop_assert_eq!(view.deadline(), event.deadline());
            prop_assert_eq!(view.source().unwrap(), event.source());
            prop_assert_eq!(view.target().unwrap(), event.target().cloned());
            prop_assert_eq!(view.session().unwrap(), event.session());
            prop_assert_eq!(view.id().unwrap(), event.id());
            prop_assert_eq!(view.hops().collect::<Result<Vec<_>, _>>().unwrap(), event.hops());
            prop_assert_eq!(&view.payload(), event.payload());
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error(event in arbitrary::event()) {
        let bytes = codec::encode(&event).unwrap();
        for end in 0..bytes.len() {
            prop_assert!(Frame::parse(bytes.slice(..end)).is_err());
            prop_assert!(codec::peek(&bytes[..end]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(read(longer), Err(DecodeError::TrailingBytes(1)));
    }

}

proptest! {
    // Each case reads some thousand frames.
    #![proptest_config(config(16))]

    #[test]
    fn a_flipped_bit_is_an_error_or_another_event(event in arbitrary::event()) {
        let bytes = codec::encode(&event).unwrap();
        for bit in 0..bytes.len().min(400) * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check::frame(&flipped);
            if let Ok(back) = read(flipped) {
                prop_assert_ne!(&back[..], std::slice::from_ref(&event));
            }
        }
    }

    #[test]
    fn a_stream_is_cut_into_its_frames(
        events in vec(arbitrary::event(), 1..5),
        piece in 1..200_usize,
    ) {
        let frames: Vec<_> = events.iter().map(|event| codec::encode(event).unwrap()).collect();
        let mut reader = FrameReader::new();
        let mut found = Vec::new();
        for piece in frames.concat().chunks(piece) {
            reader.extend(piece);
            while let Some(frame) = reader.next_frame().unwrap() {
                found.push(frame.bytes().clone());
            }
        }
        prop_assert_eq!(found, frames);
        prop_assert_eq!(reader.pending(), 0);
    }

    #[test]
    fn a_change_is_what_encoding_the_changed_event_gives(
        event in arbitrary::event(),
        target in proptest::option::of("[a-z]{0,40}"),
    ) {
        let target = target.map(Target::swarm);
        let deadline = Timestamp::from_micros(77);
        let changes = Changes::new()
            .with_priority(Priority::MAX)
            .with_deadline(deadline)
            .with_target(target.as_ref())
            .with_hop("édge");
        let bytes = codec::encode(&event).unwrap();
        let mut writer = FrameWriter::new();
        writer.append_changed(&codec::peek(&bytes).unwrap(), &changes).unwrap();
        writer.append_changed(&codec::peek(&bytes).unwrap(), &Changes::new()).unwrap();
        let [changed, same] = &read(writer.finish().unwrap()).unwrap()[..] else { panic!() };
        prop_assert_eq!(same, &event);
        prop_assert_eq!(changed.target(), target.as_ref());
        let hops: Vec<_> = event.hops().iter().map(Str::as_str).chain(["édge"]).collect();
        prop_assert_eq!(changed.hops(), &hops[..]);
        let mut wanted = event.clone()
            .with_priority(Priority::MAX)
            .with_deadline(deadline.unwrap())
            .with_hop("édge");
        if let Some(target) = target {
            wanted = wanted.with_target(target);
            prop_assert_eq!(changed, &wanted);
        }
    }
}

#[test]
fn the_payload_shares_the_frames_memory() {
    let bytes = codec::encode(&Event::of("a", vec![7_u8; 1_000])).unwrap();
    let frame = Frame::parse(bytes.clone()).unwrap();
    let view = frame.iter().next().unwrap().unwrap();
    let within = bytes.as_ptr_range();
    assert!(within.contains(&view.payload().as_ptr()));
    assert!(within.contains(&view.to_event().unwrap().payload().as_ptr()));
}

#[test]
fn a_bad_event_does_not_hide_the_good_ones() {
    let good = Event::of("good", "1");
    let bytes = codec::encode_batch([&good, &Event::of("bad", "2"), &good]).unwrap();
    let mut bytes = bytes.to_vec();
    let first = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    bytes[16 + first + codec::layout::record::PRIORITY] = 10;
    let frame = Frame::parse(bytes).unwrap();
    let found: Vec<_> = frame.iter().map(|view| view.and_then(|v| v.to_event())).collect();
    assert_eq!(found, [Ok(good.clone()), Err(DecodeError::Priority(10)), Ok(good)]);
}

#[test]
fn a_wrong_length_ends_the_walk_once() {
    let event = Event::of("a", "1");
    for len in [0, 63, 100_000, u32::MAX] {
        let mut bytes = codec::encode_batch([&event, &event]).unwrap().to_vec();
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        let frame = Frame::parse(bytes).unwrap();
        let found: Vec<_> = frame.iter().collect();
        assert_eq!(found.len(), 1, "{len}");
        assert!(found[0].is_err());
    }
}

#[test]
fn hostile_numbers_in_the_header_are_named() {
    let whole = codec::encode(&Event::of("a", "1")).unwrap();
    let with = |at: usize, value: &[u8]| {
        let mut bytes = whole.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        Frame::parse(bytes).unwrap_err()
    };
    let max = u32::MAX as usize;
    assert_eq!(with(0, &[0]), DecodeError::Magic);
    assert_eq!(with(4, &[2]), DecodeError::Version(2));
    assert_eq!(with(7, &[1]), DecodeError::FrameFlags(0x100));
    assert_eq!(with(8, &[0; 4]), DecodeError::EmptyFrame);
    assert_eq!(with(8, &[2, 0, 0, 0]), DecodeError::Count { count: 2, len: whole.len() });
    assert_eq!(with(8, &[0xff; 4]), DecodeError::TooManyEvents { count: max, limit: 65_536 });
    assert_eq!(with(12, &[0xff; 4]), DecodeError::FrameTooLong { len: max, limit: 16 << 20 });
}

#[test]
fn a_hash_of_another_type_is_refused_on_decoding_only() {
    let mut bytes = codec::encode(&Event::of("a", "1")).unwrap().to_vec();
    bytes[16 + codec::layout::record::TYPE_HASH] ^= 1;
    let view = codec::peek(&bytes).unwrap();
    assert_eq!(view.ty(), Ok("a"));
    assert!(matches!(view.to_event(), Err(DecodeError::TypeHash { .. })));
}

#[test]
fn limits_are_named_and_leave_the_writer_usable() {
    use codec::{Field, limits};
    let long = "x".repeat(limits::MAX_STRING_LEN + 1);
    let too_long = |field, len, limit| EncodeError::FieldTooLong { field, len, limit };
    let event = || Event::of("a", "1");
    let mut hops = event();
    for _ in 0..=limits::MAX_HOPS {
        hops = hops.with_hop("h");
    }
    let mut attributes = event();
    for n in 0..=limits::MAX_ATTRIBUTES {
        attributes = attributes.with_attribute(format!("x{n}"), "").unwrap();
    }
    let cases = [
        (event().with_source(&*long), too_long(Field::Source, 1_025, 1_024)),
        (event().with_target(Target::agent(&*long)), too_long(Field::Target, 1_025, 1_024)),
        (event().with_id(&*long), too_long(Field::Id, 1_025, 1_024)),
        (event().with_hop("x".repeat(256)), too_long(Field::Hop, 256, 255)),
        (
            event().with_attribute("big", "x".repeat(4_097)).unwrap(),
            too_long(Field::AttributeValue, 4_097, 4_096),
        ),
        (hops, EncodeError::TooManyHops { count: 65, limit: 64 }),
        (attributes, EncodeError::TooManyAttributes { count: 65, limit: 64 }),
        (
            Event::of("a", vec![0; limits::MAX_RECORD_LEN]),
            EncodeError::RecordTooLong {
                len: limits::MAX_RECORD_LEN + 65,
                limit: limits::MAX_RECORD_LEN,
            },
        ),
    ];
    let mut writer = FrameWriter::new();
    assert_eq!(writer.finish(), Err(EncodeError::EmptyFrame));
    for (event, error) in cases {
        assert_eq!(writer.push(&event), Err(error));
    }
    assert!(writer.is_empty());
    writer.push(&event()).unwrap();
    assert_eq!(writer.finish().unwrap(), codec::encode(&event()).unwrap());
}

#[test]
fn a_full_frame_says_so_and_keeps_what_it_has() {
    let event = Event::of("a", "1");
    let one = codec::encode(&event).unwrap().len();
    let small = Limits { frame_len: one + 10, ..Limits::DEFAULT };
    let few = Limits { events: 1, ..Limits::DEFAULT };
    for limits in [small, few] {
        let mut writer = FrameWriter::with_limits(limits);
        writer.push(&event).unwrap();
        assert!(writer.push(&event).is_err());
        assert_eq!(read(writer.finish().unwrap()).unwrap(), std::slice::from_ref(&event));
        assert_eq!(writer.count(), 0);
    }
    let frame = codec::encode_batch([&event, &event]).unwrap();
    assert!(Frame::parse_with(frame.clone(), small).is_err());
    assert!(Frame::parse_with(frame, few).is_err());
}

#[test]
fn a_reader_refuses_at_the_first_wrong_byte_and_starts_anew() {
    let mut reader = FrameReader::new();
    reader.extend(&[0xC1, b'S', b'X']);
    assert_eq!(reader.next_frame().unwrap_err(), DecodeError::Magic);
    assert_eq!(reader.next_frame().unwrap_err(), DecodeError::Magic);
    reader.clear();
    reader.extend(&codec::encode(&Event::of("a", ())).unwrap());
    assert!(reader.next_frame().unwrap().is_some());
}
