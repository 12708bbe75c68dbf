//! [`Inbox`] and [`Feed`]: the two ends of a subscription. Events pass in
//! batches, with one lock for each, so that a million a second are no work.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Gap, GapReason, Incoming, Received, TransportError};

/// One subscription of a transport. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    /// Taken over in one go, handed out one by one.
    held: VecDeque<Incoming>,
}

/// For transports: the end of an [`Inbox`] that is written to. Dropping it ends
/// the inbox once that is read empty.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    capacity: usize,
    /// The reader waits for something to read, the feed for room: one each.
    arrived: Notify,
    room: Notify,
    /// The inbox was dropped.
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Incoming>,
    /// What was dropped after all that is in `queue`. It goes out with the
    /// next take, which empties the queue: so it is in its place.
    lost: Option<Gap>,
    ended: bool,
    error: Option<TransportError>,
}

impl Inbox {
    /// An inbox and its other end. `capacity` is the number of events that may
    /// wait in it; as many again may have been taken out to be handed out one
    /// by one.
    pub fn new(capacity: NonZeroUsize) -> (Feed, Self) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            capacity: capacity.get(),
            arrived: Notify::new(),
            room: Notify::new(),
            gone: CancellationToken::new(),
        });
        (Feed { shared: Arc::clone(&shared) }, Self { shared, held: VecDeque::new() })
    }

    /// What comes next; `None` after the subscription has ended, see
    /// [`error`](Self::error).
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        // A reader that never waits must leave the thread to others.
        tokio::task::coop::consume_budget().await;
        while self.held.is_empty() {
            if !self.fill().await {
                return None;
            }
        }
        self.held.pop_front()
    }

    /// Appends all that has come in, waiting for the first; returns how many,
    /// 0 after the subscription has ended.
    ///
    /// Cancel safe: dropped, it has appended nothing.
    pub async fn next_batch(&mut self, batch: &mut Vec<Incoming>) -> usize {
        tokio::task::coop::consume_budget().await;
        while self.held.is_empty() {
            if !self.fill().await {
                return 0;
            }
        }
        let before = batch.len();
        batch.extend(self.held.drain(..));
        batch.len() - before
    }

    /// Why the subscription has ended; `None` while it lasts, and after the
    /// transport was closed.
    pub fn error(&self) -> Option<TransportError> {
        self.shared.state.lock().error.clone()
    }

    /// Waits for something and takes all of it; `false` at the end.
    async fn fill(&mut self) -> bool {
        loop {
            {
                let mut state = self.shared.state.lock();
                let was_full = state.queue.len() >= self.shared.capacity;
                std::mem::swap(&mut self.held, &mut state.queue);
                self.held.extend(state.lost.take().map(Incoming::Gap));
                if was_full {
                    self.shared.room.notify_one();
                }
                if !self.held.is_empty() {
                    return true;
                }
                if state.ended {
                    return false;
                }
            }
            self.shared.arrived.notified().await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.gone.cancel();
        // Answers of tasks are dropped outside of the lock.
        let left = std::mem::take(&mut self.shared.state.lock().queue);
        drop(left);
    }
}

impl Feed {
    /// Moves events out of the front of `batch` as long as there is room.
    /// Those that are left found none: wait for [`room`](Self::room), or
    /// [`drop_rest`](Self::drop_rest).
    ///
    /// Gaps always find room.
    pub fn deliver(&self, batch: &mut Vec<Incoming>) {
        let mut state = self.shared.state.lock();
        let before = state.queue.len();
        let room = self.shared.capacity.saturating_sub(before);
        if batch.len() <= room {
            state.queue.extend(batch.drain(..));
        } else {
            let (mut taken, mut events) = (0, 0);
            for incoming in &*batch {
                events += usize::from(matches!(incoming, Incoming::Event(_)));
                if events > room {
                    break;
                }
                taken += 1;
            }
            for incoming in batch.drain(..taken) {
                match incoming {
                    Incoming::Event(_) => state.queue.push_back(incoming),
                    Incoming::Gap(gap) => state.gap(gap, self.shared.capacity),
                }
            }
        }
        let waiting = before == 0 && !(state.queue.is_empty() && state.lost.is_none());
        drop(state);
        if waiting {
            self.shared.arrived.notify_one();
        }
    }

    /// For channels that wait for nobody: counts what is left in `batch` as a
    /// gap, empties it, and returns how many events that were.
    pub fn drop_rest(&self, batch: &mut Vec<Incoming>) -> u64 {
        let events = batch.iter().filter(|item| matches!(item, Incoming::Event(_))).count() as u64;
        for incoming in batch.drain(..) {
            self.gap(match incoming {
                Incoming::Event(_) => Gap::new(1, GapReason::Slow),
                Incoming::Gap(gap) => gap,
            });
        }
        events
    }

    /// Delivers one live event, or counts it as missed if there is no room;
    /// `false` if it was not delivered.
    pub fn offer(&self, received: Received) -> bool {
        let mut state = self.shared.state.lock();
        let before = state.queue.len();
        let fits = before < self.shared.capacity && state.lost.is_none();
        if fits {
            state.queue.push_back(Incoming::Event(received));
        } else {
            state.gap(Gap::new(1, GapReason::Slow), self.shared.capacity);
        }
        drop(state);
        if before == 0 {
            self.shared.arrived.notify_one();
        }
        fits
    }

    /// Says that events are missing here. Joins gaps that follow each other.
    pub fn gap(&self, gap: Gap) {
        let mut state = self.shared.state.lock();
        state.gap(gap, self.shared.capacity);
        drop(state);
        self.shared.arrived.notify_one();
    }

    /// How many events there is room for.
    pub fn free(&self) -> usize {
        self.shared.capacity.saturating_sub(self.shared.state.lock().queue.len())
    }

    /// Waits until there is room; `false` if nobody reads any more.
    ///
    /// Cancel safe. One task at a time may wait.
    pub async fn room(&self) -> bool {
        loop {
            if self.is_gone() {
                return false;
            }
            if self.free() > 0 {
                return true;
            }
            tokio::select! {
                () = self.shared.room.notified() => {}
                () = self.shared.gone.cancelled() => {}
            }
        }
    }

    /// Whether the inbox was dropped.
    pub fn is_gone(&self) -> bool {
        self.shared.gone.is_cancelled()
    }

    /// Waits until the inbox is dropped.
    pub async fn gone(&self) {
        self.shared.gone.cancelled().await;
    }

    /// Ends the inbox with a reason, once it is read empty.
    pub fn fail(self, error: TransportError) {
        self.shared.state.lock().error = Some(error);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.arrived.notify_one();
    }
}

impl State {
    fn gap(&mut self, gap: Gap, capacity: usize) {
        let full = self.queue.len() >= capacity;
        match (&mut self.lost, self.queue.back_mut()) {
            (Some(lost), _) => lost.extend(gap),
            (None, Some(Incoming::Gap(last))) if last.reason == gap.reason => last.extend(gap),
            // Gaps of different reasons, too, stay within the capacity.
            (None, _) if full => self.lost = Some(gap),
            (None, _) => self.queue.push_back(Incoming::Gap(gap)),
        }
    }
}

#[cfg(test)]
mod tests;
