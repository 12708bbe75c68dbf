//! [`Evidence`]: what several nodes know of one service, taken together.
//!
//! Each node has a breaker of its own before the service. A node that comes to
//! a service which is down for all would find that out by itself, with failed
//! calls of its own. Here nodes tell each other, and decide:
//!
//! - **A quorum opens everywhere.** When at least two nodes, and more than
//!   half of those that call the service, see it failing, every node keeps its
//!   breaker open.
//! - **One bad node never opens the others**, whatever it says, nor do fewer
//!   than the quorum. It only opens its own.
//! - **One probe for all.** When the open time is over, one node gets leave to
//!   try, by a lease with a fencing token. If it closes its breaker, all do.
//! - **Without news everybody is alone again.** Reports lose their worth after
//!   a while, and a breaker that was kept open recovers as usual.
//!
//! Evidence comes from a node's own calls alone. That its breaker is open
//! because others said so is none: else a rumour would confirm itself.
//!
//! Nothing here sends or waits: reports come in by [`Evidence::hear`], time by
//! [`Evidence::step`], which says what to do.
//!
//! ```
//! use swarmbus_core::{Moment, breaker::{Breaker, Config, evidence::*}};
//!
//! let now = Moment::ORIGIN;
//! let failing = |node| Report { node, number: 1, round: 0, opinion: Some(Opinion::Failing) };
//! let mut evidence = Evidence::new(EvidenceConfig::default(), 1);
//! let breaker = Breaker::new(Config::default());
//!
//! evidence.hear(&failing(2), now);
//! assert_eq!(evidence.step(&breaker.stats(), now), Advice::Alone);
//! evidence.hear(&failing(3), now);
//! assert_eq!(evidence.step(&breaker.stats(), now), Advice::KeepOpen);
//! ```

use std::{collections::HashMap, time::Duration};

use ahash::RandomState;
use serde::{Deserialize, Serialize};

use super::{Cause, StateKind, Stats};
use crate::Moment;

/// What one node says of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who: a number that no other node has, new with each start.
    pub node: u64,
    /// Grows with each report of this node.
    pub number: u64,
    /// The token of the last recovery that the node knows of; 0 for none.
    /// Evidence from before a recovery is no evidence after it.
    pub round: u64,
    /// What its own calls say; `None` if it made none lately.
    pub opinion: Option<Opinion>,
}

/// What a node's own calls say of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    /// They failed until its breaker opened, and no probe has succeeded since.
    Failing,
    /// They succeed.
    Working,
}

/// What a node is to do with its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing: its own rules decide.
    Alone,
    /// [`Breaker::keep_open`](super::Breaker::keep_open), for somewhat longer
    /// than until the next step.
    KeepOpen,
    /// As `KeepOpen`, and ask for the lease to probe, for
    /// [`open_for`](EvidenceConfig::open_for): then say
    /// [`granted`](Evidence::granted) or [`refused`](Evidence::refused).
    AskToProbe,
    /// Nothing: it is the one that probes, by its own rules.
    Probe,
    /// It probed and the service works: publish the
    /// [`report`](Evidence::report) at once and give the lease back.
    Recovered,
    /// Another node probed and the service works:
    /// [`Breaker::reset`](super::Breaker::reset).
    Close,
}

/// Settings of [`Evidence`], the same on all nodes.
///
/// | setting | default |
/// | --- | --- |
/// | `min_failing` | 2 nodes |
/// | `share` | more than 0.5 of those that have an opinion |
/// | `fresh_for` | 10 s |
/// | `open_for` | 30 s |
/// | `max_nodes` | 1,000 |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvidenceConfig {
    /// At least so many nodes must see a service failing; less than 2 counts
    /// as 2.
    pub min_failing: u32,
    /// More than this share of the nodes that call it must; 0 to 1.
    pub share: f64,
    /// How long a report counts. Nodes report several times within it.
    pub fresh_for: Duration,
    /// From the opening to the first probe, and from a failed one to the next:
    /// no shorter than the open time of the breakers.
    pub open_for: Duration,
    /// Most nodes to listen to. More have no say, as long as these have.
    pub max_nodes: usize,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self {
            min_failing: 2,
            share: 0.5,
            fresh_for: Duration::from_secs(10),
            open_for: Duration::from_secs(30),
            max_nodes: 1_000,
        }
    }
}

/// What one node has heard of one service, and what follows.
#[derive(Debug)]
pub struct Evidence {
    config: EvidenceConfig,
    me: u64,
    /// Of the last report that was made here.
    number: u64,
    round: u64,
    heard: HashMap<u64, Heard, RandomState>,
    fleet: Fleet,
    /// A recovery was heard of and the breaker has not followed yet.
    must_close: bool,
    /// A recovery is told until then, for those who missed it.
    tell_until: Moment,
    own: Own,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    number: u64,
    at: Moment,
    opinion: Option<Opinion>,
}

/// What all nodes together are about, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fleet {
    Closed,
    /// The next probe is due at this moment.
    Open {
        probe_at: Moment,
    },
    /// This node probes.
    Probing {
        token: u64,
        until: Moment,
        opens: u64,
    },
}

/// What is remembered of this node's breaker from step to step.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    opinion: Option<Opinion>,
    successes: u64,
    worked_at: Option<Moment>,
    rejected: u64,
    opens: u64,
}

impl Evidence {
    /// Of one service, for the node `me`.
    pub fn new(config: EvidenceConfig, me: u64) -> Self {
        Self {
            config,
            me,
            number: 0,
            round: 0,
            heard: HashMap::default(),
            fleet: Fleet::Closed,
            must_close: false,
            tell_until: Moment::ORIGIN,
            own: Own::default(),
        }
    }

    /// Takes in what another node said. Reports may come late, twice, in any
    /// order, or not at all.
    pub fn hear(&mut self, report: &Report, now: Moment) {
        if report.node == self.me {
            return;
        }
        if report.round > self.round {
            self.recovered(report.round, now);
            self.must_close = true;
        }
        // What somebody thought before the last recovery is out of date.
        let opinion = report.opinion.filter(|_| report.round == self.round);
        let heard = Heard { number: report.number, at: now, opinion };
        if let Some(before) = self.heard.get_mut(&report.node) {
            if before.number < report.number {
                *before = heard;
            }
            return;
        }
        if self.heard.len() >= self.config.max_nodes {
            self.forget_stale(now);
        }
        if self.heard.len() < self.config.max_nodes {
            self.heard.insert(report.node, heard);
        }
    }

    /// What to do now; to be asked several times within
    /// [`fresh_for`](EvidenceConfig::fresh_for). `own` are the statistics of
    /// this node's breaker; with
    /// [`count_successes`](super::Builder::count_successes) a node that makes
    /// no calls has no say, without it every closed breaker counts as working.
    pub fn step(&mut self, own: &Stats, now: Moment) -> Advice {
        let wanted = own.rejected > self.own.rejected;
        self.look_at(own, now);
        self.forget_stale(now);
        if std::mem::take(&mut self.must_close) {
            // Its breaker may still be open from before.
            self.own.opinion = None;
            // What a person set by hand stays.
            if matches!(own.state, StateKind::Open | StateKind::HalfOpen) {
                return Advice::Close;
            }
        }
        if let Fleet::Probing { token, until, opens } = self.fleet {
            if own.state == StateKind::Closed {
                self.recovered(token, now);
                return Advice::Recovered;
            }
            let failed = own.opens > opens;
            if !failed && now < until {
                return Advice::Probe;
            }
            // The lease runs out by itself, and until then nobody else probes.
            self.fleet = Fleet::Open { probe_at: now + self.config.open_for };
        }
        if !self.has_quorum() {
            self.fleet = Fleet::Closed;
            return Advice::Alone;
        }
        match self.fleet {
            Fleet::Closed | Fleet::Probing { .. } => {
                self.fleet = Fleet::Open { probe_at: now + self.config.open_for };
                Advice::KeepOpen
            }
            // A probe needs a call, so who has none leaves it to others.
            Fleet::Open { probe_at } if now >= probe_at && wanted => Advice::AskToProbe,
            Fleet::Open { .. } => Advice::KeepOpen,
        }
    }

    /// The lease to probe was granted, with this token; `false` if it is of no
    /// use any more. A token of 0 says that nobody could be asked: then this
    /// node probes, but for itself alone.
    pub fn granted(&mut self, token: u64, now: Moment) -> bool {
        let is_open = matches!(self.fleet, Fleet::Open { .. });
        if is_open {
            let until = now + self.config.open_for;
            self.fleet = Fleet::Probing { token, until, opens: self.own.opens };
        }
        is_open
    }

    /// The lease to probe is another node's for so long.
    pub fn refused(&mut self, left: Duration, now: Moment) {
        if let Fleet::Open { probe_at } = &mut self.fleet {
            *probe_at = now + left.min(self.config.open_for);
        }
    }

    /// What to tell the others now; `None` if there is nothing to tell.
    pub fn report(&mut self, now: Moment) -> Option<Report> {
        let opinion = self.own.opinion;
        if opinion.is_none() && now >= self.tell_until {
            return None;
        }
        self.number += 1;
        Some(Report { node: self.me, number: self.number, round: self.round, opinion })
    }

    /// Whether, as far as this node knows, all keep their breakers open.
    pub fn is_open(&self) -> bool {
        self.fleet != Fleet::Closed
    }

    /// Nodes that have a say, this one included.
    pub fn nodes(&self) -> usize {
        self.heard.len() + 1
    }

    fn recovered(&mut self, round: u64, now: Moment) {
        self.round = self.round.max(round);
        self.fleet = Fleet::Closed;
        self.own.opinion = None;
        self.tell_until = now + self.config.fresh_for;
        for heard in self.heard.values_mut() {
            heard.opinion = None;
        }
    }

    fn look_at(&mut self, own: &Stats, now: Moment) {
        let successes = own.successes.unwrap_or(0);
        if successes > self.own.successes || own.successes.is_none() {
            self.own.worked_at = Some(now);
        }
        let works = self.own.worked_at.is_some_and(|at| now - at < self.config.fresh_for);
        self.own.opinion = match own.state {
            StateKind::Open | StateKind::HalfOpen if own.opened_by != Some(Cause::Evidence) => {
                Some(Opinion::Failing)
            }
            StateKind::Closed if works => Some(Opinion::Working),
            // Held by hand, it says nothing of the service.
            _ => None,
        };
        self.own.successes = successes;
        self.own.rejected = own.rejected;
        self.own.opens = own.opens;
    }

    fn forget_stale(&mut self, now: Moment) {
        let fresh_for = self.config.fresh_for;
        self.heard.retain(|_, heard| now - heard.at < fresh_for);
    }

    fn has_quorum(&self) -> bool {
        let own = self.own.opinion.into_iter();
        let opinions = self.heard.values().filter_map(|heard| heard.opinion).chain(own);
        let (mut failing, mut all) = (0_u32, 0_u32);
        for opinion in opinions {
            all += 1;
            failing += u32::from(opinion == Opinion::Failing);
        }
        failing >= self.config.min_failing.max(2)
            && f64::from(failing) > self.config.share * f64::from(all)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
