//! When which event is published, and which service it is for. Pure: the same
//! seed gives the same events, whatever becomes of them.

use std::{ops::Range, time::Duration};

use super::Nonsense;
use crate::cmd::load_test::{args::Args, faults::mix};

/// How many services there are.
pub(super) const SERVICES: u64 = 10;

/// What is published is published in steps.
const STEPS_PER_S: u64 = 100;

/// Bursts come at the beginning of a slot, in one slot of so many. Each brings
/// what would come in a slot, some times over.
const SLOT: u64 = 10;
const BURST_EVERY: u64 = 16;

/// The timetable of one run: a calm, then the chaos, with an outage in its
/// middle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    seed: u64,
    rate: f64,
    burst: u32,
    pub(super) calm: Duration,
    pub(super) length: Duration,
    /// Which service is down, and when.
    pub(super) outage: Option<(u64, Range<Duration>)>,
}

/// The events of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) due: Duration,
    pub(super) events: Range<u64>,
}

impl Plan {
    pub(super) fn new(args: &Args) -> Result<Self, Nonsense> {
        const RATE: f64 = 4_000.0;
        let (chaos, calm) = (args.seconds, args.seconds / 6);
        let down_for = args.chaos.outage.unwrap_or(chaos / 6);
        if down_for > chaos {
            return Err(Nonsense::OutageTooLong);
        }
        let down_at = calm + (chaos - down_for) / 2;
        // Odd numbers have no fallback: one that is not spared the outage.
        let service = mix(args.seed) % (SERVICES / 2) * 2 + 1;
        Ok(Self {
            seed: args.seed,
            rate: args.rate.unwrap_or(RATE),
            burst: args.chaos.burst,
            calm,
            length: calm + chaos,
            outage: (!down_for.is_zero()).then(|| (service, down_at..down_at + down_for)),
        })
    }

    /// The steps in their order.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let mut next = 0;
        (0..steps_in(self.length)).map(move |step| {
            let events = next..next + self.events_at(step);
            next = events.end;
            Step { due: Duration::from_millis(step * 1_000 / STEPS_PER_S), events }
        })
    }

    /// The first event of the chaos: nothing goes wrong with those before.
    pub(super) fn first_of_chaos(&self) -> u64 {
        self.evenly_until(steps_in(self.calm))
    }

    /// Which service an event is for.
    pub(super) fn service_of(&self, event: u64) -> u64 {
        mix(self.seed ^ mix(event)) % SERVICES
    }

    fn events_at(&self, step: u64) -> u64 {
        let even = self.evenly_until(step + 1) - self.evenly_until(step);
        let slot = step / SLOT;
        let bursts = step >= steps_in(self.calm)
            && step.is_multiple_of(SLOT)
            && mix(self.seed.wrapping_add(mix(slot))).is_multiple_of(BURST_EVERY);
        let slots_events = self.rate * SLOT as f64 / STEPS_PER_S as f64;
        let more = if bursts { f64::from(self.burst - 1) * slots_events } else { 0.0 };
        even + more as u64
    }

    fn evenly_until(&self, step: u64) -> u64 {
        (self.rate * step as f64 / STEPS_PER_S as f64) as u64
    }
}

fn steps_in(time: Duration) -> u64 {
    (time.as_secs_f64() * STEPS_PER_S as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(burst: u32) -> Plan {
        let second = Duration::from_secs(1);
        let outage = Some((3, 30 * second..40 * second));
        Plan { seed: 7, rate: 250.0, burst, calm: 10 * second, length: 70 * second, outage }
    }

    #[test]
    fn every_event_has_its_step_and_its_service() {
        let even: Vec<_> = plan(1).steps().collect();
        assert_eq!(even.len(), 7_000);
        assert_eq!(even.last().unwrap().events.end, 250 * 70);
        assert!(even.windows(2).all(|two| two[0].events.end == two[1].events.start));
        assert!(even.iter().all(|step| (2..=3).contains(&(step.events.end - step.events.start))));
        assert_eq!(plan(1).first_of_chaos(), 2_500);
        let mut per_service = [0; SERVICES as usize];
        for event in 0..10_000 {
            per_service[plan(1).service_of(event) as usize] += 1;
        }
        assert!(per_service.iter().all(|n| (900..1_100).contains(n)), "{per_service:?}");
    }

    #[test]
    fn bursts_come_now_and_then_and_never_in_the_calm() {
        let plan = plan(5);
        let steps: Vec<_> = plan.steps().collect();
        let bursts: Vec<_> =
            steps.iter().filter(|step| step.events.end - step.events.start > 3).collect();
        assert!((20..60).contains(&bursts.len()), "{}", bursts.len());
        assert!(bursts.iter().all(|step| step.due >= plan.calm));
        assert!(bursts.iter().all(|step| step.events.end - step.events.start >= 100));
        assert_eq!(steps, plan.steps().collect::<Vec<_>>());
        let other = Plan { seed: 8, ..plan };
        assert_ne!(steps, other.steps().collect::<Vec<_>>());
    }
}
