//! The way into the queue: one event or a batch, waiting for room or not.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use swarmbus_core::{Event, backoff::Backoff};

use crate::{
    error::{BatchError, PublishCause, PublishError},
    handler::is_handling,
    inner::Inner,
    journal::{self, Journal, JournalError, Recorded, RecordedSlot, Settlement},
    queue::{Pushed, Pusher, Shard},
    routes::is_same,
};

impl Inner {
    /// Queues the event in `slot`, waiting for room if need be.
    ///
    /// A slot, because an event is large: it stays where the caller's future
    /// has it until it is copied, once, into its lane.
    #[inline]
    pub(crate) async fn publish(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        self.prepare(slot)?;
        if self.journal.is_some() {
            // Boxed, as its future is large and most buses have no journal.
            return Box::pin(self.publish_recorded(slot)).await;
        }
        self.enqueue(slot).await
    }

    /// Queues the event in `slot` if there is room and nobody else has to be
    /// asked: without a future, as nearly all publishes end here.
    #[inline]
    pub(crate) fn publish_at_once(&self, slot: &mut Option<Event>) -> bool {
        if !self.plain {
            return false;
        }
        let rose = self.shard_of(slot).push_at_once(slot, &self.clock);
        if rose == Some(true) {
            self.pressure.rose();
        }
        rose.is_some()
    }

    #[inline]
    async fn enqueue(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        let shard = self.shard_of(slot);
        let pusher = self.pusher();
        match shard.push(slot, pusher, &self.clock) {
            Ok(pushed) => {
                self.pushed(pushed);
                Ok(())
            }
            Err(cause) if pusher == Pusher::Handler => Err(self.refuse(slot, cause)),
            Err(cause) => self.publish_later(shard, slot, cause).await,
        }
    }

    /// Queues an event that nobody waits for, trying again for as long as it
    /// may be of use.
    pub(crate) async fn publish_until_taken(&self, event: &Event) -> Result<(), PublishCause> {
        let mut attempt = 0_u32;
        loop {
            // A fresh copy each time, as middleware may change it.
            let Err(PublishError { cause, .. }) = self.publish(&mut Some(event.clone())).await
            else {
                return Ok(());
            };
            if !cause.may_pass() {
                return Err(cause);
            }
            tokio::time::sleep(Backoff::RETRY.delay(attempt, fastrand::u64(..))).await;
            attempt = attempt.saturating_add(1);
        }
    }

    #[inline]
    pub(crate) fn try_publish(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        self.prepare(slot)?;
        let recorded = match self.try_record(slot) {
            Ok(recorded) => recorded,
            Err(cause) => return Err(self.refuse(slot, cause)),
        };
        match self.shard_of(slot).push(slot, self.pusher(), &self.clock) {
            Ok(pushed) => {
                self.pushed(pushed);
                Ok(())
            }
            Err(cause) => {
                let refused = self.refuse(slot, cause);
                if let Some(journal) = recorded {
                    journal.settle(&refused.event, Settlement::Withdrawn);
                }
                Err(refused)
            }
        }
    }

    /// The journal, if there is one that wants to know of this event.
    #[inline]
    pub(crate) fn journal_for(&self, event: &Event) -> Option<&Arc<dyn Journal>> {
        self.journal.as_ref().filter(|_| journal::wants(event))
    }

    /// Has a stamped event written down.
    pub(crate) async fn record<'a>(
        &self,
        journal: &'a Arc<dyn Journal>,
        event: &'a Event,
    ) -> Result<Recorded<'a>, JournalError> {
        let recorded = Recorded::new(&**journal, event);
        match journal.accept(std::slice::from_ref(event)).await {
            Ok(()) => Ok(recorded),
            Err(error) => {
                // The journal has nothing of it: there is nothing to withdraw.
                recorded.handed_over();
                Err(error)
            }
        }
    }

    /// Queues an event once the journal has it.
    async fn publish_recorded(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        let Some(event) = slot.as_mut() else { return Ok(()) };
        let Some(journal) = self.journal_for(event) else { return self.enqueue(slot).await };
        if self.closed.load(Relaxed) {
            return Err(self.refuse(slot, PublishCause::Closed));
        }
        self.stamp(event);
        let mut recorded = RecordedSlot::new(&**journal, slot);
        let accepted = journal.accept(recorded.slot.as_slice()).await;
        if let Err(error) = accepted {
            return Err(self.refuse(recorded.refused(), error.into()));
        }
        let queued = self.enqueue(recorded.slot).await;
        if let Err(refused) = &queued {
            journal.settle(&refused.event, Settlement::Withdrawn);
        }
        queued
    }

    /// Has an event written down, if that takes no waiting: by this journal.
    #[inline]
    fn try_record(&self, slot: &mut Option<Event>) -> Result<Option<&dyn Journal>, PublishCause> {
        let Some(event) = slot else { return Ok(None) };
        let Some(journal) = self.journal_for(event) else { return Ok(None) };
        if self.closed.load(Relaxed) {
            return Err(PublishCause::Closed);
        }
        self.stamp(event);
        journal.try_accept(event)?;
        Ok(Some(&**journal))
    }

    /// Middleware before the queue.
    #[inline]
    fn prepare(&self, slot: &mut Option<Event>) -> Result<(), PublishError> {
        if self.middleware.events.is_empty() {
            return Ok(());
        }
        let Some(event) = slot else { return Ok(()) };
        let publishing = self.middleware.publishing(event);
        publishing.map_err(|reason| self.refuse(slot, PublishCause::Refused(reason)))
    }

    /// Hands an event back.
    #[cold]
    fn refuse(&self, slot: &mut Option<Event>, cause: PublishCause) -> PublishError {
        self.books.refused(1);
        // A slot is empty only after a push that succeeded.
        let event = slot.take().unwrap_or_else(|| Event::of("unknown", ()));
        PublishError { event: Box::new(event), cause }
    }

    #[inline]
    fn shard_of(&self, slot: &Option<Event>) -> &Shard {
        let source = slot.as_ref().map_or("", Event::source);
        &self.shards[self.shard_number(source)]
    }

    /// A source always gets the same shard, which keeps its order.
    #[inline]
    pub(crate) fn shard_number(&self, source: &str) -> usize {
        match self.shards.len() {
            1 => 0,
            // In place of a division.
            n => {
                let scaled = u128::from(self.by_source.hash_one(source)) * n as u128;
                (scaled >> 64) as usize
            }
        }
    }

    #[inline]
    fn pushed(&self, pushed: Pushed) {
        if pushed.rose {
            self.pressure.rose();
        }
        if let Some((event, outcome)) = pushed.evicted {
            self.account(&event, outcome);
        }
    }

    /// A handler of this bus must not wait for the queue it empties.
    #[inline]
    fn pusher(&self) -> Pusher {
        if is_handling(self.id) { Pusher::Handler } else { Pusher::Other }
    }

    #[cold]
    async fn publish_later(
        &self,
        shard: &Shard,
        slot: &mut Option<Event>,
        mut cause: PublishCause,
    ) -> Result<(), PublishError> {
        while let Some(wait) = Wait::of(&cause) {
            self.wait(shard, wait).await;
            match shard.push(slot, Pusher::Other, &self.clock) {
                Ok(pushed) => {
                    self.pushed(pushed);
                    return Ok(());
                }
                Err(again) => cause = again,
            }
        }
        Err(self.refuse(slot, cause))
    }

    pub(crate) async fn publish_batch(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        tokio::task::coop::consume_budget().await;
        if self.journal.is_some() && self.middleware.events.is_empty() {
            return self.publish_batch_recorded(batch).await;
        }
        self.enqueue_batch(batch).await
    }

    async fn enqueue_batch(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        if self.push_whole(batch) {
            return Ok(());
        }
        let rest = Backwards::new(batch);
        // `publish` counts the event that it refuses.
        let (result, counted) = if self.middleware.events.is_empty() {
            (self.publish_runs(rest.0).await, 0)
        } else {
            (self.publish_each(rest.0).await, 1)
        };
        result.map_err(|cause| {
            self.books.refused(rest.0.len() as u64 - counted);
            BatchError { accepted: rest.accepted(), cause }
        })
    }

    /// Has a batch written down and queued, a part at a time.
    async fn publish_batch_recorded(&self, batch: &mut Vec<Event>) -> Result<(), BatchError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut accepted = 0;
        while !batch.is_empty() {
            let mut part = Part::take(&**journal, batch);
            let taken = part.events.len();
            let done = self.publish_part(&mut part).await;
            drop(part);
            if let Err(error) = done {
                // Those of the part are counted already.
                let uncounted = batch.len() - (taken - error.accepted);
                self.books.refused(uncounted as u64);
                return Err(BatchError { accepted: accepted + error.accepted, ..error });
            }
            accepted += taken;
        }
        Ok(())
    }

    async fn publish_part(&self, part: &mut Part<'_>) -> Result<(), BatchError> {
        if self.closed.load(Relaxed) {
            // Refused as it is, and the journal need not know.
            return self.enqueue_batch(&mut part.events).await;
        }
        part.events.iter_mut().for_each(|event| self.stamp(event));
        part.recorded = true;
        let wanted = || part.events.iter().filter(|event| journal::wants(event));
        let accepted = match wanted().count() {
            0 => Ok(()),
            all if all == part.events.len() => part.journal.accept(&part.events).await,
            _ => part.journal.accept(&wanted().cloned().collect::<Vec<_>>()).await,
        };
        if let Err(error) = accepted {
            part.recorded = false;
            self.books.refused(part.events.len() as u64);
            return Err(BatchError { accepted: 0, cause: error.into() });
        }
        self.enqueue_batch(&mut part.events).await
    }

    /// The usual case: one source, and room for all.
    fn push_whole(&self, batch: &mut Vec<Event>) -> bool {
        let Some(first) = batch.first() else { return true };
        let source = first.source();
        let number = self.shard_number(source);
        let alike = batch.iter().all(|event| {
            is_same(event.source(), source) || self.shard_number(event.source()) == number
        });
        if !alike || !self.middleware.events.is_empty() {
            return false;
        }
        let pushed = self.shards[number].push_all(batch, &self.clock);
        if pushed == Some(true) {
            self.pressure.rose();
        }
        pushed.is_some()
    }

    /// Events of one shard after the other together, waiting for room.
    async fn publish_runs(&self, backwards: &mut Vec<Event>) -> Result<(), PublishCause> {
        while let Some(next) = backwards.last() {
            let number = self.shard_number(next.source());
            let shard = &self.shards[number];
            let alike = |event: &&Event| self.shard_number(event.source()) == number;
            // At most so many, for others want the lock too.
            let count = backwards.iter().rev().take(LONGEST_RUN).take_while(alike).count();
            let pusher = self.pusher();
            let pushed = shard.push_some(backwards, count, pusher, &self.clock);
            if pushed.rose {
                self.pressure.rose();
            }
            for (event, outcome) in pushed.evicted {
                self.account(&event, outcome);
            }
            let Some(cause) = pushed.cause else {
                tokio::task::coop::consume_budget().await;
                continue;
            };
            match Wait::of(&cause) {
                Some(wait) if pusher == Pusher::Other => self.wait(shard, wait).await,
                _ => return Err(cause),
            }
        }
        Ok(())
    }

    /// Middleware sees, and may refuse, each event by itself.
    async fn publish_each(&self, backwards: &mut Vec<Event>) -> Result<(), PublishCause> {
        while let Some(next) = backwards.last() {
            // A copy, so that a publish cut off while it waits loses nothing.
            let published = self.publish(&mut Some(next.clone())).await;
            published.map_err(|error| error.cause)?;
            backwards.pop();
        }
        Ok(())
    }

    async fn wait(&self, shard: &Shard, wait: Wait) {
        match wait {
            Wait::ForRoom => shard.wait_for_room().await,
            Wait::For(time) => tokio::time::sleep(time).await,
        }
    }
}

/// The most events of a batch that are queued under one lock, unless all are.
const LONGEST_RUN: usize = 256;

/// The most events that are written down as one.
const LARGEST_PART: usize = 1_024;

/// The front of a batch. What is left of it goes back when this is dropped,
/// cancelled or not, and the journal forgets it.
struct Part<'a> {
    journal: &'a dyn Journal,
    events: Vec<Event>,
    batch: &'a mut Vec<Event>,
    /// The journal may have the events.
    recorded: bool,
}

impl<'a> Part<'a> {
    fn take(journal: &'a dyn Journal, batch: &'a mut Vec<Event>) -> Self {
        let events = batch.drain(..batch.len().min(LARGEST_PART)).collect();
        Self { journal, events, batch, recorded: false }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if self.recorded {
            for event in self.events.iter().filter(|event| journal::wants(event)) {
                self.journal.settle(event, Settlement::Withdrawn);
            }
        }
        self.batch.splice(..0, self.events.drain(..));
    }
}

/// A batch turned round, so that its front can be taken off one by one. What
/// is left turns back when this is dropped, cancelled or not.
struct Backwards<'a>(&'a mut Vec<Event>, usize);

impl<'a> Backwards<'a> {
    fn new(batch: &'a mut Vec<Event>) -> Self {
        batch.reverse();
        let len = batch.len();
        Self(batch, len)
    }

    fn accepted(&self) -> usize {
        self.1 - self.0.len()
    }
}

impl Drop for Backwards<'_> {
    fn drop(&mut self) {
        self.0.reverse();
    }
}

/// What a publisher waits for.
enum Wait {
    ForRoom,
    For(Duration),
}

impl Wait {
    /// `None` if waiting is of no use.
    fn of(cause: &PublishCause) -> Option<Self> {
        match cause {
            PublishCause::Full => Some(Self::ForRoom),
            PublishCause::RateLimited { retry_after } => Some(Self::For(*retry_after)),
            PublishCause::Outranked
            | PublishCause::Closed
            | PublishCause::Refused(_)
            | PublishCause::JournalWouldWait
            | PublishCause::Journal(_) => None,
        }
    }
}
