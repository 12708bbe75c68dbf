//! The reader against a naive server that loses, repeats, trims, forgets and
//! fails over, in any order.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// A frame of so many events; `seen`: the live feed gets it.
    Publish { by: usize, count: u64, seen: bool },
    /// The live feed gives its newest frame again.
    Repeat,
    /// The live feed loses what waits in it, and the reader is told.
    Overrun,
    /// The log loses its oldest frames.
    Trim(usize),
    /// Meta is lost, and so is the log.
    Forget,
    /// A replica without the newest frames becomes master. Their publishers
    /// send them again, backwards, so that they get other offsets; or do not,
    /// because they had been confirmed, and go on behind them. `noticed`: a new
    /// term begins.
    FailOver { lost: usize, sent_again: bool, noticed: bool },
    /// The reader does one thing.
    Work,
    /// The reader compares its position with the log's end.
    Check,
    /// The program stops, and goes on from its last position.
    Restart,
}

fn op(noticed: impl Strategy<Value = bool>) -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..PUBLISHERS, 1_u64..5, prop::bool::weighted(0.8))
            .prop_map(|(by, count, seen)| Op::Publish { by, count, seen }),
        1 => Just(Op::Repeat),
        1 => Just(Op::Overrun),
        1 => (1_usize..4).prop_map(Op::Trim),
        1 => Just(Op::Forget),
        1 => (0_usize..4, any::<bool>(), noticed).prop_map(
            |(lost, sent_again, noticed)| Op::FailOver { lost, sent_again, noticed }
        ),
        10 => Just(Op::Work),
        2 => Just(Op::Check),
        1 => Just(Op::Restart),
    ]
}

const PUBLISHERS: usize = 2;

/// What a publisher knows, and the server of it.
#[derive(Clone, Copy, Debug, Default)]
struct Publisher {
    /// The highest offset that was confirmed, and its term.
    term: u32,
    reached: u64,
    /// How many of its events were confirmed.
    number: u64,
    /// How many of its events the server has or has counted as lost.
    record: u64,
    /// So many first appendings are not sent again: something of it that came later
    /// was confirmed.
    sure: u64,
}

/// Offset, publishers and terms.
type Before = (u64, [Publisher; PUBLISHERS], Vec<(u64, u64)>);

/// A server and one subscription.
struct World {
    epoch: u64,
    offset: u64,
    term: u32,
    /// Where each term began, and what is counted as lost of the one before it.
    terms: Vec<(u64, u64)>,
    publishers: [Publisher; PUBLISHERS],
    /// What there was before each appending.
    before: Vec<Before>,
    log: VecDeque<Stamp>,
    live: VecDeque<Stamp>,
    frames: u64,
    /// Frames that are to be sent again: events and mark.
    pending: Vec<(u64, u64)>,
    appends: u64,
    page: usize,
    reader: Reader,
    /// Where the log is to be read from, when it is.
    reading: Option<u64>,
    /// Mark of the frame and number within it.
    delivered: Vec<(u64, u64)>,
    gaps: Vec<Gap>,
    /// Events that were published.
    published: u64,
    /// Nothing has happened after which gaps may be too large.
    exact: bool,
    resent: HashSet<u64>,
    /// A failover has left nothing of what was delivered.
    blind: bool,
    /// Delivered or known to be missing in this epoch.
    accounted: u64,
}

impl World {
    fn new(page: usize) -> Self {
        let reader = Reader::after(at(0));
        Self {
            epoch: 1,
            offset: 0,
            term: 0,
            terms: vec![(0, 0)],
            publishers: [Publisher::default(); PUBLISHERS],
            before: Vec::new(),
            log: VecDeque::new(),
            live: VecDeque::new(),
            frames: 0,
            pending: Vec::new(),
            appends: 0,
            page,
            reader,
            reading: None,
            delivered: Vec::new(),
            gaps: Vec::new(),
            published: 0,
            exact: true,
            resent: HashSet::new(),
            blind: false,
            accounted: 0,
        }
    }

    /// The last term that had what was confirmed to a publisher.
    fn lost_in(&self, by: usize) -> u32 {
        let Publisher { term: mut its, reached, .. } = self.publishers[by];
        while its < self.term && reached <= self.terms[its as usize + 1].0 {
            its += 1;
        }
        its
    }

    /// What `log_append.lua` does.
    fn append(&mut self, by: usize, count: u64, mark: u64) -> Stamp {
        self.before.push((self.offset, self.publishers, self.terms.clone()));
        let Publisher { reached, number, record, sure, .. } = self.publishers[by];
        let (missing, its) = (number - record, self.lost_in(by));
        let mut lost = None;
        if its < self.term {
            let (from, counted) = &mut self.terms[its as usize + 1];
            let more =
                (reached.saturating_sub(*counted)).max(missing.saturating_sub(*counted - *from));
            if more > 0 {
                lost = Some(Lost { term: its, from: *counted, to: *counted + more });
                *counted += more;
                self.offset += more;
            }
        } else if reached > self.offset {
            self.offset = reached;
        } else {
            self.offset += missing;
        }
        self.appends += 1;
        let (epoch, term, first, append) = (self.epoch, self.term, self.offset + 1, self.appends);
        let frame = Stamp { epoch, first, count, append, mark, term, lost };
        self.offset += count;
        let (reached, number) = (self.offset, number + count);
        self.publishers[by] = Publisher { term, reached, number, record: number, sure };
        self.log.push_back(frame);
        frame
    }

    fn end(&self) -> Position {
        Position { epoch: self.epoch, term: self.term, offset: self.offset }
    }

    /// What `log_read.lua` says.
    fn common(&self) -> Option<u64> {
        let since = self.terms.iter().skip(self.reader.term() as usize + 1);
        since.map(|(from, _)| *from).min()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Publish { by, count, seen } => {
                self.send_again(by);
                self.frames += 1;
                let mark = self.frames * PUBLISHERS as u64 + by as u64;
                self.published += count;
                let frame = self.append(by, count, mark);
                if seen {
                    self.live.push_back(frame);
                }
            }
            Op::Repeat => self.live.extend(self.live.back().copied()),
            Op::Overrun => self.reconnect(),
            Op::Trim(frames) => drop(self.log.drain(..frames.min(self.log.len()))),
            Op::Forget => {
                self.log.clear();
                self.epoch += 1;
                (self.offset, self.term) = (0, 0);
                self.terms = vec![(0, 0)];
                self.publishers = [Publisher::default(); PUBLISHERS];
            }
            Op::FailOver { lost, sent_again, noticed } => {
                self.fail_over(lost, sent_again, noticed);
            }
            Op::Work => self.work(),
            Op::Check if self.reading.is_none() && self.live.is_empty() => self.check(),
            Op::Check => {}
            Op::Restart => {
                self.reader = Reader::after(self.reader.position());
                self.reconnect();
            }
        }
    }

    /// What a publisher had not had confirmed comes before anything newer of it.
    fn send_again(&mut self, by: usize) {
        for (count, mark) in std::mem::take(&mut self.pending) {
            if mark as usize % PUBLISHERS == by {
                self.resent.insert(mark);
                let frame = self.append(by, count, mark);
                self.live.push_back(frame);
            } else {
                self.pending.push((count, mark));
            }
        }
    }

    fn reconnect(&mut self) {
        self.live.clear();
        self.reading = Some(self.reader.recover());
    }

    fn check(&mut self) {
        if !self.reader.is_at(self.end()) {
            self.reading = Some(self.reader.recover());
        }
    }

    fn fail_over(&mut self, lost: usize, sent_again: bool, noticed: bool) {
        let lost = self.log.split_off(self.log.len().saturating_sub(lost));
        let before = self.offset;
        for frame in lost.iter().rev() {
            let by = frame.mark as usize % PUBLISHERS;
            let (offset, publishers, terms) = &self.before[frame.append as usize - 1];
            self.offset = *offset;
            // A replica does not know what was counted since, either.
            for (at, (from, counted)) in self.terms.iter_mut().enumerate() {
                *counted = terms.get(at).map_or(*from, |(_, counted)| *counted);
            }
            // What tells of a loss is lost itself.
            self.exact &= publishers[by].number == publishers[by].record;
            if sent_again && frame.append > self.publishers[by].sure {
                // When its publisher has connected again.
                self.pending.push((frame.count, frame.mark));
                self.publishers[by] = publishers[by];
            } else {
                self.publishers[by].record = publishers[by].record;
                self.publishers[by].sure = self.appends;
            }
        }
        // If a reader or a publisher is away while the server changes twice, it may be
        // told too much.
        self.exact &= self.reader.term() == self.term;
        self.exact &= self.publishers.iter().all(|p| p.number == 0 || p.term == self.term);
        if noticed {
            self.term += 1;
            self.terms.push((self.offset, self.offset));
        }
        self.exact &= noticed && lost.iter().all(|frame| frame.lost.is_none());
        self.exact &= before >= self.offset;
        // What was delivered before it was sent again, and is lost then, counts as missing.
        self.exact &= lost.iter().all(|frame| !self.resent.contains(&frame.mark));
        let left = |f: &Stamp| self.delivered.iter().any(|(mark, _)| *mark == f.mark);
        self.blind |= !self.delivered.is_empty() && !self.log.iter().any(left);
        self.reconnect();
    }

    fn work(&mut self) {
        if let Some(from) = self.reading {
            let frames: Vec<_> =
                self.log.iter().filter(|f| f.last() >= from).take(self.page).copied().collect();
            let full = frames.len() == self.page;
            let mut acts = Vec::new();
            let page = Page { end: self.end(), common: self.common(), frames: &frames, full };
            let next = self.reader.page(page, &mut acts);
            for act in acts {
                match act {
                    Act::Deliver { frame, skip } => self.deliver(&frames[frame], skip),
                    Act::Gap(gap) => self.gap(gap),
                }
            }
            self.reading = match next {
                Next::Read { from } => Some(from),
                Next::Live => None,
            };
        } else if let Some(frame) = self.live.pop_front() {
            match self.reader.live(frame) {
                Step::Deliver { skip } => self.deliver(&frame, skip),
                Step::Skip => {}
                Step::Recover => self.reading = Some(self.reader.recover()),
            }
        }
    }

    fn deliver(&mut self, frame: &Stamp, skip: u64) {
        assert!(skip < frame.count, "nothing is left of the frame");
        self.delivered.extend((skip..frame.count).map(|n| (frame.mark, n)));
        self.accounted += frame.count - skip;
    }

    fn gap(&mut self, gap: Gap) {
        match gap.reason {
            GapReason::NewEpoch => self.accounted = 0,
            _ => self.accounted += gap.missed.unwrap_or(0),
        }
        self.gaps.push(gap);
    }

    /// No more trouble: everything that can come, comes, and one frame more.
    fn settle(&mut self) {
        for by in 0..PUBLISHERS {
            self.apply(&Op::Publish { by, count: 1, seen: true });
        }
        for _ in 0..100_000 {
            if self.reading.is_none() && self.live.is_empty() {
                self.check();
                if self.reading.is_none() {
                    return;
                }
            }
            self.work();
        }
        panic!("the reader never comes to rest: {:?}", self.reader);
    }
}

/// What becomes of a reader to which all this happens.
fn run(ops: &[Op], page: usize) -> World {
    let mut world = World::new(page);
    for op in ops {
        world.exact &= !matches!(op, Op::Restart | Op::Trim(_) | Op::Forget);
        world.apply(op);
    }
    world.settle();
    world
}

proptest! {
    #[test]
    fn every_event_is_delivered_once_or_missing_by_a_gap(
        mut ops in prop::collection::vec(op(Just(true)), 0..120),
        page in 1_usize..5,
        only_failovers in any::<bool>(),
    ) {
        if only_failovers {
            ops.retain(|op| !matches!(op, Op::Restart | Op::Trim(_) | Op::Forget));
        }
        let world = run(&ops, page);
        let failed_over = ops.iter().any(|op| matches!(op, Op::FailOver { .. }));
        let restarted = ops.iter().any(|op| matches!(op, Op::Restart));
        let delivered: HashSet<_> = world.delivered.iter().copied().collect();
        // A restarted reader knows the position alone, so a failover may have
        // changed what is behind it.
        if !(failed_over && restarted) {
            prop_assert_eq!(delivered.len(), world.delivered.len(), "something came twice");
            for frame in &world.log {
                for n in 0..frame.count {
                    prop_assert!(delivered.contains(&(frame.mark, n)), "{:?} did not come", frame);
                }
            }
        }
        if !failed_over {
            // Offsets count what was published in this epoch.
            prop_assert_eq!(world.accounted, world.offset, "gaps are of the right size");
            prop_assert!(world.delivered.is_sorted(), "out of order");
        }
        if world.gaps.is_empty() && !(failed_over && restarted) {
            prop_assert_eq!(delivered.len() as u64, world.published, "lost without a gap");
        }
        if world.exact {
            let missed: Option<u64> = world.gaps.iter().map(|gap| gap.missed).sum();
            let all = missed.map(|missed| missed + delivered.len() as u64);
            prop_assert_eq!(all, Some(world.published), "{:?}", world.gaps);
        }
    }

    #[test]
    fn of_a_failover_that_nobody_noticed_nothing_is_missing_in_silence(
        ops in prop::collection::vec(op(Just(false)), 0..120),
        page in 1_usize..5,
    ) {
        // A log of which nothing is left that was delivered cannot be compared.
        let ops: Vec<_> =
            ops.into_iter().filter(|op| !matches!(op, Op::Restart | Op::Trim(_))).collect();
        let world = run(&ops, page);
        let delivered: HashSet<_> = world.delivered.iter().copied().collect();
        prop_assert_eq!(delivered.len(), world.delivered.len(), "something came twice");
        if world.gaps.is_empty() && !world.blind {
            prop_assert_eq!(delivered.len() as u64, world.published, "lost without a gap");
        }
    }
}

/// Cases that the properties have found.
#[test]
fn what_the_new_term_trimmed_is_not_what_the_old_one_delivered() {
    let world = run(
        &[
            Op::Publish { by: 1, count: 2, seen: true },
            Op::Work,
            Op::FailOver { lost: 1, sent_again: false, noticed: true },
            Op::Publish { by: 0, count: 1, seen: false },
            Op::Work,
            Op::Trim(1),
            Op::Work,
        ],
        1,
    );
    assert!(world.gaps.iter().any(|gap| gap.reason == GapReason::Trimmed), "{:?}", world.gaps);
}

#[test]
fn a_connection_that_breaks_where_terms_part_is_no_gap() {
    let world = run(
        &[
            Op::Publish { by: 0, count: 1, seen: false },
            Op::Publish { by: 0, count: 1, seen: false },
            Op::Publish { by: 0, count: 1, seen: true },
            Op::Work,
            Op::Work,
            Op::Work,
            Op::FailOver { lost: 1, sent_again: true, noticed: true },
            Op::Work,
            Op::Overrun,
        ],
        2,
    );
    assert_eq!((world.gaps, world.delivered.len()), (vec![], 5));
}

#[test]
fn a_connection_that_breaks_behind_what_was_lost_is_no_gap() {
    let world = run(
        &[
            Op::Publish { by: 0, count: 1, seen: true },
            Op::Publish { by: 0, count: 2, seen: true },
            Op::Work,
            Op::Work,
            Op::FailOver { lost: 1, sent_again: true, noticed: true },
            Op::Work,
            Op::Work,
            Op::Publish { by: 0, count: 2, seen: true },
            Op::Overrun,
        ],
        2,
    );
    assert_eq!((world.gaps, world.delivered.len()), (vec![], 7));
}

#[test]
fn a_frame_that_is_gone_between_others_is_a_gap() {
    let mut ops = vec![
        Op::Publish { by: 0, count: 4, seen: false },
        Op::FailOver { lost: 1, sent_again: false, noticed: false },
        Op::Publish { by: 1, count: 2, seen: false },
        Op::Publish { by: 1, count: 2, seen: false },
        Op::Work,
        Op::FailOver { lost: 1, sent_again: true, noticed: false },
    ];
    ops.extend((0..4).map(|_| Op::Publish { by: 0, count: 1, seen: false }));
    assert!(!run(&ops, 2).gaps.is_empty());
}

fn frame(epoch: u64, first: u64, count: u64) -> Stamp {
    let mark = epoch * 1_000 + first;
    Stamp { epoch, first, count, append: first, mark, term: 0, lost: None }
}

fn at(offset: u64) -> Position {
    Position { epoch: 1, term: 0, offset }
}

#[test]
fn a_position_inside_a_frame_skips_what_was_delivered() {
    let mut reader = Reader::after(at(7));
    assert_eq!(reader.recover(), 7);
    let mut acts = Vec::new();
    let frames = [frame(1, 5, 6), frame(1, 11, 1)];
    let page = Page { common: None, end: at(11), frames: &frames, full: false };
    assert_eq!(reader.page(page, &mut acts), Next::Live);
    let rest = [Act::Deliver { frame: 0, skip: 3 }, Act::Deliver { frame: 1, skip: 0 }];
    assert_eq!(acts, rest);
    assert_eq!(reader.position(), at(11));
}

#[test]
fn the_oldest_frame_is_a_beginning_and_no_gap() {
    let mut reader = Reader::oldest(1);
    assert_eq!(reader.recover(), 0);
    let mut acts = Vec::new();
    let page = Page { common: None, end: at(12), frames: &[frame(1, 11, 2)], full: false };
    assert_eq!(reader.page(page, &mut acts), Next::Live);
    assert_eq!(acts, [Act::Deliver { frame: 0, skip: 0 }]);
}

#[test]
fn an_empty_log_that_is_read_from_its_oldest_frame_has_no_gap() {
    let mut reader = Reader::oldest(1);
    reader.recover();
    let mut acts = Vec::new();
    let page = Page { common: None, end: at(12), frames: &[], full: false };
    assert_eq!(reader.page(page, &mut acts), Next::Live);
    assert_eq!((acts, reader.position()), (vec![], at(12)));
}

#[test]
fn what_was_trimmed_is_a_gap_of_its_size() {
    let mut reader = Reader::after(at(3));
    reader.recover();
    let mut acts = Vec::new();
    let page = Page { common: None, end: at(12), frames: &[frame(1, 11, 2)], full: false };
    reader.page(page, &mut acts);
    let gap = Gap::new(7, GapReason::Trimmed).up_to(at(10));
    assert_eq!(acts, [Act::Gap(gap), Act::Deliver { frame: 0, skip: 0 }]);
}

#[test]
fn a_new_epoch_is_a_gap_and_begins_at_its_first_event() {
    let mut reader = Reader::after(at(3));
    assert_eq!(reader.live(frame(2, 1, 1)), Step::Recover);
    reader.recover();
    let mut acts = Vec::new();
    let end = Position { epoch: 2, term: 0, offset: 1 };
    let frames = [frame(2, 1, 1)];
    let again = reader.page(Page { common: None, end, frames: &[], full: false }, &mut acts);
    assert_eq!(again, Next::Read { from: 0 });
    let gap = Gap::new(None, GapReason::NewEpoch).up_to(Position { epoch: 2, term: 0, offset: 0 });
    assert_eq!(acts, [Act::Gap(gap)]);
    reader.page(Page { common: None, end, frames: &frames, full: false }, &mut acts);
    assert_eq!(acts, [Act::Deliver { frame: 0, skip: 0 }]);
    assert_eq!(reader.live(frame(1, 4, 1)), Step::Skip, "too late");
}
