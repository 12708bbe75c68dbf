//! [`Desk`]: which tasks a member has, and what it answered.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus::transport::{Ack, EntryId, Incoming, Received, Settle, Verdict};
use swarmbus_core::Event;
use tokio::sync::{Notify, watch};

use super::scripts::{Given, life};

/// Between a member's program, which answers whenever it likes and from any
/// thread, and the task that talks to the server.
///
/// Bounded by the member's capacity: no task is fetched beyond it, and each has
/// one answer.
#[derive(Debug)]
pub(super) struct Desk {
    capacity: usize,
    state: Mutex<State>,
    /// There are answers to send.
    pub(super) answered: Notify,
    /// There is room for another task.
    pub(super) room: Notify,
    /// How many answers the server has.
    sent: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Given to the program and not answered.
    held: usize,
    /// Given to us by the server, and our answer, if there is one, not taken yet.
    known: HashSet<EntryId, RandomState>,
    /// The life of the channel that they are of.
    life: Option<u64>,
    /// The newest task that came as a new one.
    newest: Option<EntryId>,
    /// Up to this one, a server before this may have given tasks to anybody.
    doubtful: Option<EntryId>,
    /// What there was no room for.
    backlog: VecDeque<Task>,
    answers: Vec<Answer>,
    /// Answers to be sent since the beginning.
    answers_given: u64,
    /// Nobody sends answers any more.
    ended: bool,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: EntryId,
    pub(super) deliveries: u32,
    pub(super) event: Event,
}

/// What is to be told to the server about a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done(EntryId),
    Again(EntryId, Duration),
    /// Nobody can read it.
    Dead(EntryId),
}

impl Answer {
    pub(super) fn id(self) -> EntryId {
        match self {
            Self::Done(id) | Self::Again(id, _) | Self::Dead(id) => id,
        }
    }
}

impl Desk {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            answered: Notify::new(),
            room: Notify::new(),
            sent: watch::Sender::new(0),
        }
    }

    /// How many more tasks to ask for.
    pub(super) fn wanted(&self) -> usize {
        let state = self.state.lock();
        self.capacity.saturating_sub(state.held + state.backlog.len())
    }

    /// Tasks of this life of the channel come. `true` if those before were of
    /// another: the server does not know them any more.
    pub(super) fn is_new_life(&self, life: u64) -> bool {
        let mut state = self.state.lock();
        let before = state.life.replace(life);
        let is_new = before.is_some_and(|before| before != life);
        if is_new {
            state.known.clear();
            state.backlog.clear();
        }
        is_new
    }

    /// Another server answers, or the same on another connection: tasks up to this one
    /// may have been given out without its knowledge.
    pub(super) fn doubt(&self, doubtful: Option<EntryId>) {
        let mut state = self.state.lock();
        if doubtful.is_some() && doubtful != state.doubtful {
            // Numbers after it are given anew.
            state.newest = None;
        }
        state.doubtful = doubtful;
    }

    /// New tasks came, which a server gives in their order. Those that are not newer
    /// than one before were given out already, and a failover to a replica that was
    /// behind has forgotten it: they are marked, as are those that another server may
    /// have given to others. Returns how many.
    pub(super) fn recognise(&self, tasks: &mut [Given]) -> usize {
        let mut state = self.state.lock();
        let mut marked = 0;
        let within = |task: EntryId, last: Option<EntryId>| {
            last.is_some_and(|last| life(last) == life(task) && task.0 <= last.0)
        };
        for task in tasks {
            let seen = within(task.id, state.newest);
            if seen || within(task.id, state.doubtful) {
                task.deliveries = task.deliveries.max(2);
                marked += 1;
            }
            if !seen {
                state.newest = Some(task.id);
            }
        }
        marked
    }

    /// Tasks came from the server.
    pub(super) fn add(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.state.lock();
        for task in tasks {
            state.known.insert(task.id);
            state.backlog.push_back(task);
        }
    }

    /// One came that nobody can read.
    pub(super) fn bury(&self, id: EntryId) {
        self.state.lock().answer(Answer::Dead(id));
        self.answered.notify_one();
    }

    /// The tasks that the program gets now: within its capacity, and no more
    /// than its inbox has room for.
    pub(super) fn hand_out(self: &Arc<Self>, room: usize) -> Vec<Incoming> {
        let mut state = self.state.lock();
        let count = self.capacity.saturating_sub(state.held).min(state.backlog.len()).min(room);
        state.held += count;
        let settle = Arc::clone(self) as Arc<dyn Settle>;
        let hand_out = |task: Task| {
            let ack = Ack::new(Arc::clone(&settle), task.id);
            Incoming::Event(Received::task(task.event, task.deliveries, ack))
        };
        state.backlog.drain(..count).map(hand_out).collect()
    }

    /// Whether the program still has tasks.
    pub(super) fn holds_some(&self) -> bool {
        self.state.lock().held > 0
    }

    /// Of these, the tasks that the server gave us without our knowing.
    pub(super) fn unknown(&self, ids: Vec<EntryId>) -> Vec<EntryId> {
        let state = self.state.lock();
        ids.into_iter().filter(|id| !state.known.contains(id)).collect()
    }

    /// The server does not know any of our tasks any more.
    pub(super) fn forget(&self) {
        let mut state = self.state.lock();
        state.life = None;
        state.known.clear();
        state.backlog.clear();
    }

    /// What is to be sent. Those that are not confirmed are sent again.
    pub(super) fn answers(&self) -> Vec<Answer> {
        self.state.lock().answers.clone()
    }

    /// The server has the first `count` answers.
    pub(super) fn confirm(&self, count: usize) {
        let mut state = self.state.lock();
        let confirmed: Vec<_> = state.answers.drain(..count).collect();
        for answer in confirmed {
            state.known.remove(&answer.id());
        }
        drop(state);
        self.sent.send_modify(|sent| *sent += count as u64);
    }

    /// Nobody sends answers any more: those tasks come again elsewhere.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let backlog = std::mem::take(&mut state.backlog);
        state.answers.clear();
        let target = state.answers_given;
        drop(state);
        drop(backlog);
        self.sent.send_replace(target);
    }

    /// Waits until the server has every answer that was given before.
    pub(super) async fn flushed(&self) {
        let target = self.state.lock().answers_given;
        // The sender is `self`.
        let _ = self.sent.subscribe().wait_for(|sent| *sent >= target).await;
    }
}

impl State {
    fn answer(&mut self, answer: Answer) {
        if self.ended {
            return;
        }
        self.answers.push(answer);
        self.answers_given += 1;
    }
}

impl Settle for Desk {
    fn settle(&self, entry: EntryId, verdict: Verdict) {
        let mut state = self.state.lock();
        state.held = state.held.saturating_sub(1);
        match verdict {
            Verdict::Done => state.answer(Answer::Done(entry)),
            Verdict::Again { after } => state.answer(Answer::Again(entry, after)),
            // It comes again when the time for answers is over.
            Verdict::None => drop(state.known.remove(&entry)),
        }
        drop(state);
        self.answered.notify_one();
        self.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_gives_out_again_as_new_is_marked() {
        let desk = Desk::new(9);
        let deliveries = |life: u64, numbers: &[u64]| {
            let given = |number: &u64| Given {
                id: EntryId(*number, life << 32 | 7),
                lost: 0,
                deliveries: 1,
                frame: bytes::Bytes::new(),
            };
            let mut tasks: Vec<_> = numbers.iter().map(given).collect();
            let marked = desk.recognise(&mut tasks);
            assert_eq!(tasks.iter().filter(|task| task.deliveries > 1).count(), marked);
            tasks.iter().map(|task| task.deliveries).collect::<Vec<_>>()
        };
        assert_eq!(deliveries(1, &[1, 2, 5]), [1, 1, 1]);
        assert_eq!(deliveries(1, &[4, 5, 6, 7]), [2, 2, 1, 1]);
        assert_eq!(deliveries(2, &[1, 2]), [1, 1], "of another life");
    }
}
