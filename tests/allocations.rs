//! The bus itself allocates nothing for an event, once it is warm, and a guard
//! nothing for a call that is ready at once.
//!
//! One test a process, as the allocator counts for all threads.
//!
//! # Safety
//!
//! The allocator passes every call on to the system's, unchanged.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use swarmbus::{
    Bulkhead, Bus, Event, EventType, Guard, Policy,
    core::{backoff::Backoff, timeout::Tier},
};
use swarmbus_tests::{Count, settle};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const EVENTS: u64 = 10_000;

/// Allocations during a piece of work.
async fn during<F: Future>(work: F) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    work.await;
    ALLOCATIONS.load(Relaxed) - before
}

/// The fewest allocations of a few times the same work: what a clock of the bus
/// does now and then in another thread is in one of them at most.
async fn at_best(work: impl AsyncFn()) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..3 {
        least = least.min(during(work()).await);
    }
    least
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_costs_no_allocation() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let count = Count::default();
    let (a, b) = (count.clone(), count.clone());
    bus.subscribe("agent.*.reading").handle(move |_: &Event| a.add()).unwrap().detach();
    bus.subscribe("agent.>")
        .handle_async(move |event: Event| {
            let b = b.clone();
            async move {
                tokio::task::yield_now().await;
                assert_eq!(event.payload().len(), 200);
                b.add();
            }
        })
        .unwrap()
        .detach();
    // Types and sources short enough to be stored inline, as most are.
    let types: Vec<_> =
        (0..8).map(|n| EventType::new(format!("agent.{n}.reading")).unwrap()).collect();
    let payload = bytes::Bytes::from_static(&[7; 200]);
    let event = |n: u64| {
        let source = ["agent-1", "agent-2", "agent-3"][n as usize % 3];
        Event::new(types[n as usize % 8].clone(), payload.clone()).with_source(source)
    };
    let mut batch = Vec::with_capacity(64);
    let mut queued = async |events| {
        for n in 0..events {
            bus.publish(event(n)).await.unwrap();
            batch.push(event(n));
            if batch.len() == 64 {
                bus.publish_batch(&mut batch).await.unwrap();
            }
        }
        settle(&bus).await;
    };
    let dispatched = async |events| {
        for n in 0..events {
            assert_eq!(bus.dispatch(&event(n)).await.unwrap().delivered, 2);
        }
    };
    queued(EVENTS).await;
    dispatched(EVENTS).await;
    // A drain and its ledger allocate; that is a few dozen, once.
    let fixed = during(settle(&bus)).await;
    let queued = during(queued(EVENTS)).await;
    let dispatched = at_best(async || dispatched(EVENTS).await).await;
    // The lanes may still grow now and then, as the depth differs by run.
    assert!(queued <= fixed + 40, "{queued} for {EVENTS} queued events, {fixed} for a drain");
    assert_eq!(dispatched, 0);

    // One in 64 is watched, and what is watched is boxed.
    bus.subscribe("layered")
        .timeout(Tier::Fast)
        .bulkhead(Bulkhead::new())
        .retry(Backoff::RETRY)
        .fallback("nobody", |_: &Event| ())
        .handle_async(|_: Event| async {})
        .unwrap()
        .detach();
    let layered = Event::of("layered", "payload");
    let calls = async |calls| {
        for _ in 0..calls {
            assert_eq!(bus.dispatch(&layered).await.unwrap().delivered, 1);
        }
    };
    calls(EVENTS).await;
    let layered = during(calls(EVENTS)).await;
    assert!(layered <= EVENTS / 16, "{layered} for {EVENTS} calls through layers");

    let guard = Guard::builder("g").policy(Policy::standard()).deadline(Tier::Slow);
    let guard = guard.build().unwrap();
    let calls = async |calls| {
        for n in 0..calls {
            assert_eq!(guard.call(|| async move { Ok::<_, ()>(n) }).await, Ok(n));
        }
    };
    calls(1).await;
    assert_eq!(at_best(async || calls(EVENTS).await).await, 0);
}
