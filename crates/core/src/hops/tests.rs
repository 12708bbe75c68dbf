//! Chains and trees of events against what they must keep.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    EventId, Timestamp,
    codec::{
        Frame, encode,
        json::{from_json, to_json},
    },
};

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn stamped(ty: &'static str) -> Event {
    let mut event = Event::of(ty, ());
    event.stamp(at(1_000_000), 7);
    event
}

#[test]
fn an_effect_takes_over_what_ties_it_to_its_cause() {
    let cause = stamped("a")
        .with_session("s")
        .with_traceparent("00-1-2-01")
        .with_deadline(at(50))
        .with_hop("edge")
        .replayed();
    let effect = Event::of("b", ()).caused_by(&cause, "x").unwrap();
    assert_eq!(effect.causation_id(), cause.id().as_ref());
    assert_eq!(effect.correlation_id(), cause.id().as_ref());
    assert_eq!(effect.session(), Some("s"));
    assert_eq!(effect.traceparent(), Some("00-1-2-01"));
    assert_eq!(effect.deadline(), Some(at(50)));
    assert_eq!(effect.hops(), ["edge", "x"]);
    assert_eq!(effect.budget(), None);
    assert!(effect.is_replayed());
    assert_eq!(effect.id(), None, "an id of its own comes with the stamp");
}

#[test]
fn an_effect_keeps_what_it_says_itself() {
    let cause = stamped("a")
        .with_session("s")
        .with_traceparent("outer")
        .with_correlation_id("talk")
        .with_deadline(at(50));
    let effect = Event::of("b", ())
        .with_session("t")
        .with_traceparent("inner")
        .with_correlation_id("aside")
        .with_deadline(at(40))
        .caused_by(&cause, "x")
        .unwrap();
    assert_eq!(effect.session(), Some("t"));
    assert_eq!(effect.traceparent(), Some("inner"));
    assert_eq!(effect.correlation_id(), Some(&EventId::from("aside")));
    assert_eq!(effect.deadline(), Some(at(40)));
    let plain = Event::of("b", ()).with_deadline(at(60)).caused_by(&cause, "x").unwrap();
    assert_eq!(plain.correlation_id(), Some(&EventId::from("talk")));
    assert_eq!(plain.deadline(), Some(at(50)));
    assert!(!plain.is_replayed());
}

#[test]
fn a_forwarded_copy_does_not_double_its_path() {
    let event = stamped("a").with_hop("x");
    let copy = event.clone().caused_by(&event, "y").unwrap();
    assert_eq!(copy.hops(), ["x", "y"]);
}

#[test]
fn a_cause_without_an_id_gives_none() {
    let effect = Event::of("b", ()).caused_by(&Event::of("a", ()), "x").unwrap();
    assert_eq!((effect.causation_id(), effect.correlation_id()), (None, None));
}

#[test]
fn places_have_names_that_a_frame_can_hold() {
    let cause = Event::of("a", ());
    let by = |len: usize| Event::of("b", ()).caused_by(&cause, "x".repeat(len)).map(drop);
    assert_eq!(by(0), Err(HopError::PlaceName(0)));
    assert_eq!(by(255), Ok(()));
    assert_eq!(by(256), Err(HopError::PlaceName(256)));
}

#[test]
fn the_longest_path_can_be_encoded_and_no_longer_one_be_made() {
    let mut event = Event::of("a", ());
    for _ in 0..MAX_HOPS {
        event = Event::of("a", ()).caused_by(&event, "x").unwrap();
    }
    assert!(encode(&event).is_ok());
    assert_eq!(LoopGuard::default().max_visits(100).check(&event, "x"), Ok(()));
    let refused = Event::of("a", ()).caused_by(&event, "x").unwrap_err();
    assert_eq!(refused, HopError::TooManyHops { hops: 65, limit: 64 });
}

#[test]
fn no_budget_of_the_wire_is_more_than_it_says() {
    let with = |text: &str| {
        Event::of("a", ()).set(|extra| extra.put_attribute("budget".into(), text.into()))
    };
    for broken in ["", "-1", "+5", "5 ", "0x10", "1e9", "18446744073709551616", "unlimited"] {
        assert_eq!(with(broken).budget(), Some(0), "{broken:?}");
    }
    assert_eq!(with("007").budget(), Some(7));
    assert_eq!(with("18446744073709551615").budget(), Some(u64::MAX));
    let spent = Event::of("b", ()).caused_by(&with("many"), "x").unwrap_err();
    assert_eq!(spent, HopError::BudgetSpent { left: 0, cost: 1 });
}

#[test]
fn a_spent_budget_arrives_and_causes_nothing() {
    let last = Event::of("b", ()).caused_by(&Event::of("a", ()).with_budget(1), "x").unwrap();
    assert_eq!(last.budget(), Some(0));
    assert_eq!(LoopGuard::default().check(&last, "y"), Ok(()));
    assert!(Event::of("c", ()).caused_by(&last, "y").is_err());
    assert!(Event::of("c", ()).caused_by_costing(&last, "y", 0).is_ok());
}

#[test]
fn what_cannot_be_paid_changes_nothing() {
    let mut event = stamped("a").with_budget(3).with_source("s");
    let before = event.clone();
    assert_eq!(event.spend(4), Err(HopError::BudgetSpent { left: 3, cost: 4 }));
    assert_eq!(event, before);
    assert_eq!(event.spend(3), Ok(Some(0)));
    assert_eq!(event, before.with_budget(0));
    assert_eq!(Event::of("a", ()).spend(u64::MAX), Ok(None));
}

#[test]
fn the_marks_survive_the_wire_and_cannot_be_forged_by_name() {
    let event = stamped("a").with_budget(12).replayed();
    let frame = encode(&event).unwrap();
    let back = Frame::parse(frame).unwrap().iter().next().unwrap().unwrap().to_event().unwrap();
    assert_eq!(back.budget(), Some(12));
    assert!(back.is_replayed());
    let json = to_json(&event).unwrap();
    assert_eq!(from_json(&json).unwrap().budget(), Some(12));
    assert!(event.clone().with_attribute("budget", "99").is_err());
    assert!(event.with_attribute("replayed", "false").is_err());
}

proptest! {
    #[test]
    fn the_guard_agrees_with_counting(
        path in prop::collection::vec("[a-d]", 0..12),
        place in "[a-d]",
        visits in 0_u32..4,
        max_hops in 0_u32..12,
    ) {
        let event = path.iter().fold(Event::of("a", ()), |event, hop| event.with_hop(hop.as_str()));
        let seen = path.iter().filter(|hop| **hop == place).count() as u32;
        let answer = LoopGuard::default().max_visits(visits).max_hops(max_hops).check(&event, &place);
        let expected = if path.len() as u32 > max_hops {
            Err(HopError::TooManyHops { hops: path.len(), limit: max_hops as usize })
        } else if seen >= visits.max(1) {
            let path = path.iter().chain([&place]).map(|hop| hop.as_str().into()).collect();
            Err(HopError::Loop { path })
        } else {
            Ok(())
        };
        prop_assert_eq!(answer, expected);
    }

    #[test]
    fn no_hop_gives_more_than_it_took(
        cause in prop::option::of(any::<u64>()),
        own in prop::option::of(any::<u64>()),
        deadlines in prop::array::uniform2(prop::option::of(1_u64..1_000)),
        cost in prop_oneof![0_u64..3, any::<u64>()],
    ) {
        let event = |budget: Option<u64>, deadline: Option<u64>| {
            let event = Event::of("a", ());
            let event = budget.map_or(event.clone(), |budget| event.with_budget(budget));
            deadline.map_or(event.clone(), |deadline| event.with_deadline(at(deadline)))
        };
        let (cause_event, effect) = (event(cause, deadlines[0]), event(own, deadlines[1]));
        match effect.caused_by_costing(&cause_event, "x", cost) {
            Err(error) => {
                let left = cause.unwrap();
                prop_assert!(left < cost);
                prop_assert_eq!(error, HopError::BudgetSpent { left, cost });
            }
            Ok(effect) => {
                let left = cause.map(|left| left - cost);
                let budget = match (left, own) {
                    (Some(left), Some(own)) => Some(left.min(own)),
                    (left, own) => left.or(own),
                };
                prop_assert_eq!(effect.budget(), budget);
                let earliest = deadlines.into_iter().flatten().min().map(at);
                prop_assert_eq!(effect.deadline(), earliest);
            }
        }
    }

    #[test]
    fn shares_are_even_and_add_up(budget in any::<u64>(), ways in 0_usize..50) {
        let event = Event::of("a", ()).with_budget(budget).with_deadline(at(9));
        let shares: Vec<u64> =
            event.split_budget(ways).map(|share| share.budget().unwrap()).collect();
        prop_assert_eq!(shares.len(), ways);
        if ways > 0 {
            prop_assert_eq!(shares.iter().map(|share| u128::from(*share)).sum::<u128>(), budget.into());
            prop_assert!(shares.is_sorted_by(|a, b| a >= b));
            prop_assert!(shares[0] - shares[ways - 1] <= 1);
        }
        prop_assert!(event.split_budget(ways).all(|share| share.deadline() == Some(at(9))));
        prop_assert!(Event::of("a", ()).split_budget(ways).all(|share| share.budget().is_none()));
    }

    /// However handlers fan out, a budget bounds the whole tree.
    #[test]
    fn a_tree_is_never_larger_than_its_budget(
        budget in 0_u64..200,
        fans in prop::collection::vec(0_usize..6, 1..40),
    ) {
        let mut fans = fans.into_iter().cycle();
        let mut waiting = vec![Event::of("a", ()).with_budget(budget)];
        let mut made = 0;
        while let Some(event) = waiting.pop() {
            let fan = fans.next().unwrap();
            let shares = event.split_budget(fan);
            let before = waiting.len();
            waiting.extend(shares.filter_map(|share| {
                Event::of("a", ()).caused_by(&share, "x").ok()
            }));
            made += waiting.len() - before;
            prop_assert!(made as u64 <= budget);
        }
    }
}

#[test]
fn a_deadline_is_not_lengthened_by_a_long_chain() {
    let end = at(1_000).saturating_add(Duration::from_secs(1));
    let mut event = Event::of("a", ()).with_deadline(end);
    for _ in 0..10 {
        let later = end.saturating_add(Duration::from_secs(60));
        event = Event::of("a", ()).with_deadline(later).caused_by(&event, "x").unwrap();
    }
    assert_eq!(event.deadline(), Some(end));
}
