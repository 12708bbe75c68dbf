//! A group channel: tasks that are shared out, and come again until they are
//! done.

mod group;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
};

use ahash::RandomState;
use swarmbus_core::Event;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::group::{Desk, Group, Task};
use super::{MemoryTransport, Settings, Shared};
use crate::transport::{
    Ack, Channel, DeadTask, EntryId, Feed, Inbox, Mode, Settle, Start, SubscribeOptions,
    TransportError, Verdict,
};

#[derive(Debug)]
pub(super) struct Queue {
    groups: HashMap<String, Group, RandomState>,
    /// What was published while there was no group.
    waiting: VecDeque<Task>,
    dead: VecDeque<DeadTask>,
    last_entry: u64,
    settings: Settings,
}

impl Queue {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            groups: HashMap::default(),
            waiting: VecDeque::new(),
            dead: VecDeque::new(),
            last_entry: 0,
            settings: *settings,
        }
    }

    /// Takes as many as the fullest group has room for.
    pub(super) fn put(&mut self, events: &mut Vec<Event>) -> Result<(), TransportError> {
        self.settle();
        let most = self.groups.values().map(Group::len).max().unwrap_or(self.waiting.len());
        let room = self.settings.tasks.saturating_sub(most).min(events.len());
        let all = room == events.len();
        for event in events.drain(..room) {
            self.last_entry += 1;
            let task = Task { entry: EntryId(self.last_entry, 0), event, deliveries: 0 };
            for group in self.groups.values_mut() {
                group.add(task.clone());
            }
            if self.groups.is_empty() {
                self.waiting.push_back(task);
            }
        }
        self.settle();
        if all { Ok(()) } else { Err(TransportError::Full) }
    }

    /// Deals with all answers that have come in, and shares out what there is.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        let (dead, keep) = (&mut self.dead, self.settings.dead_letters);
        for (name, group) in &mut self.groups {
            group.pump(now, &mut |task| bury(dead, keep, name, task));
        }
    }

    pub(super) fn dead(&self, count: usize) -> Vec<DeadTask> {
        self.dead.iter().skip(self.dead.len().saturating_sub(count)).cloned().collect()
    }

    /// Does something to a group and shares out what there is then.
    fn with_group<T>(&mut self, name: &str, f: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = self.groups.get_mut(name)?;
        let done = f(group);
        let (dead, keep) = (&mut self.dead, self.settings.dead_letters);
        group.pump(Instant::now(), &mut |task| bury(dead, keep, name, task));
        Some(done)
    }
}

fn bury(dead: &mut VecDeque<DeadTask>, keep: usize, group: &str, task: Task) {
    if dead.len() >= keep {
        dead.pop_front();
    }
    dead.push_back(DeadTask {
        event: task.event,
        group: group.to_owned(),
        deliveries: task.deliveries,
        at: crate::clock::BusClock::wall(),
    });
}

pub(super) fn subscribe(
    shared: &Arc<Shared>,
    channel: &Channel,
    options: &SubscribeOptions,
) -> Result<Inbox, TransportError> {
    const LIMIT: usize = MemoryTransport::MAX_CHANNELS;
    let mut channels = shared.channels.lock();
    channels.open()?;
    let queue = channels.queue(channel, &shared.settings)?;
    let name = options.get_group();
    if !queue.groups.contains_key(name) {
        if queue.groups.len() >= LIMIT {
            return Err(TransportError::TooMany { limit: LIMIT });
        }
        let begins_new = options.get_start() == Some(Start::New);
        let waiting = std::mem::take(&mut queue.waiting);
        let group = Group::new(if begins_new { VecDeque::new() } else { waiting });
        let clock = Clock {
            shared: Arc::downgrade(shared),
            channel: channel.clone(),
            group: name.to_owned(),
            desk: Arc::clone(&group.desk),
            closed: shared.closed.clone(),
        };
        queue.groups.insert(name.to_owned(), group);
        tokio::spawn(clock.run());
    }
    let (feed, inbox) = Inbox::new(options.get_capacity(Mode::Group));
    let joined = queue.with_group(name, |group| group.join(feed, options, LIMIT));
    match joined {
        Some(true) => Ok(inbox),
        _ => Err(TransportError::TooMany { limit: LIMIT }),
    }
}

/// Looks after a group when there are answers, or a delay or the time for an
/// answer is over.
struct Clock {
    shared: Weak<Shared>,
    channel: Channel,
    group: String,
    desk: Arc<Desk>,
    closed: CancellationToken,
}

impl Clock {
    async fn run(self) {
        while let Some(next) = self.tick() {
            tokio::select! {
                () = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
                () = self.desk.wake.notified() => {}
                () = self.closed.cancelled() => return self.end(),
            }
        }
    }

    /// When to look again; `None` when the transport is gone.
    fn tick(&self) -> Option<Option<Instant>> {
        let shared = self.shared.upgrade()?;
        let mut channels = shared.channels.lock();
        let queue = channels.queues.get_mut(&self.channel)?;
        queue.with_group(&self.group, |_| ())?;
        Some(queue.groups.get(&self.group)?.next_change())
    }

    /// Lets go of the members' feeds, so that their inboxes end.
    fn end(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut channels = shared.channels.lock();
        let queue = channels.queues.get_mut(&self.channel);
        drop(queue.and_then(|queue| queue.groups.remove(&self.group)));
    }
}
