//! The end of every event, written down apart from the bus's own books.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use swarmbus::{Event, EventMiddleware, Outcome};

use crate::cmd::load_test::{faults::mix, message::Message};

/// How many parts, each with a lock of its own.
const PARTS: u64 = 16;

/// Sees every call of a handler, and every event come to its end.
#[derive(Debug, Default)]
pub(super) struct Account {
    parts: [Mutex<Part>; PARTS as usize],
}

#[derive(Debug, Default)]
struct Part {
    /// The tries of events that have not come to their end.
    open: HashMap<u64, Tries>,
    seen: Seen,
}

/// What happened to an event so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    count: u32,
    last: Option<Why>,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Failed,
    Panicked,
    TimedOut,
    Down,
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    AtOnce,
    AfterRetries,
    ByFallback,
    /// Dead letters, by what the last try said.
    DeadFailed,
    DeadPanicked,
    DeadTimedOut,
    DeadDown,
    Breaker,
    Bulkhead,
    Dropped,
    Expired,
    /// In a way that this list does not know.
    Other,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    ends: [u64; End::Other as usize + 1],
    /// The sum of a hash of all events that ended: one that ends twice in the
    /// place of another changes it.
    pub(super) hash: u64,
    pub(super) calls: Calls,
}

/// What became of the calls of handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Calls {
    pub(super) begun: u64,
    pub(super) retries: u64,
    pub(super) failed: u64,
    pub(super) panicked: u64,
    pub(super) timed_out: u64,
    pub(super) service_down: u64,
}

impl Account {
    /// A handler is called with an event: the how manieth time, from 1.
    pub(super) fn begin(&self, event: u64) -> u32 {
        let mut part = self.part(event).lock();
        let tries = part.open.entry(event).or_default();
        tries.count += 1;
        let count = tries.count;
        part.seen.calls.begun += 1;
        part.seen.calls.retries += u64::from(count > 1);
        count
    }

    /// The call fails.
    pub(super) fn fail(&self, event: u64, why: Why) {
        let mut part = self.part(event).lock();
        let calls = &mut part.seen.calls;
        match why {
            Why::Failed => calls.failed += 1,
            Why::Panicked => calls.panicked += 1,
            Why::TimedOut => calls.timed_out += 1,
            Why::Down => calls.service_down += 1,
        }
        if let Some(tries) = part.open.get_mut(&event) {
            tries.last = Some(why);
        }
    }

    /// All that was seen.
    pub(super) fn total(&self) -> Seen {
        let mut total = Seen::default();
        self.parts.iter().for_each(|part| total.add(&part.lock().seen));
        total
    }

    fn part(&self, event: u64) -> &Mutex<Part> {
        &self.parts[(event % PARTS) as usize]
    }

    fn end(&self, event: u64, outcome: Outcome) {
        let mut part = self.part(event).lock();
        let tries = part.open.remove(&event).unwrap_or_default();
        part.seen.hash = part.seen.hash.wrapping_add(mix(event));
        part.seen.ends[End::of(outcome, tries) as usize] += 1;
    }
}

/// The account, as the bus tells it.
pub(super) struct Witness(pub(super) Arc<Account>);

impl EventMiddleware for Witness {
    fn resolved(&self, event: &Event, _: &str, outcome: Outcome) {
        // What is none of ours counts as 0, which the hashes then tell.
        let number = Message::read(event.payload()).map_or(0, |message| message.note.task);
        self.0.end(number, outcome);
    }
}

impl End {
    fn of(outcome: Outcome, tries: Tries) -> Self {
        match outcome {
            Outcome::Delivered if tries.count > 1 => Self::AfterRetries,
            Outcome::Delivered => Self::AtOnce,
            Outcome::FellBack => Self::ByFallback,
            Outcome::DeadLettered => match tries.last {
                Some(Why::Failed) => Self::DeadFailed,
                Some(Why::Panicked) => Self::DeadPanicked,
                Some(Why::TimedOut) => Self::DeadTimedOut,
                Some(Why::Down) => Self::DeadDown,
                None => Self::Other,
            },
            Outcome::RejectedByBreaker => Self::Breaker,
            Outcome::RejectedByBulkhead => Self::Bulkhead,
            Outcome::DroppedOldest | Outcome::DroppedLowest => Self::Dropped,
            Outcome::Expired => Self::Expired,
            _ => Self::Other,
        }
    }
}

impl Seen {
    /// How many events ended like this.
    pub(super) fn of(&self, end: End) -> u64 {
        self.ends[end as usize]
    }

    /// Events that ended.
    pub(super) fn total(&self) -> u64 {
        self.ends.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.ends.iter_mut().zip(other.ends).for_each(|(to, n)| *to += n);
        self.hash = self.hash.wrapping_add(other.hash);
        let Calls { begun, retries, failed, panicked, timed_out, service_down } = other.calls;
        self.calls.begun += begun;
        self.calls.retries += retries;
        self.calls.failed += failed;
        self.calls.panicked += panicked;
        self.calls.timed_out += timed_out;
        self.calls.service_down += service_down;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_its_last_reason() {
        let account = Account::default();
        for (event, tries, outcome) in [
            (1, vec![], Outcome::RejectedByBreaker),
            (2, vec![Why::Failed], Outcome::Delivered),
            (3, vec![], Outcome::Delivered),
            (4, vec![Why::Panicked, Why::Down], Outcome::DeadLettered),
            (5, vec![Why::TimedOut], Outcome::FellBack),
            (6, vec![], Outcome::DeadLettered),
        ] {
            for (before, why) in tries.iter().enumerate() {
                assert_eq!(account.begin(event), before as u32 + 1);
                account.fail(event, *why);
            }
            if outcome == Outcome::Delivered {
                account.begin(event);
            }
            account.end(event, outcome);
        }
        let seen = account.total();
        for end in [
            End::Breaker,
            End::AfterRetries,
            End::AtOnce,
            End::DeadDown,
            End::ByFallback,
            End::Other,
        ] {
            assert_eq!(seen.of(end), 1, "{end:?}");
        }
        assert_eq!((seen.total(), seen.calls.begun, seen.calls.retries), (6, 6, 2));
        assert_eq!(seen.hash, (1..=6).map(mix).fold(0, u64::wrapping_add));
        assert!(account.parts.iter().all(|part| part.lock().open.is_empty()));
    }
}
