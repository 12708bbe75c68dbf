//! [`Overflow`]: what happens to an event that finds the queue full.
//!
//! The queue asks its [`Gate`] before each push, under its own lock, and does
//! what the [`Decision`] says:
//!
//! ```
//! use std::num::NonZeroUsize;
//! use swarmbus_core::{
//!     Moment, Priority,
//!     overflow::{Decision, Lanes, Overflow, Reason},
//! };
//!
//! /// A queue as the gate sees it: one lane a priority, here just counted.
//! struct Depths([usize; Priority::COUNT]);
//!
//! impl Lanes for Depths {
//!     fn len(&self) -> usize {
//!         self.0.iter().sum()
//!     }
//!     fn lowest(&self) -> Option<Priority> {
//!         Priority::all().find(|priority| self.0[priority.index()] > 0)
//!     }
//!     fn oldest(&self) -> Option<Priority> {
//!         self.lowest() // a real queue compares when its lanes' heads came in
//!     }
//! }
//!
//! let mut queue = Depths([0; Priority::COUNT]);
//! queue.0[Priority::LOW.index()] = 2;
//! let mut gate = Overflow::DropLowestPriority.gate(NonZeroUsize::new(2).unwrap());
//!
//! let now = Moment::ORIGIN;
//! let urgent = gate.decide(Priority::HIGH, &queue, now);
//! assert_eq!(urgent, Decision::Evict { lane: Priority::LOW });
//! let as_low = gate.decide(Priority::LOW, &queue, now);
//! assert_eq!(as_low, Decision::Reject(Reason::Outranked));
//! ```

mod adaptive;

use std::{num::NonZeroUsize, time::Duration};

pub use adaptive::{AdaptiveRateConfig, AdaptiveRateError};

use self::adaptive::Limiter;
use crate::{Clock, Priority};

/// What happens to an event that finds the queue full.
///
/// Every event is accounted for under each of them: it is queued, handed back
/// to its publisher, or counted as dropped.
///
/// | policy | protects | price |
/// | --- | --- | --- |
/// | [`Reject`](Self::Reject) | every event | publishers wait |
/// | [`DropOldest`](Self::DropOldest) | fresh events | old ones are lost, whatever their priority |
/// | [`DropLowestPriority`](Self::DropLowestPriority) | urgent events | others are lost |
/// | [`AdaptiveRate`](Self::AdaptiveRate) | urgent events' latency, before the queue is full | other publishers wait sooner |
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Overflow {
    /// Nothing is lost: `publish` waits for room, `try_publish` gets the
    /// event back. The default.
    #[default]
    Reject,
    /// The event that has waited longest is dropped, whatever its priority:
    /// the queue always holds the newest. For readings that the next reading
    /// replaces.
    DropOldest,
    /// The oldest event of the lowest priority in the queue is dropped if
    /// that is lower than the new event's; else the new one is refused. No
    /// event is ever lost to one that is not more urgent.
    DropLowestPriority,
    /// From a high-water mark on, events below
    /// [`CRITICAL`](Priority::CRITICAL) are admitted at a fraction of the
    /// rate at which the queue is being emptied; publishers of the others
    /// wait. The limit goes away when the overload does. Full means
    /// [`Reject`](Self::Reject) for everybody.
    AdaptiveRate(AdaptiveRateConfig),
}

impl Overflow {
    /// The gate of one queue that holds at most `capacity` events.
    pub fn gate(self, capacity: NonZeroUsize) -> Gate {
        let capacity = capacity.get();
        let policy = match self {
            Self::Reject => Policy::Reject,
            Self::DropOldest => Policy::DropOldest,
            Self::DropLowestPriority => Policy::DropLowestPriority,
            Self::AdaptiveRate(config) => Policy::AdaptiveRate(Limiter::new(config, capacity)),
        };
        Gate { policy, capacity }
    }

    /// The policy's name in metrics and settings: `reject`, `drop_oldest`,
    /// `drop_lowest_priority` or `adaptive_rate`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::DropOldest => "drop_oldest",
            Self::DropLowestPriority => "drop_lowest_priority",
            Self::AdaptiveRate(_) => "adaptive_rate",
        }
    }
}

/// What a queue tells its [`Gate`]. Each method is called only when the
/// answer matters; of a queue with room, [`len`](Self::len) alone.
pub trait Lanes {
    /// Events in the queue, all priorities together.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lowest priority that has an event in the queue.
    fn lowest(&self) -> Option<Priority>;

    /// The priority of the event that has been in the queue longest.
    fn oldest(&self) -> Option<Priority>;
}

/// What the queue must do with the event it asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Push it.
    Accept,
    /// Drop the oldest event of this lane, count it as dropped by the policy,
    /// then push the new one.
    Evict {
        /// The priority whose oldest event goes.
        lane: Priority,
    },
    /// Leave the queue alone; the publisher keeps the event.
    Reject(Reason),
}

/// Why an event was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The queue is full. `publish` waits until an event is taken out.
    #[error("the queue is full")]
    Full,
    /// The queue is full of events that are as urgent or more. Waiting is no
    /// use while that lasts: the event goes back to its publisher at once.
    #[error("the queue is full of events that are at least as urgent")]
    Outranked,
    /// The queue is overloaded and admits fewer events for now. `publish`
    /// waits that long and asks again.
    #[error("the queue is overloaded: try again in {retry_after:?}")]
    RateLimited {
        /// When the same question would be answered with yes, if nobody else
        /// asks before.
        retry_after: Duration,
    },
}

/// An [`Overflow`] policy at work on one queue. Belongs under the queue's
/// lock: a decision holds only as long as the queue does not change.
#[derive(Debug)]
pub struct Gate {
    policy: Policy,
    capacity: usize,
}

/// The policies with what each has to remember.
#[derive(Debug)]
enum Policy {
    Reject,
    DropOldest,
    DropLowestPriority,
    AdaptiveRate(Limiter),
}

impl Gate {
    /// What to do with an event of this priority. The clock is read only by
    /// [`Overflow::AdaptiveRate`], and only while the queue is overloaded or
    /// was so a moment ago.
    ///
    /// [`Accept`](Decision::Accept) and [`Evict`](Decision::Evict) are taken
    /// as done. Events pushed without asking, or against the answer, make
    /// consumers look slower than they are.
    #[inline]
    pub fn decide(&mut self, incoming: Priority, lanes: &impl Lanes, now: impl Clock) -> Decision {
        let len = lanes.len();
        if len >= self.capacity {
            return self.when_full(incoming, lanes);
        }
        match &mut self.policy {
            Policy::Reject | Policy::DropOldest | Policy::DropLowestPriority => Decision::Accept,
            Policy::AdaptiveRate(limiter) => limiter.decide(incoming, len, now),
        }
    }

    /// Events per second that [`Overflow::AdaptiveRate`] admits at the
    /// moment; `None` while nothing is limited.
    pub fn limit(&self) -> Option<f64> {
        match &self.policy {
            Policy::AdaptiveRate(limiter) => limiter.limit(),
            Policy::Reject | Policy::DropOldest | Policy::DropLowestPriority => None,
        }
    }

    /// The most events that the queue holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    #[cold]
    fn when_full(&self, incoming: Priority, lanes: &impl Lanes) -> Decision {
        match self.policy {
            Policy::Reject | Policy::AdaptiveRate(_) => Decision::Reject(Reason::Full),
            Policy::DropOldest => match lanes.oldest() {
                Some(lane) => Decision::Evict { lane },
                None => Decision::Reject(Reason::Full),
            },
            Policy::DropLowestPriority => match lanes.lowest() {
                Some(lane) if lane < incoming => Decision::Evict { lane },
                _ => Decision::Reject(Reason::Outranked),
            },
        }
    }
}

#[cfg(test)]
mod tests;
