//! One simulated queue for every policy: what all of them promise, then each
//! one against its naive model.

use std::{cell::Cell, collections::VecDeque, num::NonZeroUsize, time::Duration};

use proptest::prelude::*;

use super::{AdaptiveRateConfig, Decision, Gate, Lanes, Overflow, Reason};
use crate::{Moment, Priority};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

fn priority(value: u8) -> Priority {
    Priority::new(value).unwrap()
}

pub(super) fn capacity(events: usize) -> NonZeroUsize {
    NonZeroUsize::new(events).unwrap()
}

pub(super) fn any_priority() -> impl Strategy<Value = Priority> {
    (0_u8..10).prop_map(priority)
}

/// A new policy must be listed here; the compiler says so.
fn any_policy() -> impl Strategy<Value = Overflow> {
    let kinds = [
        Overflow::Reject,
        Overflow::DropOldest,
        Overflow::DropLowestPriority,
        Overflow::AdaptiveRate(AdaptiveRateConfig::default()),
    ];
    match kinds[0] {
        Overflow::Reject
        | Overflow::DropOldest
        | Overflow::DropLowestPriority
        | Overflow::AdaptiveRate(_) => prop::sample::select(kinds.to_vec()),
    }
}

/// Lanes of numbered events. Priorities are taken out highest first.
#[derive(Default)]
struct Queue {
    lanes: [VecDeque<usize>; Priority::COUNT],
}

impl Queue {
    fn pop(&mut self) -> Option<(Priority, usize)> {
        let highest = Priority::all().rev().find(|p| !self.lanes[p.index()].is_empty())?;
        Some((highest, self.lanes[highest.index()].pop_front()?))
    }

    /// What the queue keeps, oldest first.
    fn numbers(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.lanes.iter().flatten().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// Does as the gate decides; the number of an evicted event comes back.
    fn offer(
        &mut self,
        gate: &mut Gate,
        incoming: Priority,
        number: usize,
        now: Moment,
    ) -> (Decision, Option<usize>) {
        let decision = gate.decide(incoming, self, now);
        let evicted = match decision {
            Decision::Reject(_) => return (decision, None),
            Decision::Accept => None,
            Decision::Evict { lane } => Some(self.lanes[lane.index()].pop_front().unwrap()),
        };
        self.lanes[incoming.index()].push_back(number);
        (decision, evicted)
    }
}

impl Lanes for Queue {
    fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    fn lowest(&self) -> Option<Priority> {
        Priority::all().find(|p| !self.lanes[p.index()].is_empty())
    }

    fn oldest(&self) -> Option<Priority> {
        Priority::all()
            .filter(|p| !self.lanes[p.index()].is_empty())
            .min_by_key(|p| self.lanes[p.index()].front())
    }
}

/// A queue of `n` events of one priority, for decisions taken one by one.
pub(super) struct Depth(pub(super) usize);

impl Lanes for Depth {
    fn len(&self) -> usize {
        self.0
    }

    fn lowest(&self) -> Option<Priority> {
        (self.0 > 0).then_some(Priority::DEFAULT)
    }

    fn oldest(&self) -> Option<Priority> {
        self.lowest()
    }
}

proptest! {
    #[test]
    fn every_policy_keeps_to_the_capacity_and_accounts_for_every_event(
        policy in any_policy(),
        room in 1_usize..20,
        steps in prop::collection::vec((any_priority(), 0_u8..4, 0_u64..50), 0..300),
    ) {
        let mut gate = policy.gate(capacity(room));
        let mut queue = Queue::default();
        let mut now = Moment::ORIGIN;
        let [mut offered, mut taken, mut evictions, mut refused] = [0; 4];
        for (incoming, pop, millis) in steps {
            now = now + MILLISECOND * u32::try_from(millis).unwrap();
            if pop == 0 {
                taken += usize::from(queue.pop().is_some());
                continue;
            }
            let full = queue.len() == room;
            let (decision, evicted) = queue.offer(&mut gate, incoming, offered, now);
            offered += 1;
            evictions += usize::from(evicted.is_some());
            refused += usize::from(matches!(decision, Decision::Reject(_)));
            prop_assert!(queue.len() <= room);
            match (policy, decision) {
                (_, Decision::Accept) => prop_assert!(!full),
                (_, Decision::Evict { .. } | Decision::Reject(Reason::Full | Reason::Outranked)) => {
                    prop_assert!(full, "a queue with room drops nothing");
                }
                (Overflow::AdaptiveRate(_), Decision::Reject(Reason::RateLimited { .. })) => {
                    prop_assert!(incoming < Priority::CRITICAL);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(offered, taken + evictions + refused + queue.len());
    }

    #[test]
    fn drop_oldest_keeps_the_newest(
        room in 1_usize..10,
        steps in prop::collection::vec((any_priority(), 0_u8..4), 0..200),
    ) {
        let mut gate = Overflow::DropOldest.gate(capacity(room));
        let mut queue = Queue::default();
        let mut model: Vec<usize> = Vec::new();
        for (number, (incoming, pop)) in steps.into_iter().enumerate() {
            if pop == 0 {
                if let Some((_, taken)) = queue.pop() {
                    model.retain(|kept| *kept != taken);
                }
                continue;
            }
            let (decision, _) = queue.offer(&mut gate, incoming, number, Moment::ORIGIN);
            prop_assert!(!matches!(decision, Decision::Reject(_)));
            model.push(number);
            if model.len() > room {
                model.remove(0);
            }
            prop_assert_eq!(queue.numbers(), model.clone());
        }
    }

    #[test]
    fn drop_lowest_keeps_the_most_urgent(
        room in 1_usize..10,
        events in prop::collection::vec((any_priority(), 0_u8..4), 0..200),
    ) {
        let mut gate = Overflow::DropLowestPriority.gate(capacity(room));
        let mut queue = Queue::default();
        let mut model: Vec<Priority> = Vec::new();
        for (number, (incoming, pop)) in events.iter().copied().enumerate() {
            if pop == 0 {
                queue.pop();
                model.pop();
                continue;
            }
            let (decision, evicted) = queue.offer(&mut gate, incoming, number, Moment::ORIGIN);
            let lost = match decision {
                Decision::Accept => None,
                Decision::Evict { .. } => evicted.map(|number| events[number].0),
                Decision::Reject(reason) => {
                    prop_assert_eq!(reason, Reason::Outranked);
                    Some(incoming)
                }
            };
            if let Some(lost) = lost {
                prop_assert!(lost <= queue.lowest().unwrap(), "lost {lost:?}");
            }
            // The model takes everything in and throws out the least urgent.
            model.push(incoming);
            model.sort_unstable();
            if model.len() > room {
                model.remove(0);
            }
            let mut kept: Vec<Priority> =
                queue.numbers().into_iter().map(|number| events[number].0).collect();
            kept.sort_unstable();
            prop_assert_eq!(kept, model.clone());
        }
    }
}

#[test]
fn a_full_queue_rejects_by_default() {
    assert_eq!(Overflow::default(), Overflow::Reject);
    let mut gate = Overflow::default().gate(capacity(2));
    let now = Moment::ORIGIN;
    assert_eq!(gate.decide(Priority::MIN, &Depth(1), now), Decision::Accept);
    assert_eq!(gate.decide(Priority::MAX, &Depth(2), now), Decision::Reject(Reason::Full));
    assert_eq!(gate.capacity(), 2);
}

#[test]
fn an_equally_urgent_event_does_not_displace_one_that_waits() {
    let mut gate = Overflow::DropLowestPriority.gate(capacity(1));
    let now = Moment::ORIGIN;
    let waiting = Depth(1);
    assert_eq!(gate.decide(Priority::DEFAULT, &waiting, now), Decision::Reject(Reason::Outranked));
    assert_eq!(
        gate.decide(priority(6), &waiting, now),
        Decision::Evict { lane: Priority::DEFAULT }
    );
}

#[test]
fn the_clock_is_read_only_while_the_queue_is_overloaded() {
    let reads = Cell::new(0);
    let clock = || {
        reads.set(reads.get() + 1);
        Moment::from_nanos(1)
    };
    for policy in [Overflow::Reject, Overflow::DropOldest, Overflow::DropLowestPriority] {
        let mut gate = policy.gate(capacity(10));
        for len in 0..=10 {
            let _ = gate.decide(Priority::DEFAULT, &Depth(len), clock);
        }
    }
    let mut gate = Overflow::AdaptiveRate(AdaptiveRateConfig::default()).gate(capacity(10));
    for len in [0, 5, 7, 10] {
        let _ = gate.decide(Priority::DEFAULT, &Depth(len), clock);
    }
    assert_eq!(reads.get(), 0);
    let _ = gate.decide(Priority::DEFAULT, &Depth(8), clock);
    assert_eq!(reads.get(), 1);
}
