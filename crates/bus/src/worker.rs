//! Workers: the tasks that empty the queue.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    bus::Inner,
    queue::{Taken, Waiting},
    runner::Runner,
};

/// The most events a worker takes at once.
const LARGEST_TAKE: usize = 256;

/// A worker takes fewer events at once when these take longer, so that an
/// urgent event never waits behind many slow ones.
const LONGEST_TAKE: Duration = Duration::from_millis(1);

/// Empties one shard until it is closed and empty.
pub(crate) async fn work(inner: Arc<Inner>, shard: usize, mut runner: Runner) {
    let shard = &inner.shards[shard];
    let mut batch = Batch { inner: &inner, waiting: VecDeque::with_capacity(LARGEST_TAKE) };
    let mut largest = 1;
    let mut until_sample = 0;
    loop {
        match shard.take(&mut batch.waiting, largest) {
            Taken::Some { fell } => {
                if fell {
                    inner.pressure_fell();
                }
            }
            Taken::Nothing => {
                inner.idle.notify_waiters();
                runner.forget_stale(&inner);
                shard.work.notified().await;
                continue;
            }
            Taken::Closed => break,
        }
        runner.refresh(&inner);
        let taken = batch.waiting.len();
        let started = inner.clock.cycles();
        while let Some(waiting) = batch.waiting.pop_front() {
            if inner.meter.due(&mut until_sample) {
                let wait = inner.clock.between(waiting.since, inner.clock.cycles());
                inner.meter.waited(wait);
            }
            runner.run(&inner, &waiting.event).await;
        }
        let took = inner.clock.between(started, inner.clock.cycles());
        if took > LONGEST_TAKE {
            largest = (largest / 2).max(1);
        } else if taken == largest {
            largest = (largest * 2).min(LARGEST_TAKE);
        }
        // Handlers that never wait must not keep the thread from publishers.
        tokio::task::yield_now().await;
    }
    inner.idle.notify_waiters();
}

/// Events that a worker has taken and not yet begun.
struct Batch<'a> {
    inner: &'a Inner,
    waiting: VecDeque<Waiting>,
}

impl Drop for Batch<'_> {
    /// The worker was stopped: what is left goes back to be reported.
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            let left = self.waiting.drain(..).map(|waiting| waiting.event);
            self.inner.left_over.lock().extend(left);
        }
    }
}
