//! Sessions: handlers that live as long as one conversation.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Weak},
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus_core::{Event, Payload, Str};

use crate::{
    bus::Bus,
    command::{CommandFn, Manner},
    error::{CommandError, PublishError, SubscribeError},
    inner::Inner,
    subscription::{Subscribe, Subscription},
};

/// A scope for handlers that ends with its last handle.
///
/// Events that carry the session's id go to its handlers first, then to the
/// bus's. Commands that carry it are answered by its handler, or by the bus's
/// if it has none. Everything registered here ends when the last clone of the
/// session is dropped, [`Subscription::detach`]ed or not.
///
/// ```
/// use swarmbus::{Bus, Event};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().build()?;
/// let _everybody = bus.on_command("greet", |_| async { Ok::<_, String>("good morning") })?;
/// let chat = bus.session("chat-17");
/// chat.on_command("greet", |_| async { Ok::<_, String>("hello again") })?.detach();
///
/// assert_eq!(chat.execute(Event::of("greet", ())).await?, "hello again".into());
/// assert_eq!(bus.execute(Event::of("greet", ())).await?, "good morning".into());
/// drop(chat); // and its handlers with it
/// let command = Event::of("greet", ()).with_session("chat-17");
/// assert_eq!(bus.execute(command).await?, "good morning".into());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Session {
    bus: Bus,
    scope: Arc<SessionScope>,
}

impl Session {
    pub(crate) fn new(bus: Bus, scope: Arc<SessionScope>) -> Self {
        Self { bus, scope }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.scope.id
    }

    /// Like [`Bus::subscribe`], for this session's events only.
    pub fn subscribe(&self, pattern: &str) -> Subscribe<'_> {
        Subscribe::new(self.bus.inner(), Some(&self.scope), pattern)
    }

    /// Like [`Bus::on_command`], for this session's commands only.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
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
        self.bus.inner().register_command(
            Some(&self.scope),
            command,
            CommandFn::new(f),
            &Manner::AtOnce,
        )
    }

    /// Like [`Bus::on_command_in_turn`], for this session's commands only.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`].
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
        let function = CommandFn::new(f);
        self.bus.inner().register_command(Some(&self.scope), command, function, &Manner::InTurn)
    }

    /// [`Bus::publish`] with this session's id on the event.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish(&self, event: Event) -> Result<(), PublishError> {
        self.bus.publish(event.with_session(self.scope.id.clone())).await
    }

    /// [`Bus::execute`] with this session's id on the command.
    ///
    /// # Errors
    ///
    /// See [`CommandError`].
    pub async fn execute(&self, command: Event) -> Result<Payload, CommandError> {
        self.bus.execute(command.with_session(self.scope.id.clone())).await
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.scope.id)
    }
}

/// What all handles of one session share.
pub(crate) struct SessionScope {
    pub(crate) id: Str,
    inner: Weak<Inner>,
}

impl Drop for SessionScope {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.sessions.end(self, &inner);
        }
    }
}

/// The sessions of one bus.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Str, Weak<SessionScope>, RandomState>>);

impl Sessions {
    /// The living session of that name, or a new one.
    pub(crate) fn open(&self, id: Str, inner: &Arc<Inner>) -> Arc<SessionScope> {
        let mut sessions = self.0.lock();
        let living = sessions.get(&id).and_then(Weak::upgrade);
        if let Some(scope) = living {
            return scope;
        }
        // One that is just dying must not take the new one's handlers along.
        let ended = inner.end_session(&id);
        let scope = Arc::new(SessionScope { id: id.clone(), inner: Arc::downgrade(inner) });
        sessions.insert(id, Arc::downgrade(&scope));
        drop(sessions);
        drop(ended);
        scope
    }

    fn end(&self, scope: &SessionScope, inner: &Inner) {
        let mut sessions = self.0.lock();
        let own = sessions.get(&scope.id).is_some_and(|entry| std::ptr::eq(entry.as_ptr(), scope));
        let ended = own.then(|| {
            sessions.remove(&scope.id);
            inner.end_session(&scope.id)
        });
        drop(sessions);
        drop(ended);
        inner.forget_stale();
    }
}
