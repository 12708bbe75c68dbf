//! Answering the requests of others.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use swarmbus_core::{Event, EventType, Payload, Str};

use super::{
    ListenError, Listening, Messenger,
    handlers::caught,
    hub::Hub,
    identity::channel,
    listen::DIRECT,
    message::{Message, Scope, mark, marked, sender},
    request::{FAILED, Refusal},
    stats::count,
};
use crate::{clock::BusClock, handler::contained};

type Reply = Pin<Box<dyn Future<Output = Result<Payload, String>> + Send>>;

/// Makes the answer to a request.
pub(super) type Respond = Box<dyn Fn(Message) -> Reply + Send + Sync>;

fn respond<F, Fut, P, E>(f: F) -> Respond
where
    F: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<P, E>> + Send + 'static,
    P: Into<Payload>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Box::new(move |request| {
        let answer = f(request);
        Box::pin(
            async move { answer.await.map(Into::into).map_err(|error| error.into().to_string()) },
        )
    })
}

impl Messenger {
    /// Answers requests whose type a pattern matches. Of several that match,
    /// the first one answers. An error is told to the one who asks.
    ///
    /// Each answer is made in a task of its own and has until the request's
    /// deadline, then it is dropped.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn respond<F, Fut, P, E>(&self, pattern: &str, f: F) -> Result<Listening, ListenError>
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Payload>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.hub.responders.insert(pattern, &DIRECT, respond(f))
    }
}

/// A request that came in, and how to answer it.
struct Asked {
    hub: Arc<Hub>,
    message: Message,
    number: Str,
    /// Of the one who asks.
    node: Str,
}

/// Deals with a message that asks for an answer. The answer is made in a task of
/// its own.
pub(super) fn asked(hub: &Arc<Hub>, message: Message, number: Str) {
    let Some(node) = sender(&message.event).map(|sender| Str::from(sender.node)) else { return };
    let late = message.event.deadline().is_some_and(|deadline| deadline <= BusClock::wall());
    let ty = message.event.ty().clone();
    let asked = Asked { hub: Arc::clone(hub), message, number, node };
    if late {
        return asked.refuse(Refusal::TooLate);
    }
    let found = hub.responders.find(&ty, asked.message.scope);
    let Some(responder) = found.iter().find(|responder| responder.is_active()).cloned() else {
        // Of a swarm, another may know.
        return match asked.message.scope {
            Scope::Agent => asked.refuse(Refusal::NoResponder),
            Scope::Swarm | Scope::Broadcast | Scope::Topic | Scope::Tasks => {
                count(&hub.counts.unhandled);
            }
        };
    };
    let Ok(permit) = Arc::clone(&hub.answers).try_acquire_owned() else {
        return asked.refuse(Refusal::Busy);
    };
    hub.spawn(async move {
        asked.answer(&responder.handle).await;
        drop(permit);
    });
}

impl Asked {
    async fn answer(self, respond: &Respond) {
        let limit = match self.message.event.deadline() {
            Some(deadline) => deadline.saturating_since(BusClock::wall()),
            None => self.hub.request_timeout,
        };
        let reply = match caught(|| respond(self.message.clone())) {
            Ok(reply) => within(limit, reply).await,
            Err(panic) => Some(Err(panic.to_string())),
        };
        match reply {
            Some(Ok(payload)) => {
                count(&self.hub.counts.answers);
                self.send(self.reply(payload)).await;
            }
            Some(Err(error)) => {
                count(&self.hub.counts.failed);
                let reply = self.reply(error);
                self.send(marked(reply, mark::REFUSAL, Str::const_new(FAILED))).await;
            }
            // Nobody waits for it any more.
            None => count(&self.hub.counts.expired),
        }
    }

    fn refuse(self, refusal: Refusal) {
        count(&self.hub.counts.refusals);
        // Refusing is short, but not unbounded either.
        let Ok(permit) = Arc::clone(&self.hub.refusals).try_acquire_owned() else { return };
        let hub = Arc::clone(&self.hub);
        hub.spawn(async move {
            let reply = self.reply(());
            self.send(marked(reply, mark::REFUSAL, Str::const_new(refusal.name()))).await;
            drop(permit);
        });
    }

    fn reply(&self, payload: impl Into<Payload>) -> Event {
        let request = &self.message.event;
        let ty: EventType = request.ty().clone();
        let mut reply = Event::new(ty, payload)
            .with_source(self.hub.identity.agent())
            .with_priority(request.priority());
        if let Some(id) = request.id() {
            reply = reply.with_causation_id(id);
        }
        if let Some(id) = request.correlation_id() {
            reply = reply.with_correlation_id(id.clone());
        }
        if let Some(trace) = request.traceparent() {
            reply = reply.with_traceparent(trace);
        }
        marked(reply, mark::ANSWER, self.number.clone())
    }

    async fn send(&self, reply: Event) {
        // What a stranger wrote as its node may be no name.
        let Ok(channel) = channel("reply", &self.node) else { return };
        if let Err(error) = self.hub.send(&channel, reply).await {
            tracing::debug!(%channel, %error, "an answer was not sent");
        }
    }
}

/// `None` if it took too long.
async fn within(limit: Duration, reply: Reply) -> Option<Result<Payload, String>> {
    let reply = tokio::time::timeout(limit, contained(reply)).await.ok()?;
    Some(match reply {
        Ok(reply) => reply,
        Err(panic) => Err(format!("panicked: {panic}")),
    })
}
