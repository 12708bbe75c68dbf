//! Delays. A rule is a handful of numbers, so JavaScript keeps it and passes it
//! each time: there is nothing here to free.

use std::time::Duration;

use swarmbus_core::backoff::{Backoff, Jitter};
use wasm_bindgen::prelude::wasm_bindgen;

/// The delay in milliseconds before retry number `attempt`, counted from 0.
///
/// `growth`: 0 fixed, 1 linear, 2 exponential, 3 Fibonacci. `first` and `cap` in
/// milliseconds. `jitter`: 0 none, 1 to 100 spread by so many percent, above
/// that full. `random` is evenly distributed in `0.0..1.0`.
#[wasm_bindgen]
pub fn backoff_delay(
    growth: u32,
    first: f64,
    cap: f64,
    jitter: u32,
    attempt: u32,
    random: f64,
) -> f64 {
    let delay = rule(growth, first, cap, jitter).delay(attempt, bits(random));
    delay.as_secs_f64() * 1e3
}

/// A rule from numbers; what is not a number counts as 0.
pub(crate) fn rule(growth: u32, first: f64, cap: f64, jitter: u32) -> Backoff {
    let first = duration(first);
    let backoff = match growth {
        0 => Backoff::fixed(first),
        1 => Backoff::linear(first),
        2 => Backoff::exponential(first),
        _ => Backoff::fibonacci(first),
    };
    backoff.cap(duration(cap)).jitter(match jitter {
        0 => Jitter::None,
        1..=100 => Jitter::Spread(u8::try_from(jitter).unwrap_or(100)),
        _ => Jitter::Full,
    })
}

/// From milliseconds; saturates at both ends, and NaN is zero.
pub(crate) fn duration(millis: f64) -> Duration {
    Duration::from_nanos((millis * 1e6) as u64)
}

/// All of `u64` from `0.0..1.0`.
fn bits(random: f64) -> u64 {
    (random * (u64::MAX as f64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_of_core() {
        assert_eq!(backoff_delay(2, 100.0, 1000.0, 0, 0, 0.0), 100.0);
        assert_eq!(backoff_delay(2, 100.0, 1000.0, 0, 9, 0.0), 1000.0);
        assert_eq!(backoff_delay(2, 100.0, 1000.0, 25, 0, 0.0), 75.0);
        assert_eq!(backoff_delay(3, 1.0, f64::INFINITY, 0, 5, 0.0), 8.0);
    }

    #[test]
    fn any_number_is_fine() {
        for odd in [f64::NAN, -1.0, f64::INFINITY, f64::MIN_POSITIVE] {
            let delay = backoff_delay(9, odd, odd, 1000, u32::MAX, odd);
            assert!(delay >= 0.0, "{odd}: {delay}");
        }
    }
}
