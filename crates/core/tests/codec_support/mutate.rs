//! A small seeded source of hostile inputs: good frames and documents with
//! something wrong in them.
#![allow(clippy::unwrap_used, reason = "in a test a failed unwrap is a failed assertion")]

use swarmbus_core::{
    Content, Event, EventId, Payload, Priority, Target, Timestamp,
    codec::{
        self, json,
        layout::{FRAME_HEADER, RECORD_HEADER, frame, record},
    },
};

/// The `SplitMix64` generator: the same inputs for the same seed, everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Good frames of every kind.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let events = events();
    let mut frames: Vec<Vec<u8>> =
        events.iter().map(|event| codec::encode(event).unwrap().to_vec()).collect();
    frames.push(codec::encode_batch(&events).unwrap().to_vec());
    frames
}

/// Good JSON documents of every kind.
pub(crate) fn documents() -> Vec<Vec<u8>> {
    events().iter().map(|event| json::to_json(event).unwrap()).collect()
}

/// Changes 1 to 4 things. In half of the frames lengths and hash are mended
/// afterwards, so that what lies deeper is reached.
pub(crate) fn mutate(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], mend: bool) {
    for _ in 0..=random.below(4) {
        change(random, input, corpus);
    }
    if mend && random.one_in(2) {
        mend_lengths(input);
    }
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    const EXTREMES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, u64::MAX];
    let len = input.len();
    if len == 0 {
        input.extend_from_slice(&corpus[random.below(corpus.len())]);
        return;
    }
    // Headers are short and decide the most.
    let at = if random.one_in(2) { random.below(len) } else { random.below(len.min(96)) };
    match random.below(8) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.next() as u8,
        2 => input.truncate(at),
        3 => input.insert(at, random.next() as u8),
        4 => drop(input.remove(at)),
        5 => {
            let size = 1 << random.below(4);
            let value = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
            for (byte, value) in input[at..].iter_mut().zip(&value[..size]) {
                *byte = *value;
            }
        }
        6 => {
            let end = at + random.below((len - at).min(64) + 1);
            let piece = input[at..end].to_vec();
            let to = random.below(len);
            input.splice(to..to, piece);
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
    input.truncate(8_192);
}

/// One record that fills the frame, under the hash of its type.
fn mend_lengths(input: &mut [u8]) {
    let len = input.len();
    if len < FRAME_HEADER + RECORD_HEADER {
        return;
    }
    input[..4].copy_from_slice(&codec::layout::MAGIC);
    input[frame::LEN..][..4].copy_from_slice(&(len as u32).to_le_bytes());
    let record = &mut input[FRAME_HEADER..];
    if u32::from_le_bytes(record[..4].try_into().unwrap()) as usize > record.len() {
        let len = record.len() as u32;
        record[record::LEN..][..4].copy_from_slice(&len.to_le_bytes());
    }
    let end = RECORD_HEADER + usize::from(record[record::TYPE_LEN]);
    if let Some(Ok(ty)) = record.get(RECORD_HEADER..end).map(std::str::from_utf8)
        && let Ok(ty) = swarmbus_core::EventType::new(ty)
    {
        record[record::TYPE_HASH..][..8].copy_from_slice(&ty.stable_hash().to_le_bytes());
    }
}

fn events() -> Vec<Event> {
    let at = Timestamp::from_micros(1_700_000_000_123_456).unwrap();
    let mut stamped = Event::of("agent.7.inbox", Payload::msgpack(&("task", 17)).unwrap());
    stamped.stamp(at, 0x1234_5678_9abc_def0);
    let full = Event::of("vote.cast", Payload::raw(Content::Json, r#"{"yes": [1, 2.50]}"#))
        .with_source("validator-3")
        .with_priority(Priority::MAX)
        .with_timestamp(at)
        .with_id("A234-1234")
        .with_target(Target::swarm("blue"))
        .with_session("s-1")
        .with_correlation_id(EventId::v7(at, 7))
        .with_causation_id("cause, 100%")
        .with_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with_deadline(at)
        .with_hop("edge-1")
        .with_hop("a,b")
        .with_attribute("tenant", "x")
        .and_then(|event| event.with_attribute("region", "eu"))
        .unwrap();
    vec![
        Event::of("a", ()),
        Event::of("log.line", "tâche 🐝").with_source("agent-1"),
        Event::of("blob", vec![0, 1, 255]).with_target(Target::agent("x")),
        stamped,
        full,
    ]
}
