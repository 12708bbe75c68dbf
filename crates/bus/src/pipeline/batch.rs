//! Batches: a handler that gets events several at a time.
//!
//! In place of its calls stands a queue (an [`Outlet`]), and a task that lives
//! as long as something waits in it. There is one call at a time, so that
//! batches come in the order of their events. While one is at work and another
//! is full, workers wait: nothing grows.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus_core::{Event, Timestamp, breaker::Permit};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    breaker::NamedBreaker,
    detached::{Detached, Outlet},
    outlet::NotNow,
    policy::PolicyError,
    timeout::{self, Timed, within},
};
use crate::{
    clock::BusClock,
    handler::{self, BoxedCall, Careful, HandlerError, HandlerResult},
    ledger::Outcome,
    stall::{Frame, current_frame},
};

/// How events are gathered for [`Subscribe::handle_batch`](crate::Subscribe::handle_batch).
///
/// | setting | default |
/// | --- | --- |
/// | [`size`](Self::size) | 10 events |
/// | [`wait`](Self::wait) | 10 ms |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    size: usize,
    wait: Duration,
}

impl Batching {
    /// The defaults.
    pub const fn new() -> Self {
        Self { size: 10, wait: Duration::from_millis(10) }
    }

    /// The most events of one batch; 1 to 65,536.
    #[must_use]
    pub const fn size(mut self, events: usize) -> Self {
        self.size = events;
        self
    }

    /// How long the first event of a batch waits for others; 0 for not at all,
    /// at most a year.
    #[must_use]
    pub const fn wait(mut self, at_most: Duration) -> Self {
        self.wait = at_most;
        self
    }

    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let Self { size, wait } = *self;
        if !(1..=LARGEST).contains(&size) || wait > timeout::LONGEST {
            return Err(PolicyError::Batching { size, wait });
        }
        Ok(())
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self::new()
    }
}

/// The most events of one batch.
const LARGEST: usize = 65_536;

/// A handler of several events, made callable without knowing it.
pub(crate) type BatchFn = Box<dyn Fn(Vec<Event>) -> BoxedCall<()> + Send + Sync>;

/// Where calls wait for others.
pub(crate) struct BatchOutlet(Arc<Gatherer>);

struct Gatherer {
    settings: Batching,
    handler: Careful<BatchFn>,
    state: Mutex<State>,
    /// Rings when a batch is full.
    full: Notify,
    /// Wakes workers that wait for room.
    room: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Detached)>,
    /// A task looks after those that wait.
    minded: bool,
}

impl BatchOutlet {
    /// The settings have been checked.
    pub(crate) fn new(settings: Batching, handler: BatchFn) -> Self {
        Self(Arc::new(Gatherer {
            settings,
            handler: Careful(Some(handler)),
            state: Mutex::default(),
            full: Notify::new(),
            room: Notify::new(),
        }))
    }
}

#[async_trait]
impl Outlet for BatchOutlet {
    async fn ready(&self) {
        if current_frame() != Frame::Nobody {
            // A handler that dispatches here and now: it may be the very one that
            // others wait for, and what it dispatches does not wait in here.
            return;
        }
        let gatherer = &*self.0;
        loop {
            let mut room = pin!(gatherer.room.notified());
            // Listen before looking, or a wake-up between the two is missed.
            room.as_mut().enable();
            if gatherer.state.lock().waiting.len() < gatherer.settings.size {
                return;
            }
            room.await;
        }
    }

    fn take(&self, call: Detached) {
        let (cut, now) = (call.host.detached.cut.clone(), Instant::now());
        let (full, minded) = {
            let mut state = self.0.state.lock();
            state.waiting.push_back((now, call));
            let full = state.waiting.len() >= self.0.settings.size;
            (full, std::mem::replace(&mut state.minded, true))
        };
        if !minded {
            let minder = Minder { gatherer: Arc::clone(&self.0), cut, ended: false };
            drop(tokio::spawn(minder.run()));
        } else if full {
            self.0.full.notify_one();
        }
    }
}

/// The task that looks after those that wait, until none does.
struct Minder {
    gatherer: Arc<Gatherer>,
    /// The bus has run out of time.
    cut: CancellationToken,
    ended: bool,
}

impl Minder {
    async fn run(mut self) {
        while let Some(batch) = self.next().await {
            self.gatherer.handle(batch, &self.cut).await;
        }
    }

    /// The next batch, when it is full or its first event has waited long
    /// enough. `None` if nothing waits: then this task has nothing to do with
    /// what comes.
    async fn next(&mut self) -> Option<Vec<Detached>> {
        let Batching { size, wait } = self.gatherer.settings;
        loop {
            let due = {
                let mut state = self.gatherer.state.lock();
                let Some((since, _)) = state.waiting.front() else {
                    state.minded = false;
                    self.ended = true;
                    return None;
                };
                let due = *since + wait;
                let there = state.waiting.len();
                if there >= size || due <= Instant::now() || self.cut.is_cancelled() {
                    let batch = state.waiting.drain(..there.min(size)).map(|(_, call)| call);
                    let batch = batch.collect();
                    drop(state);
                    self.gatherer.room.notify_waiters();
                    return Some(batch);
                }
                due
            };
            tokio::select! {
                () = self.gatherer.full.notified() => {}
                () = self.cut.cancelled() => {}
                () = sleep_until(due) => {}
            }
        }
    }
}

impl Drop for Minder {
    /// The runtime has ended in the middle: what waits is cancelled.
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.gatherer.state.lock();
            state.minded = false;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            self.gatherer.room.notify_waiters();
            drop(waiting);
        }
    }
}

impl Gatherer {
    /// One batch, to the end of each of its calls.
    async fn handle(&self, batch: Vec<Detached>, cut: &CancellationToken) {
        let now = BusClock::wall();
        let entered: Vec<_> = batch.iter().map(|call| enter(call, now)).collect();
        let let_in = batch.iter().zip(&entered).filter(|(_, entered)| entered.is_ok());
        let events: Vec<_> = let_in.map(|(call, _)| call.event().clone()).collect();
        let started = batch.first().map_or(0, |first| first.host.clock.cycles());
        let result = match batch.first() {
            Some(first) if !events.is_empty() => tokio::select! {
                biased;
                () = cut.cancelled() => None,
                result = self.call(first, events) => Some(result),
            },
            _ => Some(Ok(())),
        };
        let Some(result) = result else {
            drop(entered);
            return batch.into_iter().for_each(Detached::cut_off);
        };
        let refused = resolve(&batch, entered, &result, started);
        for (call, refused) in batch.into_iter().zip(refused) {
            match (refused, &result) {
                (Some(outcome), _) => call.end_as(outcome, None),
                (None, Ok(())) => call.end_as(Outcome::Delivered, None),
                (None, Err(error)) => call.give_up(Box::new(copy(error)), 1),
            }
        }
    }

    /// The handler, inside of the time-out.
    async fn call(&self, first: &Detached, events: Vec<Event>) -> HandlerResult {
        let (inner, name) = (&*first.host, &first.matched.subscriber.name);
        let ongoing = inner.stalls.handler(name, &inner.books);
        let run =
            handler::call(inner.id, || self.handler.0.as_ref().map(|handler| handler(events)));
        let mut call = pin!(ongoing.framed(run));
        let Some(limit) = first.layers().and_then(|layers| layers.limit) else {
            return call.await;
        };
        let aborted = match within(limit, call.as_mut()).await {
            Timed::InTime(result) | Timed::Late(result @ Ok(())) => return result,
            Timed::Late(Err(_)) => false,
            Timed::Aborted => true,
        };
        inner.tally.timed_out.fetch_add(1, Relaxed);
        inner.tally.aborted.fetch_add(u64::from(aborted), Relaxed);
        Err(Box::new(HandlerError::TimedOut { aborted }))
    }
}

type Entered<'a> = Result<Option<Permit<'a>>, Outcome>;

/// Leave for one event to be in the batch, or how it ends.
fn enter(call: &Detached, now: Timestamp) -> Entered<'_> {
    if !call.matched.subscriber.is_active() {
        return Err(Outcome::Cancelled);
    }
    call.enter(now).map_err(|not_now| match not_now {
        NotNow::Expired => Outcome::Expired,
        NotNow::Open { .. } => Outcome::RejectedByBreaker,
    })
}

/// Tells breakers and middleware how the call went. Returns how those ended
/// that were not in it.
fn resolve<'a>(
    batch: &'a [Detached],
    entered: Vec<Entered<'a>>,
    result: &HandlerResult,
    started: u64,
) -> Vec<Option<Outcome>> {
    let error = result.as_ref().err().map(|error| &**error);
    // A batch that fails is one failure, however many were in it.
    let mut failed: Vec<*const NamedBreaker> = Vec::new();
    let resolve = |(call, entered): (&Detached, Entered<'a>)| {
        let permit = match entered {
            Ok(permit) => permit,
            Err(outcome) => return Some(outcome),
        };
        call.call().observed(started, error);
        let breaker = call.matched.breaker.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
        if error.is_none() || !failed.contains(&breaker) {
            call.leave(permit, error.is_none());
            failed.extend(error.map(|_| breaker));
        }
        None
    };
    batch.iter().zip(entered).map(resolve).collect()
}

/// The same error for one more event.
fn copy(error: &HandlerError) -> HandlerError {
    match error {
        HandlerError::Panicked(text) => HandlerError::Panicked(text.clone()),
        HandlerError::TimedOut { aborted } => HandlerError::TimedOut { aborted: *aborted },
        HandlerError::Failed(_) | HandlerError::Payload(_) => {
            HandlerError::Failed(error.to_string().into())
        }
    }
}
