//! Our frames against serde formats, on events of 1 KB.
//!
//! An event is a task that a coordinator gives to a worker: type, source,
//! target, priority, time, correlation id, trace parent, and a payload of
//! nested maps (see `message.rs`). All formats carry the same data, filled so
//! that the `MessagePack` of the whole event has 1 KB. There are 100 of them,
//! each with a type of its own, and all sides take them in turn.
//!
//! - route: ours looks at the frame's header and finds the handlers of its
//!   type in a route cache. The rival decodes the whole event into an owned
//!   typed struct, as a program does that has to decode before it can look at
//!   the type; it does not even route. Also shown: into a dynamic value.
//! - decode: ours reads all fields and decodes the payload with serde, as
//!   part of our frame. The rivals do what they did before.
//! - encode: from the typed payload and the fields to bytes.
//! - batch: 256 events in one frame, or in one array; figures are per event.
//!
//! Every form is decoded and compared before measuring; while measuring, the
//! lengths of the types that were found are summed and checked.

mod message;
mod ours;

use std::{hint::black_box, ops::RangeInclusive, rc::Rc, time::Duration};

use serde::de::DeserializeOwned;

use self::{message::Message, ours::Frames};
use crate::harness::{Case, timed};

const EVENTS: usize = 100;
const BATCH: usize = 256;

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let messages: Messages = (0..EVENTS).map(Message::new).collect();
    let frames = Frames::new(&messages);
    let rmp = encoded(&messages, to_rmp, from_rmp, 1_000..=1_050);
    let json = encoded(&messages, to_json, from_json, 1_000..=1_500);
    let named = |m: &Message| rmp_serde::to_vec_named(m).expect("encoded");
    let named = encoded(&messages, named, from_rmp, 1_000..=1_150);
    let typed = |encoded: &Encoded, decode: fn(&[u8]) -> Message| {
        let encoded = Rc::clone(encoded);
        in_turn(&messages, move |i| black_box(decode(&encoded[i])).ty.len())
    };
    let rmp_value = {
        let named = Rc::clone(&named);
        in_turn(&messages, move |i| {
            let value: rmpv::Value = black_box(rmpv_value(&named[i]));
            value["type"].as_str().map_or(0, str::len)
        })
    };
    let json_value = {
        let json = Rc::clone(&json);
        in_turn(&messages, move |i| {
            let value: serde_json::Value = black_box(from_json(&json[i]));
            value["type"].as_str().map_or(0, str::len)
        })
    };
    vec![
        Case::nanoseconds("route by peek, 1 KB", frames.route_by_peek())
            .against("rmp_serde", 40.0, typed(&rmp, from_rmp))
            .against("rmp_serde, named fields", None, typed(&named, from_rmp))
            .against("serde_json", None, typed(&json, from_json))
            .against("rmpv::Value", None, rmp_value)
            .against("serde_json::Value", None, json_value),
        Case::nanoseconds("route by Frame::parse, 1 KB", frames.route_by_parse()).against(
            "rmp_serde",
            None,
            typed(&rmp, from_rmp),
        ),
        Case::nanoseconds("route a batch of 256, 1 KB each", frames.route_batch()).against(
            "rmp_serde",
            None,
            rmp_batch(&messages),
        ),
        Case::nanoseconds("decode, 1 KB", frames.decode())
            .against("rmp_serde", None, typed(&rmp, from_rmp))
            .against("serde_json", None, typed(&json, from_json)),
        Case::nanoseconds("encode, 1 KB", encoding(&messages, ours::encode))
            .against("rmp_serde", None, encoding(&messages, to_rmp))
            .against("serde_json", None, encoding(&messages, to_json)),
    ]
}

type Messages = Rc<[Message]>;
type Encoded = Rc<[Vec<u8>]>;

/// Structs as arrays, the smaller and faster of its two forms.
fn to_rmp(message: &Message) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("encoded")
}

fn from_rmp<T: DeserializeOwned>(bytes: &[u8]) -> T {
    rmp_serde::from_slice(bytes).expect("decoded")
}

fn rmpv_value(mut bytes: &[u8]) -> rmpv::Value {
    rmpv::decode::read_value(&mut bytes).expect("decoded")
}

fn to_json(message: &Message) -> Vec<u8> {
    serde_json::to_vec(message).expect("encoded")
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect("decoded")
}

/// All messages in one form, each checked for its size and decoded again.
fn encoded(
    messages: &Messages,
    encode: impl Fn(&Message) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Message,
    size: RangeInclusive<usize>,
) -> Encoded {
    let encode = |message: &Message| {
        let bytes = encode(message);
        assert!(size.contains(&bytes.len()), "{} bytes, not {size:?}", bytes.len());
        assert_eq!(decode(&bytes), *message, "round trip");
        bytes
    };
    messages.iter().map(encode).collect()
}

fn rmp_batch(messages: &Messages) -> impl FnMut(u64) -> Duration + use<> {
    let batch: Vec<_> = messages.iter().cycle().take(BATCH).collect();
    let batch = rmp_serde::to_vec(&batch).expect("encoded");
    in_batches(messages, move || {
        let batch: Vec<Message> = black_box(from_rmp(&batch));
        batch.iter().map(|message| message.ty.len()).sum()
    })
}

fn encoding<F, B>(messages: &Messages, encode: F) -> impl FnMut(u64) -> Duration + use<F, B>
where
    F: Fn(&Message) -> B,
    B: AsRef<[u8]>,
{
    let messages = Rc::clone(messages);
    move |n| {
        let (mut i, mut bytes) = (0, 0);
        let took = timed(n, || {
            bytes += black_box(encode(black_box(&messages[i % EVENTS]))).as_ref().len();
            i += 1;
        });
        assert!(bytes as u64 >= 1_000 * n, "every event has 1 KB");
        took
    }
}

/// Runs `operation` on message after message; it returns the length of the
/// type it found.
fn in_turn<F>(messages: &Messages, mut operation: F) -> impl FnMut(u64) -> Duration + use<F>
where
    F: FnMut(usize) -> usize,
{
    let messages = Rc::clone(messages);
    move |n| {
        let (mut i, mut found) = (0, 0);
        let took = timed(n, || {
            found += operation(black_box(i % EVENTS));
            i += 1;
        });
        assert_eq!(found, lengths(&messages, i), "the types found");
        took
    }
}

/// Runs `operation` on batch after batch; it returns the lengths of all types
/// that it found.
fn in_batches<F>(messages: &Messages, mut operation: F) -> impl FnMut(u64) -> Duration + use<F>
where
    F: FnMut() -> usize,
{
    let messages = Rc::clone(messages);
    move |n| {
        let batches = n.div_ceil(BATCH as u64);
        let mut found = 0;
        let took = timed(batches, || found += operation());
        assert_eq!(found, batches as usize * lengths(&messages, BATCH), "the types found");
        took.mul_f64(n as f64 / (batches * BATCH as u64) as f64)
    }
}

/// The lengths of the first `count` types together, going round.
fn lengths(messages: &Messages, count: usize) -> usize {
    let sum = |messages: &[Message]| messages.iter().map(|m| m.ty.len()).sum::<usize>();
    sum(messages) * (count / EVENTS) + sum(&messages[..count % EVENTS])
}
