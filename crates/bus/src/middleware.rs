//! Middleware: what should happen to every event or command, in one place.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use swarmbus_core::{Event, Payload};

use crate::{
    command::CommandFn,
    error::CommandError,
    handler::{HandlerError, contain},
    ledger::Outcome,
};

/// Sees every event of a bus.
///
/// All methods run in the thread that publishes or handles, so they should
/// be short. The first middleware that was added is the first to see an
/// event.
///
/// ```
/// use std::time::Duration;
/// use swarmbus::{Bus, Event, EventMiddleware, HandlerError};
///
/// /// Nothing anonymous, and a word about what takes long.
/// struct Audit;
///
/// impl EventMiddleware for Audit {
///     fn publishing(&self, event: &mut Event) -> Result<(), String> {
///         if event.source().is_empty() { Err("from whom?".to_owned()) } else { Ok(()) }
///     }
///
///     fn handled(&self, event: &Event, by: &str, error: Option<&HandlerError>, took: Duration) {
///         if took > Duration::from_millis(100) || error.is_some() {
///             eprintln!("{by}: {} took {took:?}, error: {error:?}", event.ty());
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().event_middleware(Audit).build()?;
/// assert!(bus.publish(Event::of("vote.cast", "yes")).await.is_err());
/// bus.publish(Event::of("vote.cast", "yes").with_source("agent-7")).await?;
/// # Ok(())
/// # }
/// ```
pub trait EventMiddleware: Send + Sync + 'static {
    /// An event is about to be published or dispatched: change it, or refuse
    /// it. Use it to validate, enrich or limit.
    ///
    /// # Errors
    ///
    /// The reason for a refusal; the publisher gets the event back with it.
    fn publishing(&self, event: &mut Event) -> Result<(), String> {
        let _ = event;
        Ok(())
    }

    /// A handler is done with an event, or was dropped at its time-out. `error`
    /// is `None` for a success. Use it to log and time. A panic in here is
    /// ignored.
    fn handled(&self, event: &Event, handler: &str, error: Option<&HandlerError>, took: Duration) {
        let _ = (event, handler, error, took);
    }

    /// An event has come to its end for one handler that it matched, whether
    /// the handler was called or not: once for each match that is counted in
    /// the ledger, except those that were cancelled. A panic in here is
    /// ignored.
    fn resolved(&self, event: &Event, handler: &str, outcome: Outcome) {
        let _ = (event, handler, outcome);
    }
}

/// Stands around the execution of every command of a bus, inside of the
/// handler's breaker, which sees what comes out.
///
/// ```
/// use async_trait::async_trait;
/// use swarmbus::{
///     Bus, CommandError, CommandMiddleware, Event, Next, Payload, core::backoff::Backoff,
/// };
///
/// /// Commands whose handler fails are tried again.
/// struct Retry(Backoff);
///
/// #[async_trait]
/// impl CommandMiddleware for Retry {
///     async fn around(&self, command: Event, next: Next<'_>) -> Result<Payload, CommandError> {
///         for delay in self.0.delays(|| fastrand::u64(..)) {
///             match next.run(command.clone()).await {
///                 Err(CommandError::Failed { .. }) => tokio::time::sleep(delay).await,
///                 done => return done,
///             }
///         }
///         next.run(command).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
///
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let bus = Bus::builder().command_middleware(Retry(Backoff::RETRY)).build()?;
/// let _charge = bus.on_command("charge", |_| async {
///     if CALLS.fetch_add(1, SeqCst) < 2 { Err("no connection") } else { Ok("charged") }
/// })?;
/// assert_eq!(bus.execute(Event::of("charge", "7 EUR")).await?, "charged".into());
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait CommandMiddleware: Send + Sync + 'static {
    /// Does its work before and after `next.run(command).await`, or instead.
    ///
    /// # Errors
    ///
    /// What `next` returned, or [`CommandError::Refused`].
    async fn around(&self, command: Event, next: Next<'_>) -> Result<Payload, CommandError>;
}

/// The rest of the way to a command's handler: to be gone once, or again.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    pub(crate) rest: &'a [Arc<dyn CommandMiddleware>],
    pub(crate) handler: &'a CommandFn,
    pub(crate) bus: crate::handler::BusId,
}

impl Next<'_> {
    /// Goes on to the next middleware or the handler.
    ///
    /// # Errors
    ///
    /// What they return.
    pub async fn run(self, command: Event) -> Result<Payload, CommandError> {
        match self.rest.split_first() {
            Some((first, rest)) => {
                let next = Next { rest, handler: self.handler, bus: self.bus };
                first.around(command, next).await
            }
            None => {
                let ty = command.ty().clone();
                self.handler
                    .call(command, self.bus)
                    .await
                    .map_err(|source| CommandError::Failed { command: ty, source: *source })
            }
        }
    }
}

/// The middleware of one bus, in order.
#[derive(Default)]
pub(crate) struct Middleware {
    pub(crate) events: Vec<Arc<dyn EventMiddleware>>,
    pub(crate) commands: Vec<Arc<dyn CommandMiddleware>>,
}

impl Middleware {
    pub(crate) fn publishing(&self, event: &mut Event) -> Result<(), String> {
        self.events.iter().try_for_each(|middleware| middleware.publishing(event))
    }

    pub(crate) fn handled(
        &self,
        event: &Event,
        handler: &str,
        error: Option<&HandlerError>,
        took: Duration,
    ) {
        for middleware in &self.events {
            let call = || middleware.handled(event, handler, error, took);
            if contain(call).is_err() {
                tracing::error!("event middleware panicked after a handler");
            }
        }
    }

    pub(crate) fn resolved(&self, event: &Event, handler: &str, outcome: Outcome) {
        if outcome == Outcome::Cancelled {
            // A handler that was unsubscribed while its call waited.
            return;
        }
        for middleware in &self.events {
            let call = || middleware.resolved(event, handler, outcome);
            if contain(call).is_err() {
                tracing::error!("event middleware panicked at the end of an event");
            }
        }
    }
}
