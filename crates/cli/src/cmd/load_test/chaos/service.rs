//! The services: handlers that have trouble, behind every layer there is.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use swarmbus::{
    BreakerScope, Bulkhead, Bus, Event, EventType,
    breaker::{self, Window},
    core::backoff::{Backoff, Jitter},
};

use super::{
    Nonsense,
    account::{Account, Why},
    faults::{Fault, Faults},
    outage::Outage,
    plan::{Plan, SERVICES},
};
use crate::cmd::load_test::{
    args::Args,
    message::{Message, Watch},
    recorder::{Part, Recorder},
};

/// How long a slow call takes.
const SLOW: Duration = Duration::from_millis(50);

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Four more tries: what fails once in five times then fails once in 3,000.
const RETRY: Backoff = Backoff::exponential(Duration::from_millis(10))
    .cap(Duration::from_millis(200))
    .jitter(Jitter::Spread(25))
    .max_tries(4);

/// Of all calls, in percent. A fifth of all tries is expected to fail.
const RETRY_BUDGET: u8 = 50;

/// Breakers stay open for this long.
pub(super) const OPEN_FOR: Duration = Duration::from_millis(250);

/// Failures in a row that open one. Five, as usual, come about once a second
/// where every fifth call fails.
const FAILURES: u32 = 20;

/// Room for the slow ones among the calls of a burst; the others are over at
/// once.
const BULKHEAD: Bulkhead = Bulkhead::new().concurrent(20).queue(500).wait(Duration::from_secs(1));

/// All services, and what is known of them.
pub(super) struct Services {
    faults: Faults,
    first_of_chaos: u64,
    pub(super) outage: Arc<Outage>,
    pub(super) account: Arc<Account>,
    pub(super) watch: Watch,
    /// Publish to handled, before and since the chaos.
    calm: Recorder,
    chaos: Recorder,
    fallbacks: AtomicU64,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the payload is not what was published")]
    Corrupted,
    #[error("failed on purpose (--fail-rate)")]
    Injected,
    #[error("the service is down (--outage)")]
    Down,
}

impl Services {
    pub(super) fn new(args: &Args, plan: &Plan) -> Result<Self, Nonsense> {
        Ok(Self {
            faults: Faults::new(args)?,
            first_of_chaos: plan.first_of_chaos(),
            outage: Arc::new(Outage::new(plan)),
            account: Arc::default(),
            watch: Watch::start(),
            calm: Recorder::default(),
            chaos: Recorder::default(),
            fallbacks: AtomicU64::new(0),
        })
    }

    /// Events that services handled, so far.
    pub(super) fn delivered(&self) -> u64 {
        self.calm.delivered() + self.chaos.delivered()
    }

    /// What they saw in the calm and in the chaos.
    pub(super) fn seen(&self) -> [Part; 2] {
        [self.calm.total(), self.chaos.total()]
    }

    /// Events that fallbacks handled, so far.
    pub(super) fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Relaxed)
    }

    async fn serve(self: Arc<Self>, service: u64, event: Event) -> Result<(), Trouble> {
        let read = Message::read(event.payload()).filter(|message| message.intact);
        let Some(message) = read else {
            self.chaos.with(|part| part.corrupted += 1);
            return Err(Trouble::Corrupted);
        };
        let number = message.note.task;
        let attempt = self.account.begin(number);
        let is_chaos = number >= self.first_of_chaos;
        let fault = if is_chaos { self.faults.of(number, attempt) } else { Fault::None };
        if self.outage.is_down(service) {
            self.account.fail(number, Why::Down);
            return Err(Trouble::Down);
        }
        match fault {
            Fault::None => {}
            Fault::Waits => tokio::time::sleep(SLOW).await,
            Fault::Fails => {
                self.account.fail(number, Why::Failed);
                return Err(Trouble::Injected);
            }
            Fault::Panics => {
                self.account.fail(number, Why::Panicked);
                // A panic like any other, but for its message on the terminal.
                resume_unwind(Box::new("panicked on purpose (--panic-rate)"));
            }
            Fault::Hangs => {
                // Written down before, as there will be no after.
                self.account.fail(number, Why::TimedOut);
                return std::future::pending().await;
            }
        }
        self.outage.delivered(service);
        let now = self.watch.now();
        let recorder = if is_chaos { &self.chaos } else { &self.calm };
        recorder.with(|part| {
            part.delivered += 1;
            part.latency.saturating_record(now.saturating_sub(message.sent));
        });
        Ok(())
    }

    /// Takes over for a service.
    fn stand_in(&self, event: &Event) -> Result<(), Trouble> {
        let message = Message::read(event.payload()).filter(|message| message.intact);
        message.ok_or(Trouble::Corrupted)?;
        self.fallbacks.fetch_add(1, Relaxed);
        Ok(())
    }
}

pub(super) fn name(service: u64) -> String {
    format!("service-{service}")
}

pub(super) fn event_type(service: u64) -> EventType {
    let ty = EventType::new(format!("service.{service}.call"));
    ty.unwrap_or_else(|_| EventType::from_static("unroutable"))
}

/// Subscribes them all. Every second one has a fallback.
pub(super) fn subscribe(bus: &Bus, services: &Arc<Services>) -> Result<()> {
    // One success closes it: where every fifth call fails, three in a row are
    // mere luck.
    let breaker = breaker::Config::builder()
        .consecutive_failures(FAILURES)
        .window(Window::calls(100).minimum_calls(50))
        .successes_to_close(1)
        .open_for(OPEN_FOR)
        .build()?;
    for service in 0..SERVICES {
        let mut subscribe = bus
            .subscribe(event_type(service).as_str())
            .name(name(service))
            .retry(RETRY)
            .retry_budget(RETRY_BUDGET, 10)
            .breaker(BreakerScope::PerHandler)
            .breaker_config(breaker.clone())
            .bulkhead(BULKHEAD)
            .timeout(TIMEOUT);
        if service.is_multiple_of(2) {
            let services = Arc::clone(services);
            subscribe = subscribe.fallback("stand-in", move |event| services.stand_in(event));
        }
        let services = Arc::clone(services);
        let handler = move |event| Arc::clone(&services).serve(service, event);
        subscribe.handle_async(handler).context("cannot subscribe")?.detach();
    }
    Ok(())
}
