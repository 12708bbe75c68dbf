//! Runners carry events from routing to the end of the pipeline.
//!
//! Each worker owns one; `dispatch` borrows one from a small pool. A runner
//! has its own route cache and its own cells in the ledger, so two of them
//! share nothing that is written.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use crossbeam_utils::{CachePadded, atomic::AtomicCell};
use swarmbus_core::{Event, router::RouteCache};

use crate::{
    clock::BusClock,
    inner::Inner,
    journal::Receipt,
    ledger::{CellIndex, Outcome, RunnerCounts},
    pipeline::{Call, dead_letter::Retried, detached::Detached, layered::Step},
    queue::Waiting,
    routes::is_same,
    subscriber::{Match, Route},
};

pub(crate) struct Runner {
    pub(crate) cell: CellIndex,
    cache: RouteCache<Route>,
    generation: u64,
    /// Counts down to the next handler call whose time is measured.
    until_sample: u32,
}

/// What a runner did with one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Handlers that matched.
    pub matched: u32,
    /// Handlers that returned success.
    pub delivered: u32,
}

impl Runner {
    pub(crate) fn new(cell: CellIndex, cache: NonZeroUsize) -> Self {
        Self { cell, cache: RouteCache::new(cache), generation: 0, until_sample: 0 }
    }

    /// Looks whether subscriptions have changed. Must come after the event
    /// was taken, so that a subscription made before the publish is seen.
    #[inline]
    pub(crate) fn refresh(&mut self, inner: &Inner) {
        self.generation = inner.routes.generation();
    }

    /// Lets go of handlers that are no longer subscribed.
    pub(crate) fn forget_stale(&mut self, inner: &Inner) {
        if self.generation != inner.routes.generation() {
            self.refresh(inner);
            self.cache = RouteCache::new(self.cache.capacity());
        }
    }

    /// Runs one event through its handlers for a worker, which others wait for:
    /// what would keep it goes on in tasks of its own. Those that
    /// [`run_ahead`](Self::run_ahead) can run it has run.
    pub(crate) async fn run_for_worker(&mut self, host: &Arc<Inner>, event: &Event) {
        self.run_all(host, Some(host), event).await;
    }

    /// Runs the events that a worker has `waiting`, from number `begun` on, until it
    /// comes to one that [`run_now`](Self::run_now) would not run, or that is late
    /// as of `taken`. What is done is dropped where it lies.
    ///
    /// Not a part of the worker's future, which would keep everything here in memory.
    /// Events of one type often come together, as they do from one source: they are
    /// routed once.
    #[inline(never)]
    pub(crate) fn run_ahead(
        &mut self,
        inner: &Inner,
        waiting: &mut [Waiting],
        begun: &mut usize,
        taken: u64,
    ) {
        if !inner.plain || self.cell.shared {
            return;
        }
        let cell = CellIndex { index: self.cell.index, shared: false };
        let counts = inner.books.of(cell);
        while let Some(Waiting { event: Some(first), .. }) = waiting.get(*begun) {
            let route = self.cache.get_or_insert_with(self.generation, first.ty(), || {
                inner.routes.of_type(first.ty())
            });
            if !route.plain {
                return;
            }
            let mut alike = true;
            while alike {
                let Some((now, later)) = waiting[*begun..].split_first_mut() else { return };
                let Some(event) = &now.event else { return };
                if is_special(event) || inner.is_stale(now.since, taken) {
                    return;
                }
                *begun += 1;
                let sampled = inner.meter.due(&mut self.until_sample);
                if sampled {
                    inner.waited(now.since);
                }
                run_plain(inner, cell, counts, route, event, sampled);
                let next = later.first().and_then(|next| next.event.as_ref());
                alike = next.is_some_and(|next| is_same(next.ty().as_str(), event.ty().as_str()));
                now.event = None;
                if inner.stopped.load(Relaxed) {
                    return;
                }
            }
        }
    }

    /// Measures how long an event waited if it is due that its times are measured.
    pub(crate) fn note_wait(&self, inner: &Inner, since: u64) {
        if inner.meter.is_due(self.until_sample) {
            inner.waited(since);
        }
    }

    /// Runs one event at once, if all handlers are plain functions and nobody
    /// watches every call. Nothing here can be cut off, and a panic ends in the handler's
    /// result. Counts the event as dispatched.
    #[inline]
    pub(crate) fn run_now(&mut self, inner: &Inner, event: &Event) -> Option<Delivery> {
        if is_special(event) || !inner.plain || self.cell.shared {
            return None;
        }
        // Known not to be shared, so that counting asks no more.
        let cell = CellIndex { index: self.cell.index, shared: false };
        let route = self
            .cache
            .get_or_insert_with(self.generation, event.ty(), || inner.routes.of_type(event.ty()));
        if !route.plain {
            return None;
        }
        let sampled = inner.meter.due(&mut self.until_sample);
        let counts = inner.books.of(cell);
        counts.dispatched(cell);
        Some(run_plain(inner, cell, counts, route, event, sampled))
    }

    /// Runs one event through every handler that it matches, in order: those
    /// of its session, then those of the bus. `host` is given if calls may be
    /// detached.
    ///
    /// Cancelled in the middle, the call that was cut off and those that did
    /// not begin count as cancelled.
    pub(crate) async fn run_all(
        &mut self,
        inner: &Inner,
        host: Option<&Arc<Inner>>,
        event: &Event,
    ) -> Delivery {
        let sampled = inner.meter.due(&mut self.until_sample);
        let runner = self.cell.index;
        let session = inner.routes.of_session(event);
        let mut flight = self.start(inner, event, &session);
        while let Some(matched) = flight.begin() {
            let call = Call { inner, runner, event, matched, sampled, retried: None };
            // Asked for each handler: the one before may have taken its time.
            let step = if is_late(event) {
                Step::Done(Outcome::Expired)
            } else {
                call.run_briefly(host.is_some()).await
            };
            let outcome = match step {
                Step::Done(outcome) => outcome,
                Step::Left(rest) => match flight.detach(host, call) {
                    Some(detached) => {
                        detached.go(rest);
                        continue;
                    }
                    None => call.go_on(rest).await,
                },
            };
            flight.end(matched, outcome);
            inner.middleware.resolved(event, &matched.subscriber.name, outcome);
        }
        flight.delivery
    }

    /// Runs the event of a dead letter through the one handler that it is
    /// for: one more event, with one match. `None` if the handler has ended.
    pub(crate) async fn retry(
        &mut self,
        inner: &Inner,
        event: &Event,
        matched: &Match,
        retried: Retried,
    ) -> Option<Outcome> {
        let (cell, runner) = (self.cell, self.cell.index);
        let sampled = inner.meter.due(&mut self.until_sample);
        let counts = inner.books.of(cell);
        counts.dispatched(cell);
        let mut flight = InFlight {
            counts,
            // The event was settled when its letter was written.
            receipt: None,
            closed: &inner.closed,
            skipped: false,
            cell,
            current: None,
            rest: std::iter::once(matched),
            delivery: Delivery::default(),
        };
        let matched = flight.begin()?;
        let call = Call { inner, runner, event, matched, sampled, retried: Some(retried) };
        let outcome = if is_late(event) { Outcome::Expired } else { call.run().await };
        flight.end(matched, outcome);
        inner.middleware.resolved(event, &matched.subscriber.name, outcome);
        Some(outcome)
    }

    /// Counts one outcome for every handler that an event would have reached.
    pub(crate) fn account(&mut self, inner: &Inner, event: &Event, outcome: Outcome) {
        self.refresh(inner);
        let session = inner.routes.of_session(event);
        let mut flight = self.start(inner, event, &session);
        if outcome == Outcome::Cancelled {
            // Dropped, it is cut off from all of them.
            return;
        }
        while let Some(matched) = flight.begin() {
            flight.end(matched, outcome);
            inner.middleware.resolved(event, &matched.subscriber.name, outcome);
        }
    }

    /// Finds an event's handlers, those of its session first.
    fn start<'a>(
        &'a mut self,
        inner: &'a Inner,
        event: &Event,
        session: &'a [Match],
    ) -> InFlight<'a, impl Iterator<Item = &'a Match>> {
        let route = self
            .cache
            .get_or_insert_with(self.generation, event.ty(), || inner.routes.of_type(event.ty()));
        let journal = inner.journal_for(event);
        InFlight {
            counts: inner.books.of(self.cell),
            receipt: journal.map(|journal| Receipt::new(journal, event)),
            closed: &inner.closed,
            skipped: false,
            cell: self.cell,
            current: None,
            rest: session.iter().chain(route.matches()),
            delivery: Delivery::default(),
        }
    }
}

/// Whether an event takes more than its type's handlers one by one.
#[inline(always)]
fn is_special(event: &Event) -> bool {
    event.session().is_some() || event.deadline().is_some() || !event.hops().is_empty()
}

/// Runs one event through handlers that are all plain functions.
#[inline(always)]
fn run_plain(
    inner: &Inner,
    cell: CellIndex,
    counts: &RunnerCounts,
    route: &Route,
    event: &Event,
    sampled: bool,
) -> Delivery {
    let mut delivery = Delivery::default();
    for matched in route.matches() {
        if matched.subscriber.is_active() {
            counts.matched(cell, matched.subscriber.serial);
            delivery.matched += 1;
            let call = Call { inner, runner: cell.index, event, matched, sampled, retried: None };
            let outcome = call.run_now();
            matched.subscriber.counts.count(cell, outcome);
            delivery.delivered += u32::from(outcome == Outcome::Delivered);
        }
    }
    counts.resolved(cell, delivery.matched == 0);
    delivery
}

fn is_late(event: &Event) -> bool {
    event.deadline().is_some_and(|deadline| deadline <= BusClock::wall())
}

/// An event among its handlers. Dropping it settles the account, whether all
/// handlers had their turn or not.
struct InFlight<'a, I: Iterator<Item = &'a Match>> {
    counts: &'a RunnerCounts,
    cell: CellIndex,
    /// What the journal learns from, if there is one.
    receipt: Option<Arc<Receipt>>,
    closed: &'a AtomicBool,
    /// A handler that it would have reached had ended.
    skipped: bool,
    current: Option<&'a Match>,
    rest: I,
    delivery: Delivery,
}

impl<'a, I: Iterator<Item = &'a Match>> InFlight<'a, I> {
    /// The next handler that is still subscribed, counted as a match.
    #[inline]
    fn begin(&mut self) -> Option<&'a Match> {
        self.current = self.rest.by_ref().find(|matched| {
            let active = matched.subscriber.is_active();
            self.skipped |= !active;
            active
        });
        if let Some(matched) = self.current {
            self.counts.matched(self.cell, matched.subscriber.serial);
            self.delivery.matched += 1;
        }
        self.current
    }

    /// Hands the current match over, if there is somebody to take it.
    fn detach(&mut self, host: Option<&Arc<Inner>>, call: Call<'_>) -> Option<Detached> {
        let detached = Detached::begin(host?, call, self.receipt.as_ref())?;
        self.current = None;
        Some(detached)
    }

    #[inline]
    fn end(&mut self, matched: &Match, outcome: Outcome) {
        self.current = None;
        if let Some(receipt) = &self.receipt {
            receipt.note(outcome);
        }
        matched.subscriber.counts.count(self.cell, outcome);
        self.delivery.delivered += u32::from(outcome == Outcome::Delivered);
    }
}

impl<'a, I: Iterator<Item = &'a Match>> Drop for InFlight<'a, I> {
    #[inline]
    fn drop(&mut self) {
        let mut cut_off = false;
        while let Some(matched) = self.current.or_else(|| self.begin()) {
            cut_off = true;
            self.end(matched, Outcome::Cancelled);
        }
        // A shutdown takes their handlers away from those who still dispatch.
        cut_off |= self.skipped && self.closed.load(Relaxed);
        if let Some(receipt) = self.receipt.as_ref().filter(|_| cut_off) {
            receipt.cut_off();
        }
        self.counts.resolved(self.cell, self.delivery.matched == 0);
    }
}

/// A place for a runner that rests; whoever takes it out owns it.
type Slot = AtomicCell<Option<Box<Runner>>>;

/// Runners for callers of `dispatch`, which have none of their own.
pub(crate) struct Pool {
    /// For single calls: they are soon back.
    lent: Box<[CachePadded<Slot>]>,
    /// For whoever keeps one.
    kept: Box<[CachePadded<Slot>]>,
    /// The cell of runners made when the pool is empty.
    spare: CellIndex,
    cache: NonZeroUsize,
}

impl Pool {
    /// How many cells a pool for this many threads takes.
    pub(crate) const fn cells(threads: usize) -> usize {
        2 * threads + 1
    }

    /// `first` is the index of the first cell; the last is shared by all spare
    /// runners.
    pub(crate) fn new(first: usize, threads: usize, cache: NonZeroUsize) -> Self {
        let runner = |index| Box::new(Runner::new(CellIndex { index, shared: false }, cache));
        let slots = |from: usize| {
            (from..from + threads)
                .map(|index| CachePadded::new(AtomicCell::new(Some(runner(index)))))
                .collect()
        };
        Self {
            lent: slots(first),
            kept: slots(first + threads),
            spare: CellIndex { index: first + 2 * threads, shared: true },
            cache,
        }
    }

    /// The cell of all who have none of their own.
    pub(crate) fn spare(&self) -> CellIndex {
        self.spare
    }

    /// A runner nobody else has until it is dropped.
    #[inline]
    pub(crate) fn borrow<'a>(&'a self, inner: &'a Inner) -> Borrowed<'a> {
        let number = thread_number();
        // A division costs more than it looks.
        let own = if number < self.lent.len() { number } else { number % self.lent.len() };
        let slot = &*self.lent[own];
        match slot.take() {
            Some(runner) => Borrowed { home: Some(slot), runner: Some(runner), inner },
            None => self.borrow_elsewhere(inner),
        }
    }

    #[cold]
    fn borrow_elsewhere<'a>(&'a self, inner: &'a Inner) -> Borrowed<'a> {
        for slot in &self.lent {
            if let Some(runner) = slot.take() {
                return Borrowed { home: Some(slot), runner: Some(runner), inner };
            }
        }
        // Small, as it lives for one event.
        let runner = Runner::new(self.spare, self.cache.min(NonZeroUsize::MIN));
        Borrowed { home: None, runner: Some(Box::new(runner)), inner }
    }

    /// A runner to keep, with its place if it has one.
    pub(crate) fn take(&self) -> (Option<usize>, Box<Runner>) {
        for (place, slot) in self.kept.iter().enumerate() {
            if let Some(runner) = slot.take() {
                return (Some(place), runner);
            }
        }
        (None, Box::new(Runner::new(self.spare, self.cache)))
    }

    /// Puts a runner back in its place.
    pub(crate) fn give_back(&self, inner: &Inner, place: usize, runner: Box<Runner>) {
        let home = self.kept.get(place).map(|slot| &**slot);
        drop(Borrowed { home, runner: Some(runner), inner });
    }

    /// Lets all resting runners let go of handlers that are gone.
    pub(crate) fn forget_stale(&self, inner: &Inner) {
        for slot in self.lent.iter().chain(&self.kept) {
            if let Some(mut runner) = slot.take() {
                runner.forget_stale(inner);
                slot.store(Some(runner));
            }
        }
    }
}

/// A runner on loan.
pub(crate) struct Borrowed<'a> {
    home: Option<&'a Slot>,
    /// `None` only while being dropped.
    runner: Option<Box<Runner>>,
    inner: &'a Inner,
}

impl Borrowed<'_> {
    #[inline]
    pub(crate) fn get(&mut self) -> Option<&mut Runner> {
        self.runner.as_deref_mut()
    }
}

impl Drop for Borrowed<'_> {
    #[inline]
    fn drop(&mut self) {
        let (Some(home), Some(runner)) = (self.home, self.runner.take()) else { return };
        let generation = runner.generation;
        home.store(Some(runner));
        // Handlers that went while it was on loan must not rest in its cache.
        if generation != self.inner.routes.generation() {
            self.inner.pool.forget_stale(self.inner);
        }
    }
}

/// A small number for each thread, so that each finds its own runner.
#[inline]
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Relaxed));
    NUMBER.with(|number| *number)
}
