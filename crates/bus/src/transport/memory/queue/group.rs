//! One group of a work queue: who has which task.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus_core::Event;
use tokio::{sync::Notify, time::Instant};

use super::{Ack, EntryId, Feed, Settle, SubscribeOptions, Verdict};
use crate::transport::{Incoming, Mode, Received};

/// A delay beyond this is this.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberId(u64);

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) entry: EntryId,
    pub(super) event: Event,
    pub(super) deliveries: u32,
}

#[derive(Debug)]
pub(super) struct Group {
    ready: VecDeque<Task>,
    /// What must wait, by when that is over.
    delayed: BTreeMap<(Instant, EntryId), Task>,
    held: HashMap<EntryId, Held, RandomState>,
    /// When the time for each answer is over.
    due: BTreeMap<(Instant, EntryId), ()>,
    /// Failed for the last time.
    given_up: Vec<Task>,
    members: VecDeque<Member>,
    last_member: u64,
    pub(super) desk: Arc<Desk>,
}

/// Where answers are left. They come from drops, which may happen under the
/// transport's lock, so this has one of its own.
#[derive(Debug, Default)]
pub(super) struct Desk {
    answers: Mutex<Vec<(MemberId, EntryId, Verdict)>>,
    /// Tells the group's clock of answers, and that the next change may come
    /// earlier.
    pub(super) wake: Notify,
}

#[derive(Debug)]
struct Answers {
    member: MemberId,
    desk: Arc<Desk>,
}

impl Settle for Answers {
    fn settle(&self, entry: EntryId, verdict: Verdict) {
        self.desk.answers.lock().push((self.member, entry, verdict));
        self.desk.wake.notify_one();
    }
}

/// A task that a member has.
#[derive(Debug)]
struct Held {
    task: Task,
    by: MemberId,
    until: Instant,
    max_deliveries: u32,
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    feed: Feed,
    settle: Arc<dyn Settle>,
    /// Deliveries without an answer.
    has: usize,
    may_have: usize,
    max_deliveries: u32,
    redeliver_after: Duration,
}

impl Group {
    pub(super) fn new(ready: VecDeque<Task>) -> Self {
        Self {
            ready,
            delayed: BTreeMap::new(),
            held: HashMap::default(),
            due: BTreeMap::new(),
            given_up: Vec::new(),
            members: VecDeque::new(),
            last_member: 0,
            desk: Arc::default(),
        }
    }

    /// Tasks that are not done.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.held.len()
    }

    pub(super) fn add(&mut self, task: Task) {
        self.ready.push_back(task);
    }

    /// `false` if there are `limit` members.
    pub(super) fn join(&mut self, feed: Feed, options: &SubscribeOptions, limit: usize) -> bool {
        self.members.retain(|member| !member.feed.is_gone());
        if self.members.len() >= limit {
            return false;
        }
        self.last_member += 1;
        let id = MemberId(self.last_member);
        self.members.push_back(Member {
            id,
            feed,
            settle: Arc::new(Answers { member: id, desk: Arc::clone(&self.desk) }),
            has: 0,
            may_have: options.get_capacity(Mode::Group).get(),
            max_deliveries: options.get_max_deliveries(),
            redeliver_after: options.get_redeliver_after().min(LONGEST),
        });
        true
    }

    /// Shares out what there is, after the answers that have come in.
    pub(super) fn pump(&mut self, now: Instant, bury: &mut impl FnMut(Task)) {
        let answers = std::mem::take(&mut *self.desk.answers.lock());
        for (by, entry, verdict) in answers {
            self.answer(by, entry, verdict, now);
        }
        self.expire(now);
        self.given_up.drain(..).for_each(bury);
        self.members.retain(|member| !member.feed.is_gone());
        self.share_out(now);
    }

    fn answer(&mut self, by: MemberId, entry: EntryId, verdict: Verdict, now: Instant) {
        if let Some(member) = self.members.iter_mut().find(|member| member.id == by) {
            member.has = member.has.saturating_sub(1);
        }
        match verdict {
            // Done is done, even if it comes too late and another has it now.
            Verdict::Done => drop(self.take(entry)),
            Verdict::Again { after } => {
                if self.held.get(&entry).is_some_and(|held| held.by == by) {
                    self.again(entry, now + after.min(LONGEST));
                }
            }
            Verdict::None => {}
        }
    }

    /// What waited long enough is ready, what was not answered fails.
    fn expire(&mut self, now: Instant) {
        while let Some(&(at, entry)) = self.due.keys().next().filter(|(at, _)| *at <= now) {
            self.again(entry, at);
        }
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            self.ready.push_back(first.remove());
        }
    }

    fn again(&mut self, entry: EntryId, at: Instant) {
        let Some(held) = self.take(entry) else { return };
        if held.task.deliveries >= held.max_deliveries {
            self.given_up.push(held.task);
        } else {
            self.delayed.insert((at, entry), held.task);
            self.desk.wake.notify_one();
        }
    }

    fn take(&mut self, entry: EntryId) -> Option<Held> {
        let held = self.held.remove(&entry)?;
        self.due.remove(&(held.until, entry));
        Some(held)
    }

    /// One task for each member in turn, as long as there are tasks and a
    /// member may have more.
    fn share_out(&mut self, now: Instant) {
        let mut refused = 0;
        while refused < self.members.len() {
            if self.ready.is_empty() {
                return;
            }
            self.members.rotate_left(1);
            let Some(member) = self.members.back_mut() else { return };
            if member.has >= member.may_have {
                refused += 1;
                continue;
            }
            refused = 0;
            let Some(mut task) = self.ready.pop_front() else { return };
            task.deliveries += 1;
            member.has += 1;
            let ack = Ack::new(Arc::clone(&member.settle), task.entry);
            let received = Received::task(task.event.clone(), task.deliveries, ack);
            member.feed.deliver(&mut vec![Incoming::Event(received)]);
            let until = now + member.redeliver_after;
            self.due.insert((until, task.entry), ());
            let (by, max_deliveries) = (member.id, member.max_deliveries);
            self.held.insert(task.entry, Held { task, by, until, max_deliveries });
            self.desk.wake.notify_one();
        }
    }

    pub(super) fn next_change(&self) -> Option<Instant> {
        let first = |times: Option<&(Instant, EntryId)>| times.map(|(at, _)| *at);
        let delayed = first(self.delayed.keys().next());
        delayed.into_iter().chain(first(self.due.keys().next())).min()
    }
}
