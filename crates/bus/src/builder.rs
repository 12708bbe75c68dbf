//! Building a bus: every setting with its default.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus_core::{breaker, overflow::Overflow, router::RouteCache};
use tokio::runtime::Handle;

use crate::{
    approval::{self, ApprovalConfig},
    bus::Bus,
    clock::{BusClock, Stamper},
    error::BuildError,
    handler::BusId,
    inner::Inner,
    journal::Journal,
    ledger::{Books, CellIndex},
    metrics::{Meter, SAMPLE_EVERY},
    middleware::{CommandMiddleware, EventMiddleware, Middleware},
    pipeline::{
        breaker::Breakers,
        dead_letter::queue::LetterQueue,
        detached::{DetachedCalls, Tally},
        living::Living,
        policy::Policy,
        service::Services,
    },
    pressure::Pressure,
    queue::{Shard, Sizes},
    runner::{Pool, Runner},
    schedule::{self, ScheduleConfig, Scheduler},
    stall::{self, Stall, Stalls},
    worker::{Duty, work},
};

/// The settings of a [`Bus`] in the making.
#[must_use = "a builder does nothing until build() is called"]
pub struct BusBuilder {
    pub(crate) clock: BusClock,
    name: String,
    workers: usize,
    capacity: usize,
    high_water: f64,
    low_water: f64,
    overflow: Overflow,
    dead_letters: usize,
    max_handlers: usize,
    route_cache: NonZeroUsize,
    breaker: breaker::Config,
    sample_every: u32,
    queue_ttl: Option<Duration>,
    stall_limit: Duration,
    on_stall: Option<stall::Callback>,
    tracing: bool,
    middleware: Middleware,
    pressure: Pressure,
    schedules: ScheduleConfig,
    approvals: ApprovalConfig,
    journal: Option<Arc<dyn Journal>>,
    services: Vec<(String, Policy)>,
    detached: usize,
}

/// The limits that outlive the builder.
pub(crate) struct Limits {
    pub(crate) handlers: usize,
    pub(crate) breaker: breaker::Config,
    /// How long an event may wait in the queue.
    pub(crate) queue_ttl: Option<Duration>,
}

impl BusBuilder {
    pub(crate) fn new() -> Self {
        Self {
            clock: BusClock::new(),
            name: "bus".to_owned(),
            workers: (WORKERS_PER_PROCESSOR * processors()).min(MAX_DEFAULT_WORKERS),
            capacity: 10_000,
            high_water: 0.8,
            low_water: 0.5,
            overflow: Overflow::Reject,
            dead_letters: 1_000,
            max_handlers: 100_000,
            route_cache: RouteCache::<()>::DEFAULT_CAPACITY,
            breaker: breaker::Config::default(),
            sample_every: SAMPLE_EVERY,
            queue_ttl: None,
            stall_limit: STALL_LIMIT,
            on_stall: None,
            tracing: false,
            middleware: Middleware::default(),
            pressure: Pressure::default(),
            schedules: ScheduleConfig::default(),
            approvals: ApprovalConfig::default(),
            journal: None,
            services: Vec::new(),
            detached: 10_000,
        }
    }

    /// The value of the label `bus` in metrics. Default: `bus`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many tasks empty the queue, each for its share of the sources.
    /// Default: four for each processor, at most 32. They are tasks, not threads: more
    /// of them meet each other, and publishers, less often. If handlers wait
    /// a lot, take more: a source waits for the handlers of those with which
    /// it shares a worker.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How many events may wait, split evenly over the workers. Default:
    /// 10,000. Handlers that publish may use a quarter more.
    ///
    /// One source fills the share of its worker and no more: take one worker
    /// where a single source should have it all.
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// The shares of the capacity at which backpressure begins and ends.
    /// Default: 0.8 and 0.5.
    pub fn water_marks(mut self, high: f64, low: f64) -> Self {
        (self.high_water, self.low_water) = (high, low);
        self
    }

    /// Called when backpressure begins: by the publisher that filled the
    /// queue to its high-water mark, so keep it short. A panic is ignored.
    pub fn on_high_water(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.pressure.on_high = Some(Box::new(call));
        self
    }

    /// Called when backpressure ends, by a worker.
    pub fn on_low_water(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.pressure.on_low = Some(Box::new(call));
        self
    }

    /// How long an event may wait in the queue, whatever its priority. One that
    /// has waited longer when a worker takes it reaches no handler, and counts
    /// as [`Outcome::Expired`](crate::Outcome) for each of them. Default: no
    /// limit.
    ///
    /// For a swarm to which old news is no news: after a jam it begins with
    /// what is new. A single event has a
    /// [deadline](crate::Event::with_deadline).
    pub fn queue_ttl(mut self, ttl: Duration) -> Self {
        self.queue_ttl = Some(ttl);
        self
    }

    /// What happens to an event that finds the queue full. Default:
    /// [`Overflow::Reject`]: `publish` waits, `try_publish` gives it back.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// How many dead letters are kept; the oldest goes first. Default: 1,000.
    pub fn dead_letter_capacity(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }

    /// How many handlers there may be, of events and of commands each.
    /// Default: 100,000.
    pub fn max_handlers(mut self, handlers: usize) -> Self {
        self.max_handlers = handlers;
        self
    }

    /// How many event types each worker keeps the route of. Default: 10,000.
    pub fn route_cache(mut self, types: NonZeroUsize) -> Self {
        self.route_cache = types;
        self
    }

    /// Settings of every breaker whose handler does not set its own.
    pub fn breaker(mut self, config: breaker::Config) -> Self {
        self.breaker = config;
        self
    }

    /// One event in how many has its times measured; 0 for none. Default:
    /// [`SAMPLE_EVERY`], 64.
    pub fn sample_every(mut self, events: u32) -> Self {
        self.sample_every = events;
        self
    }

    /// After how long a call of a handler or a command that has not ended is
    /// reported as stalled: in [`Bus::stalls`], in the log, in the metrics and
    /// to [`on_stall`](Self::on_stall), once for each. It is not cut off.
    /// Default: 30 s. [`Duration::MAX`] switches the watching off.
    ///
    /// A thread of the bus looks four times in this time, at least once a
    /// second, by the real clock. It sees plain handlers that never yield, too.
    /// Not watched are plain handlers in calls of `dispatch` beyond one for each
    /// processor at a time. Time in which the whole process was stopped does not
    /// count, if that was longer than half of the limit, and than 2 s.
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit;
        self
    }

    /// Called when a call has stalled, by the thread that looks: while it
    /// blocks, nothing else is reported. A panic is logged and ignored.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    /// use swarmbus::{Bus, Event};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tell, told) = mpsc::channel();
    /// let bus = Bus::builder()
    ///     .stall_limit(Duration::from_millis(20))
    ///     .on_stall(move |stall| drop(tell.send(stall.chain.join(" → "))))
    ///     .build()?;
    /// let _stuck = bus.subscribe("x").name("indexer").handle_async(|_| std::future::pending::<()>())?;
    /// bus.publish(Event::of("x", ())).await?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(60))?, "indexer");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_stall(mut self, call: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(Box::new(call));
        self
    }

    /// Whether every handler call has a `tracing` span, `handle`, and every
    /// command, `execute`. Default: no, as it costs more than the rest of the
    /// bus. Changes of state are logged in any case.
    pub fn tracing(mut self, spans: bool) -> Self {
        self.tracing = spans;
        self
    }

    /// Settings of scheduled events: see [`Bus::schedule`].
    pub fn schedules(mut self, config: ScheduleConfig) -> Self {
        self.schedules = config;
        self
    }

    /// Settings of commands that need an approval: see [`Bus::approvals`].
    pub fn approvals(mut self, config: ApprovalConfig) -> Self {
        self.approvals = config;
        self
    }

    /// Adds middleware for events, after what was added before.
    pub fn event_middleware(mut self, middleware: impl EventMiddleware) -> Self {
        self.middleware.events.push(Arc::new(middleware));
        self
    }

    /// Adds middleware for commands, inside of what was added before.
    pub fn command_middleware(mut self, middleware: impl CommandMiddleware) -> Self {
        self.middleware.commands.push(Arc::new(middleware));
        self
    }

    /// Writes down every event before it is accepted, and what became of it.
    /// Default: nothing is written down.
    ///
    /// An event that finds no handler is done with: subscribe before events come,
    /// and keep subscriptions until [`Bus::shutdown`] has ended.
    pub fn journal(mut self, journal: impl Journal) -> Self {
        self.journal = Some(Arc::new(journal));
        self
    }

    /// Declares a service that handlers call, with the layers around their
    /// calls. A handler gets them by its name
    /// ([`Subscribe::service`](crate::Subscribe::service)); what it sets
    /// itself comes first. At most [`MAX_SERVICES`](crate::MAX_SERVICES).
    pub fn service(mut self, name: impl Into<String>, policy: Policy) -> Self {
        self.services.push((name.into(), policy));
        self
    }

    /// How many calls may go on in tasks of their own, because they wait for a
    /// retry or in a bulkhead. Beyond that they keep their worker, and so hold
    /// publishers back. Default: 10,000; with 0 all do.
    pub fn detached_calls(mut self, calls: usize) -> Self {
        self.detached = calls;
        self
    }

    /// Builds the bus and starts its workers on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn build(mut self) -> Result<Bus, BuildError> {
        // A worker without room for an event would be none.
        self.workers = self.workers.min(self.capacity.max(1));
        let sizes = self.sizes()?;
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let bulkheads = Living::default();
        let mut services = Services::default();
        for (name, policy) in self.services {
            services
                .declare(&name, policy, &bulkheads)
                .map_err(|source| BuildError::Service { name, source })?;
        }
        let clock = self.clock;
        // One secret of this process seeds what must not be guessed.
        let secrets = RandomState::new();
        let seed = |n: usize| secrets.hash_one(n);
        let shards = (0..self.workers)
            .map(|shard| Shard::new(sizes, self.overflow, &clock, seed(shard)))
            .collect();
        let threads = processors().min(32);
        let pool = Pool::new(self.workers, threads, self.route_cache);
        let meter = Arc::new(Meter::new(&self.name, self.sample_every));
        let (stalls, watchdog) = Stalls::new(self.stall_limit, self.on_stall);
        let inner = Arc::new(Inner {
            stalls,
            id: BusId::next(),
            shards,
            by_source: ahash::RandomState::new(),
            routes: Default::default(),
            books: Arc::new(Books::new(self.workers + Pool::cells(threads))),
            pool,
            watched: self.tracing || !self.middleware.events.is_empty(),
            plain: !self.tracing && self.middleware.events.is_empty() && self.journal.is_none(),
            journal: self.journal,
            tracing: self.tracing,
            middleware: self.middleware,
            breakers: Breakers::new(Arc::clone(&meter), self.max_handlers, seed(usize::MAX - 1)),
            services,
            bulkheads,
            degradations: Living::default(),
            detached: DetachedCalls::new(self.detached),
            tally: Tally::default(),
            meter,
            dead_letters: LetterQueue::new(self.dead_letters),
            commands: Default::default(),
            sessions: Default::default(),
            limits: Limits {
                handlers: self.max_handlers,
                breaker: self.breaker,
                queue_ttl: self.queue_ttl,
            },
            pressure: self.pressure,
            scheduler: Arc::new(Scheduler::new(self.schedules)),
            approvals: Arc::new(approval::Book::new(self.approvals)),
            serial: Default::default(),
            stamper: Mutex::new(Stamper::new(&clock, seed(usize::MAX - 2))),
            clock,
            closed: Default::default(),
            stopped: Default::default(),
            idle: Default::default(),
            tasks: Default::default(),
            left_over: Default::default(),
        });
        if let Some(watchdog) = watchdog
            && let Err(error) = watchdog.start(&inner)
        {
            tracing::error!(%error, "no thread could be started: nobody looks for stalled calls");
        }
        let workers = (0..self.workers).map(|index| {
            let runner = Runner::new(CellIndex { index, shared: false }, self.route_cache);
            runtime.spawn(work(Duty(Arc::clone(&inner)), index, runner))
        });
        inner.tasks.lock().extend(workers);
        runtime.spawn(report(Arc::downgrade(&inner)));
        runtime.spawn(approval::drive(Arc::clone(&inner.approvals), Arc::downgrade(&inner)));
        runtime.spawn(schedule::drive(Arc::clone(&inner.scheduler), Arc::downgrade(&inner)));
        Ok(Bus::from_inner(inner))
    }

    fn sizes(&self) -> Result<Sizes, BuildError> {
        let setting = |setting, must| BuildError::Setting { setting, must };
        if !(1..=1_024).contains(&self.workers) {
            return Err(setting("workers", "1 to 1,024"));
        }
        if !(1..=1 << 30).contains(&self.capacity) {
            return Err(setting("capacity", "1 to 2^30"));
        }
        if self.queue_ttl == Some(Duration::ZERO) {
            return Err(setting("queue_ttl", "longer than 0"));
        }
        if self.stall_limit == Duration::ZERO {
            return Err(setting("stall_limit", "longer than 0"));
        }
        let marks = 0.0 <= self.low_water && self.low_water < self.high_water;
        if !(marks && self.high_water <= 1.0) {
            return Err(setting("water_marks", "0 ≤ low < high ≤ 1"));
        }
        let capacity = self.capacity.div_ceil(self.workers);
        let share = |of: f64| (capacity as f64 * of) as usize;
        let high = share(self.high_water).max(1);
        Ok(Sizes {
            capacity: NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN),
            reserve: capacity.div_ceil(4),
            high,
            low: share(self.low_water).min(high - 1),
        })
    }
}

/// Measured with 100 publishing agents on 2 processors: 1 each is a third
/// slower, 8 each are no faster, and would split the capacity further.
const WORKERS_PER_PROCESSOR: usize = 4;

/// See [`BusBuilder::stall_limit`].
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Each handler counts in a cell for each worker.
const MAX_DEFAULT_WORKERS: usize = 32;

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Carries the ledger's totals to the metrics recorder for as long as the bus
/// lives.
async fn report(inner: Weak<Inner>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match inner.upgrade() {
            Some(inner) => inner.meter.report(&inner),
            None => return,
        }
    }
}
