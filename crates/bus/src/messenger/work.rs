//! Working on a queue of tasks.

use std::{future::Future, num::NonZeroUsize, sync::Arc};

use swarmbus_core::backoff::Backoff;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    JoinError, Messenger, To,
    handlers::Handle,
    hub::Hub,
    message::{Message, Scope},
    stats::count,
};
use crate::{
    handler::IntoHandlerResult,
    transport::{Channel, Inbox, Incoming, Mode, Received, SubscribeOptions, TransportError},
};

/// How to work on a queue of tasks.
///
/// | setting | default |
/// | --- | --- |
/// | [`concurrent`](Self::concurrent) | 16 |
/// | [`backoff`](Self::backoff) | [`Backoff::RETRY`]: 0.1 s, twice as long each time, 10 s at most |
/// | [`options`](Self::options) | the transport's: 5 deliveries, again after 30 s without an answer |
#[derive(Clone, Debug)]
pub struct WorkOptions {
    pub(super) concurrent: NonZeroUsize,
    pub(super) backoff: Backoff,
    pub(super) options: SubscribeOptions,
}

impl Default for WorkOptions {
    fn default() -> Self {
        Self {
            concurrent: NonZeroUsize::new(16).expect("not 0"),
            backoff: Backoff::RETRY,
            options: SubscribeOptions::new(),
        }
    }
}

impl WorkOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tasks are worked on at once. This worker is given twice as many,
    /// so that the next are there when one is done.
    #[must_use]
    pub fn concurrent(mut self, tasks: NonZeroUsize) -> Self {
        self.concurrent = tasks;
        self
    }

    /// How long a task that went wrong waits before it is tried again, here or
    /// elsewhere. How often is
    /// [`max_deliveries`](SubscribeOptions::max_deliveries).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The group, the number of deliveries, the time for a task. The capacity
    /// follows from [`concurrent`](Self::concurrent).
    #[must_use]
    pub fn options(mut self, options: SubscribeOptions) -> Self {
        self.options = options;
        self
    }

    pub(super) fn subscribe(&self) -> SubscribeOptions {
        self.options.clone().capacity(self.concurrent.saturating_mul(Self::AHEAD))
    }

    const AHEAD: NonZeroUsize = NonZeroUsize::new(2).expect("not 0");
}

/// A worker: dropping it ends the work at once, and what it was working on is
/// given to others after
/// [`redeliver_after`](SubscribeOptions::redeliver_after).
#[derive(Debug)]
#[must_use = "dropping it ends the work: keep it, or call detach()"]
pub struct Worker {
    stop: CancellationToken,
    ended: CancellationToken,
    abort: Option<AbortHandle>,
}

impl Worker {
    pub(super) fn start(hub: Arc<Hub>, channel: Channel, inbox: Inbox, work: Work) -> Self {
        let stop = CancellationToken::new();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let desk =
            Desk { hub: Arc::clone(&hub), channel, stop: stop.clone(), work: Arc::new(work) };
        let abort = hub.spawn(async move {
            desk.run(inbox).await;
            drop(end);
        });
        Self { stop, ended, abort: Some(abort) }
    }

    /// Takes no more tasks and waits for those it is working on.
    ///
    /// Cancel safe: dropped, the work ends at once.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }

    /// Goes on for as long as the messenger is open.
    pub fn detach(mut self) {
        self.abort = None;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(task) = &self.abort {
            task.abort();
        }
    }
}

/// What a worker does with a task.
pub(super) struct Work {
    pub(super) handle: Handle,
    pub(super) concurrent: NonZeroUsize,
    pub(super) backoff: Backoff,
}

struct Desk {
    hub: Arc<Hub>,
    channel: Channel,
    stop: CancellationToken,
    work: Arc<Work>,
}

impl Desk {
    async fn run(self, mut inbox: Inbox) {
        let mut running = JoinSet::new();
        loop {
            let has_room = running.len() < self.work.concurrent.get();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.hub.closing.cancelled() => break,
                Some(_) = running.join_next() => {}
                incoming = inbox.next(), if has_room => match incoming {
                    Some(Incoming::Event(received)) => self.begin(received, &mut running),
                    Some(Incoming::Gap(gap)) => self.hub.gap(&self.channel, &gap),
                    None => break,
                },
            }
        }
        if let Some(error) = inbox.error() {
            tracing::warn!(channel = %self.channel, %error, "a worker has ended");
        }
        while running.join_next().await.is_some() {}
    }

    fn begin(&self, received: Received, running: &mut JoinSet<()>) {
        debug_assert_eq!(self.channel.mode(), Mode::Group);
        let (hub, work) = (Arc::clone(&self.hub), Arc::clone(&self.work));
        hub.history.note(false, &self.channel, &received.event);
        count(&hub.counts.received);
        running.spawn(async move {
            let deliveries = received.deliveries();
            let (event, ack) = received.into_parts();
            let message = Message { event, scope: Scope::Tasks };
            match work.handle.call(&message).await {
                Ok(()) => {
                    count(&hub.counts.tasks_done);
                    ack.ack();
                }
                Err(error) => {
                    count(&hub.counts.tasks_failed);
                    tracing::debug!(%error, "a task went wrong");
                    ack.nack(work.backoff.delay(deliveries - 1, fastrand::u64(..)));
                }
            }
        });
    }
}

impl Messenger {
    /// Works on a queue of tasks: each goes to one worker of a group. One that
    /// succeeds is acknowledged, one that fails or panics is put back, and comes
    /// again here or elsewhere; after as many deliveries as may be, it is a dead
    /// letter of the channel.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use swarmbus::{Event, messenger::{Message, Messenger, To, WorkOptions}};
    /// # use swarmbus::transport::MemoryTransport;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let transport = Arc::new(MemoryTransport::new());
    /// # let boss = Messenger::join(transport.clone(), "office", "boss").await?;
    /// # let clerk = Messenger::join(transport, "office", "clerk").await?;
    /// let (done, mut results) = tokio::sync::mpsc::unbounded_channel();
    /// let worker = clerk.work("images", WorkOptions::new(), move |task: Message| {
    ///     let done = done.clone();
    ///     async move { done.send(format!("resized {}", task.event.text().unwrap_or("?"))) }
    /// }).await?;
    ///
    /// boss.send(&To::tasks("images")?, Event::of("image.resize", "17.png")).await?;
    /// assert_eq!(results.recv().await.unwrap(), "resized 17.png");
    /// worker.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`JoinError`].
    pub async fn work<F, Fut>(
        &self,
        queue: &str,
        options: WorkOptions,
        f: F,
    ) -> Result<Worker, JoinError>
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        if self.hub.closing.is_cancelled() {
            return Err(TransportError::Closed.into());
        }
        let channel = To::tasks(queue)?.channel(self.hub.mode);
        let inbox = self.hub.transport.subscribe(&channel, options.subscribe()).await?;
        let WorkOptions { concurrent, backoff, .. } = options;
        let work = Work { handle: Handle::future(f), concurrent, backoff };
        Ok(Worker::start(Arc::clone(&self.hub), channel, inbox, work))
    }
}
