//! Tokens, verdicts and bounds, by example and against core.

use swarmbus_core::codec::{Limits, msgpack};

use super::*;

fn verdict(tape: &mut Tape, bytes: &[u8]) -> u32 {
    tape.input[..bytes.len()].copy_from_slice(bytes);
    tape.payload(0, bytes.len() as u32)
}

/// Small pseudo-random numbers, the same in every run.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_map_becomes_its_shape_and_its_values() {
    // {"a": 1, "b": "xy", "c": 1.5}
    let bytes = b"\x83\xa1a\x01\xa1b\xa2xy\xa1c\xcb\x3f\xf8\0\0\0\0\0\0";
    let mut tape = Tape::create(64).unwrap();
    assert_eq!(verdict(&mut tape, bytes), 0);
    let slots = &tape.slots[FIRST..FIRST + 4];
    let shape = slots[0] as u32;
    assert_eq!(slots[0] >> 32, u64::from(tag::MAP));
    assert_eq!(slots[1], u64::from(tag::INT) << 32 | 1);
    assert_eq!(slots[2], u64::from(tag::STR) << 32 | 2);
    assert_eq!(f64::from_bits(slots[3]), 1.5);
    assert_eq!(&tape.text[..2], b"xy");
    let len = tape.shape(shape) as usize;
    assert_eq!(&tape.names[..len], b"\x01\0a\x01\0b\x01\0c");
}

#[test]
fn verdicts_are_those_of_core() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut tape = Tape::create(256).unwrap();
    let seeds: [&[u8]; 4] = [
        b"\x83\xa1a\x01\xa1b\xa2xy\xa1c\xcb\x3f\xf8\0\0\0\0\0\0",
        b"\x94\xc0\xc3\xd9\x03abc\x81\xa1k\x92\xce\xff\0\0\0\xd3\x80\0\0\0\0\0\0\0",
        b"\x82\x01\x02\xa3\xe2\x82\xac\xc4\x02ab",
        b"\xdc\0\x03\xd6\x05abcd\xc7\x01\x07z\xda\0\x02ok",
    ];
    for round in 0..200_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..xorshift(&mut state) % 4 {
            let at = (xorshift(&mut state) % bytes.len() as u64) as usize;
            match xorshift(&mut state) % 3 {
                0 => bytes[at] = xorshift(&mut state) as u8,
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, xorshift(&mut state) as u8),
            }
        }
        let ours = verdict(&mut tape, &bytes);
        let core = match msgpack::validate(&bytes, &Limits::DEFAULT) {
            Ok(()) => 0,
            Err(msgpack::MsgpackError::Truncated) => 2,
            Err(msgpack::MsgpackError::TrailingBytes(_)) => 3,
            Err(msgpack::MsgpackError::TooDeep(_)) => 4,
            Err(msgpack::MsgpackError::Utf8) => 5,
            Err(_) => 6,
        };
        assert_eq!(ours, core, "{bytes:x?}");
    }
}

#[test]
fn nesting_ends_at_the_limit_of_core() {
    let nested = |levels: usize| [&vec![0x91; levels - 1][..], &[0x90]].concat();
    let mut tape = Tape::create(256).unwrap();
    assert_eq!(verdict(&mut tape, &nested(128)), 0);
    assert_eq!(verdict(&mut tape, &nested(129)), Fault::TooDeep as u32);
}

#[test]
fn keys_without_end_are_written_out_and_in_the_end_forgotten() {
    let mut tape = Tape::create(64).unwrap();
    let mut generations = std::collections::BTreeSet::new();
    for n in 0..40_000_u32 {
        let key = n.to_be_bytes().map(|byte| b'a' + byte % 16);
        let bytes = [b"\x81\xa1k\x81\xa4", &key[..], b"\x07"].concat();
        assert_eq!(verdict(&mut tape, &bytes), 0);
        generations.insert(tape.slots[0] as u32);
    }
    assert_eq!(generations.len(), 1, "one level of many keys is no shape, and takes no room");
    for n in 0..40_000_u32 {
        let key = |shift: u32| b'0' + (n >> shift) as u8 % 32;
        let bytes = [0x84, 0xa1, key(0), 1, 0xa1, key(5), 1, 0xa1, key(10), 1, 0xa1, key(15), 1];
        assert_eq!(verdict(&mut tape, &bytes), 0);
        generations.insert(tape.slots[0] as u32);
    }
    assert!(generations.len() > 1, "many shapes begin anew");
}
