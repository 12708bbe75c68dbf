//! What waits to be sent: bounded, urgent first.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus_core::{
    Clock, Priority,
    overflow::{Decision, Gate, Lanes, Overflow, Reason},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    BridgeSendError,
    parcel::{Owner, Parcel},
};
use crate::{
    clock::BusClock,
    ledger::Outcome,
    pipeline::detached::{Detached, Outlet},
    queue::{Block, lanes::PriorityLanes},
};

/// What waits to be sent over one bridge.
pub(super) struct OutQueue {
    state: Mutex<State>,
    /// Wakes the sender.
    pub(super) arrived: Notify,
    /// Wakes workers that wait for room.
    room: Notify,
    capacity: usize,
    overflow: Overflow,
    clock: BusClock,
    /// Where the bridge is in the paths of events.
    place: Arc<str>,
}

struct State {
    lanes: PriorityLanes<Option<Parcel>>,
    /// What is to be tried again, by when.
    delayed: BTreeMap<(Instant, u64), Parcel>,
    gate: Gate,
    last: u64,
    closed: bool,
}

impl State {
    fn has_room(&self, capacity: usize) -> bool {
        self.closed || self.lanes.depth() + self.delayed.len() < capacity
    }
}

/// The lanes, with what is delayed counted in.
struct All<'a>(&'a PriorityLanes<Option<Parcel>>, usize);

impl Lanes for All<'_> {
    fn len(&self) -> usize {
        self.0.depth() + self.1
    }

    fn lowest(&self) -> Option<Priority> {
        self.0.lowest()
    }

    fn oldest(&self) -> Option<Priority> {
        self.0.oldest()
    }
}

impl OutQueue {
    pub(super) fn new(overflow: Overflow, capacity: NonZeroUsize, place: Arc<str>) -> Self {
        Self {
            state: Mutex::new(State {
                lanes: PriorityLanes::default(),
                delayed: BTreeMap::new(),
                gate: overflow.gate(capacity),
                last: 0,
                closed: false,
            }),
            arrived: Notify::new(),
            room: Notify::new(),
            capacity: capacity.get(),
            overflow,
            clock: BusClock::new(),
            place,
        }
    }

    /// Queues it, or ends it, or another in its stead. `waited` says that the
    /// worker has waited for room: each may then be one too many.
    pub(super) fn push(&self, rule: usize, owner: Owner, waited: bool) {
        let mut parcel = Parcel::new(rule, owner);
        // What came in here does not go out again by itself.
        if parcel.event().hops().last().is_some_and(|last| last.as_str() == &*self.place) {
            return parcel.end_as(Outcome::Looped, BridgeSendError::Looped);
        }
        let priority = parcel.priority();
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return parcel.refuse(BridgeSendError::Closed);
        }
        let State { lanes, delayed, gate, last, .. } = &mut *state;
        let now = (&self.clock).now();
        let decision = if waited {
            Decision::Accept
        } else {
            gate.decide(priority, &All(lanes, delayed.len()), now)
        };
        let evicted = match decision {
            Decision::Accept => None,
            Decision::Evict { lane } => lanes.evict(lane).flatten(),
            Decision::Reject(reason) => {
                drop(state);
                let full = BridgeSendError::Full;
                return match reason {
                    Reason::RateLimited { .. } => {
                        parcel.end_as(Outcome::RejectedByRateLimit, full);
                    }
                    Reason::Outranked => parcel.end_as(Outcome::DroppedLowest, full),
                    _ => parcel.refuse(full),
                };
            }
        };
        *last += 1;
        parcel.since = *last;
        lanes.push(priority, Some(parcel));
        drop(state);
        self.arrived.notify_one();
        if let Some(evicted) = evicted {
            let lowest = matches!(self.overflow, Overflow::DropLowestPriority);
            let outcome = if lowest { Outcome::DroppedLowest } else { Outcome::DroppedOldest };
            evicted.end_as(outcome, BridgeSendError::Full);
        }
    }

    /// Queues it again, later. It has its place already.
    pub(super) fn push_later(&self, mut parcel: Parcel, at: Instant) {
        let mut state = self.state.lock();
        state.last += 1;
        parcel.since = state.last;
        let key = (at, state.last);
        state.delayed.insert(key, parcel);
    }

    /// Takes at most `max`, urgent ones first by the fairness rule of the bus;
    /// while the breaker is open only those that pass it. Returns when the next
    /// delay is over.
    pub(super) fn take(
        &self,
        into: &mut VecDeque<Parcel>,
        max: usize,
        open: bool,
    ) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        while let Some(due) = state.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let parcel = due.remove();
            state.lanes.push(parcel.priority(), Some(parcel));
        }
        if open {
            let urgent = Priority::all().rev().take_while(|priority| priority.bypasses_breaker());
            for priority in urgent {
                while into.len() < max
                    && let Some(parcel) = state.lanes.evict(priority).flatten()
                {
                    into.push_back(parcel);
                }
            }
        } else {
            let mut taken = Block::default();
            state.lanes.take(&mut taken, max);
            into.extend(taken.waiting().iter_mut().filter_map(Option::take));
        }
        let next = state.delayed.keys().next().map(|(at, _)| *at);
        drop(state);
        self.room.notify_waiters();
        next
    }

    /// Waits until there is room, or nothing is taken any more. Somebody else may
    /// be faster.
    async fn room(&self) {
        loop {
            let mut room = pin!(self.room.notified());
            // Listen before looking, or a wake-up between the two is missed.
            room.as_mut().enable();
            if self.state.lock().has_room(self.capacity) {
                return;
            }
            room.await;
        }
    }

    /// Puts back what the breaker did not let pass, where it was.
    pub(super) fn put_back(&self, parcels: Vec<Parcel>) {
        let mut state = self.state.lock();
        for parcel in parcels.into_iter().rev() {
            state.lanes.put_back(parcel.priority(), Some(parcel));
        }
    }

    pub(super) fn len(&self) -> usize {
        let state = self.state.lock();
        state.lanes.depth() + state.delayed.len()
    }

    /// Takes all that waits out, to end it, and nothing more in.
    pub(super) fn clear(&self) -> VecDeque<Parcel> {
        let mut state = self.state.lock();
        state.closed = true;
        let mut all: VecDeque<_> = state.lanes.take_all().flatten().collect();
        all.extend(std::mem::take(&mut state.delayed).into_values());
        drop(state);
        self.room.notify_waiters();
        all
    }
}

/// The way out for one rule.
pub(super) struct Door {
    pub(super) queue: Arc<OutQueue>,
    pub(super) rule: usize,
    /// Whether a worker waits for room.
    pub(super) hold_back: bool,
}

#[async_trait]
impl Outlet for Door {
    async fn ready(&self) {
        if self.hold_back {
            self.queue.room().await;
        }
    }

    fn take(&self, call: Detached) {
        call.begun();
        self.queue.push(self.rule, Owner::Match(call, None), self.hold_back);
    }
}
