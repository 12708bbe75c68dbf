//! The agents: what each does with the notes in its inbox.
//!
//! An agent is a handler or two, which read events and leave notes in the
//! agent's inbox, and a task, which acts on the notes and publishes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use swarmbus::{Event, EventType, core::Str};

use super::{
    coordinator::{Coordinator, Tasks},
    faults::{Faults, Injected, SLOW},
    inbox::{Full, Inbox},
    message::{Body, Message, Note, Watch, What},
    outlet::{Closed, Outlet, Sent},
    pace::Pace,
    recorder::Recorder,
    swarm::task_type,
    workload::Template,
};

/// What all agents have.
pub(super) struct Agent {
    pub(super) name: Str,
    pub(super) inbox: Arc<Inbox>,
    pub(super) outlet: Outlet,
    pub(super) watch: Watch,
    pub(super) body: Body,
}

/// What an agent did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) sent: Sent,
    /// Of a coordinator.
    pub(super) tasks: Tasks,
}

impl Agent {
    #[inline]
    fn event(&self, ty: EventType, note: Note) -> Event {
        let payload = self.body.payload(note, self.watch.now());
        Event::new(ty, payload).with_source(self.name.clone())
    }

    /// Answers each note with an event, until the inbox is closed: what
    /// workers and validators do.
    pub(super) async fn answer(mut self, reply: impl Fn(&Note) -> (EventType, Note)) -> Done {
        let mut notes = Vec::new();
        while self.inbox.take(&mut notes).await {
            if self.answer_all(&mut notes, &reply).await.is_err() {
                break;
            }
        }
        Done { sent: self.outlet.sent, tasks: Tasks::default() }
    }

    async fn answer_all(
        &mut self,
        notes: &mut Vec<Note>,
        reply: &impl Fn(&Note) -> (EventType, Note),
    ) -> Result<(), Closed> {
        for note in notes.drain(..) {
            let (ty, note) = reply(&note);
            let event = self.event(ty, note);
            self.outlet.send(event).await?;
        }
        self.outlet.flush().await
    }
}

/// A coordinator at work.
pub(super) struct Coordinating {
    pub(super) agent: Agent,
    pub(super) state: Coordinator,
    pub(super) pace: Option<Pace>,
    /// The workers of its team.
    pub(super) workers: Vec<usize>,
    pub(super) tasks: TaskSource,
    pub(super) random: fastrand::Rng,
    /// No more tasks are to begin.
    pub(super) stopping: Arc<AtomicBool>,
}

/// What tasks are made of.
pub(super) enum TaskSource {
    /// The agent's own body; a type for each of its workers.
    Random(Vec<EventType>),
    /// The events of a file, from `next` on.
    Replay { templates: Arc<[Template]>, next: usize },
}

impl Coordinating {
    /// Keeps as many tasks in flight as it may, until told to stop and all
    /// tasks have ended, or until the inbox is closed.
    pub(super) async fn run(mut self) -> Done {
        let mut notes = Vec::new();
        // The first poke comes when all agents are there.
        while self.agent.inbox.take(&mut notes).await {
            let now = self.agent.watch.now();
            for note in notes.drain(..) {
                self.state.vote(&note, now);
            }
            self.state.expire_now_and_then(now);
            if self.stopping.load(Relaxed) {
                if self.state.is_idle() {
                    break;
                }
            } else if self.begin_tasks().await.is_err() {
                break;
            }
        }
        Done { sent: self.agent.outlet.sent, tasks: self.state.tasks() }
    }

    async fn begin_tasks(&mut self) -> Result<(), Closed> {
        while self.state.has_room() {
            let now = self.agent.watch.now();
            if self.pace.as_mut().is_some_and(|pace| !pace.may_begin(now)) {
                break;
            }
            let Some(note) = self.state.begin(now) else { break };
            let event = self.task(note);
            self.agent.outlet.send(event).await?;
        }
        self.agent.outlet.flush().await
    }

    #[inline]
    fn task(&mut self, note: Note) -> Event {
        let place = self.random.usize(..self.workers.len());
        match &mut self.tasks {
            TaskSource::Random(types) => self.agent.event(types[place].clone(), note),
            TaskSource::Replay { templates, next } => {
                let template = &templates[*next];
                *next = (*next + 1) % templates.len();
                let ty = task_type(self.workers[place], Some(&template.ty));
                // The reader of the file has tried all types.
                let ty = ty.unwrap_or_else(|_| EventType::from_static("unroutable"));
                Event::new(ty, template.body.payload(note, note.began))
                    .with_source(self.agent.name.clone())
                    .with_priority(template.priority)
            }
        }
    }
}

/// What an agent's handlers have.
#[derive(Clone)]
pub(super) struct Desk {
    /// Unique among all agents.
    pub(super) who: u64,
    pub(super) inbox: Arc<Inbox>,
    pub(super) watch: Watch,
    pub(super) recorder: Arc<Recorder>,
    pub(super) faults: Faults,
}

/// Why a handler did not take an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the payload is not what an agent wrote")]
    Corrupted,
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Injected(#[from] Injected),
}

impl Desk {
    /// Handles an event: reads all of it, measures, and leaves a note.
    #[inline]
    pub(super) fn receive(&self, event: &Event) -> Result<(), Trouble> {
        let now = self.watch.now();
        let read = Message::read(event.payload());
        let taken = self.take(read.as_ref());
        self.record(now, read.as_ref(), &taken);
        taken
    }

    /// The same, and slow now and then.
    pub(super) async fn receive_slowly(self, event: Event) -> Result<(), Trouble> {
        let now = self.watch.now();
        let read = Message::read(event.payload());
        if read.as_ref().is_some_and(|message| self.faults.is_slow(self.who, &message.note)) {
            tokio::time::sleep(SLOW).await;
        }
        let taken = self.take(read.as_ref());
        self.record(now, read.as_ref(), &taken);
        taken
    }

    #[inline]
    fn take(&self, read: Option<&Message>) -> Result<(), Trouble> {
        let message = read.filter(|message| message.intact).ok_or(Trouble::Corrupted)?;
        if self.faults.fails(self.who, &message.note) {
            return Err(Injected.into());
        }
        Ok(self.inbox.push(message.note)?)
    }

    #[inline]
    fn record(&self, now: u64, read: Option<&Message>, taken: &Result<(), Trouble>) {
        self.recorder.with(|part| {
            if let Some(message) = read {
                part.latency.saturating_record(now.saturating_sub(message.sent));
            }
            match taken {
                Ok(()) => part.delivered += 1,
                Err(Trouble::Corrupted) => part.corrupted += 1,
                Err(Trouble::Full(_) | Trouble::Injected(_)) => {}
            }
        });
    }
}

/// A worker's reply to a task.
pub(super) fn result_of(ty: &EventType, task: &Note) -> (EventType, Note) {
    (ty.clone(), Note { what: What::Result, ..*task })
}
