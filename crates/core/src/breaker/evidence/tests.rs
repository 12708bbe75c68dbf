//! A fleet of nodes before one service, on invented time and a bad network.

use proptest::prelude::*;

use super::*;
use crate::{
    backoff::Backoff,
    breaker::{Breaker, Config},
};

const SECOND: Duration = Duration::from_secs(1);

fn at(second: u64) -> Moment {
    Moment::ORIGIN + SECOND * u32::try_from(second).unwrap()
}

fn breaker() -> Breaker {
    let config = Config::builder()
        .open_backoff(Backoff::fixed(Duration::from_secs(10)))
        .probes(1)
        .successes_to_close(1)
        .count_successes(true);
    Breaker::new(config.build().unwrap())
}

fn config() -> EvidenceConfig {
    EvidenceConfig { open_for: Duration::from_secs(10), ..EvidenceConfig::default() }
}

struct Node {
    breaker: Breaker,
    evidence: Evidence,
    /// Calls that came to the service, and those of them that failed.
    calls: u64,
    failures: u64,
}

/// Several nodes, a lease, and reports on their way.
struct World {
    nodes: Vec<Node>,
    lease: Option<(usize, u64)>,
    token: u64,
    under_way: Vec<(u64, usize, Report)>,
    random: u64,
    second: u64,
}

impl World {
    fn new(nodes: usize, seed: u64) -> Self {
        let node = |me| Node {
            breaker: breaker(),
            evidence: Evidence::new(config(), me as u64 + 1),
            calls: 0,
            failures: 0,
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            lease: None,
            token: 100,
            under_way: Vec::new(),
            random: seed,
            second: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    /// One second: calls, news, decisions, reports.
    fn step(&mut self, calls: u32, works: impl Fn(usize) -> bool) {
        self.second += 1;
        let now = at(self.second);
        self.lease = self.lease.filter(|(_, until)| self.second < *until);
        for (me, node) in self.nodes.iter_mut().enumerate() {
            for _ in 0..calls {
                let Ok(permit) = node.breaker.acquire(now) else { continue };
                node.calls += 1;
                if works(me) {
                    permit.success(now);
                } else {
                    node.failures += 1;
                    permit.failure(now);
                }
            }
        }
        let (due, later) = self.under_way.drain(..).partition(|(due, ..)| *due <= self.second);
        self.under_way = later;
        for (_, to, report) in Vec::from_iter::<Vec<(u64, usize, Report)>>(due) {
            self.nodes[to].evidence.hear(&report, now);
        }
        for me in 0..self.nodes.len() {
            self.decide(me, now);
        }
    }

    fn decide(&mut self, me: usize, now: Moment) {
        let second = self.second;
        let Node { breaker, evidence, .. } = &mut self.nodes[me];
        match evidence.step(&breaker.stats(), now) {
            Advice::Alone | Advice::Probe => {}
            Advice::KeepOpen => drop(breaker.keep_open(SECOND * 2, now)),
            Advice::AskToProbe => {
                breaker.keep_open(SECOND * 2, now);
                if let Some((_, until)) = self.lease {
                    evidence.refused(SECOND * u32::try_from(until - second).unwrap(), now);
                } else {
                    self.token += 1;
                    self.lease = Some((me, second + 10));
                    assert!(evidence.granted(self.token, now));
                }
            }
            Advice::Recovered => self.lease = self.lease.filter(|(holder, _)| *holder != me),
            Advice::Close => drop(breaker.reset(now)),
        }
        let Some(report) = self.nodes[me].evidence.report(now) else { return };
        for to in 0..self.nodes.len() {
            // Of ten, one is lost and one comes twice; they come late and in any
            // order.
            let copies = match self.random(10) {
                0 => 0,
                1 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let due = second + 1 + self.random(3);
                self.under_way.push((due, to, report));
            }
        }
    }

    fn open(&self) -> usize {
        self.nodes.iter().filter(|node| node.breaker.kind() != StateKind::Closed).count()
    }

    fn failures(&self) -> u64 {
        self.nodes.iter().map(|node| node.failures).sum()
    }

    /// Steps until this is so, and says how many.
    fn until(&mut self, works: bool, what: impl Fn(&Self) -> bool) -> u64 {
        for steps in 0..120 {
            if what(self) {
                return steps;
            }
            self.step(3, |_| works);
        }
        panic!("not within 120 s: {} of {} are open", self.open(), self.nodes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_failing_service_is_left_alone_by_all_and_found_by_one(
        seed in any::<u64>(),
        nodes in 3_usize..12,
    ) {
        let mut world = World::new(nodes, seed);
        for _ in 0..20 {
            world.step(3, |_| true);
        }
        prop_assert_eq!(world.open(), 0);
        let took = world.until(false, |world| world.open() == nodes);
        prop_assert!(took <= 6, "{} s", took);
        // All hear of it, so that from here on only probes get through: in 100 s
        // no more than one each 10 s, and not one for each node.
        for _ in 0..5 {
            world.step(3, |_| false);
        }
        let before = world.failures();
        for _ in 0..100 {
            world.step(3, |_| false);
            prop_assert_eq!(world.open(), nodes);
        }
        let probes = world.failures() - before;
        prop_assert!((5..=11).contains(&probes), "{} probes of {} nodes", probes, nodes);
        let took = world.until(true, |world| world.open() == 0);
        prop_assert!(took <= 25, "{} s", took);
        for _ in 0..30 {
            world.step(3, |_| true);
            prop_assert_eq!(world.open(), 0, "late reports open nothing");
        }
    }

    #[test]
    fn one_bad_node_opens_nobody_else(seed in any::<u64>(), nodes in 2_usize..12) {
        let mut world = World::new(nodes, seed);
        for _ in 0..120 {
            world.step(3, |me| me != 0);
            let others = world.nodes.iter().skip(1);
            prop_assert!(others.clone().all(|node| node.breaker.stats().opens == 0));
            prop_assert!(others.clone().all(|node| !node.evidence.is_open()));
        }
        prop_assert!(world.nodes[0].breaker.stats().opens > 0);
    }

    #[test]
    fn half_of_them_is_no_quorum(seed in any::<u64>(), half in 1_usize..6) {
        let mut world = World::new(half * 2, seed);
        for _ in 0..20 {
            world.step(3, |_| true);
        }
        for _ in 0..100 {
            world.step(3, |me| me >= half);
            let good = world.nodes.iter().skip(half);
            prop_assert!(good.clone().all(|node| node.breaker.stats().opens == 0));
        }
    }

    #[test]
    fn whatever_a_single_node_says_nobody_else_opens(
        reports in prop::collection::vec((any::<u64>(), any::<u64>(), 0..3_u8, 0_u64..60), 0..60),
    ) {
        let mut evidence = Evidence::new(config(), 1);
        let breaker = breaker();
        for (number, round, opinion, second) in reports {
            let opinion = [None, Some(Opinion::Failing), Some(Opinion::Working)][opinion as usize];
            evidence.hear(&Report { node: 2, number, round, opinion }, at(second));
            let advice = evidence.step(&breaker.stats(), at(second));
            prop_assert!(matches!(advice, Advice::Alone | Advice::Close));
        }
    }
}

#[test]
fn without_news_everybody_is_alone_again() {
    let mut world = World::new(4, 7);
    world.until(false, |world| world.open() == 4);
    // The network is gone, the service is back, and nobody grants leases.
    for node in &mut world.nodes {
        let now = at(world.second + 11);
        assert_eq!(node.evidence.step(&node.breaker.stats(), now), Advice::Alone);
        let later = now + Duration::from_secs(10);
        node.breaker.acquire(later).unwrap().success(later);
        assert_eq!(node.breaker.kind(), StateKind::Closed);
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let config = EvidenceConfig { max_nodes: 10, ..config() };
    let mut evidence = Evidence::new(config, 1);
    let report = |node, opinion| Report { node, number: 1, round: 0, opinion };
    for node in 2..1_000 {
        evidence.hear(&report(node, Some(Opinion::Working)), at(0));
    }
    assert_eq!(evidence.nodes(), 11);
    // As soon as those are stale, others have a say.
    evidence.hear(&report(5_000, Some(Opinion::Failing)), at(10));
    evidence.hear(&report(5_001, Some(Opinion::Failing)), at(10));
    assert_eq!(evidence.nodes(), 3);
    assert_eq!(evidence.step(&breaker().stats(), at(10)), Advice::KeepOpen);
}

#[test]
fn states_that_a_person_set_stay_and_say_nothing() {
    let breaker = breaker();
    breaker.disable(at(0));
    assert_eq!(breaker.keep_open(SECOND, at(0)), None);
    assert_eq!(breaker.kind(), StateKind::Disabled);
    let mut evidence = Evidence::new(config(), 1);
    evidence.step(&breaker.stats(), at(0));
    assert_eq!(evidence.report(at(0)), None);

    breaker.isolate(at(0));
    evidence.hear(&Report { node: 2, number: 1, round: 7, opinion: None }, at(0));
    assert_eq!(evidence.step(&breaker.stats(), at(0)), Advice::Alone);
}

#[test]
fn a_kept_open_breaker_says_by_what_and_recovers_when_nobody_keeps_it() {
    let breaker = breaker();
    let transition = breaker.keep_open(SECOND, at(0)).unwrap();
    assert_eq!((transition.to, transition.cause), (StateKind::Open, Cause::Evidence));
    assert_eq!(breaker.keep_open(SECOND * 3, at(1)), None);
    assert_eq!(breaker.acquire(at(3)).unwrap_err().retry_after, SECOND);
    assert_eq!(breaker.keep_open(SECOND, at(3)), None);
    assert!(breaker.acquire(at(4)).unwrap().is_probe());
    // What it found out by itself lasts as long as it would.
    breaker.acquire(at(4)).unwrap().failure(at(4));
    breaker.keep_open(SECOND, at(5));
    assert_eq!(breaker.acquire(at(5)).unwrap_err().retry_after, SECOND * 9);
    assert_eq!(breaker.stats().opened_by, Some(Cause::ProbeFailed));
}
