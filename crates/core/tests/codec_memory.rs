//! Memory taken for hostile input is in proportion to that input.
//!
//! # Safety
//!
//! An allocator is unsafe to write. This one notes sizes and hands every call
//! on to the system's allocator with the same arguments, so it keeps whatever
//! that one keeps. Noting allocates nothing: the counters are const thread
//! locals without a destructor.

#![allow(unsafe_code)]

#[path = "codec_support/mutate.rs"]
mod mutate;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use bytes::Bytes;
use mutate::{Random, mutate};
use swarmbus_core::codec::{self, Frame, FrameReader, Limits, json, layout, msgpack};

/// Notes the largest single allocation and the sum of all, per thread.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static SUM: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread may allocate when it has begun to end.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = SUM.try_with(|sum| sum.set(sum.get() + size));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The largest allocation and the sum of all, during a call.
fn during(call: impl FnOnce()) -> (usize, usize) {
    LARGEST.set(0);
    SUM.set(0);
    call();
    (LARGEST.get(), SUM.get())
}

fn read_all(frame: Bytes) {
    if let Ok(frame) = Frame::parse(frame) {
        for view in frame.iter().flatten() {
            let _ = view.to_event();
        }
    }
}

#[test]
fn a_frame_takes_no_more_than_it_has() {
    let corpus = mutate::frames();
    let mut random = Random(4);
    for n in 0..20_000 {
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate(&mut random, &mut input, &corpus, true);
        let len = input.len();
        let input = Bytes::from(input);
        let (largest, sum) = during(|| read_all(input));
        // Each of up to 64 attributes takes two strings of 24 bytes.
        assert!(largest <= len + 4_096, "input {n}: {largest} for {len} bytes");
        assert!(sum <= 16 * len + 8_192, "input {n}: {sum} in all for {len} bytes");
    }
}

#[test]
fn a_document_takes_no_more_than_it_has() {
    let mut corpus = mutate::documents();
    corpus.push(format!("{{{}", "\"a\":1,".repeat(10_000)).into());
    corpus.push("[".repeat(50_000).into());
    corpus.push(format!("{{\"data\":\"{}\"", "\\u0000".repeat(10_000)).into());
    let mut random = Random(5);
    for n in 0..20_000 {
        let mut input = corpus[n % corpus.len()].clone();
        if n >= corpus.len() {
            mutate(&mut random, &mut input, &corpus, false);
        }
        let (largest, sum) = during(|| drop(json::from_json(&input)));
        let len = input.len();
        assert!(largest <= 2 * len + 8_192, "input {n}: {largest} for {len} bytes");
        assert!(sum <= 16 * len + 16_384, "input {n}: {sum} in all for {len} bytes");
    }
}

#[test]
fn a_length_that_is_only_announced_takes_nothing() {
    let mut header = codec::encode(&swarmbus_core::Event::of("a", ())).unwrap().to_vec();
    let huge = (codec::limits::MAX_FRAME_LEN as u32).to_le_bytes();
    header[layout::frame::LEN..][..4].copy_from_slice(&huge);
    let count = 60_000_u32.to_le_bytes();
    header[layout::frame::COUNT..][..4].copy_from_slice(&count);
    let (largest, _) = during(|| {
        let mut reader = FrameReader::new();
        reader.extend(&header);
        assert!(reader.next_frame().unwrap().is_none());
        assert!(codec::peek(&header).is_err());
    });
    assert!(largest <= 1_024, "{largest}");
}

#[test]
fn looking_allocates_nothing() {
    let bytes = codec::encode(&swarmbus_core::Event::of("task.created", vec![1; 1_024])).unwrap();
    let deep = [0x91; 1_000];
    let (_, sum) = during(|| {
        let view = codec::peek(&bytes).unwrap();
        assert_eq!(view.ty(), Ok("task.created"));
        assert!(msgpack::validate(&deep, &Limits::DEFAULT).is_err());
    });
    assert_eq!(sum, 0);
}
