//! What happens to an event that finds a queue full: core's [`Gate`], for a queue
//! whose lanes are in JavaScript.

use std::{num::NonZeroUsize, time::Duration};

use swarmbus_core::{
    Moment, Priority,
    overflow::{AdaptiveRateConfig, Decision, Gate, Lanes, Overflow, Reason},
};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::backoff::duration;

/// A policy at work on one queue.
#[wasm_bindgen]
#[derive(Debug)]
pub struct OverflowGate(Gate);

/// The answer that means "push it".
const ACCEPT: f64 = 0.0;
const FULL: f64 = -1.0;
const OUTRANKED: f64 = -2.0;
/// Less the milliseconds after which to ask again.
const RATE_LIMITED: f64 = -3.0;

#[wasm_bindgen]
impl OverflowGate {
    /// `policy`: 0 reject, 1 drop oldest, 2 drop lowest priority, 3 adaptive rate; the
    /// numbers after `capacity` are for the last, times in milliseconds. None if they
    /// make no sense.
    #[allow(clippy::too_many_arguments, reason = "numbers are all that crosses")]
    pub fn create(
        policy: u32,
        capacity: u32,
        low_water: f64,
        high_water: f64,
        cut: f64,
        min_rate: u32,
        step: f64,
        recovery: f64,
    ) -> Option<OverflowGate> {
        let overflow = match policy {
            0 => Overflow::Reject,
            1 => Overflow::DropOldest,
            2 => Overflow::DropLowestPriority,
            _ => {
                let config = AdaptiveRateConfig::default()
                    .with_water_marks(low_water, high_water)
                    .and_then(|config| config.with_cut(cut))
                    .and_then(|config| config.with_min_rate(min_rate))
                    .and_then(|config| config.with_step(duration(step)))
                    .and_then(|config| config.with_recovery(duration(recovery)));
                Overflow::AdaptiveRate(config.ok()?)
            }
        };
        let capacity = NonZeroUsize::new(usize::try_from(capacity).ok()?)?;
        Some(Self(overflow.gate(capacity)))
    }

    /// What to do with an event of this priority, where `len` wait, the lowest and the
    /// oldest of which have those priorities; both are looked at only if the queue is
    /// full. `now` in milliseconds.
    ///
    /// 0: push it. 1 to 10: drop the oldest event of that priority plus one, then push.
    /// -1: full. -2: outranked. -3 less some milliseconds: ask again after those.
    pub fn decide(&mut self, priority: u32, len: u32, lowest: u32, oldest: u32, now: f64) -> f64 {
        let depths = Depths { len, lowest, oldest };
        let moment = Moment::ORIGIN + duration(now);
        match self.0.decide(known(priority), &depths, moment) {
            Decision::Accept => ACCEPT,
            Decision::Evict { lane } => 1.0 + f64::from(lane.get()),
            Decision::Reject(Reason::Outranked) => OUTRANKED,
            Decision::Reject(Reason::RateLimited { retry_after }) => {
                RATE_LIMITED - millis(retry_after)
            }
            Decision::Reject(_) => FULL,
        }
    }
}

/// The queue, as far as JavaScript told.
struct Depths {
    len: u32,
    lowest: u32,
    oldest: u32,
}

impl Lanes for Depths {
    fn len(&self) -> usize {
        self.len as usize
    }

    fn lowest(&self) -> Option<Priority> {
        (self.len > 0).then(|| known(self.lowest))
    }

    fn oldest(&self) -> Option<Priority> {
        (self.len > 0).then(|| known(self.oldest))
    }
}

/// A priority; above 9 counts as 9.
fn known(priority: u32) -> Priority {
    u8::try_from(priority).ok().and_then(Priority::new).unwrap_or(Priority::MAX)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(policy: u32) -> OverflowGate {
        OverflowGate::create(policy, 4, 0.5, 0.8, 0.5, 10, 100.0, 1000.0).unwrap()
    }

    #[test]
    fn each_policy_answers_as_core_does() {
        for policy in 0..4 {
            assert_eq!(gate(policy).decide(5, 3, 0, 0, 0.0), ACCEPT);
        }
        assert_eq!(gate(0).decide(5, 4, 0, 0, 0.0), FULL);
        assert_eq!(gate(1).decide(5, 4, 0, 7, 0.0), 8.0);
        assert_eq!(gate(2).decide(5, 4, 2, 7, 0.0), 3.0);
        assert_eq!(gate(2).decide(5, 4, 5, 7, 0.0), OUTRANKED);
        assert_eq!(gate(3).decide(5, 4, 0, 0, 0.0), FULL);
    }

    #[test]
    fn a_limited_rate_says_when_to_ask_again() {
        let mut gate = OverflowGate::create(3, 10, 0.5, 0.8, 0.5, 10, 100.0, 1000.0).unwrap();
        assert_eq!(gate.decide(5, 8, 5, 5, 1.0), ACCEPT, "one is early by no more than a step");
        let answer = gate.decide(5, 9, 5, 5, 1.0);
        assert!(answer <= RATE_LIMITED, "{answer}");
        assert_eq!(gate.decide(9, 9, 5, 5, 1.0), ACCEPT);
        // Nothing is taken out, so the lowest rate holds: ten in a second.
        assert_eq!(gate.decide(5, 9, 5, 5, 200.0), ACCEPT);
    }

    #[test]
    fn any_number_is_fine() {
        assert!(OverflowGate::create(3, 4, f64::NAN, 0.8, 0.5, 10, 100.0, 1.0).is_none());
        assert!(OverflowGate::create(0, 0, 0.5, 0.8, 0.5, 10, 100.0, 1.0).is_none());
        assert_eq!(gate(2).decide(u32::MAX, u32::MAX, u32::MAX, u32::MAX, f64::NAN), OUTRANKED);
    }
}
