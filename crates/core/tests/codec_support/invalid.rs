//! Frames with exactly one thing wrong, named by the code of their error.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed assertion")]

use swarmbus_core::{
    Event, EventType, Target, Timestamp,
    codec::{
        self, FrameWriter, Limits,
        layout::{FRAME_HEADER, RECORD_HEADER, flag, frame, record},
        limits,
    },
};

/// Every code that a frame read within the default limits can end in.
pub(crate) const CODES: &[&str] = &[
    "truncated",
    "magic",
    "version",
    "frame_flags",
    "empty_frame",
    "frame_too_long",
    "too_many_events",
    "count",
    "trailing_bytes",
    "record_length",
    "record_too_long",
    "sections",
    "record_flags",
    "priority",
    "content",
    "timestamp",
    "deadline",
    "nonce",
    "type_hash",
    "type",
    "utf8",
    "field_too_long",
    "absent",
    "uuid",
    "too_many_hops",
    "hops",
    "too_many_attributes",
    "attributes",
    "attribute_name",
    "attribute_order",
];

/// Frames by name: the code, and what is wrong where there are several ways.
pub(crate) fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = headers();
    all.extend(numbers());
    all.extend(strings());
    all.extend(lists());
    all
}

fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let whole = frame_of(&event());
    let with = |at: usize, value: &[u8]| patched(&whole, at, value);
    vec![
        ("truncated: nothing", vec![]),
        ("truncated: half a header", whole[..8].to_vec()),
        ("truncated: one byte missing", whole[..whole.len() - 1].to_vec()),
        ("magic", with(0, b"{")),
        ("magic: of a short input", vec![0xC1, b'X']),
        ("version: 0", with(frame::VERSION, &[0])),
        ("version: 2", with(frame::VERSION, &[2])),
        ("version: 257", with(frame::VERSION, &[1, 1])),
        ("frame_flags: lowest", with(frame::FLAGS, &[1, 0])),
        ("frame_flags: highest", with(frame::FLAGS, &[0, 0x80])),
        ("empty_frame", with(frame::COUNT, &[0; 4])),
        ("frame_too_long", with(frame::LEN, &[0xff; 4])),
        ("too_many_events", with(frame::COUNT, &[0xff; 4])),
        ("count: no room for two", with(frame::COUNT, &[2, 0, 0, 0])),
        ("count: no room for one", with(frame::LEN, &[16, 0, 0, 0])),
        ("trailing_bytes: behind the frame", [&whole[..], &[0]].concat()),
        ("trailing_bytes: behind the record", framed(&[&whole[FRAME_HEADER..], &[0]].concat())),
        ("record_length: 0", with(FRAME_HEADER, &[0; 4])),
        ("record_length: less than its header", with(FRAME_HEADER, &[63, 0, 0, 0])),
        ("record_length: beyond the frame", with(FRAME_HEADER, &[80, 0, 0, 0])),
        ("record_too_long", with(FRAME_HEADER, &[0xff; 4])),
    ]
}

fn numbers() -> Vec<(&'static str, Vec<u8>)> {
    let whole = frame_of(&event());
    let with = |at: usize, value: &[u8]| patched(&whole, FRAME_HEADER + at, value);
    let late = (Timestamp::MAX.as_micros() + 1).to_le_bytes();
    vec![
        ("record_flags: lowest unknown", with(record::FLAGS, &(flag::ALL + 1).to_le_bytes())),
        ("record_flags: highest", with(record::FLAGS, &[0, 0x80])),
        ("priority: 10", with(record::PRIORITY, &[10])),
        ("content: 4", with(record::CONTENT, &[4])),
        ("timestamp", with(record::TIMESTAMP, &late)),
        ("timestamp: largest", with(record::TIMESTAMP, &[0xff; 8])),
        ("deadline", with(record::DEADLINE, &late)),
        ("nonce", with(record::NONCE, &[1])),
        ("type_hash", with(record::TYPE_HASH, &[0; 8])),
        ("sections: source", with(record::SOURCE_LEN, &[200, 0])),
        ("sections: largest", with(record::ATTRIBUTES_LEN, &[0xff; 4])),
        ("absent: id", with(record::FLAGS, &flag::ID_UUID.to_le_bytes())),
        ("absent: target", with(record::FLAGS, &flag::TARGET_SWARM.to_le_bytes())),
        ("absent: correlation", with(record::FLAGS, &flag::CORRELATION_UUID.to_le_bytes())),
        ("absent: causation", with(record::FLAGS, &flag::CAUSATION_UUID.to_le_bytes())),
    ]
}

fn strings() -> Vec<(&'static str, Vec<u8>)> {
    let typed = |ty: &[u8]| {
        // As long as the type it replaces.
        let mut bytes = frame_of(&Event::of("abcd", ()));
        bytes[FRAME_HEADER + RECORD_HEADER..].copy_from_slice(ty);
        let hash = stable_hash(ty).to_le_bytes();
        patched(&bytes, FRAME_HEADER + record::TYPE_HASH, &hash)
    };
    let without = |event: Event, bit: u16| {
        let bytes = frame_of(&event);
        let at = FRAME_HEADER + record::FLAGS;
        let flags = u16::from_le_bytes([bytes[at], bytes[at + 1]]) & !bit;
        patched(&bytes, at, &flags.to_le_bytes())
    };
    let last = |event: Event| {
        let mut bytes = frame_of(&event);
        *bytes.last_mut().unwrap() = 0xff;
        bytes
    };
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let text_uuid = |event: Event| {
        // Upper case is text; as lower case it belongs into 16 bytes.
        let bytes = frame_of(&event);
        let at = bytes.len() - uuid.len();
        patched(&bytes, at, uuid.as_bytes())
    };
    let long = "x".repeat(limits::MAX_STRING_LEN + 1);
    let upper = uuid.to_uppercase();
    let short_uuid = {
        let bytes = frame_of(&event().with_id("123456789012345"));
        let flags = (flag::ID | flag::ID_UUID).to_le_bytes();
        patched(&bytes, FRAME_HEADER + record::FLAGS, &flags)
    };
    vec![
        ("type: empty token", typed(b"a..b")),
        ("type: ends with a dot", typed(b"abc.")),
        ("type: wildcard", typed(b"ab.*")),
        ("type: space", typed(b"ab c")),
        ("type: none", {
            let bytes = patched(&frame_of(&event()), FRAME_HEADER + record::TYPE_LEN, &[0]);
            patched(&bytes, FRAME_HEADER + record::TYPE_HASH, &stable_hash(b"").to_le_bytes())
        }),
        ("utf8: type", typed(b"abc\xff")),
        ("utf8: source", last(event().with_source("x"))),
        ("utf8: id", last(event().with_id("x"))),
        ("utf8: target", last(event().with_target(Target::agent("x")))),
        ("utf8: session", last(event().with_session("x"))),
        ("utf8: correlation", last(event().with_correlation_id("x"))),
        ("utf8: causation", last(event().with_causation_id("x"))),
        ("utf8: traceparent", last(event().with_traceparent("x"))),
        ("utf8: hop", last(event().with_hop("x"))),
        ("utf8: attribute", last(event().with_attribute("a", "x").unwrap())),
        ("utf8: half a character", {
            let bytes = frame_of(&event().with_source("é"));
            patched(&bytes, FRAME_HEADER + record::SOURCE_LEN, &[1, 0])
        }),
        ("field_too_long: source", frame_of(&event().with_source(&*long))),
        ("field_too_long: id", frame_of(&event().with_id(&*long))),
        ("field_too_long: session", frame_of(&event().with_session(&*long))),
        ("field_too_long: attribute", {
            frame_of(
                &event().with_attribute("a", "x".repeat(limits::MAX_ATTRIBUTE_LEN + 1)).unwrap(),
            )
        }),
        ("absent: id with a length", without(event().with_id("x"), flag::ID)),
        ("absent: session with a length", without(event().with_session("x"), flag::SESSION)),
        ("absent: target with a length", {
            without(event().with_target(Target::agent("x")), flag::TARGET)
        }),
        ("absent: traceparent with a length", {
            without(event().with_traceparent("x"), flag::TRACEPARENT)
        }),
        ("uuid: 15 bytes", short_uuid),
        ("uuid: id as text", text_uuid(event().with_id(&*upper))),
        ("uuid: correlation as text", text_uuid(event().with_correlation_id(&*upper))),
        ("uuid: causation as text", text_uuid(event().with_causation_id(&*upper))),
    ]
}

fn lists() -> Vec<(&'static str, Vec<u8>)> {
    let mut hops = event();
    for _ in 0..=limits::MAX_HOPS {
        hops = hops.with_hop("h");
    }
    let mut many = event();
    for n in 0..=limits::MAX_ATTRIBUTES {
        many = many.with_attribute(format!("x{n}"), "").unwrap();
    }
    let two_hops = frame_of(&event().with_hop("a").with_hop("b"));
    let hop_count = |count| patched(&two_hops, FRAME_HEADER + record::HOP_COUNT, &[count]);
    let two = frame_of(
        &event().with_attribute("a", "1").and_then(|e| e.with_attribute("b", "2")).unwrap(),
    );
    let count = |count| patched(&two, FRAME_HEADER + record::ATTRIBUTE_COUNT, &[count, 0]);
    // Each is 5 bytes: length, name, two bytes of length, value.
    let (first, second) = (two.len() - 10, two.len() - 5);
    vec![
        ("too_many_hops", frame_of(&hops)),
        ("hops: one more counted", hop_count(3)),
        ("hops: one less counted", hop_count(1)),
        ("hops: none counted", hop_count(0)),
        ("hops: last one beyond the end", patched(&two_hops, two_hops.len() - 2, &[2])),
        ("too_many_attributes", frame_of(&many)),
        ("attributes: one more counted", count(3)),
        ("attributes: one less counted", count(1)),
        ("attributes: none counted", count(0)),
        ("attributes: value beyond the end", patched(&two, second + 2, &[2])),
        ("attributes: name beyond the end", patched(&two, second, &[200])),
        ("attribute_name: upper case", patched(&two, first + 1, b"A")),
        ("attribute_name: reserved", {
            let bytes = frame_of(&event().with_attribute("timf", "").unwrap());
            let at = bytes.len() - 3;
            patched(&bytes, at, b"e")
        }),
        ("attribute_order: twice", patched(&two, second + 1, b"a")),
        ("attribute_order: unsorted", patched(&two, first + 1, b"c")),
    ]
}

fn event() -> Event {
    Event::of("a", ())
}

/// A frame of an event that may be beyond the default limits.
fn frame_of(event: &Event) -> Vec<u8> {
    let wide = Limits {
        string_len: usize::MAX,
        hops: usize::MAX,
        attributes: usize::MAX,
        attribute_len: usize::MAX,
        ..Limits::DEFAULT
    };
    let mut writer = FrameWriter::with_limits(wide);
    writer.push(event).unwrap();
    writer.finish().unwrap().to_vec()
}

/// A frame of one record, whatever it is.
fn framed(record: &[u8]) -> Vec<u8> {
    let header = &codec::encode(&event()).unwrap()[..FRAME_HEADER];
    let bytes = [header, record].concat();
    let len = (bytes.len() as u32).to_le_bytes();
    patched(&bytes, frame::LEN, &len)
}

fn patched(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

/// Of bytes that need not be a type.
fn stable_hash(bytes: &[u8]) -> u64 {
    match std::str::from_utf8(bytes).map(EventType::new) {
        Ok(Ok(ty)) => ty.stable_hash(),
        _ => xxhash_rust::xxh64::xxh64(bytes, 0),
    }
}
