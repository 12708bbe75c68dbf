//! Which handlers want a message: a table of patterns, and what an inbox
//! remembers of it.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use swarmbus_core::{
    EventType,
    router::{Pattern, PatternError, RouteId, Router},
};

use super::message::{Message, Scope};
use crate::{
    handler::{HandlerError, HandlerResult, IntoHandlerResult, contained, panic_text},
    routes::parse_pattern,
};

/// Why a messenger does not take a handler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The pattern is not one.
    #[error("{pattern:?}: {source}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// There are too many.
    #[error("there are {limit} handlers, which is the limit")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
}

type HandlerFuture = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// A handler of either kind.
pub(super) enum Handle {
    Sync(Box<dyn Fn(&Message) -> HandlerResult + Send + Sync>),
    Async(Box<dyn Fn(Message) -> HandlerFuture + Send + Sync>),
}

impl Handle {
    pub(super) fn sync<F, R>(f: F) -> Self
    where
        F: Fn(&Message) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        Self::Sync(Box::new(move |message| f(message).into_handler_result()))
    }

    pub(super) fn future<F, Fut>(f: F) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self::Async(Box::new(move |message| {
            let future = f(message);
            Box::pin(async move { future.await.into_handler_result() })
        }))
    }

    /// Calls it. A panic is a failure.
    pub(super) async fn call(&self, message: &Message) -> HandlerResult {
        match self {
            Self::Sync(handle) => caught(|| handle(message))?,
            Self::Async(handle) => {
                let future = caught(|| handle(message.clone()))?;
                contained(future).await.map_err(|panic| Box::new(HandlerError::Panicked(panic)))?
            }
        }
    }
}

/// Runs a piece of the program: its panic is an error.
pub(super) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, Box<HandlerError>> {
    catch_unwind(AssertUnwindSafe(f))
        .map_err(|panic| Box::new(HandlerError::Panicked(panic_text(panic))))
}

/// One handler in a table.
pub(super) struct Entry<H> {
    pub(super) handle: H,
    /// A bit for each scope that it wants.
    scopes: u8,
    active: AtomicBool,
}

impl<H> Entry<H> {
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }
}

/// The handlers of some channels, by the type that they want.
pub(super) struct Table<H> {
    router: RwLock<Router<Arc<Entry<H>>>>,
    /// The router's, to be read without its lock.
    generation: AtomicU64,
}

impl<H> Default for Table<H> {
    fn default() -> Self {
        Self { router: RwLock::default(), generation: AtomicU64::new(0) }
    }
}

/// Handlers of one messenger or topic.
pub(super) const MAX_HANDLERS: usize = 10_000;

impl<H: Send + Sync + 'static> Table<H> {
    pub(super) fn insert(
        self: &Arc<Self>,
        pattern: &str,
        scopes: &[Scope],
        handle: H,
    ) -> Result<Listening, ListenError> {
        self.insert_all(&[pattern], scopes, handle)
    }

    /// One handler for all that one of these patterns matches, called once.
    pub(super) fn insert_all(
        self: &Arc<Self>,
        patterns: &[&str],
        scopes: &[Scope],
        handle: H,
    ) -> Result<Listening, ListenError> {
        let parse = |pattern: &&str| {
            parse_pattern(pattern)
                .map_err(|source| ListenError::Pattern { pattern: (*pattern).to_owned(), source })
        };
        let patterns = patterns.iter().map(parse).collect::<Result<Vec<Pattern>, _>>()?;
        let scopes = scopes.iter().fold(0, |bits, scope| bits | scope.bit());
        let entry = Arc::new(Entry { handle, scopes, active: AtomicBool::new(true) });
        let mut router = self.router.write();
        if router.len() + patterns.len() > MAX_HANDLERS {
            return Err(ListenError::TooMany { limit: MAX_HANDLERS });
        }
        let insert = |pattern: &Pattern| router.insert(pattern, Arc::clone(&entry));
        let ids = patterns.iter().map(insert).collect();
        self.generation.store(router.generation(), Ordering::Release);
        drop(router);
        let table = Arc::downgrade(self) as Weak<dyn Remove>;
        Ok(Listening { end: Some((table, ids)) })
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All that want this type in this scope, each once, in the order of their
    /// registration.
    pub(super) fn find(&self, ty: &EventType, scope: Scope) -> Arc<[Arc<Entry<H>>]> {
        let mut found: Vec<Arc<Entry<H>>> = Vec::new();
        self.router.read().for_each_match(ty.as_str(), |entry| {
            // The patterns of one handler stand together.
            let again = found.last().is_some_and(|last| Arc::ptr_eq(last, entry));
            if entry.scopes & scope.bit() != 0 && !again {
                found.push(Arc::clone(entry));
            }
        });
        found.into()
    }
}

/// Takes a handler out, whatever kind of table it is in.
trait Remove: Send + Sync {
    fn remove(&self, ids: &[RouteId]);
}

impl<H: Send + Sync> Remove for Table<H> {
    fn remove(&self, ids: &[RouteId]) {
        let mut router = self.router.write();
        let removed: Vec<_> = ids.iter().filter_map(|id| router.remove(*id)).collect();
        self.generation.store(router.generation(), Ordering::Release);
        drop(router);
        // Unlocked: they may be the last to hold what the program captured.
        removed.iter().for_each(|entry| entry.active.store(false, Ordering::Release));
    }
}

/// A handler's registration: dropping it ends it.
///
/// Messages that come after the drop do not reach it; a call that has begun
/// runs to its end.
#[must_use = "dropping it ends it at once: keep it, or call detach()"]
pub struct Listening {
    end: Option<(Weak<dyn Remove>, Vec<RouteId>)>,
}

impl Listening {
    /// Keeps the handler for as long as the messenger lives.
    pub fn detach(mut self) {
        self.end = None;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((table, ids)) = self.end.take()
            && let Some(table) = table.upgrade()
        {
            table.remove(&ids);
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.end.is_some() { "Listening" } else { "Listening(detached)" })
    }
}
