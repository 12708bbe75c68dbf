//! Commands: events that exactly one handler answers.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use ahash::RandomState;
use parking_lot::RwLock;
use swarmbus_core::{Event, EventType, Payload, Str};

use crate::{
    handler::{self, BoxedCall, BusId, Careful, HandlerError},
    pipeline::breaker::NamedBreaker,
    stall::Turn,
};

type Reply = Result<Payload, Box<HandlerError>>;

/// A command's handler, made callable without knowing it.
pub(crate) struct CommandFn(Careful<Box<Function>>);

type Function = dyn Fn(Event) -> BoxedCall<Payload> + Send + Sync;

impl CommandFn {
    pub(crate) fn new<F, Fut, P, E>(f: F) -> Self
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Payload>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let function: Box<Function> = Box::new(move |command| {
            let future = f(command);
            Box::pin(async move {
                match future.await {
                    Ok(reply) => Ok(reply.into()),
                    Err(error) => Err(Box::new(HandlerError::Failed(error.into()))),
                }
            })
        });
        Self(Careful(Some(function)))
    }

    /// Calls the handler.
    pub(crate) fn call(&self, command: Event, bus: BusId) -> impl Future<Output = Reply> {
        handler::call(bus, || self.0.0.as_ref().map(|function| function(command)))
    }
}

/// A registered command handler.
pub(crate) struct CommandHandler {
    pub(crate) function: CommandFn,
    /// It runs only when it is approved, within this time.
    pub(crate) approval: Option<Duration>,
    pub(crate) breaker: Option<Arc<NamedBreaker>>,
    /// If it answers one command at a time.
    pub(crate) turn: Option<Turn>,
}

/// How a handler answers commands.
pub(crate) enum Manner {
    /// Any number at once.
    AtOnce,
    /// One at a time.
    InTurn,
    /// Any number at once, each if it is approved within this time.
    Approved(Duration),
}

impl CommandHandler {
    pub(crate) fn new(
        function: CommandFn,
        manner: &Manner,
        breaker: Option<Arc<NamedBreaker>>,
    ) -> Self {
        let approval = match manner {
            Manner::Approved(limit) => Some(*limit),
            Manner::AtOnce | Manner::InTurn => None,
        };
        let turn = matches!(manner, Manner::InTurn).then(Turn::new);
        Self { function, approval, breaker, turn }
    }
}

/// Who answers what, in which scope: a session, or `None` for the bus.
#[derive(Default)]
pub(crate) struct Commands(RwLock<HashMap<Scoped, Arc<CommandHandler>, RandomState>>);

type Scoped = (Option<Str>, EventType);

impl Commands {
    /// Adds a handler unless its place is taken or there are `limit`.
    pub(crate) fn insert(
        &self,
        scoped: Scoped,
        handler: Arc<CommandHandler>,
        limit: usize,
    ) -> Inserted {
        let mut table = self.0.write();
        if table.len() >= limit {
            return Inserted::TooMany;
        }
        match table.entry(scoped) {
            std::collections::hash_map::Entry::Occupied(_) => Inserted::Taken,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(handler);
                Inserted::Yes
            }
        }
    }

    /// Takes a handler out, if it is still this one.
    pub(crate) fn remove(&self, scoped: &Scoped, handler: &Arc<CommandHandler>) {
        let mut table = self.0.write();
        if table.get(scoped).is_some_and(|there| Arc::ptr_eq(there, handler)) {
            let removed = table.remove(scoped);
            // The closure's own destructor must not run under the lock.
            drop(table);
            drop(removed);
        }
    }

    /// Takes out all of one session, or everything. The caller drops what
    /// comes back outside of any lock.
    pub(crate) fn remove_all(&self, session: Option<&str>) -> Vec<Arc<CommandHandler>> {
        let mut table = self.0.write();
        match session {
            Some(session) => table
                .extract_if(|(scope, _), _| scope.as_deref() == Some(session))
                .map(|(_, handler)| handler)
                .collect(),
            None => table.drain().map(|(_, handler)| handler).collect(),
        }
    }

    /// The session's handler if it has one, else the bus's.
    pub(crate) fn find(
        &self,
        session: Option<&str>,
        ty: &EventType,
    ) -> Option<Arc<CommandHandler>> {
        let table = self.0.read();
        let in_session =
            session.and_then(|session| table.get(&(Some(Str::from(session)), ty.clone())));
        in_session.or_else(|| table.get(&(None, ty.clone()))).cloned()
    }
}

/// What came of adding a command handler.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    Yes,
    Taken,
    TooMany,
}
