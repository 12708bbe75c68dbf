//! Tables for the four growths, properties for everything else.

use std::time::Duration;

use proptest::prelude::*;

use super::{Backoff, Jitter};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(backoff: Backoff) -> Vec<u64> {
    backoff.max_tries(7).cap(300 * SECOND).delays(|| 0).map(|delay| delay.as_secs()).collect()
}

#[test]
fn each_growth_follows_its_table() {
    assert_eq!(seconds(Backoff::exponential(SECOND)), [1, 2, 4, 8, 16, 32, 64]);
    assert_eq!(seconds(Backoff::linear(5 * SECOND)), [5, 10, 15, 20, 25, 30, 35]);
    assert_eq!(seconds(Backoff::fibonacci(SECOND)), [1, 1, 2, 3, 5, 8, 13]);
    assert_eq!(seconds(Backoff::fixed(10 * SECOND)), [10; 7]);
}

#[test]
fn the_default_cap_never_cuts_the_first_delay() {
    assert_eq!(Backoff::fixed(30 * SECOND).delay(0, 0), 30 * SECOND);
    assert_eq!(Backoff::exponential(SECOND).delay(9, 0), 10 * SECOND);
}

#[test]
fn max_tries_ends_the_iterator_for_good() {
    let mut delays = Backoff::default().delays(|| 0);
    assert_eq!(delays.len(), 3);
    assert_eq!(delays.by_ref().count(), 3);
    assert_eq!(delays.next(), None);
    assert_eq!(delays.next(), None);
    assert_eq!(Backoff::default().max_tries(0).delays(|| 0).next(), None);
}

#[test]
fn no_jitter_asks_for_no_randomness() {
    let backoff = Backoff::linear(SECOND);
    let delays: Vec<_> = backoff.delays(|| panic!("asked")).collect();
    assert_eq!(delays.len(), 3);
}

#[test]
fn jitter_reaches_both_ends() {
    let spread = Backoff::fixed(SECOND).jitter(Jitter::Spread(25));
    assert_eq!(spread.delay(0, 0), Duration::from_millis(750));
    assert_eq!(spread.delay(0, u64::MAX), Duration::from_millis(1250));
    let full = Backoff::fixed(SECOND).jitter(Jitter::Full);
    assert_eq!(full.delay(0, 0), Duration::ZERO);
    assert_eq!(full.delay(0, u64::MAX), SECOND);
}

#[test]
fn jitter_at_the_cap_still_spreads() {
    let capped = Backoff::fixed(SECOND).cap(SECOND).jitter(Jitter::Spread(25));
    assert_eq!(capped.delay(0, 0), Duration::from_millis(750));
    let middle = capped.delay(0, u64::MAX / 2);
    assert!(middle > Duration::from_millis(870) && middle < Duration::from_millis(880));
    assert_eq!(capped.delay(0, u64::MAX), SECOND);
}

#[test]
fn the_longest_delays_saturate() {
    for growth in [Backoff::exponential, Backoff::linear, Backoff::fibonacci, Backoff::fixed] {
        let backoff = growth(Duration::MAX).cap(Duration::MAX).jitter(Jitter::Spread(255));
        let longest = Duration::from_nanos(u64::MAX);
        assert_eq!(backoff.delay(u32::MAX, u64::MAX), longest);
        assert_eq!(backoff.delay(u32::MAX, 0), Duration::ZERO);
    }
}

fn growth() -> impl Strategy<Value = fn(Duration) -> Backoff> {
    prop_oneof![
        Just(Backoff::exponential as fn(Duration) -> Backoff),
        Just(Backoff::linear as fn(Duration) -> Backoff),
        Just(Backoff::fibonacci as fn(Duration) -> Backoff),
        Just(Backoff::fixed as fn(Duration) -> Backoff),
    ]
}

fn nanos() -> impl Strategy<Value = Duration> {
    // Short, ordinary and absurd lengths alike.
    (any::<u64>(), 0_u32..64).prop_map(|(bits, shift)| Duration::from_nanos(bits >> shift))
}

proptest! {
    #[test]
    fn without_jitter_delays_only_grow(growth in growth(), first in nanos(), cap in nanos()) {
        let backoff = growth(first).cap(cap).max_tries(200);
        let delays: Vec<_> = backoff.delays(|| 0).collect();
        prop_assert_eq!(delays.len(), 200);
        prop_assert!(delays.is_sorted());
        prop_assert_eq!(delays[0], first.min(cap));
    }

    #[test]
    fn no_delay_is_above_the_cap(
        growth in growth(),
        first in nanos(),
        cap in nanos(),
        percent in any::<u8>(),
        full in any::<bool>(),
        attempt in any::<u32>(),
        random in any::<u64>(),
    ) {
        let jitter = if full { Jitter::Full } else { Jitter::Spread(percent) };
        let backoff = growth(first).cap(cap).jitter(jitter);
        prop_assert!(backoff.delay(attempt, random) <= cap);
    }

    #[test]
    fn spread_stays_within_its_share(
        first in 0..1_000_000_000_000_u64,
        percent in 0..=100_u8,
        attempt in 0..20_u32,
        random in any::<u64>(),
    ) {
        let plain = Backoff::exponential(Duration::from_nanos(first)).cap(Duration::MAX);
        let base = plain.delay(attempt, 0).as_nanos();
        let share = base * u128::from(percent) / 100;
        let got = plain.jitter(Jitter::Spread(percent)).delay(attempt, random).as_nanos();
        prop_assert!((base - share..=base + share).contains(&got));
    }

    #[test]
    fn delays_and_delay_agree(growth in growth(), first in nanos(), seed in any::<u64>()) {
        let backoff = growth(first).jitter(Jitter::Full).max_tries(50);
        let mut next = seed;
        let listed: Vec<_> = backoff.delays(|| { next = next.wrapping_mul(3); next }).collect();
        let mut random = seed;
        for (attempt, delay) in (0..).zip(listed) {
            random = random.wrapping_mul(3);
            prop_assert_eq!(backoff.delay(attempt, random), delay);
        }
    }
}
