//! A full queue with a stuck handler holds what it was sized for and no more.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use swarmbus::{Bus, Event, Overflow};
use swarmbus_tests::{Count, Door, LONG};

/// Publishes that must not fit. More by `SWARMBUS_MEMORY_EVENTS`.
const EVENTS: u64 = 1_000_000;
const PAYLOAD: usize = 1_024;
const MOST_GROWTH: u64 = 64 << 20;

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_does_not_grow() {
    let events = std::env::var("SWARMBUS_MEMORY_EVENTS")
        .map_or(EVENTS, |text| text.parse().expect("a number"));
    for overflow in [Overflow::Reject, Overflow::DropOldest, Overflow::DropLowestPriority] {
        let bus = Bus::builder().workers(1).overflow(overflow).build().unwrap();
        let (door, busy) = (Door::default(), Count::default());
        let (d, b) = (door.clone(), busy.clone());
        bus.subscribe("x")
            .handle(move |_: &Event| {
                b.add();
                d.wait();
            })
            .unwrap()
            .detach();
        bus.publish(Event::of("x", ())).await.unwrap();
        busy.reaches(1).await;
        let before = resident();
        let mut back = 0;
        for _ in 0..events {
            let event = Event::of("x", vec![0_u8; PAYLOAD]);
            back += u64::from(bus.try_publish(event).is_err());
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < MOST_GROWTH, "{overflow:?}: grew by {grown} bytes");
        let ledger = bus.ledger();
        assert_eq!(ledger.published + ledger.refused, events + 1);
        assert_eq!(ledger.refused, back);
        assert_eq!(bus.depth(), 10_000);
        door.open();
        assert_eq!(bus.drain(LONG).await, 0);
        assert!(bus.ledger().balances());
    }
}
