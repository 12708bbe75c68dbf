//! Workers: the tasks that empty the queue.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use swarmbus_core::Event;

use crate::{
    inner::Inner,
    ledger::Outcome,
    queue::{Block, Taken, Waiting, lanes::BLOCK},
    runner::Runner,
};

/// The most events a worker takes at once.
const LARGEST_TAKE: usize = BLOCK;

/// A worker takes fewer events at once when these take longer, so that an
/// urgent event seldom waits behind many slow ones: only when handlers turn
/// slow in the middle of what was taken.
const LONGEST_TAKE: Duration = Duration::from_millis(1);

/// After this long a worker yields its thread.
const LONGEST_DUTY: Duration = Duration::from_micros(500);

/// Empties one shard until it is closed and empty.
pub(crate) async fn work(duty: Duty, shard: usize, mut runner: Runner) {
    let inner = &*duty.0;
    let shard = &inner.shards[shard];
    let mut batch = Batch { inner, block: Block::default(), begun: 0 };
    let mut largest = 1;
    let mut on_duty = Duration::ZERO;
    loop {
        match shard.take(&mut batch.block, largest) {
            Taken::Some { fell } => {
                if fell {
                    inner.pressure.fell();
                }
            }
            Taken::Nothing => {
                inner.idle.notify_waiters();
                runner.forget_stale(inner);
                shard.work.notified().await;
                on_duty = Duration::ZERO;
                continue;
            }
            Taken::Closed => break,
        }
        runner.refresh(inner);
        let taken = batch.block.waiting().len();
        let started = inner.clock.cycles();
        while batch.begun < taken {
            runner.run_ahead(inner, batch.block.waiting(), &mut batch.begun, started);
            if inner.stopped.load(Relaxed) {
                // A handler that never yields held up the end of this task.
                return;
            }
            // In place, as an event is large; one that was begun is the runner's
            // to account for, so it leaves the batch even if this is cut off.
            let Some((event, since)) = batch.begin() else { break };
            if inner.is_stale(since, started) {
                runner.account(inner, event, Outcome::Expired);
            } else {
                runner.note_wait(inner, since);
                runner.run_for_worker(&duty.0, event).await;
            }
            batch.end();
            if inner.stopped.load(Relaxed) {
                return;
            }
        }
        batch.clear();
        let took = inner.clock.between(started, inner.clock.cycles());
        if took > LONGEST_TAKE {
            largest = (largest / 2).max(1);
        } else if taken == largest {
            largest = (largest * 2).min(LARGEST_TAKE);
        }
        // Going on while there is work keeps the events in the processor's
        // cache; yielding now and then leaves the thread to others.
        on_duty += took;
        if on_duty > LONGEST_DUTY {
            on_duty = Duration::ZERO;
            tokio::task::yield_now().await;
        }
    }
    inner.idle.notify_waiters();
}

/// A worker's hold on its bus. A bus whose worker is gone, with its runtime for example, must not let
/// publishers wait for it.
pub(crate) struct Duty(pub(crate) Arc<Inner>);

impl Drop for Duty {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Events that a worker has taken.
struct Batch<'a> {
    inner: &'a Inner,
    block: Block<Waiting>,
    /// How many are done, or with their handlers.
    begun: usize,
}

impl Batch<'_> {
    /// The next event, and when it came.
    fn begin(&mut self) -> Option<(&Event, u64)> {
        let waiting = self.block.waiting().get(self.begun)?;
        self.begun += 1;
        Some((waiting.event.as_ref()?, waiting.since))
    }

    /// What was begun last is done.
    fn end(&mut self) {
        if let Some(waiting) = self.block.waiting().get_mut(self.begun - 1) {
            waiting.event = None;
        }
    }

    /// All is done.
    fn clear(&mut self) {
        self.block.clear();
        self.begun = 0;
    }
}

impl Drop for Batch<'_> {
    /// The worker was stopped: what was not begun is cancelled, and goes back
    /// to be reported.
    fn drop(&mut self) {
        let left = self.block.waiting().iter_mut().skip(self.begun);
        for event in left.filter_map(|waiting| waiting.event.take()) {
            self.inner.account(&event, Outcome::Cancelled);
            self.inner.left_over.lock().push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use swarmbus_core::{Event, Priority};

    use crate::{bus::Bus, clock::BusClock, error::BuildError};

    #[tokio::test]
    async fn what_waited_too_long_reaches_nobody_and_is_counted() {
        let (clock, hand) = BusClock::mocked();
        let ttl = Duration::from_secs(5);
        let mut builder = Bus::builder().workers(1).queue_ttl(ttl);
        builder.clock = clock;
        let bus = builder.build().unwrap();
        let session = bus.session("s");
        let handlers = [
            bus.subscribe("a").handle(|_: &Event| ()).unwrap(),
            bus.subscribe("*").handle_async(|_| async {}).unwrap(),
            session.subscribe("a").handle(|_: &Event| ()).unwrap(),
        ];
        // The only thread is this one: the worker sees them all at once.
        let old = Event::of("a", ()).with_session("s").with_priority(Priority::MAX);
        bus.try_publish(old).unwrap();
        bus.try_publish(Event::of("unknown.type", ())).unwrap();
        hand.increment(Duration::from_secs(1));
        bus.try_publish(Event::of("a", ())).unwrap();
        // One that has waited exactly as long as it may is not too late.
        hand.increment(ttl);
        bus.try_publish(Event::of("a", ())).unwrap();
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);

        let ledger = bus.ledger();
        assert!(ledger.balances(), "{ledger}");
        assert_eq!((ledger.published, ledger.unmatched), (4, 1));
        assert_eq!((ledger.outcomes.expired, ledger.outcomes.delivered), (3, 4));
        assert_eq!(handlers.map(|handler| handler.outcomes().expired), [1; 3]);
        bus.dispatch(&Event::of("a", ())).await.unwrap();
        assert_eq!(bus.ledger().outcomes.expired, 3, "dispatch has no queue");
    }

    #[tokio::test]
    async fn no_time_at_all_is_no_limit() {
        let built = Bus::builder().queue_ttl(Duration::ZERO).build();
        assert!(matches!(built, Err(BuildError::Setting { setting: "queue_ttl", .. })));
    }
}
