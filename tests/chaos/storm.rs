//! An event storm: what is limited stays within its limit, and what is not is
//! not hurt.

use std::time::Duration;

use swarmbus::{Bulkhead, Bus, Event, RateLimit, Sampling};
use swarmbus_tests::settle;

const EVENTS: u64 = 20_000;
const SECONDS: u64 = 10;

#[tokio::test(start_paused = true)]
async fn a_storm_is_limited_sampled_and_accounted_for() {
    let bus = Bus::builder().build().unwrap();
    let hundred = RateLimit::per_second(100).burst(50);
    let limited = bus.subscribe("x").rate_limit(hundred).handle(|_: &Event| ()).unwrap();
    let sampling = Sampling::above(hundred, 10);
    let sampled = bus.subscribe("x").sample(sampling).handle(|_: &Event| ()).unwrap();
    let few = Bulkhead::new().concurrent(5).queue(10);
    let slow = bus
        .subscribe("x")
        .bulkhead(few)
        .handle_async(|_| tokio::time::sleep(Duration::from_millis(50)))
        .unwrap();
    let other = bus.subscribe(">").handle(|_: &Event| ()).unwrap();
    for _ in 0..SECONDS * 100 {
        for _ in 0..EVENTS / SECONDS / 100 {
            bus.publish(Event::of("x", ())).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    settle(&bus).await;

    let within = |n: u64, expected: u64| n.abs_diff(expected) <= expected / 20;
    let allowed = 100 * SECONDS + 50;
    let limited = limited.outcomes();
    assert!(within(limited.delivered, allowed), "{limited:?}");
    assert_eq!(limited.delivered + limited.rejected_by_rate_limit, EVENTS, "{limited:?}");
    let sampled = sampled.outcomes();
    assert!(within(sampled.delivered, allowed + (EVENTS - allowed) / 10), "{sampled:?}");
    assert_eq!(sampled.delivered + sampled.sampled_out, EVENTS, "{sampled:?}");
    // Five at a time, each for 50 ms.
    let slow = slow.outcomes();
    assert!(within(slow.delivered, 5 * 20 * SECONDS), "{slow:?}");
    assert_eq!(slow.delivered + slow.rejected_by_bulkhead, EVENTS, "{slow:?}");
    assert_eq!(other.outcomes().delivered, EVENTS);
}
