//! What the documentation of [`AdaptiveRateConfig`] promises, after any
//! history of depths and times, and in a simulated queue.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::{
        Decision, Gate, Overflow, Reason,
        tests::{Depth, MILLISECOND, any_priority, capacity},
    },
    AdaptiveRateConfig, AdaptiveRateError,
};
use crate::{Moment, Priority};

const SECOND: Duration = Duration::from_secs(1);

fn any_config() -> impl Strategy<Value = AdaptiveRateConfig> {
    (0.01..0.5, 0.5..0.99, 0.01..0.99, 1_u32..1000, 1_u32..500, 0_u32..3000).prop_map(
        |(low, high, cut, min_rate, step, recovery)| {
            AdaptiveRateConfig::default()
                .with_water_marks(low, high)
                .and_then(|config| config.with_cut(cut))
                .and_then(|config| config.with_min_rate(min_rate))
                .and_then(|config| config.with_step(MILLISECOND * step))
                .and_then(|config| config.with_recovery(MILLISECOND * recovery))
                .unwrap()
        },
    )
}

/// Depths and times without any plan: whatever can happen before.
fn any_history() -> impl Strategy<Value = Vec<(f64, Duration, Priority)>> {
    let gap = (0_u64..2_000_000_000).prop_map(|n| Duration::from_nanos(n >> (n % 32)));
    prop::collection::vec((0.0..1.0, gap, any_priority()), 0..100)
}

fn live_through(gate: &mut Gate, history: &[(f64, Duration, Priority)], now: &mut Moment) {
    for (fill, gap, incoming) in history {
        *now = *now + *gap;
        let len = (gate.capacity() as f64 * fill) as usize;
        let _ = gate.decide(*incoming, &Depth(len), *now);
    }
}

proptest! {
    /// The promise in `AdaptiveRateConfig`'s docs, point 3.
    #[test]
    fn everybody_is_admitted_again_once_recovery_has_passed(
        config in any_config(),
        room in 1_usize..10_000,
        history in any_history(),
        calm in prop::collection::vec((0.0..1.0, 0_u64..2000), 1..50),
    ) {
        let mut gate = Overflow::AdaptiveRate(config).gate(capacity(room));
        let mut now = Moment::ORIGIN;
        live_through(&mut gate, &history, &mut now);
        let low = ((room as f64 * config.low_water).ceil() as usize).max(1);
        let over = now;
        let promised = over + config.recovery;
        for (fill, millis) in calm {
            now = now + Duration::from_millis(millis);
            let len = (low as f64 * fill) as usize;
            let decision = gate.decide(Priority::MIN, &Depth(len), now);
            if now >= promised && len < room {
                prop_assert_eq!(decision, Decision::Accept, "{:?} later", now - over);
                prop_assert_eq!(gate.limit(), None);
            }
        }
    }

    #[test]
    fn nobody_starves_and_retry_after_is_the_truth(
        config in any_config(),
        room in 2_usize..10_000,
        history in any_history(),
        fill in 0.0..1.0,
    ) {
        let mut gate = Overflow::AdaptiveRate(config).gate(capacity(room));
        let mut now = Moment::ORIGIN;
        live_through(&mut gate, &history, &mut now);
        let depth = Depth(((room as f64 * fill) as usize).min(room - 1));
        for _ in 0..50 {
            match gate.decide(Priority::MIN, &depth, now) {
                Decision::Accept => {}
                Decision::Reject(Reason::RateLimited { retry_after }) => {
                    prop_assert!(retry_after <= SECOND / config.min_rate);
                    let early = now + retry_after.saturating_sub(Duration::from_nanos(1));
                    if early > now {
                        let decision = gate.decide(Priority::MIN, &depth, early);
                        // A step may end in between and end the limit.
                        prop_assert!(gate.limit().is_none() || decision != Decision::Accept);
                    }
                    now = now + retry_after;
                    prop_assert_eq!(gate.decide(Priority::MIN, &depth, now), Decision::Accept);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn critical_events_pass_as_long_as_there_is_room(
        config in any_config(),
        room in 1_usize..10_000,
        history in any_history(),
    ) {
        let mut gate = Overflow::AdaptiveRate(config).gate(capacity(room));
        let mut now = Moment::ORIGIN;
        live_through(&mut gate, &history, &mut now);
        let critical = Priority::CRITICAL;
        prop_assert_eq!(gate.decide(critical, &Depth(room - 1), now), Decision::Accept);
        prop_assert_eq!(gate.decide(critical, &Depth(room), now), Decision::Reject(Reason::Full));
    }
}

/// Counts of one second of a simulated queue.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    admitted: u32,
    limited: u32,
    full: u32,
    taken: u32,
}

struct Simulation {
    gate: Gate,
    depth: Depth,
    now: Moment,
}

impl Simulation {
    /// One second in ticks of 100 µs, of events offered and consumed at
    /// steady rates.
    fn second(&mut self, offered: u32, consumed: u32) -> Second {
        let mut counts = Second::default();
        let (mut to_offer, mut to_consume) = (0, 0);
        for _ in 0..10_000 {
            self.now = self.now + Duration::from_micros(100);
            to_offer += offered;
            to_consume += consumed;
            while to_offer >= 10_000 {
                to_offer -= 10_000;
                match self.gate.decide(Priority::DEFAULT, &self.depth, self.now) {
                    Decision::Reject(Reason::Full) => counts.full += 1,
                    Decision::Reject(_) => counts.limited += 1,
                    _ => {
                        self.depth.0 += 1;
                        counts.admitted += 1;
                    }
                }
            }
            while to_consume >= 10_000 {
                to_consume -= 10_000;
                if self.depth.0 > 0 {
                    self.depth.0 -= 1;
                    counts.taken += 1;
                }
            }
        }
        counts
    }
}

/// Capacities, events per second that the consumers manage, and steps in
/// milliseconds: queues that take a minute to drain, such that drain within a
/// step, and steps in which nothing happens.
const SITUATIONS: [(usize, u32, u32); 6] = [
    (1000, 1000, 100),
    (10_000, 1000, 100),
    (10_000, 20_000, 100),
    (1000, 50, 100),
    (1000, 100_000, 100),
    (1000, 50, 1),
];

#[test]
fn five_times_too_much_work_keeps_consumers_busy_and_the_queue_from_filling() {
    for (room, consumed, step) in SITUATIONS {
        let config = AdaptiveRateConfig::default().with_step(MILLISECOND * step).unwrap();
        let gate = Overflow::AdaptiveRate(config).gate(capacity(room));
        let mut queue = Simulation { gate, depth: Depth(0), now: Moment::ORIGIN };
        for _ in 0..60 {
            queue.second(5 * consumed, consumed);
        }
        let mut sum = Second::default();
        for _ in 0..60 {
            let second = queue.second(5 * consumed, consumed);
            sum.full += second.full;
            sum.limited += second.limited;
            sum.taken += second.taken;
        }
        assert_eq!((sum.taken, sum.full), (60 * consumed, 0), "{room} {consumed} {step} {sum:?}");

        // The overload ends: what is offered now is half of what can be done.
        let drains = (room as u32).div_ceil(consumed / 2) + 1;
        for _ in 0..drains + 2 {
            queue.second(consumed / 2, consumed);
        }
        let calm = queue.second(consumed / 2, consumed);
        assert_eq!((calm.limited, calm.full), (0, 0), "{room} {consumed}");
        assert_eq!(queue.gate.limit(), None);
    }
}

#[test]
fn a_stalled_consumer_leaves_the_minimum_rate_and_no_scar() {
    let config = AdaptiveRateConfig::default().with_min_rate(20).unwrap();
    let gate = Overflow::AdaptiveRate(config).gate(capacity(1000));
    let mut queue = Simulation { gate, depth: Depth(800), now: Moment::ORIGIN };
    let _ = queue.gate.decide(Priority::DEFAULT, &queue.depth, queue.now);
    queue.now = queue.now + MILLISECOND * 100;
    let stalled = queue.second(1000, 0);
    assert!((19..=24).contains(&stalled.admitted), "{stalled:?}");
    assert_eq!(queue.gate.limit(), Some(20.0));
    queue.depth.0 = 0;
    queue.second(1000, 2000);
    queue.second(1000, 2000);
    let after = queue.second(1000, 2000);
    assert_eq!((after.admitted, after.limited), (1000, 0));
}

#[test]
fn the_limit_follows_consumers_that_become_slow() {
    let gate = Overflow::AdaptiveRate(AdaptiveRateConfig::default()).gate(capacity(100_000));
    let mut queue = Simulation { gate, depth: Depth(80_000), now: Moment::ORIGIN };
    for _ in 0..20 {
        queue.second(5000, 1000);
    }
    let limit = queue.gate.limit().unwrap();
    assert!((450.0..550.0).contains(&limit), "half of 1000: {limit}");
    queue.second(5000, 50);
    queue.second(5000, 50);
    let limit = queue.gate.limit().unwrap();
    assert!((20.0..50.0).contains(&limit), "about half of 50: {limit}");
}

#[test]
fn the_limit_doubles_after_each_calm_step() {
    let mut gate = Overflow::AdaptiveRate(AdaptiveRateConfig::default()).gate(capacity(100));
    let mut limit_at = |millis: u32, len: usize| {
        let now = Moment::ORIGIN + MILLISECOND * millis;
        let _ = gate.decide(Priority::DEFAULT, &Depth(len), now);
        gate.limit().map(f64::round)
    };
    limit_at(0, 80);
    // One of the two admitted counts, and one that is under way.
    assert_eq!(limit_at(50, 62), Some(200.0), "half of 20 in 50 ms");
    assert_eq!(limit_at(100, 48), Some(350.0), "35 in 100 ms");
    assert_eq!(limit_at(140, 20), Some(350.0), "not a step yet");
    assert_eq!(limit_at(150, 20), Some(700.0), "a step after it was last seen full");
    assert_eq!(limit_at(200, 60), Some(700.0), "not calm");
    assert_eq!(limit_at(290, 20), Some(700.0));
    assert_eq!(limit_at(500, 20), Some(5600.0), "three more steps");
    assert!(limit_at(1199, 0).is_some());
    assert_eq!(limit_at(1200, 0), None, "recovered");
}

#[test]
fn a_sudden_flood_leaves_room_for_critical_events() {
    // The consumer has not even woken up, and the clock may stand still.
    for tick in [Duration::ZERO, Duration::from_nanos(100), MILLISECOND] {
        let mut gate = Overflow::AdaptiveRate(AdaptiveRateConfig::default()).gate(capacity(1000));
        let (mut depth, mut now) = (Depth(0), Moment::ORIGIN);
        for _ in 0..5000 {
            now = now + tick;
            if gate.decide(Priority::HIGH, &depth, now) == Decision::Accept {
                depth.0 += 1;
            }
        }
        let passed = depth.0 - 800;
        // The minimum rate since the mark, and few more.
        let least = (tick * 4200).as_millis() as usize / 100;
        assert!((least..least + 20).contains(&passed), "{tick:?}: {passed}");
    }
}

#[test]
fn an_unused_limit_saves_up_no_more_than_one_step() {
    let config = AdaptiveRateConfig::default().with_min_rate(100).unwrap();
    let mut gate = Overflow::AdaptiveRate(config).gate(capacity(100));
    let mut now = Moment::ORIGIN;
    for _ in 0..2 {
        let _ = gate.decide(Priority::DEFAULT, &Depth(80), now);
        now = now + MILLISECOND * 100;
    }
    assert_eq!(gate.limit(), Some(100.0));
    // Neither calm nor overloaded, and nobody asks for a minute.
    now = now + 60 * SECOND;
    let admitted = (0..1000)
        .filter(|_| gate.decide(Priority::DEFAULT, &Depth(60), now) == Decision::Accept)
        .count();
    assert_eq!(admitted, 11, "10 of a step of 100 ms at 100/s, and the one that is due");
}

#[test]
fn settings_are_checked() {
    let config = AdaptiveRateConfig::default;
    for (low, high) in
        [(0.0, 0.5), (0.5, 0.5), (0.6, 0.5), (0.5, 1.0), (f64::NAN, 0.5), (0.5, f64::NAN)]
    {
        let error = Err(AdaptiveRateError::WaterMarks);
        assert_eq!(config().with_water_marks(low, high), error, "{low} {high}");
    }
    for cut in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        assert_eq!(config().with_cut(cut), Err(AdaptiveRateError::Cut), "{cut}");
    }
    assert_eq!(config().with_min_rate(0), Err(AdaptiveRateError::MinRate));
    for step in [Duration::ZERO, SECOND * 61] {
        assert_eq!(config().with_step(step), Err(AdaptiveRateError::Step));
    }
    assert_eq!(config().with_recovery(SECOND * 3601), Err(AdaptiveRateError::Recovery));
}
