//! What is pending, what was decided, and what has to be told of it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use ahash::RandomState;
use parking_lot::Mutex;
use swarmbus_core::{Event, EventId, Timestamp};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    AnswerError, Approval, ApprovalChange, ApprovalConfig, ApprovalId, ApprovalNotice, Callback,
    PendingApproval, Refused, State,
};
use crate::{
    clock::{WALL_RECHECK, WallClock},
    error::CommandError,
};

/// The approvals of one bus.
pub(crate) struct Book {
    capacity: usize,
    limit: Duration,
    wall: WallClock,
    pub(super) on_change: Option<Callback>,
    pages: Mutex<Pages>,
    /// Rings when there is a deadline that may be the nearest.
    pub(super) asked: Notify,
    /// Rings when there is something to tell.
    pub(super) changed: Notify,
    /// Rings when the callback was told of something.
    pub(super) called: Notify,
    pub(super) closed: CancellationToken,
}

/// What the lock protects.
#[derive(Default)]
struct Pages {
    pending: HashMap<ApprovalId, Pending, RandomState>,
    /// The latest that are not pending any more; `None` was withdrawn.
    settled: VecDeque<(ApprovalId, Option<Approval>)>,
    untold: VecDeque<Untold>,
    /// What the callback was told, and no event.
    unpublished: VecDeque<Untold>,
}

struct Pending {
    approval: Approval,
    since: Instant,
    command: Event,
    decision: oneshot::Sender<State>,
}

impl Pending {
    /// What the wall clock shows, or would had it not been set back since the
    /// request: nobody gets more time by that.
    fn now(&self, wall: Timestamp, steady: Instant) -> Timestamp {
        wall.max(self.approval.requested_at().saturating_add(steady - self.since))
    }
}

/// A change that is to be told, with the command that it is about.
pub(super) struct Untold {
    pub(super) notice: ApprovalNotice,
    pub(super) command: Event,
}

impl Book {
    pub(crate) fn new(config: ApprovalConfig) -> Self {
        let ApprovalConfig { capacity, limit, wall, on_change } = config;
        Self {
            capacity,
            limit,
            wall,
            on_change,
            pages: Mutex::default(),
            asked: Notify::new(),
            changed: Notify::new(),
            called: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    pub(crate) fn default_limit(&self) -> Duration {
        self.limit
    }

    /// Nobody gets an answer any more.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        let pending = std::mem::take(&mut self.pages.lock().pending);
        // Wakes those who wait, and so not under the lock.
        drop(pending);
    }

    pub(super) fn request(
        &self,
        command: &Event,
        limit: Duration,
    ) -> Result<(ApprovalId, oneshot::Receiver<State>), CommandError> {
        let now = self.wall.now();
        let left = command.deadline().map(|deadline| deadline.saturating_since(now));
        if left == Some(Duration::ZERO) {
            return Err(CommandError::Expired);
        }
        let limit = left.map_or(limit, |left| left.min(limit));
        let approval = Approval::request(command.source(), now, limit);
        let id = ApprovalId(EventId::v7(now, fastrand::u64(1..)).to_string());
        let (decision, decided) = oneshot::channel();
        {
            let mut pages = self.pages.lock();
            // Under the lock: `close` takes out what is in after it was said.
            if self.closed.is_cancelled() {
                return Err(CommandError::Closed);
            }
            let untold = pages.untold.len() + pages.unpublished.len();
            if pages.pending.len().max(untold) >= self.capacity {
                return Err(CommandError::TooManyApprovals { limit: self.capacity });
            }
            pages.tell(&id, ApprovalChange::Requested, approval.clone(), command.clone());
            let (command, since) = (command.clone(), Instant::now());
            let pending = Pending { approval, since, command, decision };
            pages.pending.insert(id.clone(), pending);
        }
        self.asked.notify_one();
        self.changed.notify_one();
        Ok((id, decided))
    }

    pub(super) fn answer(
        &self,
        id: &ApprovalId,
        answer: impl FnOnce(&mut Approval, Timestamp) -> Result<(), Refused>,
    ) -> Result<(), AnswerError> {
        let now = self.wall.now();
        let mut pages = self.pages.lock();
        let Some(pending) = pages.pending.get_mut(id) else {
            return match pages.settled.iter().rev().find(|(its, _)| its == id) {
                // It refuses, and says what was decided.
                Some((_, Some(decided))) => Ok(answer(&mut decided.clone(), now)?),
                Some((_, None)) => Err(AnswerError::Withdrawn),
                None => Err(AnswerError::Unknown(id.clone())),
            };
        };
        let now = pending.now(now, Instant::now());
        let answered = answer(&mut pending.approval, now);
        let done = pages.settle_decided(id, self.capacity);
        drop(pages);
        self.announce(done);
        Ok(answered?)
    }

    /// Notices deadlines; returns how long until the next one is to be looked
    /// at.
    pub(super) fn expire(&self) -> Option<Duration> {
        let (wall, steady) = (self.wall.now(), Instant::now());
        let mut pages = self.pages.lock();
        let expire = |(id, pending): (&ApprovalId, &mut Pending)| {
            let now = pending.now(wall, steady);
            pending.approval.expire(now).then(|| id.clone())
        };
        let expired: Vec<ApprovalId> = pages.pending.iter_mut().filter_map(expire).collect();
        let done: Vec<_> =
            expired.iter().filter_map(|id| pages.settle_decided(id, self.capacity)).collect();
        let left = |pending: &Pending| pending.approval.remaining(pending.now(wall, steady));
        let wait = pages.pending.values().filter_map(left).min().map(|left| left.min(WALL_RECHECK));
        drop(pages);
        self.announce(done);
        wait
    }

    pub(super) fn withdraw(&self, id: &ApprovalId) {
        let mut pages = self.pages.lock();
        let Some(Pending { approval, command, .. }) = pages.pending.remove(id) else { return };
        pages.remember(id, None, self.capacity);
        pages.tell(id, ApprovalChange::Withdrawn, approval, command);
        drop(pages);
        self.changed.notify_one();
    }

    /// Wakes who waits for the decision, and who tells of it: not under the
    /// lock.
    fn announce(&self, done: impl IntoIterator<Item = Done>) {
        for (decision, state) in done {
            // Who asked may have gone just now.
            let _ = decision.send(state);
        }
        self.changed.notify_one();
    }

    pub(super) fn next_untold(&self) -> Option<Untold> {
        self.pages.lock().untold.pop_front()
    }

    pub(super) fn publish_later(&self, told: Untold) {
        self.pages.lock().unpublished.push_back(told);
        self.called.notify_one();
    }

    pub(super) fn next_unpublished(&self) -> Option<Untold> {
        self.pages.lock().unpublished.pop_front()
    }

    pub(super) fn pending(&self) -> Vec<PendingApproval> {
        let pages = self.pages.lock();
        let describe = |(id, pending): (&ApprovalId, &Pending)| PendingApproval {
            id: id.clone(),
            command: pending.command.clone(),
            approval: pending.approval.clone(),
        };
        let mut all: Vec<_> = pages.pending.iter().map(describe).collect();
        drop(pages);
        // An id begins with the time of the request.
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    pub(super) fn get(&self, id: &ApprovalId) -> Option<Approval> {
        let pages = self.pages.lock();
        if let Some(pending) = pages.pending.get(id) {
            return Some(pending.approval.clone());
        }
        let (_, settled) = pages.settled.iter().rev().find(|(its, _)| its == id)?;
        settled.clone()
    }
}

type Done = (oneshot::Sender<State>, State);

impl Pages {
    /// Takes out an approval that is decided, if it is.
    fn settle_decided(&mut self, id: &ApprovalId, capacity: usize) -> Option<Done> {
        let change = match self.pending.get(id)?.approval.state() {
            State::Pending => return None,
            State::Approved { .. } => ApprovalChange::Granted,
            State::Denied { .. } => ApprovalChange::Denied,
            State::Expired { .. } => ApprovalChange::Expired,
        };
        let Pending { approval, command, decision, .. } = self.pending.remove(id)?;
        self.remember(id, Some(approval.clone()), capacity);
        let state = approval.state().clone();
        self.tell(id, change, approval, command);
        Some((decision, state))
    }

    fn remember(&mut self, id: &ApprovalId, settled: Option<Approval>, capacity: usize) {
        if self.settled.len() >= capacity {
            self.settled.pop_front();
        }
        self.settled.push_back((id.clone(), settled));
    }

    fn tell(
        &mut self,
        id: &ApprovalId,
        change: ApprovalChange,
        approval: Approval,
        command: Event,
    ) {
        let ty = command.ty().to_string();
        let notice = ApprovalNotice { id: id.clone(), change, command: ty, approval };
        self.untold.push_back(Untold { notice, command });
    }
}
