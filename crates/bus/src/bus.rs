//! [`Bus`]: start reading here.
//!
//! An event goes `publish → queue → runner (route) → pipeline → handler`:
//! [`Bus::publish`] below, then `queue.rs`, `worker.rs`, `runner.rs`,
//! `pipeline.rs`, in that order.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus_core::{Event, EventType, Payload, Str, router::Pattern};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    builder::{BusBuilder, Limits},
    clock::{BusClock, Stamper},
    command::{CommandFn, CommandHandler, Commands, Inserted},
    error::{
        BatchError, CommandError, DispatchError, PublishCause, PublishError, SubscribeError,
    },
    handler::{BusId, is_handling, nesting},
    ledger::{Books, Ledger, Outcome},
    metrics::Meter,
    middleware::{Middleware, Next},
    pipeline::{
        breaker::{self, BreakerReport, BreakerScope, Breakers},
        dead_letter::DeadLetters,
    },
    queue::{Pushed, Pusher, Shard},
    routes::{Place, Routes},
    runner::{Delivery, Pool},
    session::{Session, SessionScope, Sessions},
    subscriber::Subscriber,
    subscription::{Subscribe, Subscription},
};

/// Handlers may dispatch and execute inside each other this deep.
pub const MAX_NESTING: u32 = 64;

/// An event bus inside one process.
///
/// A `Bus` is a handle: clones share one bus. When the last handle is dropped
/// the bus closes and its workers stop once the queue is empty; use
/// [`shutdown`](Self::shutdown) to wait for that and to learn what was not
/// done. A handler that needs the bus should hold a [`WeakBus`], or the bus
/// keeps itself alive.
///
/// # Order
///
/// Events of one source and one priority are handled in the order in which
/// they were published; events without a source count as one source. Across
/// priorities the more urgent come first, with a share for each so that none
/// waits for ever. Across sources there is no order.
///
/// # Waiting
///
/// `publish` waits while the queue is full, unless an
/// [`Overflow`](crate::Overflow) policy makes room. A handler of the same bus
/// never waits: its events may use a reserve beyond the capacity, and when
/// that is full too it gets them back. So handlers that publish cannot
/// deadlock the bus.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
    alive: Arc<CloseOnDrop>,
}

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
    /// Whether every handler call has a span.
    pub(crate) tracing: bool,
    pub(crate) meter: Arc<Meter>,
    pub(crate) breakers: Breakers,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) commands: Commands,
    pub(crate) sessions: Sessions,
    pub(crate) limits: Limits,
    pub(crate) watermarks: Watermarks,
    /// Shards above their high-water mark.
    pub(crate) pressed: AtomicUsize,
    pub(crate) serial: AtomicU64,
    /// Stamps what does not go through a queue.
    pub(crate) stamper: Mutex<Stamper>,
    pub(crate) closed: AtomicBool,
    /// Rings when a worker finds nothing to do.
    pub(crate) idle: Notify,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Events that stopped workers had taken and not begun.
    pub(crate) left_over: Mutex<Vec<Event>>,
}

/// What to call when backpressure begins and ends.
#[derive(Default)]
pub(crate) struct Watermarks {
    pub(crate) high: Option<Box<dyn Fn() + Send + Sync>>,
    pub(crate) low: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Bus {
    /// Settings first, then [`BusBuilder::build`].
    pub fn builder() -> BusBuilder {
        BusBuilder::new()
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        let alive = Arc::new(CloseOnDrop(Arc::clone(&inner)));
        Self { inner, alive }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Queues an event for all handlers whose patterns match its type.
    ///
    /// Waits while the queue is full; see [`Bus`] for order and for what
    /// happens in handlers.
    ///
    /// # Errors
    ///
    /// The event and the cause; see [`PublishCause`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the event was not published.
    pub fn publish(
        &self,
        event: Event,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + '_ {
        let inner = &*self.inner;
        // Not an `async fn`: that would copy the event once more.
        let mut slot = Some(event);
        async move {
            // A publisher that never waits must leave the thread to others.
            tokio::task::coop::consume_budget().await;
            inner.prepare(&mut slot)?;
            let shard = inner.shard_of(&slot);
            let pusher = inner.pusher();
            match shard.push(&mut slot, pusher, &inner.clock) {
                Ok(pushed) => {
                    inner.pushed(pushed);
                    Ok(())
                }
                Err(cause) if pusher == Pusher::Handler => Err(inner.refuse(slot, cause)),
                Err(cause) => inner.publish_later(shard, slot, cause).await,
            }
        }
    }

    /// Queues an event if there is room now.
    ///
    /// # Errors
    ///
    /// The event and the cause, [`PublishCause::Full`] among them.
    pub fn try_publish(&self, event: Event) -> Result<(), PublishError> {
        let inner = &*self.inner;
        let mut slot = Some(event);
        inner.prepare(&mut slot)?;
        match inner.shard_of(&slot).push(&mut slot, inner.pusher(), &inner.clock) {
            Ok(pushed) => {
                inner.pushed(pushed);
                Ok(())
            }
            Err(cause) => Err(inner.refuse(slot, cause)),
        }
    }

    /// Queues all events of a vector, in order, with one lock for many.
    ///
    /// Events are moved out of the front of `batch` as they are accepted; its
    /// capacity stays for the next batch. Waits as
    /// [`publish`](Self::publish) does.
    ///
    /// # Errors
    ///
    /// The cause that stopped it. What was not accepted is still in `batch`.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, what was not accepted is still in `batch`.
    pub async fn publish_batch(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        let inner = &*self.inner;
        let mut accepted = 0;
        if !inner.middleware.events.is_empty() {
            return self.publish_batch_one_by_one(batch).await;
        }
        while let Some(first) = batch.first() {
            tokio::task::coop::consume_budget().await;
            let number = inner.shard_number(first.source());
            let shard = &inner.shards[number];
            let same = batch.iter().take_while(|e| inner.shard_number(e.source()) == number);
            let count = same.count();
            let pusher = inner.pusher();
            let pushed = shard.push_batch(batch, count, pusher, &inner.clock);
            accepted += pushed.accepted;
            if pushed.rose {
                inner.pressure_rose();
            }
            for (event, outcome) in pushed.evicted {
                inner.account(&event, outcome);
            }
            let Some(cause) = pushed.cause else { continue };
            match Wait::of(&cause) {
                Some(wait) if pusher == Pusher::Other => inner.wait(shard, wait).await,
                _ => {
                    inner.books.refused(batch.len() as u64);
                    return Err(BatchError { accepted, cause });
                }
            }
        }
        Ok(())
    }

    /// Middleware sees, and may refuse, each event of a batch.
    async fn publish_batch_one_by_one(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        let mut accepted = 0;
        while !batch.is_empty() {
            // A copy, so that a publish cut off while it waits loses nothing.
            if let Err(error) = self.publish(batch[0].clone()).await {
                return Err(BatchError { accepted, cause: error.cause });
            }
            batch.remove(0);
            accepted += 1;
        }
        Ok(())
    }

    /// Runs an event through its handlers here and now, in the caller's task:
    /// no queue, no order, no stamp.
    ///
    /// Returns how many handlers matched and how many succeeded. Failures go
    /// the way of the pipeline: breaker, dead letters, ledger.
    ///
    /// # Errors
    ///
    /// See [`DispatchError`]; no handler has run then.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, the handler at work is cancelled, those after
    /// it are not called, and both count as cancelled.
    #[inline]
    pub async fn dispatch(&self, event: &Event) -> Result<Delivery, DispatchError> {
        let inner = &*self.inner;
        if inner.closed.load(Relaxed) {
            return Err(DispatchError::Closed);
        }
        if nesting() >= MAX_NESTING {
            return Err(DispatchError::TooDeep { limit: MAX_NESTING });
        }
        if inner.middleware.events.is_empty() {
            return Ok(inner.dispatch(event).await);
        }
        match inner.middleware.publishing(event.clone()) {
            Ok(event) => Ok(inner.dispatch(&event).await),
            Err((_, reason)) => {
                inner.books.refused(1);
                Err(DispatchError::Refused(reason))
            }
        }
    }

    /// Subscribes to the types that a pattern matches: an exact type, `*` for
    /// one token (`task.*`), `>` for one or more at the end (`agent.7.>`), or
    /// a regular expression between slashes (`/task\.(created|done)/`).
    ///
    /// Events published after this returns a subscription are seen by it.
    pub fn subscribe(&self, pattern: &str) -> Subscribe<'_> {
        Subscribe::new(&self.inner, None, pattern)
    }

    /// Registers the one handler that answers commands of this type. Its
    /// reply is anything that makes a [`Payload`].
    ///
    /// # Errors
    ///
    /// When the type has a handler already, or see [`SubscribeError`].
    pub fn on_command<F, Fut, P, E>(
        &self,
        command: &str,
        f: F,
    ) -> Result<Subscription, SubscribeError>
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Payload>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.inner.register_command(None, command, CommandFn::new(f))
    }

    /// Has a command answered, in the caller's task.
    ///
    /// If the command carries a session's id, that session's handler answers,
    /// or the bus's if the session has none. A deadline on the command limits
    /// the wait.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, the handler's future is dropped.
    pub async fn execute(&self, command: Event) -> Result<Payload, CommandError> {
        self.inner.execute(command).await
    }

    /// Opens a session, or the one of this name that is open already.
    pub fn session(&self, id: impl Into<Str>) -> Session {
        let scope = self.inner.sessions.open(id.into(), &self.inner);
        Session::new(self.clone(), scope)
    }

    /// Everything the bus accepted, and what became of it.
    pub fn ledger(&self) -> Ledger {
        self.inner.ledger()
    }

    /// Events that wait in the queue.
    pub fn depth(&self) -> usize {
        self.inner.depth()
    }

    /// The most events that ever waited in the queue, as the sum of the most
    /// in each of its parts.
    pub fn peak_depth(&self) -> usize {
        self.inner.shards.iter().map(Shard::peak).sum()
    }

    /// The dead letter queue.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.inner.dead_letters
    }

    /// Every circuit breaker that has seen an event, with its statistics.
    pub fn breakers(&self) -> Vec<BreakerReport> {
        self.inner.breakers.report()
    }

    /// Brings the metrics up to date now, for a scrape that should not be a
    /// second old.
    pub fn record_metrics(&self) {
        self.inner.meter.report(&self.inner);
    }

    /// A handle that does not keep the bus alive.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus { inner: Arc::downgrade(&self.inner), alive: Arc::downgrade(&self.alive) }
    }

    /// Waits until the queue is empty and the workers are idle, at most for
    /// `limit`. Publishing goes on meanwhile.
    ///
    /// Returns the events that were still pending at the end: 0 for success.
    pub async fn drain(&self, limit: Duration) -> u64 {
        let idle = tokio::time::timeout(limit, self.inner.wait_until_idle()).await;
        self.record_metrics();
        match idle {
            Ok(()) => 0,
            Err(_) => self.ledger().pending().max(1),
        }
    }

    /// Closes the bus, lets the workers empty the queue for at most `limit`,
    /// then stops them and says what was not done.
    ///
    /// All subscriptions and commands end. Events that come back in the
    /// report count as cancelled in the ledger.
    pub async fn shutdown(&self, limit: Duration) -> Shutdown {
        self.inner.close();
        let idle = tokio::time::timeout(limit, self.inner.wait_until_idle()).await;
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in &tasks {
            if idle.is_err() {
                task.abort();
            }
        }
        let mut stuck = 0;
        for task in tasks {
            // A handler that never yields cannot be stopped from outside.
            stuck += usize::from(tokio::time::timeout(STOP_LIMIT, task).await.is_err());
        }
        let mut undelivered = std::mem::take(&mut *self.inner.left_over.lock());
        for shard in &self.inner.shards {
            undelivered.extend(shard.clear());
        }
        for event in &undelivered {
            self.inner.account(event, Outcome::Cancelled);
        }
        self.record_metrics();
        self.inner.routes.clear();
        drop(self.inner.commands.remove_all(None));
        self.inner.forget_stale();
        Shutdown { undelivered, stuck_workers: stuck }
    }
}

/// How long a stopped worker may take to come to its next await.
const STOP_LIMIT: Duration = Duration::from_millis(200);

/// What a [`shutdown`](Bus::shutdown) left undone.
#[derive(Debug, Default)]
#[must_use = "it says what was not done"]
pub struct Shutdown {
    /// Events that were accepted and never reached a handler.
    pub undelivered: Vec<Event>,
    /// Workers that are still inside a handler which does not yield. The
    /// event it has, and up to 255 that its worker had taken, stay pending in
    /// the ledger.
    pub stuck_workers: usize,
}

impl Shutdown {
    /// Whether everything was done.
    pub fn is_clean(&self) -> bool {
        self.undelivered.is_empty() && self.stuck_workers == 0
    }
}

/// A [`Bus`] that does not keep itself alive: for handlers.
#[derive(Clone)]
pub struct WeakBus {
    inner: Weak<Inner>,
    alive: Weak<CloseOnDrop>,
}

impl WeakBus {
    /// The bus, if somebody still holds it.
    pub fn upgrade(&self) -> Option<Bus> {
        Some(Bus { alive: self.alive.upgrade()?, inner: self.inner.upgrade()? })
    }
}

struct CloseOnDrop(Arc<Inner>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Inner {
    /// Middleware before the queue.
    #[inline]
    fn prepare(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        if self.middleware.events.is_empty() {
            return Ok(());
        }
        let Some(event) = slot.take() else { return Ok(()) };
        match self.middleware.publishing(event) {
            Ok(event) => {
                *slot = Some(event);
                Ok(())
            }
            Err((event, reason)) => Err(self.refuse(Some(event), PublishCause::Refused(reason))),
        }
    }

    /// Hands an event back.
    #[cold]
    fn refuse(&self, slot: Option<Event>, cause: PublishCause) -> PublishError {
        self.books.refused(1);
        // A slot is empty only after a push that succeeded.
        let event = slot.unwrap_or_else(|| Event::of("unknown", ()));
        PublishError { event: Box::new(event), cause }
    }

    #[inline]
    fn shard_of(&self, slot: &Option<Event>) -> &Shard {
        let source = slot.as_ref().map_or("", Event::source);
        &self.shards[self.shard_number(source)]
    }

    /// A source always gets the same shard, which keeps its order.
    #[inline]
    fn shard_number(&self, source: &str) -> usize {
        match self.shards.len() {
            1 => 0,
            n => (self.by_source.hash_one(source) % n as u64) as usize,
        }
    }

    #[inline]
    fn pushed(&self, pushed: Pushed) {
        if pushed.rose {
            self.pressure_rose();
        }
        if let Some((event, outcome)) = pushed.evicted {
            self.account(&event, outcome);
        }
    }

    /// A handler of this bus must not wait for the queue it empties.
    #[inline]
    fn pusher(&self) -> Pusher {
        if is_handling(self.id) { Pusher::Handler } else { Pusher::Other }
    }

    async fn publish_later(
        &self,
        shard: &Shard,
        mut slot: Option<Event>,
        mut cause: PublishCause,
    ) -> Result<(), PublishError> {
        while let Some(wait) = Wait::of(&cause) {
            self.wait(shard, wait).await;
            match shard.push(&mut slot, Pusher::Other, &self.clock) {
                Ok(pushed) => {
                    self.pushed(pushed);
                    return Ok(());
                }
                Err(again) => cause = again,
            }
        }
        Err(self.refuse(slot, cause))
    }

    async fn wait(&self, shard: &Shard, wait: Wait) {
        match wait {
            Wait::ForRoom => shard.wait_for_room().await,
            Wait::For(time) => tokio::time::sleep(time).await,
        }
    }

    #[inline]
    async fn dispatch(&self, event: &Event) -> Delivery {
        let mut runner = self.pool.borrow();
        let Some(runner) = runner.get() else { return Delivery::default() };
        self.books.dispatched(runner.cell);
        runner.refresh(self);
        runner.run(self, event).await
    }

    /// Books one outcome for all handlers of an event that no runner has.
    #[cold]
    pub(crate) fn account(&self, event: &Event, outcome: Outcome) {
        if let Some(runner) = self.pool.borrow().get() {
            runner.account(self, event, outcome);
        }
    }

    async fn execute(&self, command: Event) -> Result<Payload, CommandError> {
        if self.closed.load(Relaxed) {
            return Err(CommandError::Closed);
        }
        if nesting() >= MAX_NESTING {
            return Err(CommandError::TooDeep { limit: MAX_NESTING });
        }
        let ty = command.ty().clone();
        let Some(handler) = self.commands.find(command.session(), &ty) else {
            return Err(CommandError::NoHandler { command: ty });
        };
        let breaker = handler.breaker.as_deref();
        let permit = breaker::enter(breaker, command.priority(), &self.clock)
            .map_err(|rejected| CommandError::Rejected {
                command: ty,
                retry_after: rejected.retry_after,
            })?;
        let deadline = command.deadline();
        let next =
            Next { rest: &self.middleware.commands, handler: &handler.function, bus: self.id };
        let reply = match deadline {
            None => next.run(command).await,
            Some(deadline) => {
                let left = deadline.saturating_since(BusClock::wall());
                match tokio::time::timeout(left, next.run(command)).await {
                    Ok(reply) => reply,
                    Err(_) => Err(CommandError::Expired),
                }
            }
        };
        let failed = matches!(reply, Err(CommandError::Failed { .. } | CommandError::Expired));
        breaker::leave(permit, breaker, !failed, &self.clock);
        reply
    }

    pub(crate) fn register_command(
        self: &Arc<Self>,
        session: Option<&Arc<SessionScope>>,
        command: &str,
        function: CommandFn,
    ) -> Result<Subscription, SubscribeError> {
        let ty = EventType::new(command).map_err(|source| SubscribeError::Command {
            command: command.to_owned(),
            source,
        })?;
        let name = format!("command {command}");
        let layer = self.breakers.layer(
            &name.into(),
            BreakerScope::PerHandler,
            self.limits.breaker.clone(),
        )?;
        let handler = Arc::new(CommandHandler { function, breaker: layer.of_type(&ty) });
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

    pub(crate) fn ledger(&self) -> Ledger {
        self.books.ledger(|| self.shards.iter().map(Shard::accepted).sum())
    }

    pub(crate) fn depth(&self) -> usize {
        self.shards.iter().map(Shard::depth).sum()
    }

    #[cold]
    fn pressure_rose(&self) {
        if self.pressed.fetch_add(1, Relaxed) == 0 {
            tracing::debug!("backpressure begins");
            call_safely(self.watermarks.high.as_deref());
        }
    }

    #[cold]
    pub(crate) fn pressure_fell(&self) {
        if self.pressed.fetch_sub(1, Relaxed) == 1 {
            tracing::debug!("backpressure ends");
            call_safely(self.watermarks.low.as_deref());
        }
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
        self.shards.iter().for_each(Shard::close);
    }

    async fn wait_until_idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.shards.iter().all(Shard::is_idle) {
                return;
            }
            idle.await;
        }
    }
}

/// Runs a callback of the program; its panic must not end a worker.
fn call_safely(callback: Option<&(dyn Fn() + Send + Sync)>) {
    if let Some(callback) = callback
        && catch_unwind(AssertUnwindSafe(callback)).is_err()
    {
        tracing::error!("a watermark callback panicked");
    }
}

/// What a publisher waits for.
enum Wait {
    ForRoom,
    For(Duration),
}

impl Wait {
    /// `None` if waiting is of no use.
    fn of(cause: &PublishCause) -> Option<Self> {
        match cause {
            PublishCause::Full => Some(Self::ForRoom),
            PublishCause::RateLimited { retry_after } => Some(Self::For(*retry_after)),
            PublishCause::Outranked | PublishCause::Closed | PublishCause::Refused(_) => None,
        }
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("workers", &self.inner.shards.len())
            .field("handlers", &self.inner.routes.len())
            .field("depth", &self.depth())
            .finish_non_exhaustive()
    }
}
