//! What all handles, workers and subscriptions of one bus share, and what
//! they do with it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus_core::{Event, EventType, Payload, Timestamp, router::Pattern};
use tokio::{sync::Notify, task::JoinHandle};
use tracing::Instrument;

use crate::{
    approval::{self, Requested},
    builder::Limits,
    clock::{BusClock, Stamper},
    command::{CommandFn, CommandHandler, Commands, Inserted, Manner},
    error::{CommandError, DispatchError, SubscribeError},
    handler::{BusId, too_deep},
    journal::Journal,
    ledger::{Books, Ledger, Outcome},
    metrics::Meter,
    middleware::{Middleware, Next},
    pipeline::{
        breaker::{self, BreakerScope, Breakers},
        bulkhead::BulkheadLayer,
        dead_letter::queue::LetterQueue,
        detached::{DetachedCalls, Tally},
        fallback::Degradation,
        living::Living,
        service::Services,
    },
    pressure::Pressure,
    queue::Shard,
    routes::{Place, Routes},
    runner::{Delivery, Pool, Runner},
    schedule::Scheduler,
    session::{SessionScope, Sessions},
    stall::{Stalls, current_frame},
    subscriber::Subscriber,
    subscription::Subscription,
};

/// What all handles, workers and subscriptions of one bus share.
pub(crate) struct Inner {
    pub(crate) id: BusId,
    pub(crate) clock: BusClock,
    pub(crate) shards: Box<[Shard]>,
    pub(crate) by_source: RandomState,
    pub(crate) routes: Routes,
    pub(crate) books: Arc<Books>,
    pub(crate) pool: Pool,
    pub(crate) middleware: Middleware,
    /// Whether every handler call is to be observed, not only sampled ones.
    pub(crate) watched: bool,
    /// Whether nobody watches and nothing is written down: events may then
    /// take the short way.
    pub(crate) plain: bool,
    pub(crate) journal: Option<Arc<dyn Journal>>,
    /// Whether every call of a handler has a span, and every command.
    pub(crate) tracing: bool,
    pub(crate) meter: Arc<Meter>,
    pub(crate) breakers: Breakers,
    pub(crate) services: Services,
    pub(crate) bulkheads: Living<BulkheadLayer>,
    /// Of handlers that have fallbacks.
    pub(crate) degradations: Living<Degradation>,
    pub(crate) detached: DetachedCalls,
    pub(crate) tally: Tally,
    pub(crate) dead_letters: LetterQueue,
    pub(crate) commands: Commands,
    pub(crate) sessions: Sessions,
    pub(crate) stalls: Stalls,
    pub(crate) limits: Limits,
    pub(crate) pressure: Pressure,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) approvals: Arc<approval::Book>,
    pub(crate) serial: AtomicU64,
    /// Stamps what does not go through a queue.
    pub(crate) stamper: Mutex<Stamper>,
    pub(crate) closed: AtomicBool,
    /// A shutdown ran out of time: workers begin nothing more.
    pub(crate) stopped: AtomicBool,
    /// Rings when a worker finds nothing to do.
    pub(crate) idle: Notify,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Events that stopped workers had taken and not begun.
    pub(crate) left_over: Mutex<Vec<Event>>,
}

impl Inner {
    /// Runs an event through its handlers here, on a borrowed runner.
    #[inline]
    pub(crate) async fn dispatch(&self, event: &Event) -> Result<Delivery, DispatchError> {
        let mut borrowed = self.pool.borrow(self);
        let Some(runner) = borrowed.get() else { return Ok(Delivery::default()) };
        match self.dispatch_now_on(runner, event) {
            Some(delivery) => Ok(delivery),
            None => self.dispatch_on(runner, event).await,
        }
    }

    /// Does so at once, if all handlers are plain functions and nobody
    /// watches: the usual case, without a future of its own.
    #[inline]
    pub(crate) fn dispatch_now_on(&self, runner: &mut Runner, event: &Event) -> Option<Delivery> {
        if !self.plain || self.closed.load(Relaxed) || too_deep().is_some() {
            return None;
        }
        runner.refresh(self);
        runner.run_now(self, event)
    }

    /// Does so whatever the handlers are.
    pub(crate) async fn dispatch_on(
        &self,
        runner: &mut Runner,
        event: &Event,
    ) -> Result<Delivery, DispatchError> {
        if self.closed.load(Relaxed) {
            return Err(DispatchError::Closed);
        }
        if let Some(limit) = too_deep() {
            return Err(DispatchError::TooDeep { limit });
        }
        let mut changed;
        let mut event = event;
        if !self.middleware.events.is_empty() {
            changed = event.clone();
            self.middleware.publishing(&mut changed).map_err(|reason| {
                self.books.refused(1);
                DispatchError::Refused(reason)
            })?;
            event = &changed;
        }
        let mut stamped;
        if let Some(journal) = self.journal_for(event) {
            stamped = event.clone();
            self.stamp(&mut stamped);
            match self.record(journal, &stamped).await {
                // A shutdown may have ended meanwhile, and all handlers with it.
                Ok(_withdrawn) if self.closed.load(Relaxed) => return Err(DispatchError::Closed),
                Ok(recorded) => recorded.handed_over(),
                Err(error) => {
                    self.books.refused(1);
                    return Err(DispatchError::Journal(error.to_string()));
                }
            }
            event = &stamped;
        }
        self.books.of(runner.cell).dispatched(runner.cell);
        runner.refresh(self);
        let _called = self.books.called_by(runner.cell, current_frame());
        // What `dispatch_now_on` can do it has done.
        Ok(runner.run_all(self, None, event).await)
    }

    /// Books one outcome for all handlers of an event that no runner has.
    #[cold]
    pub(crate) fn account(&self, event: &Event, outcome: Outcome) {
        if let Some(runner) = self.pool.borrow(self).get() {
            runner.account(self, event, outcome);
        }
    }

    /// `approved` says that the handler's approval, if it needs one, was given.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        command: Event,
        approved: bool,
    ) -> Result<Payload, CommandError> {
        if self.closed.load(Relaxed) {
            return Err(CommandError::Closed);
        }
        if let Some(limit) = too_deep() {
            return Err(CommandError::TooDeep { limit });
        }
        let deadline = command.deadline();
        if deadline.is_some_and(|deadline| deadline <= BusClock::wall()) {
            return Err(CommandError::Expired);
        }
        let ty = command.ty().clone();
        let Some(handler) = self.commands.find(command.session(), &ty) else {
            return Err(CommandError::NoHandler { command: ty });
        };
        if let Some(limit) = handler.approval
            && !approved
        {
            return self.execute_when_approved(command, limit).await;
        }
        let ongoing = self.stalls.command(&ty, &self.books);
        let _turn = match &handler.turn {
            Some(turn) => Some(in_time(deadline, ongoing.turn(turn)).await??),
            None => None,
        };
        let breaker = handler.breaker.as_deref();
        let permit =
            breaker::enter(breaker, command.priority(), &self.clock).map_err(|rejected| {
                CommandError::Rejected { command: ty, retry_after: rejected.retry_after }
            })?;
        let next =
            Next { rest: &self.middleware.commands, handler: &handler.function, bus: self.id };
        let span = if self.tracing {
            tracing::debug_span!("execute", command = command.ty().as_str())
        } else {
            tracing::Span::none()
        };
        let run = ongoing.framed(next.run(command)).instrument(span);
        let reply = in_time(deadline, run).await.flatten();
        match &reply {
            Ok(_) => breaker::leave(permit, breaker, true, &self.clock),
            Err(CommandError::Failed { .. } | CommandError::Expired) => {
                breaker::leave(permit, breaker, false, &self.clock);
            }
            // The handler had no part in it: the permit goes back unused.
            Err(_) => drop(permit),
        }
        reply
    }

    /// Boxed: it comes back to `execute`, and most commands do not wait.
    fn execute_when_approved(
        self: &Arc<Self>,
        command: Event,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Payload, CommandError>> + Send + '_>> {
        Box::pin(async move { Requested::new(self, command, limit)?.reply().await })
    }

    pub(crate) fn register_command(
        self: &Arc<Self>,
        session: Option<&Arc<SessionScope>>,
        command: &str,
        function: CommandFn,
        manner: &Manner,
    ) -> Result<Subscription, SubscribeError> {
        if self.closed.load(Relaxed) {
            return Err(SubscribeError::Ended);
        }
        let ty = EventType::new(command)
            .map_err(|source| SubscribeError::Command { command: command.to_owned(), source })?;
        let name = format!("command {command}");
        let layer = self.breakers.layer(
            &name.into(),
            BreakerScope::PerHandler,
            self.limits.breaker.clone(),
        )?;
        let handler = Arc::new(CommandHandler::new(function, manner, layer.of_type(&ty)));
        let scope = (session.map(|scope| scope.id.clone()), ty.clone());
        let limit = self.limits.handlers;
        match self.commands.insert(scope.clone(), Arc::clone(&handler), limit) {
            Inserted::Yes => Ok(Subscription::command(self, scope, handler)),
            Inserted::Taken => Err(SubscribeError::Taken { command: ty }),
            Inserted::TooMany => Err(SubscribeError::TooMany { limit }),
        }
    }

    pub(crate) fn insert_route(
        &self,
        session: Option<&Arc<SessionScope>>,
        pattern: &Pattern,
        subscriber: Arc<Subscriber>,
    ) -> Result<Place, SubscribeError> {
        if self.closed.load(Relaxed) {
            return Err(SubscribeError::Ended);
        }
        let limit = self.limits.handlers;
        let session = session.map(|scope| &scope.id);
        self.routes
            .insert(session, pattern, subscriber, limit)
            .ok_or(SubscribeError::TooMany { limit })
    }

    /// Whether an event that came at `since`, by the cycle counter, had waited for
    /// longer than it may when it was `taken`. As of then, so that no event costs a
    /// look at the clock.
    #[inline]
    pub(crate) fn is_stale(&self, since: u64, taken: u64) -> bool {
        self.limits.queue_ttl.is_some_and(|ttl| self.clock.between(since, taken) > ttl)
    }

    /// Measures how long an event has waited that came at `since`.
    #[cold]
    pub(crate) fn waited(&self, since: u64) {
        self.meter.waited(self.clock.between(since, self.clock.cycles()));
    }

    /// Puts one subscriber under many patterns, in place of what is at `old`.
    pub(crate) fn replace_routes<'a>(
        &self,
        old: &[Place],
        patterns: impl ExactSizeIterator<Item = &'a Pattern>,
        subscriber: &Arc<Subscriber>,
    ) -> Result<Vec<Place>, SubscribeError> {
        if self.closed.load(Relaxed) && patterns.len() > 0 {
            return Err(SubscribeError::Ended);
        }
        let limit = self.limits.handlers;
        self.routes
            .replace(old, patterns, subscriber, limit)
            .ok_or(SubscribeError::TooMany { limit })
    }

    /// Takes out what a session registered. The caller drops it outside of
    /// any lock.
    pub(crate) fn end_session(&self, id: &str) -> impl Sized + use<> {
        (self.routes.remove_session(id), self.commands.remove_all(Some(id)))
    }

    /// Lets runners at rest drop handlers that are gone, so that a closure's
    /// captures do not live on in a cache.
    pub(crate) fn forget_stale(&self) {
        self.pool.forget_stale(self);
        for shard in &self.shards {
            shard.work.notify_one();
        }
    }

    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Relaxed)
    }

    /// Stamps an event that did not go through a queue.
    pub(crate) fn stamp(&self, event: &mut Event) {
        self.stamper.lock().stamp(&self.clock, self.clock.cycles(), event);
    }

    /// The ledger without its handlers.
    pub(crate) fn totals(&self) -> Ledger {
        let detached = self.detached.running() as u64;
        let totals = self.books.totals(|| self.shards.iter().map(Shard::accepted).sum());
        Ledger { detached, ..totals }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let detached = self.detached.running() as u64;
        let ledger = self.books.ledger(|| self.shards.iter().map(Shard::accepted).sum());
        Ledger { detached, ..ledger }
    }

    pub(crate) fn depth(&self) -> usize {
        self.shards.iter().map(Shard::depth).sum()
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.scheduler.close();
        self.approvals.close();
        self.shards.iter().for_each(Shard::close);
    }
}

/// Waits at most until a deadline.
async fn in_time<F: Future>(
    deadline: Option<Timestamp>,
    future: F,
) -> Result<F::Output, CommandError> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => {
            let left = deadline.saturating_since(BusClock::wall());
            tokio::time::timeout(left, future).await.map_err(|_| CommandError::Expired)
        }
    }
}
