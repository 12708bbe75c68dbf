//! Makes the bus, and the agents with their subscriptions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use swarmbus::{Bus, BusBuilder, EventType, breaker, core::Str};
use tokio::task::JoinHandle;

use super::{
    agents::{Agent, Coordinating, Desk, Done, TaskSource, result_of},
    args::Args,
    coordinator::Coordinator,
    faults::Faults,
    inbox::Inbox,
    message::{Body, HEADER_LEN, Note, Watch},
    outlet::{Mode, Outlet},
    pace::Pace,
    recorder::Recorder,
    remote::{Home, TRAILER_LEN},
    store::Store,
    swarm::{Swarm, result_pattern, result_type, task_pattern, task_type, vote_type},
    workload::Replay,
};

/// Breakers stay open for this long: short, so that a test of a few seconds
/// sees them recover.
const OPEN_FOR: Duration = Duration::from_millis(250);

/// All agents, at work.
pub(super) struct Crew {
    pub(super) swarm: Swarm,
    pub(super) recorder: Arc<Recorder>,
    pub(super) coordinators: Vec<JoinHandle<Done>>,
    pub(super) others: Vec<JoinHandle<Done>>,
    /// Those of the coordinators come first.
    inboxes: Vec<Arc<Inbox>>,
    /// How many coordinators are of this process.
    leading: usize,
    stopping: Arc<AtomicBool>,
}

impl Crew {
    pub(super) fn coordinators_inboxes(&self) -> Vec<Arc<Inbox>> {
        self.inboxes[..self.leading].to_vec()
    }

    /// No more tasks begin.
    pub(super) fn stop_tasks(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Agents end as soon as they have nothing left to publish.
    pub(super) fn close_inboxes(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.close());
    }
}

/// A bus as the user wants it.
pub(super) fn builder(args: &Args) -> Result<BusBuilder> {
    let breaker = breaker::Config::builder().open_for(OPEN_FOR).build()?;
    let mut builder = Bus::builder()
        .name("load-test")
        .capacity(args.capacity)
        .overflow(args.overflow.into())
        .breaker(breaker);
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    Ok(builder)
}

pub(super) fn build(mut builder: BusBuilder, store: Option<&Store>) -> Result<Bus> {
    if let Some(store) = store {
        builder = builder.journal(store.journal());
    }
    builder.build().context("the bus does not accept --workers or --capacity")
}

/// `home`: where agents are that are spread over processes.
pub(super) fn crew(
    bus: &Bus,
    args: &Args,
    replay: Option<&Replay>,
    home: Option<&Home>,
) -> Result<Crew> {
    let mut maker = Maker {
        bus,
        args,
        replay,
        home,
        mode: if home.is_some() { Mode::Inline } else { args.bus_mode()? },
        swarm: Swarm::of(args.agents),
        watch: if home.is_some() { Watch::Wall } else { Watch::start() },
        faults: Faults::new(args.seed, args.fail_rate, args.slow_rate),
        random: fastrand::Rng::with_seed(args.seed),
        recorder: Arc::default(),
        stopping: Arc::default(),
        inboxes: Vec::new(),
    };
    let swarm = maker.swarm;
    let here = |number: &usize| home.is_none_or(|home| home.has(*number));
    let works_here = |number: &usize| home.is_none_or(|home| home.has_worker(*number));
    let coordinators = (0..swarm.coordinators)
        .filter(here)
        .map(|n| maker.coordinator(n))
        .collect::<Result<Vec<_>>>()?;
    let workers = (0..swarm.workers)
        .filter(works_here)
        .map(|n| maker.worker(n))
        .collect::<Result<Vec<_>>>()?;
    let validators = (0..swarm.validators)
        .filter(here)
        .map(|n| maker.validator(n))
        .collect::<Result<Vec<_>>>()?;
    let Maker { recorder, stopping, inboxes, .. } = maker;
    let leading = coordinators.len();
    let others = workers.into_iter().chain(validators).collect();
    Ok(Crew { swarm, recorder, coordinators, others, inboxes, leading, stopping })
}

/// What the making of each agent needs.
struct Maker<'a> {
    bus: &'a Bus,
    args: &'a Args,
    replay: Option<&'a Replay>,
    home: Option<&'a Home>,
    mode: Mode,
    swarm: Swarm,
    watch: Watch,
    faults: Faults,
    random: fastrand::Rng,
    recorder: Arc<Recorder>,
    stopping: Arc<AtomicBool>,
    inboxes: Vec<Arc<Inbox>>,
}

impl Maker<'_> {
    fn coordinator(&mut self, number: usize) -> Result<JoinHandle<Done>> {
        let swarm = self.swarm;
        let ty = vote_type(number)?;
        let (agent, _) = self.agent(number, format!("coordinator-{number}"), ty.as_str())?;
        let team = swarm.team_of(number);
        let workers: Vec<_> = swarm.members(team, swarm.workers).collect();
        let validators = swarm.members(team, swarm.validators).count() as u32;
        let tasks = match self.replay {
            None => {
                let types: Result<_, _> = workers.iter().map(|w| task_type(*w, None)).collect();
                TaskSource::Random(types?)
            }
            Some(Replay { templates, .. }) => {
                let next = number * templates.len() / swarm.coordinators;
                TaskSource::Replay { templates: Arc::clone(templates), next }
            }
        };
        let phase = number as f64 / swarm.coordinators as f64;
        let share = swarm.events_per_task() * swarm.coordinators as f64;
        let coordinating = Coordinating {
            agent,
            state: Coordinator::new(number as u32, validators, self.args.window),
            pace: self.args.rate.map(|rate| Pace::new(rate / share, phase)),
            workers,
            tasks,
            random: self.random.fork(),
            stopping: Arc::clone(&self.stopping),
        };
        Ok(tokio::spawn(coordinating.run()))
    }

    fn worker(&mut self, number: usize) -> Result<JoinHandle<Done>> {
        let ty = result_type(self.swarm.team_of(number), number)?;
        let pattern = task_pattern(number, self.replay.is_some());
        let (agent, _) =
            self.agent(self.swarm.coordinators + number, format!("worker-{number}"), &pattern)?;
        Ok(tokio::spawn(agent.answer(move |task| result_of(&ty, task))))
    }

    fn validator(&mut self, number: usize) -> Result<JoinHandle<Done>> {
        let swarm = self.swarm;
        let team = swarm.team_of(number);
        let who = swarm.coordinators + swarm.workers + number;
        let (agent, who) = self.agent(who, format!("validator-{number}"), &result_pattern(team))?;
        let types: Result<Vec<EventType>, _> = (0..swarm.coordinators).map(vote_type).collect();
        let (types, faults) = (types?, self.faults);
        Ok(tokio::spawn(agent.answer(move |result| {
            let vote = Note { what: faults.vote(who, result), ..*result };
            (types[result.coordinator as usize].clone(), vote)
        })))
    }

    /// An agent whose handler listens to a pattern, and its number among all.
    fn agent(&mut self, who: usize, name: String, pattern: &str) -> Result<(Agent, u64)> {
        let inbox = Arc::new(Inbox::default());
        let (number, who) = (who as u32, who as u64);
        self.inboxes.push(Arc::clone(&inbox));
        let desk = Desk {
            who,
            inbox: Arc::clone(&inbox),
            watch: self.watch.clone(),
            recorder: Arc::clone(&self.recorder),
            faults: self.faults,
        };
        let subscribe = self.bus.subscribe(pattern).name(&name);
        let subscription = if self.faults.any_slow() {
            subscribe.handle_async(move |event| desk.clone().receive_slowly(event))
        } else {
            subscribe.handle(move |event| desk.receive(event))
        };
        subscription.context("cannot subscribe")?.detach();
        let trailer = if self.home.is_some() { TRAILER_LEN } else { 0 };
        let mut body = vec![0; self.args.payload.saturating_sub(HEADER_LEN + trailer)];
        self.random.fill(&mut body);
        let mut outlet = Outlet::new(self.bus.clone(), self.mode);
        if let Some(home) = self.home {
            outlet = outlet.over(home.wire(number));
        }
        let agent = Agent {
            name: Str::from(name),
            inbox,
            outlet,
            watch: self.watch.clone(),
            body: Body::new(body),
        };
        Ok((agent, who))
    }
}
