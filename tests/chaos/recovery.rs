//! A service goes down and comes back: how soon it is served again, and that
//! nobody storms it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{
    BreakerScope, Bulkhead, Bus, Event,
    breaker::{Config, StateKind},
    core::backoff::Backoff,
};
use swarmbus_tests::settle;
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_back_is_served_within_an_open_time_and_a_second() {
    let open_for = 2 * SECOND;
    let config = Config::builder().open_for(open_for).build().unwrap();
    let bus = Bus::builder().breaker(config).dead_letter_capacity(10_000).build().unwrap();
    let down = Arc::new(AtomicBool::new(false));
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let (is_down, times) = (Arc::clone(&down), Arc::clone(&delivered));
    let handler = bus
        .subscribe("x")
        .breaker(BreakerScope::PerHandler)
        .retry(Backoff::RETRY)
        .bulkhead(Bulkhead::new())
        .timeout(SECOND)
        .handle_async(move |_| {
            let result = if is_down.load(SeqCst) { Err("down") } else { Ok(()) };
            let times = Arc::clone(&times);
            async move {
                time::sleep(5 * MILLI).await;
                result.inspect(|()| times.lock().push(Instant::now()))
            }
        })
        .unwrap();

    let started = Instant::now();
    let (from, to) = (started + 10 * SECOND, started + 20 * SECOND);
    for step in 0..4_000 {
        time::sleep_until(started + 10 * MILLI * step).await;
        down.store((from..to).contains(&Instant::now()), SeqCst);
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    settle(&bus).await;

    let delivered = delivered.lock();
    let back = delivered.iter().find(|time| **time >= to).unwrap();
    assert!(*back - to <= open_for + SECOND, "{:?}", *back - to);
    let outcomes = handler.outcomes();
    let lost = outcomes.dead_lettered + outcomes.rejected_by_breaker;
    assert_eq!(outcomes.delivered + lost, 4_000, "{outcomes:?}");
    // All that came while it was up, but for what came before the breaker had
    // closed.
    assert!(outcomes.delivered >= 2_700, "{outcomes:?}");
    let stats = bus.breakers()[0].stats;
    assert_eq!((stats.state, stats.recoveries), (StateKind::Closed, 1));
    // While it was down it was asked once each open time, by three at most.
    assert!(stats.recovery_attempts <= 6, "{stats:?}");
    assert!(outcomes.dead_lettered <= 40, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_breaker_does_not_storm_what_comes_back() {
    let config = Config::builder().open_for(SECOND).build().unwrap();
    let bus = Bus::builder().breaker(config).build().unwrap();
    let (down, inside) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    let (is_down, now_inside, most_inside) = (down.clone(), inside.clone(), most.clone());
    let _handler = bus
        .subscribe("x")
        .handle_async(move |_| {
            let (down, inside) = (is_down.load(SeqCst), now_inside.clone());
            most_inside.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            async move {
                time::sleep(100 * MILLI).await;
                inside.fetch_sub(1, SeqCst);
                if down { Err("down") } else { Ok(()) }
            }
        })
        .unwrap();
    for _ in 0..5 {
        bus.dispatch(&Event::of("x", ())).await.unwrap();
    }
    assert_eq!(bus.breakers()[0].stats.state, StateKind::Open);
    most.store(0, SeqCst);
    down.store(false, SeqCst);
    time::sleep(SECOND).await;
    // A thousand come in the moment in which it lets probes through.
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let bus = bus.clone();
        callers.spawn(async move { bus.dispatch(&Event::of("x", ())).await.unwrap().delivered });
    }
    let succeeded: usize = callers.join_all().await.into_iter().map(|n| n as usize).sum();
    assert_eq!((succeeded, most.load(SeqCst)), (3, 3));
    assert_eq!(bus.breakers()[0].stats.state, StateKind::Closed);
    settle(&bus).await;
}
