//! [`Listen`]: a handler in the making.

use std::{future::Future, sync::Arc};

use super::{
    ListenError, Listening, Message, Messenger, Scope,
    handlers::{Handle, Table},
};
use crate::handler::IntoHandlerResult;

/// What handlers get unless they ask for less.
pub(super) const DIRECT: [Scope; 3] = [Scope::Swarm, Scope::Agent, Scope::Broadcast];

/// A handler in the making.
#[must_use = "nothing is handled until one of the handle methods is called"]
pub struct Listen<'a> {
    pub(super) table: &'a Arc<Table<Handle>>,
    pub(super) pattern: String,
    pub(super) scopes: Vec<Scope>,
}

impl Listen<'_> {
    /// Only messages that were sent to this. Default: to the agent, its swarm or
    /// everybody.
    pub fn only(mut self, scope: Scope) -> Self {
        self.scopes = vec![scope];
        self
    }

    /// Handles messages where they are: a plain function that returns nothing
    /// or a `Result`. A failure or panic is [counted](super::MessengerStats::failed).
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn handle<F, R>(self, f: F) -> Result<Listening, ListenError>
    where
        F: Fn(&Message) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        self.table.insert(&self.pattern, &self.scopes, Handle::sync(f))
    }

    /// Handles messages with a future. The next message of the channel waits
    /// for it.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn handle_async<F, Fut>(self, f: F) -> Result<Listening, ListenError>
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        self.table.insert(&self.pattern, &self.scopes, Handle::future(f))
    }
}

impl Messenger {
    /// Handles messages whose type a pattern matches (see
    /// [`Bus::subscribe`](crate::Bus::subscribe)), which were sent to this
    /// agent, its swarm, or everybody.
    ///
    /// A handler that holds a handle to its own messenger keeps that open, until
    /// it is [closed](Self::close).
    pub fn on(&self, pattern: &str) -> Listen<'_> {
        Listen { table: &self.hub.handlers, pattern: pattern.to_owned(), scopes: DIRECT.to_vec() }
    }
}
