//! [`Numbers`]: finds what is missing by the numbers of each publisher.

use std::num::NonZeroUsize;

use ahash::RandomState;
use lru::LruCache;
use swarmbus::transport::{Gap, GapReason};

/// Publishers of one channel that are remembered. One that is forgotten, the
/// one that was silent longest, is taken for a new one.
const MAX_PUBLISHERS: NonZeroUsize = NonZeroUsize::new(4_096).expect("not 0");

/// What came of each publisher of one channel.
#[derive(Debug)]
pub(crate) struct Numbers {
    publishers: LruCache<u64, Known, RandomState>,
    /// How often the connection was lost.
    interruptions: u64,
}

#[derive(Debug)]
struct Known {
    /// The number of its next event.
    next: u64,
    /// `interruptions` when it was last heard of.
    heard: u64,
}

/// What the numbers of a message say.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// What is missing before it.
    pub(crate) gap: Option<Gap>,
    /// How many of its events came before.
    pub(crate) skip: u64,
}

impl Numbers {
    pub(crate) fn new() -> Self {
        let publishers = LruCache::with_hasher(MAX_PUBLISHERS, RandomState::default());
        Self { publishers, interruptions: 0 }
    }

    /// The connection was lost.
    pub(crate) fn interrupted(&mut self) {
        self.interruptions += 1;
    }

    /// A publisher sent this many events, the first with this number; none: it
    /// said what the next will be. What it sent before its first word that came
    /// is missing if it `began_later` than whoever listens; else it is none of
    /// their business.
    pub(crate) fn came(
        &mut self,
        publisher: u64,
        (first, count): (u64, u64),
        began_later: impl FnOnce() -> bool,
    ) -> Found {
        let interruptions = self.interruptions;
        let known = self.publishers.get_or_insert_mut(publisher, || {
            let next = if began_later() { 1 } else { first };
            Known { next, heard: 0 }
        });
        let missed = first.saturating_sub(known.next);
        let skip = known.next.saturating_sub(first).min(count);
        let reason =
            if known.heard < interruptions { GapReason::Disconnected } else { GapReason::Lost };
        known.heard = interruptions;
        known.next = known.next.max(first.saturating_add(count));
        Found { gap: (missed > 0).then(|| Gap::new(missed, reason)), skip }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn came(numbers: &mut Numbers, publisher: u64, first: u64, count: u64) -> Found {
        numbers.came(publisher, (first, count), || false)
    }

    fn lost(missed: u64) -> Option<Gap> {
        Some(Gap::new(missed, GapReason::Lost))
    }

    #[test]
    fn a_publisher_begins_where_it_is_first_heard() {
        let mut numbers = Numbers::new();
        assert_eq!(came(&mut numbers, 1, 1_000, 10), Found { gap: None, skip: 0 });
        assert_eq!(came(&mut numbers, 1, 1_010, 5), Found { gap: None, skip: 0 });
        assert_eq!(came(&mut numbers, 2, 1, 1), Found { gap: None, skip: 0 });
        assert_eq!(came(&mut numbers, 1, 1_018, 1), Found { gap: lost(3), skip: 0 });
    }

    #[test]
    fn the_beginning_of_a_younger_publisher_is_missed_too() {
        let mut numbers = Numbers::new();
        assert_eq!(numbers.came(1, (4, 1), || true), Found { gap: lost(3), skip: 0 });
        assert_eq!(numbers.came(1, (5, 1), || true), Found { gap: None, skip: 0 });
        numbers.interrupted();
        let gap = Some(Gap::new(1, GapReason::Disconnected));
        assert_eq!(numbers.came(2, (2, 1), || true), Found { gap, skip: 0 });
    }

    #[test]
    fn positions_show_what_nothing_else_follows() {
        let mut numbers = Numbers::new();
        assert_eq!(came(&mut numbers, 1, 1, 4).gap, None);
        assert_eq!(came(&mut numbers, 1, 5, 0).gap, None);
        assert_eq!(came(&mut numbers, 1, 8, 0).gap, lost(3));
        assert_eq!(came(&mut numbers, 1, 8, 0).gap, None);
        assert_eq!(came(&mut numbers, 1, 8, 1).gap, None);
    }

    #[test]
    fn the_reason_is_the_connection_when_it_was_lost() {
        let mut numbers = Numbers::new();
        came(&mut numbers, 1, 1, 1);
        numbers.interrupted();
        assert_eq!(came(&mut numbers, 1, 4, 1).gap, Some(Gap::new(2, GapReason::Disconnected)));
        assert_eq!(came(&mut numbers, 1, 6, 1).gap, lost(1));
    }

    proptest! {
        /// Whatever is lost, repeated or cut: delivered and missed together are
        /// all that was published between the first and the last that came.
        #[test]
        fn delivered_and_missed_are_everything(
            messages in prop::collection::vec((1_u64..5, 0_u8..4), 1..50),
        ) {
            let mut numbers = Numbers::new();
            let (mut at, mut sum, mut start) = (1_u64, 0_u64, None);
            let mut end = 0;
            for (count, fate) in messages {
                let times = match fate { 0 => 0, 3 => 2, _ => 1 };
                for _ in 0..times {
                    let found = came(&mut numbers, 9, at, count);
                    start.get_or_insert(at);
                    sum += found.gap.and_then(|gap| gap.missed).unwrap_or(0) + count - found.skip;
                    end = at + count;
                }
                at += count;
            }
            prop_assert_eq!(sum, end - start.unwrap_or(end).min(end));
        }
    }
}
