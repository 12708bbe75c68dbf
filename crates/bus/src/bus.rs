//! [`Bus`]: start reading here.
//!
//! An event goes `publish → queue → runner (route) → pipeline → handler`:
//! [`Bus::publish`] below, then `publish.rs`, `queue.rs`, `worker.rs`,
//! `runner.rs`, `pipeline.rs`, in that order.

use std::{
    future::Future,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use swarmbus_core::{Event, Payload, Str};

use crate::{
    approval::Approvals,
    builder::BusBuilder,
    command::{CommandFn, Manner},
    dispatcher::Dispatcher,
    error::{BatchError, CommandError, DispatchError, PublishError, SubscribeError},
    inner::Inner,
    ledger::Ledger,
    pipeline::{
        breaker::{BreakerOrder, BreakerReport},
        bulkhead::BulkheadReport,
        dead_letter::retry::DeadLetters,
        fallback::Degraded,
    },
    queue::Shard,
    rules::{Routing, Rules, RulesWatch, WatchRulesError},
    runner::Delivery,
    schedule::{NewSchedule, Schedules},
    session::Session,
    shutdown::Shutdown,
    stall::StallReport,
    subscription::{Subscribe, Subscription},
};

/// Handlers may dispatch and execute inside each other this deep, or until they
/// use 1 MiB of the stack, which in a build without optimization comes first.
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
/// deadlock the bus. That holds
/// for what a handler does in its own task: one that waits for another task
/// to publish to a full bus waits for itself.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
    alive: Arc<CloseOnDrop>,
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
    /// The event and the cause; see [`PublishCause`](crate::PublishCause).
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, the event was not published.
    pub fn publish(
        &self,
        event: Event,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + '_ {
        // Not an `async fn`: that would copy the event once more.
        let mut slot = Some(event);
        async move {
            // A publisher that never waits must leave the thread to others.
            tokio::task::coop::consume_budget().await;
            if self.inner.publish_at_once(&mut slot) {
                return Ok(());
            }
            self.inner.publish(&mut slot).await
        }
    }

    /// Queues an event if there is room now.
    ///
    /// # Errors
    ///
    /// The event and the cause, [`PublishCause::Full`](crate::PublishCause)
    /// among them.
    pub fn try_publish(&self, event: Event) -> Result<(), PublishError> {
        self.inner.try_publish(&mut Some(event))
    }

    /// Queues all events of a vector, in order, with one lock for many.
    ///
    /// Events are moved out of the front of `batch` as they are accepted; its
    /// capacity stays for the next batch. Waits as
    /// [`publish`](Self::publish) does.
    ///
    /// # Errors
    ///
    /// The cause that stopped it. What was not accepted is still in `batch`,
    /// and counts as refused.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, what was not accepted is still in `batch`.
    pub async fn publish_batch(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        self.inner.publish_batch(batch).await
    }

    /// Runs an event through its handlers here and now, in the caller's task:
    /// no queue, no order, no stamp.
    ///
    /// Returns how many handlers matched and how many succeeded. Failures go
    /// the way of the pipeline: breaker, dead letters, ledger.
    ///
    /// With plain functions as handlers it never yields: a task that does
    /// nothing else should yield now and then.
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
        self.inner.dispatch(event).await
    }

    /// A handle that dispatches faster, for a task that does it in a tight
    /// loop. There is one for each processor; further ones are slower, as they
    /// share their counters.
    pub fn dispatcher(&self) -> Dispatcher {
        Dispatcher::new(self.clone())
    }

    /// Subscribes to the types that a pattern matches: an exact type, `*` for
    /// one token (`task.*`), `>` for one or more at the end (`agent.7.>`), or
    /// a regular expression between slashes (`/task\.(created|done)/`).
    ///
    /// Events published after this returns a subscription are seen by it.
    pub fn subscribe(&self, pattern: &str) -> Subscribe<'_> {
        Subscribe::new(&self.inner, None, pattern)
    }

    /// Sends copies of events to the targets that routing rules name, until
    /// what this returns is dropped.
    ///
    /// The copies are published by a handler called `routing rules`, which is
    /// called before all others: it is in the ledger, and an event whose
    /// copies find no room in the queue goes to its dead letters. A bus may
    /// use several sets of rules.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::TooMany`], as each rule counts as a handler, or
    /// [`SubscribeError::Ended`].
    pub fn use_rules(&self, rules: Rules) -> Result<Routing, SubscribeError> {
        Routing::start(&self.inner, rules)
    }

    /// Does so with the rules of a file, and follows the file: see
    /// [`RulesWatch`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let file = dir.path().join("rules.json");
    /// std::fs::write(&file, r#"{"routing": {"error.critical": ["alert"]}}"#)?;
    /// let bus = swarmbus::Bus::builder().build()?;
    /// let rules = bus.watch_rules(&file).await?;
    ///
    /// let mut changes = rules.changes();
    /// std::fs::write(&file, r#"{"routing": {"error.*": ["alert", "log"]}}"#)?;
    /// changes.wait_for(|state| state.loaded == 2).await?;
    /// assert!(rules.last_error().is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not valid in the beginning, or as
    /// [`use_rules`](Self::use_rules).
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, no rules are at work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn watch_rules(&self, file: impl AsRef<Path>) -> Result<RulesWatch, WatchRulesError> {
        RulesWatch::start(self, file.as_ref()).await
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
        self.inner.register_command(None, command, CommandFn::new(f), &Manner::AtOnce)
    }

    /// Like [`on_command`](Self::on_command), for a handler that answers one
    /// command at a time. Others wait for their turn, in the order in which they
    /// came; a deadline limits this wait too.
    ///
    /// Two such handlers that execute each other's commands can come to wait for
    /// each other for ever. The bus sees it: the command that would close the
    /// circle gets [`CommandError::Cycle`](crate::CommandError) at once. So does
    /// one that a handler executes inside of its own turn. It does so only if it
    /// is certain. It is not if one of them executes several commands at once,
    /// as it may go on with the first reply: then it logs the suspicion, counts
    /// it in [`stalls`](Self::stalls), and waits. It cannot see what a handler
    /// waits for in tasks that it has spawned.
    ///
    /// ```
    /// use swarmbus::{Bus, CommandError, Event, Payload};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = Bus::builder().build()?;
    /// for (command, other) in [("ledger", "audit"), ("audit", "ledger")] {
    ///     let weak = bus.downgrade();
    ///     bus.on_command_in_turn(command, move |_| {
    ///         let bus = weak.upgrade();
    ///         async move {
    ///             match bus {
    ///                 Some(bus) => bus.execute(Event::of(other, ())).await,
    ///                 None => Err(CommandError::Closed),
    ///             }
    ///         }
    ///     })?
    ///     .detach();
    /// }
    /// let error = bus.execute(Event::of("ledger", ())).await.unwrap_err();
    /// let text = "a command waits for itself: command ledger → command audit → command ledger";
    /// assert!(error.to_string().ends_with(text), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`on_command`](Self::on_command).
    pub fn on_command_in_turn<F, Fut, P, E>(
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
        self.inner.register_command(None, command, CommandFn::new(f), &Manner::InTurn)
    }

    /// The calls that take too long now, and how often any did: see
    /// [`BusBuilder::stall_limit`].
    pub fn stalls(&self) -> StallReport {
        self.inner.stalls.report()
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
        self.inner.execute(command, false).await
    }

    /// Has an event published later, once or again and again: see
    /// [`schedule`](crate::schedule).
    pub fn schedule(&self, event: Event) -> NewSchedule<'_> {
        NewSchedule::new(&self.inner.scheduler, event)
    }

    /// The schedules of this bus: list, cancel, restore.
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules::new(&self.inner.scheduler)
    }

    /// Commands that run when somebody has said yes: see
    /// [`approval`](crate::approval).
    pub fn approvals(&self) -> Approvals<'_> {
        Approvals::new(&self.inner)
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

    /// The dead letter queue: list, retry, purge.
    pub fn dead_letters(&self) -> DeadLetters<'_> {
        DeadLetters::new(&self.inner)
    }

    /// Every circuit breaker of a handler that is subscribed, with its
    /// statistics. None are left after a [`shutdown`](Self::shutdown).
    pub fn breakers(&self) -> Vec<BreakerReport> {
        self.inner.breakers.report()
    }

    /// Sets the breakers of this name, of a handler, a service or `command TYPE`,
    /// by hand. Returns how many there are: a handler has one for each type that
    /// came, and those of types that come later obey nobody.
    ///
    /// Priorities 8 and 9 pass breakers in every state.
    pub fn set_breakers(&self, name: &str, order: BreakerOrder) -> usize {
        self.inner.breakers.set(name, order, &self.inner.clock)
    }

    /// Every bulkhead of a handler or of a service, with what it counted.
    pub fn bulkheads(&self) -> Vec<BulkheadReport> {
        self.inner.bulkheads.all().iter().map(|bulkhead| bulkhead.report()).collect()
    }

    /// Handlers that a fallback stands in for at the moment, since when, and
    /// which one. Empty when all is well.
    pub fn degraded(&self) -> Vec<Degraded> {
        self.inner.degradations.all().iter().filter_map(|handler| handler.get()).collect()
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

    /// Waits until the queue is empty, the workers are idle and no call is
    /// detached, at most for `limit`. Publishing goes on meanwhile, and so does `dispatch`: wait for
    /// those yourself. A handler that drains its own bus waits for itself.
    ///
    /// Returns what was still pending at the end, events and detached calls: 0
    /// for success.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn drain(&self, limit: Duration) -> u64 {
        let idle = tokio::time::timeout(limit, self.inner.wait_until_idle()).await;
        self.record_metrics();
        match idle {
            Ok(()) => 0,
            Err(_) => {
                let ledger = self.inner.totals();
                (ledger.pending() + ledger.detached).max(1)
            }
        }
    }

    /// Closes the bus, lets the workers empty the queue for at most `limit`,
    /// then stops them and says what was not done.
    ///
    /// All subscriptions and commands end. Events that come back in the
    /// report count as cancelled in the ledger. It does not wait for calls of
    /// [`dispatch`](Self::dispatch): their events reach no further handler.
    ///
    /// # Cancel safety
    ///
    /// It goes on to its end even if this future is dropped. So a handler may
    /// call it, but does not live to see the report: it is itself one of the
    /// things that the limit waits for.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn shutdown(&self, limit: Duration) -> Shutdown {
        self.inner.close();
        let inner = Arc::clone(&self.inner);
        let end = tokio::spawn(async move { inner.shutdown(limit).await });
        // Only a runtime that is shutting down itself cancels the task.
        end.await.unwrap_or_default()
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

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("workers", &self.inner.shards.len())
            .field("handlers", &self.inner.routes.len())
            .field("depth", &self.depth())
            .finish_non_exhaustive()
    }
}
