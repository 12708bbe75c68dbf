//! What all handles, workers and subscriptions of one bus share, and what
//! they do with it: the second file to read, after `bus.rs`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus_core::{Event, EventType, Payload, router::Pattern};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    builder::Limits,
    bus::MAX_NESTING,
    clock::{BusClock, Stamper},
    command::{CommandFn, CommandHandler, Commands, Inserted},
    error::{BatchError, CommandError, DispatchError, PublishCause, PublishError, SubscribeError},
    handler::{BusId, is_handling, nesting},
    ledger::{Books, Ledger, Outcome},
    metrics::Meter,
    middleware::{Middleware, Next},
    pipeline::{
        breaker::{self, BreakerScope, Breakers},
        dead_letter::DeadLetters,
    },
    queue::{Pushed, Pusher, Shard},
    routes::{Place, Routes},
    runner::{Delivery, Pool},
    session::{SessionScope, Sessions},
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

impl Inner {
    /// Queues the event in `slot`, waiting for room if need be.
    ///
    /// A slot, because an event is large: it stays where the caller's future
    /// has it until it is copied, once, into its lane.
    #[inline]
    pub(crate) async fn publish(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        self.prepare(slot)?;
        let shard = self.shard_of(slot);
        let pusher = self.pusher();
        match shard.push(slot, pusher, &self.clock) {
            Ok(pushed) => {
                self.pushed(pushed);
                Ok(())
            }
            Err(cause) if pusher == Pusher::Handler => Err(self.refuse(slot, cause)),
            Err(cause) => self.publish_later(shard, slot, cause).await,
        }
    }

    #[inline]
    pub(crate) fn try_publish(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        self.prepare(slot)?;
        match self.shard_of(slot).push(slot, self.pusher(), &self.clock) {
            Ok(pushed) => {
                self.pushed(pushed);
                Ok(())
            }
            Err(cause) => Err(self.refuse(slot, cause)),
        }
    }

    /// Middleware before the queue.
    #[inline]
    fn prepare(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        if self.middleware.events.is_empty() {
            return Ok(());
        }
        let Some(event) = slot else { return Ok(()) };
        let publishing = self.middleware.publishing(event);
        publishing.map_err(|reason| self.refuse(slot, PublishCause::Refused(reason)))
    }

    /// Hands an event back.
    #[cold]
    fn refuse(&self, slot: &mut Option<Event>, cause: PublishCause) -> PublishError {
        self.books.refused(1);
        // A slot is empty only after a push that succeeded.
        let event = slot.take().unwrap_or_else(|| Event::of("unknown", ()));
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

    #[cold]
    async fn publish_later(
        &self,
        shard: &Shard,
        slot: &mut Option<Event>,
        mut cause: PublishCause,
    ) -> Result<(), PublishError> {
        while let Some(wait) = Wait::of(&cause) {
            self.wait(shard, wait).await;
            match shard.push(slot, Pusher::Other, &self.clock) {
                Ok(pushed) => {
                    self.pushed(pushed);
                    return Ok(());
                }
                Err(again) => cause = again,
            }
        }
        Err(self.refuse(slot, cause))
    }

    pub(crate) async fn publish_batch(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        let mut accepted = 0;
        if !self.middleware.events.is_empty() {
            return self.publish_batch_one_by_one(batch).await;
        }
        while let Some(first) = batch.first() {
            tokio::task::coop::consume_budget().await;
            let number = self.shard_number(first.source());
            let shard = &self.shards[number];
            let same = batch.iter().take_while(|e| self.shard_number(e.source()) == number);
            let count = same.count();
            let pusher = self.pusher();
            let pushed = shard.push_batch(batch, count, pusher, &self.clock);
            accepted += pushed.accepted;
            if pushed.rose {
                self.pressure_rose();
            }
            for (event, outcome) in pushed.evicted {
                self.account(&event, outcome);
            }
            let Some(cause) = pushed.cause else { continue };
            match Wait::of(&cause) {
                Some(wait) if pusher == Pusher::Other => self.wait(shard, wait).await,
                _ => {
                    self.books.refused(batch.len() as u64);
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
            if let Err(error) = self.publish(&mut Some(batch[0].clone())).await {
                return Err(BatchError { accepted, cause: error.cause });
            }
            batch.remove(0);
            accepted += 1;
        }
        Ok(())
    }

    async fn wait(&self, shard: &Shard, wait: Wait) {
        match wait {
            Wait::ForRoom => shard.wait_for_room().await,
            Wait::For(time) => tokio::time::sleep(time).await,
        }
    }

    /// Runs an event through its handlers here, if all are plain functions
    /// and nobody watches: the usual case, without a future of its own.
    #[inline]
    pub(crate) fn dispatch_now(&self, event: &Event) -> Option<Delivery> {
        if self.watched || self.closed.load(Relaxed) || nesting() >= MAX_NESTING {
            return None;
        }
        let mut borrowed = self.pool.borrow();
        let runner = borrowed.get()?;
        runner.refresh(self);
        let delivery = runner.run_now(self, event)?;
        self.books.dispatched(runner.cell);
        Some(delivery)
    }

    pub(crate) async fn dispatch(&self, event: &Event) -> Result<Delivery, DispatchError> {
        if self.closed.load(Relaxed) {
            return Err(DispatchError::Closed);
        }
        if nesting() >= MAX_NESTING {
            return Err(DispatchError::TooDeep { limit: MAX_NESTING });
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
        let mut borrowed = self.pool.borrow();
        let Some(runner) = borrowed.get() else { return Ok(Delivery::default()) };
        self.books.dispatched(runner.cell);
        runner.refresh(self);
        Ok(runner.run(self, event).await)
    }

    /// Books one outcome for all handlers of an event that no runner has.
    #[cold]
    pub(crate) fn account(&self, event: &Event, outcome: Outcome) {
        if let Some(runner) = self.pool.borrow().get() {
            runner.account(self, event, outcome);
        }
    }

    pub(crate) async fn execute(&self, command: Event) -> Result<Payload, CommandError> {
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
        let permit =
            breaker::enter(breaker, command.priority(), &self.clock).map_err(|rejected| {
                CommandError::Rejected { command: ty, retry_after: rejected.retry_after }
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
        let ty = EventType::new(command)
            .map_err(|source| SubscribeError::Command { command: command.to_owned(), source })?;
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

    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.shards.iter().for_each(Shard::close);
    }

    pub(crate) async fn wait_until_idle(&self) {
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
