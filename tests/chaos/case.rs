//! What may go wrong, and what a naive model says must become of it.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};
use swarmbus::{DeadReason, Outcome};

/// How long a handler with a time-out may take, before it is asked to stop.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(50);

/// What one call of a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Fails,
    Panics,
    /// It takes so many milliseconds.
    Waits(u64),
    /// It never ends by itself.
    Hangs,
}

/// The layers of one handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layers {
    pub(crate) retries: u32,
    pub(crate) timeout: bool,
    /// Places, and room in the queue.
    pub(crate) bulkhead: Option<(usize, usize)>,
    pub(crate) breaker: bool,
    pub(crate) fallback: bool,
    pub(crate) dead_letters: bool,
    pub(crate) in_order: bool,
}

/// How an event comes to the bus.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Publish,
    TryPublish,
    /// Dropped after so many milliseconds.
    Dispatch(u64),
}

/// One event: when it comes, and what each try of each handler does with it.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) pause: u64,
    pub(crate) way: Way,
    faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) handlers: Vec<Layers>,
    pub(crate) sendings: Vec<Sending>,
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    pub(crate) drop_oldest: bool,
    /// In the middle: when, and how long it may take, in milliseconds.
    pub(crate) shutdown: Option<(u64, u64)>,
}

impl Sending {
    /// What a try does, counted from 0.
    pub(crate) fn fault(&self, handler: usize, attempt: u32) -> Fault {
        self.faults[(handler + attempt as usize) % self.faults.len()]
    }
}

impl Fault {
    /// Why such a call fails; `None` if it does not, and `Some(None)` if it
    /// never ends.
    fn failure(self, timeout: bool) -> Option<Option<DeadReason>> {
        match self {
            Self::None => None,
            Self::Fails => Some(Some(DeadReason::Failed)),
            Self::Panics => Some(Some(DeadReason::Panicked)),
            Self::Waits(ms) if timeout && Duration::from_millis(ms) > TIMEOUT => {
                Some(Some(DeadReason::TimedOut))
            }
            Self::Waits(_) => None,
            Self::Hangs => Some(timeout.then_some(DeadReason::TimedOut)),
        }
    }
}

/// What must become of an event at a handler that nobody else troubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Ends(Outcome, Option<DeadReason>),
    /// It waits for the handler until the end.
    NoEnd,
}

impl Case {
    /// The model: tries until one succeeds or none is left.
    pub(crate) fn expected(&self, event: usize, handler: usize) -> Expected {
        let layers = self.handlers[handler];
        let mut last = None;
        for attempt in 0..=layers.retries {
            match self.sendings[event].fault(handler, attempt).failure(layers.timeout) {
                None => return Expected::Ends(Outcome::Delivered, None),
                Some(None) => return Expected::NoEnd,
                Some(reason) => last = reason,
            }
        }
        match layers {
            Layers { fallback: true, .. } => Expected::Ends(Outcome::FellBack, None),
            Layers { dead_letters: true, .. } => Expected::Ends(Outcome::DeadLettered, last),
            _ => Expected::Ends(Outcome::Failed, None),
        }
    }

    /// Whether an event may end like this at a handler; `None` for cut off.
    pub(crate) fn allows(&self, event: usize, handler: usize, outcome: Option<Outcome>) -> bool {
        let layers = self.handlers[handler];
        let expected = self.expected(event, handler);
        let Some(outcome) = outcome else {
            return self.may_cut_off(event);
        };
        if expected == Expected::Ends(outcome, self.reason(event, handler)) {
            return true;
        }
        let may_refuse = layers.breaker || layers.bulkhead.is_some();
        // A handler that is gone is not tried again, and wants no fallback.
        let may_end = self.may_be_skipped(event) && layers.retries > 0;
        match outcome {
            Outcome::DeadLettered if may_end => layers.dead_letters,
            Outcome::Failed if may_end => !layers.dead_letters,
            Outcome::DroppedOldest => self.drop_oldest,
            Outcome::FellBack => layers.fallback && may_refuse,
            Outcome::RejectedByBreaker => layers.breaker && !layers.fallback,
            Outcome::RejectedByBulkhead => layers.bulkhead.is_some() && !layers.fallback,
            // A retry was refused.
            Outcome::DeadLettered => {
                may_refuse && layers.retries > 0 && layers.dead_letters && !layers.fallback
            }
            Outcome::Failed => {
                may_refuse && layers.retries > 0 && !layers.dead_letters && !layers.fallback
            }
            _ => false,
        }
    }

    fn reason(&self, event: usize, handler: usize) -> Option<DeadReason> {
        match self.expected(event, handler) {
            Expected::Ends(_, reason) => reason,
            Expected::NoEnd => None,
        }
    }

    /// By the end of the bus or of a dispatch, or behind a call that hangs.
    fn may_cut_off(&self, event: usize) -> bool {
        let hangs = || {
            (0..self.sendings.len()).any(|event| {
                (0..self.handlers.len())
                    .any(|handler| self.expected(event, handler) == Expected::NoEnd)
            })
        };
        self.shutdown.is_some() || matches!(self.sendings[event].way, Way::Dispatch(_)) || hangs()
    }

    /// Whether handlers may be gone before their turn comes: a shutdown does not
    /// wait for a dispatch.
    pub(crate) fn may_be_skipped(&self, event: usize) -> bool {
        self.shutdown.is_some() && matches!(self.sendings[event].way, Way::Dispatch(_))
    }

    /// Whether nothing but the model decides.
    pub(crate) fn is_exact(&self) -> bool {
        self.shutdown.is_none() && !self.drop_oldest
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        5 => Just(Fault::None),
        4 => Just(Fault::Fails),
        1 => Just(Fault::Panics),
        2 => prop_oneof![Just(10), Just(200)].prop_map(Fault::Waits),
        1 => Just(Fault::Hangs),
    ]
}

fn layers() -> impl Strategy<Value = Layers> {
    let bulkhead = option::of((1..3_usize, 0..4_usize));
    (0..4_u32, any::<[bool; 5]>(), bulkhead).prop_map(|(retries, is, bulkhead)| {
        let [timeout, breaker, fallback, dead_letters, in_order] = is;
        Layers { retries, timeout, bulkhead, breaker, fallback, dead_letters, in_order }
    })
}

fn sending() -> impl Strategy<Value = Sending> {
    let way = prop_oneof![
        4 => Just(Way::Publish),
        1 => Just(Way::TryPublish),
        1 => prop_oneof![Just(5), Just(30), Just(100_000)].prop_map(Way::Dispatch),
    ];
    let pause = prop_oneof![3 => Just(0), 1 => 1..100_u64];
    (pause, way, vec(fault(), 1..6)).prop_map(|(pause, way, faults)| Sending { pause, way, faults })
}

pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    (
        vec(layers(), 1..4),
        vec(sending(), 1..40),
        1..4_usize,
        prop_oneof![Just(4), Just(1_000)],
        any::<bool>(),
        option::of((0..500_u64, 0..300_u64)),
    )
        .prop_map(|(handlers, sendings, workers, capacity, drop_oldest, shutdown)| Case {
            handlers,
            sendings,
            workers,
            capacity,
            drop_oldest,
            shutdown,
        })
}
