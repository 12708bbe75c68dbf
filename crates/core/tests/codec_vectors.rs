//! The shared test vectors: the bytes that Rust and Node must agree on.
//!
//! `SWARMBUS_BLESS=1 cargo test -p swarmbus-core --test codec_vectors` writes
//! them; a change of a file that was there before is a change of the format.

#[path = "codec_support/invalid.rs"]
mod invalid;
#[path = "codec_support/samples.rs"]
mod samples;

use serde::{Deserialize, Serialize};
use swarmbus_core::{
    Event,
    codec::{self, DecodeError, Frame, json},
};

/// A frame and the events in it, in their JSON form.
#[derive(Deserialize, PartialEq, Debug, Serialize)]
struct Valid {
    name: String,
    events: Vec<serde_json::Value>,
    frame_hex: String,
}

/// A frame, and the code of the error that reading all of it ends in.
#[derive(Deserialize, PartialEq, Debug, Serialize)]
struct Invalid {
    name: String,
    error: String,
    frame_hex: String,
}

/// A JSON document of somebody else and the frame of its event, or the code
/// of the error that reading it ends in.
#[derive(Deserialize, PartialEq, Debug, Serialize)]
struct Document {
    name: String,
    json: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[test]
fn frames_are_these_bytes() {
    let vectors: Vec<Valid> = samples::frames()
        .into_iter()
        .map(|(name, events)| Valid {
            name: name.to_owned(),
            events: events.iter().map(as_json).collect(),
            frame_hex: hex(&codec::encode_batch(&events).expect(name)),
        })
        .collect();
    for (vector, (name, events)) in kept("frames.json", &vectors).iter().zip(samples::frames()) {
        assert_eq!(read(&unhex(&vector.frame_hex)), Ok(events), "{name}");
        let from_json: Vec<Event> = vector.events.iter().map(from_value).collect();
        let bytes = codec::encode_batch(&from_json).expect(name);
        assert_eq!(hex(&bytes), vector.frame_hex, "{name} by way of JSON");
    }
}

#[test]
fn the_adr_shows_real_bytes() {
    let adr = include_str!("../../../adrs/0002-frame-layout.md");
    let (_, block) = adr.split_once("```hex\n").expect("has an example");
    let (block, _) = block.split_once("```").expect("ends");
    // Each line begins with the offset.
    let shown: String = block.lines().flat_map(|line| line.split_whitespace().skip(1)).collect();
    assert_eq!(shown, hex(&codec::encode(&samples::worked_example()).expect("is small")));
}

#[test]
fn broken_frames_have_these_errors() {
    let vectors: Vec<Invalid> = invalid::frames()
        .into_iter()
        .map(|(name, frame)| Invalid {
            name: name.to_owned(),
            error: read(&frame).expect_err(name).code().to_owned(),
            frame_hex: hex(&frame),
        })
        .collect();
    kept("frames-invalid.json", &vectors);
    for vector in &vectors {
        // Each is named after its error and, behind a colon, the case.
        let (code, _) = vector.name.split_once(':').unwrap_or((&vector.name, ""));
        assert_eq!(vector.error, code);
    }
    for code in invalid::CODES {
        assert!(vectors.iter().any(|vector| vector.error == *code), "no frame for {code}");
    }
}

#[test]
fn documents_of_others_are_these_frames_or_errors() {
    let vectors: Vec<Document> = samples::documents()
        .into_iter()
        .map(|(name, json)| {
            let read = json::from_json(json.as_bytes());
            Document {
                name: name.to_owned(),
                frame_hex: read.as_ref().ok().map(|e| hex(&codec::encode(e).expect(name))),
                error: read.err().map(|error| error.code().to_owned()),
                json,
            }
        })
        .collect();
    kept("cloudevents.json", &vectors);
}

/// The vectors in the file, after a check that they are those made now; or,
/// when blessing, writes them.
fn kept<T>(file: &str, now: &[T]) -> Vec<T>
where
    T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    let path = format!("{}/../../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SWARMBUS_BLESS").is_some() {
        // One vector a line: a changed one is one changed line.
        let lines: Vec<String> =
            now.iter().map(|vector| serde_json::to_string(vector).expect("writes")).collect();
        std::fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).expect("writes");
    }
    let text = std::fs::read_to_string(&path).expect("SWARMBUS_BLESS=1 writes it");
    let kept: Vec<T> = serde_json::from_str(&text).expect("is JSON");
    assert_eq!(kept.len(), now.len(), "{file}");
    for (kept, now) in kept.iter().zip(now) {
        assert_eq!(kept, now, "{file}");
    }
    kept
}

/// Reads every event of a frame; the first error ends it.
fn read(bytes: &[u8]) -> Result<Vec<Event>, DecodeError> {
    Frame::parse(bytes.to_vec())?.iter().map(|view| view?.to_event()).collect()
}

fn as_json(event: &Event) -> serde_json::Value {
    let text = json::to_json(event).expect("has a JSON form");
    serde_json::from_slice(&text).expect("is JSON")
}

fn from_value(value: &serde_json::Value) -> Event {
    json::from_json(value.to_string().as_bytes()).expect("is an event")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("is hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}
