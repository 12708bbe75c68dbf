//! Making a subscription, and holding it.

mod layers;

use std::{
    future::Future,
    sync::{Arc, Weak},
};

use serde::de::DeserializeOwned;
use swarmbus_core::{Event, EventType, Str, breaker};

use self::layers::{Assembled, Settings};
use crate::{
    command::CommandHandler,
    error::SubscribeError,
    handler::{FutureSlots, Handler, IntoHandlerResult},
    inner::Inner,
    ledger::Outcomes,
    pipeline::{
        Pipeline,
        breaker::BreakerScope,
        filter::{Filter, FilterLayer},
    },
    routes::{Place, parse_pattern},
    session::SessionScope,
    subscriber::Subscriber,
};

/// A subscription in the making: options first, then one of the `handle`
/// methods.
#[must_use = "nothing is subscribed until one of the handle methods is called"]
pub struct Subscribe<'a> {
    inner: &'a Arc<Inner>,
    session: Option<&'a Arc<SessionScope>>,
    pattern: String,
    name: Option<Arc<str>>,
    priority: i32,
    filter: Option<Filter>,
    scope: Option<BreakerScope>,
    dead_letters: bool,
    layers: Settings,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn new(
        inner: &'a Arc<Inner>,
        session: Option<&'a Arc<SessionScope>>,
        pattern: &str,
    ) -> Self {
        Self {
            inner,
            session,
            pattern: pattern.to_owned(),
            name: None,
            priority: 0,
            filter: None,
            scope: None,
            dead_letters: true,
            layers: Settings::default(),
        }
    }

    /// The name in ledgers, dead letters, metrics and logs. Default: the
    /// pattern.
    ///
    /// Several handlers may have one name, but an event log cannot tell their
    /// dead letters of one event apart, nor the metrics their breakers.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(name.as_ref().into());
        self
    }

    /// Handlers with a higher number are called earlier. Default 0; equals
    /// are called in the order of their subscription.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Only the events that this filter wants. Default: all that match.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// What shares a circuit breaker. Default: the breaker of the handler's
    /// [`service`](Self::service) if that has one, else
    /// [`BreakerScope::PerType`].
    pub fn breaker(mut self, scope: BreakerScope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Settings of this handler's breakers, which it then does not share with
    /// its service. Default: those of the bus.
    pub fn breaker_config(mut self, config: breaker::Config) -> Self {
        self.layers.policy.breaker = Some(config);
        self
    }

    /// Whether events that the handler fails on go to the dead letter queue.
    /// Default: yes. If not, they count as failed.
    pub fn dead_letters(mut self, keep: bool) -> Self {
        self.dead_letters = keep;
        self
    }

    /// Handles events where they are: a plain function of `&Event` that
    /// returns nothing or a `Result`.
    ///
    /// It runs on a thread of the runtime and keeps it: for anything that
    /// waits use [`handle_async`](Self::handle_async).
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn handle<F, R>(self, f: F) -> Result<Subscription, SubscribeError>
    where
        F: Fn(&Event) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        self.finish(Handler::sync(f))
    }

    /// Handles events with a future. Events of one publisher and priority are
    /// handled one after the other.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn handle_async<F, Fut>(self, f: F) -> Result<Subscription, SubscribeError>
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        self.finish(Handler::future(f))
    }

    /// Like [`handle`](Self::handle), with the payload decoded. An event
    /// whose payload does not fit the type counts as a failure.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn handle_typed<T, F, R>(self, f: F) -> Result<Subscription, SubscribeError>
    where
        T: DeserializeOwned,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        self.finish(Handler::sync_typed(f))
    }

    /// Like [`handle_async`](Self::handle_async), with the payload decoded.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
    pub fn handle_typed_async<T, F, Fut>(self, f: F) -> Result<Subscription, SubscribeError>
    where
        T: DeserializeOwned + Send,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        self.finish(Handler::future_typed(f))
    }

    fn finish(self, handler: Handler) -> Result<Subscription, SubscribeError> {
        let (inner, session) = (self.inner, self.session);
        let pattern = parse_pattern(&self.pattern)
            .map_err(|source| SubscribeError::Pattern { pattern: self.pattern.clone(), source })?;
        let subscriber = self.subscriber(handler)?;
        let place = inner.insert_route(session, &pattern, Arc::clone(&subscriber))?;
        Ok(Subscription {
            inner: Arc::downgrade(inner),
            held: Some(Held::Events { place, subscriber }),
        })
    }

    /// The handler with its layers, subscribed to nothing yet.
    pub(crate) fn subscriber(self, handler: Handler) -> Result<Arc<Subscriber>, SubscribeError> {
        let inner = self.inner;
        let serial = inner.next_serial();
        let name = self.name.unwrap_or_else(|| self.pattern.as_str().into());
        let Assembled { breaker, loop_guard, layers } =
            self.layers.assemble(inner, &name, self.scope, handler.is_async())?;
        let pipeline = Pipeline {
            filter: FilterLayer(self.filter.map(Box::new)),
            loop_guard,
            breaker,
            layers,
            dead_letters: self.dead_letters,
        };
        let slots = match handler {
            Handler::Sync(_) => FutureSlots::default(),
            Handler::Async(_) => FutureSlots::new(inner.books.runners()),
        };
        Ok(Arc::new(Subscriber::new(
            Arc::clone(&name),
            self.priority,
            serial,
            handler,
            slots,
            pipeline,
            inner.books.open(serial, name.to_string(), self.pattern),
            Arc::clone(&inner.books),
        )))
    }
}

/// A handler's registration: dropping it ends it.
///
/// Events that come after the drop do not reach it; a call that has begun
/// runs to its end.
#[must_use = "dropping a subscription ends it at once: keep it, or call detach()"]
pub struct Subscription {
    inner: Weak<Inner>,
    held: Option<Held>,
}

enum Held {
    Events { place: Place, subscriber: Arc<Subscriber> },
    Command { scope: (Option<Str>, EventType), handler: Arc<CommandHandler> },
}

impl Subscription {
    pub(crate) fn command(
        inner: &Arc<Inner>,
        scope: (Option<Str>, EventType),
        handler: Arc<CommandHandler>,
    ) -> Self {
        Self { inner: Arc::downgrade(inner), held: Some(Held::Command { scope, handler }) }
    }

    /// Keeps the handler for as long as its bus or session lives.
    pub fn detach(mut self) {
        self.held = None;
    }

    /// What became of the events that this handler matched. All zero for a
    /// command handler.
    pub fn outcomes(&self) -> Outcomes {
        match &self.held {
            Some(Held::Events { subscriber, .. }) => subscriber.counts.outcomes(),
            Some(Held::Command { .. }) | None => Outcomes::default(),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (Some(held), Some(inner)) = (self.held.take(), self.inner.upgrade()) else { return };
        match held {
            Held::Events { place, subscriber } => {
                subscriber.deactivate();
                if inner.routes.remove(&place).is_some() {
                    drop(subscriber);
                    inner.forget_stale();
                }
            }
            Held::Command { scope, handler } => inner.commands.remove(&scope, &handler),
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.held {
            Some(Held::Events { subscriber, .. }) => write!(f, "Subscription({})", subscriber.name),
            Some(Held::Command { scope, .. }) => write!(f, "Subscription(command {})", scope.1),
            None => f.write_str("Subscription(detached)"),
        }
    }
}
