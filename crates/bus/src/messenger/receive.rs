//! The tasks that read a messenger's inboxes.

use std::{num::NonZeroUsize, sync::Arc};

use swarmbus_core::{
    Event, Str,
    backoff::{Backoff, Jitter},
    router::RouteCache,
};
use tokio_util::sync::CancellationToken;

use super::{
    handlers::{Entry, Handle, Table},
    hub::Hub,
    message::{Message, Scope, mark, sender},
    respond,
    stats::count,
};
use crate::{
    clock::BusClock,
    transport::{
        Channel, Gap, GapReason, Inbox, Incoming, Mode, Position, SubscribeOptions, TransportError,
    },
};

/// Types that one inbox remembers the handlers of.
const TYPES: NonZeroUsize = NonZeroUsize::new(1_000).expect("not 0");

/// How long to wait before an inbox that failed is opened again.
const AGAIN: Backoff =
    Backoff::exponential(std::time::Duration::from_millis(100)).jitter(Jitter::Full);

/// One channel that a messenger listens to.
pub(super) struct Receiver {
    pub(super) hub: Arc<Hub>,
    pub(super) channel: Channel,
    pub(super) scope: Scope,
    pub(super) table: Arc<Table<Handle>>,
    pub(super) options: SubscribeOptions,
}

type Found = Arc<[Arc<Entry<Handle>>]>;

impl Receiver {
    /// Subscribes, and reads until `ending`. What a handler does then is done to
    /// its end.
    pub(super) async fn start(self, ending: CancellationToken) -> Result<(), TransportError> {
        let inbox = self.subscribe(None).await?;
        let hub = Arc::clone(&self.hub);
        hub.spawn(self.run(inbox, ending));
        Ok(())
    }

    async fn subscribe(&self, last: Option<Position>) -> Result<Inbox, TransportError> {
        let options = self.options.clone();
        let options = match last {
            Some(position) => options.after(position),
            None => options,
        };
        self.hub.transport.subscribe(&self.channel, options).await
    }

    async fn run(self, mut inbox: Inbox, ending: CancellationToken) {
        let mut known = RouteCache::new(TYPES);
        let (mut batch, mut last) = (Vec::new(), None);
        loop {
            while let Some(1..) = ending.run_until_cancelled(inbox.next_batch(&mut batch)).await {
                for incoming in batch.drain(..) {
                    if ending.is_cancelled() {
                        return;
                    }
                    last = self.take(incoming, &mut known).await.or(last);
                }
            }
            match self.open_again(&inbox, last, &ending).await {
                Some(opened) => inbox = opened,
                None => return,
            }
            if self.channel.mode() == Mode::Live {
                self.hub.gap(&self.channel, &Gap::new(None, GapReason::Disconnected));
            }
        }
    }

    /// After a failure, tries for as long as the transport is open.
    async fn open_again(
        &self,
        failed: &Inbox,
        last: Option<Position>,
        ending: &CancellationToken,
    ) -> Option<Inbox> {
        let error = failed.error()?;
        tracing::warn!(channel = %self.channel, %error, "a subscription has ended");
        for attempt in 0.. {
            let delay = AGAIN.delay(attempt, fastrand::u64(..));
            ending.run_until_cancelled(tokio::time::sleep(delay)).await?;
            match ending.run_until_cancelled(self.subscribe(last)).await? {
                Ok(inbox) => return Some(inbox),
                Err(TransportError::Closed) => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// Deals with one thing and returns where that was.
    async fn take(&self, incoming: Incoming, known: &mut RouteCache<Found>) -> Option<Position> {
        let position = match incoming {
            Incoming::Event(received) => {
                let position = received.position();
                self.deal_with(received.event, known).await;
                position
            }
            Incoming::Gap(gap) => {
                self.hub.gap(&self.channel, &gap);
                gap.position
            }
        };
        self.hub.arrived_at(&self.channel, position);
        position
    }

    async fn deal_with(&self, event: Event, known: &mut RouteCache<Found>) {
        let counts = &self.hub.counts;
        if self.is_own(&event) {
            return count(&counts.own);
        }
        self.hub.history.note(false, &self.channel, &event);
        count(&counts.received);
        let number = event.attribute(mark::REQUEST).map(Str::from);
        let message = Message { event, scope: self.scope };
        if let Some(number) = number {
            return respond::asked(&self.hub, message, number);
        }
        if message.event.deadline().is_some_and(|deadline| deadline <= BusClock::wall()) {
            return count(&counts.expired);
        }
        let (table, ty) = (&self.table, message.event.ty());
        let handlers =
            known.get_or_insert_with(table.generation(), ty, || table.find(ty, self.scope));
        if handlers.is_empty() {
            return count(&counts.unhandled);
        }
        for entry in handlers.iter().filter(|entry| entry.is_active()) {
            if let Err(error) = entry.handle.call(&message).await {
                count(&counts.failed);
                tracing::debug!(channel = %self.channel, %error, "a handler failed");
            }
        }
    }

    /// Whether it comes from here; a broadcast also from another of the swarm.
    fn is_own(&self, event: &Event) -> bool {
        let Some(sender) = sender(event) else { return false };
        match self.scope {
            Scope::Broadcast => sender.swarm == self.hub.identity.swarm(),
            Scope::Swarm | Scope::Agent | Scope::Topic | Scope::Tasks => {
                sender.node == self.hub.node
            }
        }
    }
}

/// Reads the answers to this messenger's requests.
pub(super) async fn start_answers(hub: &Arc<Hub>, channel: &Channel) -> Result<(), TransportError> {
    let receiver = Receiver {
        hub: Arc::clone(hub),
        channel: channel.clone(),
        scope: Scope::Agent,
        table: Arc::default(),
        options: SubscribeOptions::new(),
    };
    let inbox = receiver.subscribe(None).await?;
    hub.spawn(receiver.run_answers(inbox));
    Ok(())
}

impl Receiver {
    async fn run_answers(self, mut inbox: Inbox) {
        let ending = self.hub.closing.clone();
        loop {
            while let Some(Some(incoming)) = ending.run_until_cancelled(inbox.next()).await {
                match incoming {
                    Incoming::Event(received) => self.take_answer(received.event),
                    Incoming::Gap(gap) => self.hub.gap(&self.channel, &gap),
                }
            }
            match self.open_again(&inbox, None, &ending).await {
                Some(opened) => inbox = opened,
                None => break,
            }
        }
        // Nobody will answer any more.
        self.hub.pending.close();
    }

    fn take_answer(&self, answer: Event) {
        self.hub.history.note(false, &self.channel, &answer);
        if !self.hub.pending.answer(answer) {
            count(&self.hub.counts.late_answers);
        }
    }
}
