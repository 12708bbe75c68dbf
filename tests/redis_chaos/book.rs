//! [`Book`]: what came to a subscriber, and what is missing. Pure.

use std::collections::BTreeMap;

/// What was seen of one channel.
#[derive(Debug)]
pub(crate) struct Book {
    lanes: Vec<Lane>,
    /// Events of one publisher come in order, so that a hole has a place.
    ordered: bool,
    windows: Vec<Window>,
    counts: Counts,
}

/// The events of one publisher, numbered from 0.
#[derive(Debug, Default)]
struct Lane {
    seen: Ranges,
    /// The number that comes next, if all is in order.
    next: u64,
    /// Since the last event there was a gap.
    told: bool,
}

/// From one fault to the next: where each lane was, and how many gaps there had
/// been.
#[derive(Debug)]
struct Window(Vec<u64>, u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Each once.
    pub(crate) delivered: u64,
    /// Came again without a word.
    pub(crate) duplicated: u64,
    /// Came again and said so.
    pub(crate) redelivered: u64,
    /// Came after one that was published later.
    pub(crate) disordered: u64,
    /// How often something was reported missing.
    pub(crate) gaps: u64,
    /// Events that were reported missing.
    pub(crate) reported: u64,
    /// Gaps of unknown size.
    pub(crate) unknown: u64,
    /// Missing, and nobody was told: known after [`Book::close`].
    pub(crate) silent: u64,
}

impl Book {
    pub(crate) fn new(lanes: usize, ordered: bool) -> Self {
        let mut book = Self {
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            ordered,
            windows: Vec::new(),
            counts: Counts::default(),
        };
        book.window(vec![0; lanes]);
        book
    }

    /// An event came; whether it is new.
    pub(crate) fn event(&mut self, lane: usize, number: u64, redelivered: bool) -> bool {
        let counts = &mut self.counts;
        let Some(lane) = self.lanes.get_mut(lane) else { return false };
        if !lane.seen.insert(number) {
            let count = if redelivered { &mut counts.redelivered } else { &mut counts.duplicated };
            *count += 1;
            return false;
        }
        counts.delivered += 1;
        if self.ordered {
            if number < lane.next {
                counts.disordered += 1;
            } else {
                counts.silent += if lane.told { 0 } else { number - lane.next };
                (lane.next, lane.told) = (number + 1, false);
            }
        }
        true
    }

    /// Something is missing.
    pub(crate) fn gap(&mut self, missed: Option<u64>) {
        self.counts.gaps += 1;
        match missed {
            Some(missed) => self.counts.reported += missed,
            None => self.counts.unknown += 1,
        }
        for lane in &mut self.lanes {
            lane.told = true;
        }
    }

    /// Begins the next part, when so many events of each lane are published.
    /// Tasks have no place, so what is missing of a part must be told in it.
    pub(crate) fn window(&mut self, published: Vec<u64>) {
        self.windows.push(Window(published, self.counts.gaps));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many of these events have come.
    pub(crate) fn seen(&self, lane: usize, from: u64, to: u64) -> u64 {
        self.lanes.get(lane).map_or(0, |lane| lane.seen.within(from, to))
    }

    /// No more comes; so many events of each lane were published.
    pub(crate) fn close(&mut self, published: &[u64]) -> Counts {
        if self.ordered {
            for (lane, published) in self.lanes.iter().zip(published) {
                let hole = published.saturating_sub(lane.next);
                self.counts.silent += if lane.told { 0 } else { hole };
            }
            return self.counts;
        }
        self.window(published.to_vec());
        for pair in self.windows.windows(2) {
            let [Window(from, before), Window(to, after)] = pair else { continue };
            if before == after {
                let lanes = from.iter().zip(to).enumerate();
                let lost = lanes.map(|(n, (from, to))| (to - from) - self.seen(n, *from, *to));
                self.counts.silent += lost.sum::<u64>();
            }
        }
        self.counts
    }
}

/// A set of numbers that are mostly neighbours.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// `false` if it was there.
    fn insert(&mut self, number: u64) -> bool {
        let before = self.0.range_mut(..=number).next_back();
        let mut start = number;
        if let Some((from, to)) = before {
            if number < *to {
                return false;
            }
            if *to == number {
                start = *from;
            }
        }
        let end = self.0.remove(&(number + 1)).unwrap_or(number + 1);
        self.0.insert(start, end);
        true
    }

    /// How many there are in between.
    fn within(&self, from: u64, to: u64) -> u64 {
        let first = self.0.range(..=from).next_back().map_or(from, |(start, _)| *start);
        let parts = self.0.range(first..to);
        parts.map(|(start, end)| (*end).min(to).saturating_sub((*start).max(from))).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hole_is_silent_unless_a_gap_is_in_its_place() {
        let mut book = Book::new(2, true);
        assert!(book.event(0, 0, false));
        assert!(book.event(0, 3, false));
        book.gap(Some(5));
        book.event(0, 6, false);
        book.event(1, 2, false);
        book.event(1, 4, false);
        assert!(!book.event(1, 4, false));
        book.event(1, 3, false);
        let counts = book.close(&[10, 5]);
        assert_eq!((counts.silent, counts.duplicated, counts.disordered), (2 + 1 + 3, 1, 1));
        assert_eq!((counts.delivered, counts.reported), (6, 5));
    }

    #[test]
    fn tasks_are_missed_by_the_part() {
        let mut book = Book::new(1, false);
        for number in [1, 0, 3] {
            book.event(0, number, false);
        }
        book.window(vec![5]);
        book.gap(None);
        assert!(!book.event(0, 1, true));
        let counts = book.close(&[8]);
        assert_eq!((counts.silent, counts.redelivered, counts.unknown), (2, 1, 1));
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in prop::collection::vec(0_u64..40, 0..100), a in 0_u64..40, b in 0_u64..40) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(ranges.insert(number), model.insert(number));
            }
            let (from, to) = (a.min(b), a.max(b));
            prop_assert_eq!(ranges.within(from, to), model.range(from..to).count() as u64);
        }
    }
}
