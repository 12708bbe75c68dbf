//! A cached route is found without allocating.
//!
//! # Safety
//!
//! The one way to count allocations is to be the allocator. Every call is
//! passed on unchanged to the system's, so its contract is kept if the
//! caller keeps it.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use swarmbus_core::{
    EventType,
    router::{Pattern, RouteCache, Router},
};

struct Counting;

thread_local! {
    /// Allocations and bytes of this thread alone: the test harness has others.
    static ALLOCATED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: see above.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (count, bytes) = ALLOCATED.get();
        ALLOCATED.set((count + 1, bytes + layout.size()));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations and bytes allocated by `f`.
fn cost<R>(f: impl FnOnce() -> R) -> (usize, usize) {
    let before = ALLOCATED.get();
    black_box(f());
    let after = ALLOCATED.get();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_hit_allocates_nothing_and_an_empty_cache_next_to_nothing() {
    let mut router = Router::new();
    for n in 0..1000 {
        router.insert(&Pattern::parse(&format!("agent.{n}.>")).unwrap(), n);
    }
    let generation = router.generation();
    // Longer than 24 bytes, so that these types are not stored inline.
    let types: Vec<EventType> = (0..1000)
        .map(|n| EventType::new(format!("agent.{n}.a-type-with-a-long-name")).unwrap())
        .collect();
    let compute = |ty: &EventType| {
        let mut found = Vec::new();
        router.for_each_match(ty.as_str(), |value| found.push(*value));
        found
    };

    let mut cache = None;
    let (_, bytes) = cost(|| cache = Some(RouteCache::new(RouteCache::<()>::DEFAULT_CAPACITY)));
    assert!(bytes < 512, "room is made when types come, not before: {bytes} bytes");

    let mut cache = cache.unwrap();
    let fill = cost(|| {
        for ty in &types {
            cache.get_or_insert_with(generation, ty, || compute(ty));
        }
    });
    assert!(fill.0 > 1000, "the counter counts: {fill:?}");

    let hits = cost(|| {
        for (n, ty) in types.iter().enumerate() {
            assert_eq!(cache.get_or_insert_with(generation, ty, || unreachable!()), &[n]);
            assert_eq!(cache.get_by_bytes(generation, ty.as_str().as_bytes()).unwrap(), &[n]);
        }
    });
    assert_eq!(hits, (0, 0));

    let misses = cost(|| {
        for ty in [&b"agent.1.other"[..], b"\xff\xff"] {
            assert!(cache.get_by_bytes(generation, ty).is_none());
        }
    });
    assert_eq!(misses, (0, 0), "bytes that are not cached are not kept");
}
