//! Figures of the bus that are held against a limit: latency and memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use quanta::Clock;
use swarmbus::{Bus, Event, Overflow, Timestamp};

use super::{AGENTS, Agent, CAPACITY, Swarm, runtime};
use crate::harness::{Effort, Row, Unit};

/// Memory first, before freed memory of other cases can hide growth.
pub fn limits(effort: Effort) -> Vec<Row> {
    let mut rows = memory(effort);
    rows.push(latency(effort));
    rows
}

/// p99 from just before `publish` to the handler's start, in microseconds, at
/// half the rate that the same agents reach unpaced in the same round.
///
/// 100 agents publish evenly spaced events, each agent at its own phase; one
/// that is late catches up, and its waiting counts. Every event is timed.
/// Pacing is by yielding until an event is due: timers are too coarse for
/// millions of events a second.
fn latency(effort: Effort) -> Row {
    let events = 10_000_000 / effort.divide;
    let round = |_| {
        let (rate, _) = timed_events(events / 2, None);
        let (paced, times) = timed_events(events, Some(rate / 2.0));
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| times.value_at_quantile(q));
        let (paced, max) = (paced / 1e6, times.max());
        eprintln!("  at {paced:.1} M/s: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max} µs");
        p99 as f64
    };
    let p99 = (0..effort.rounds).map(round).collect();
    Row::limit("p99 publish to handler at half the saturated rate", Unit::Microseconds, 1e3, p99)
}

/// In microseconds, up to a minute, within 1 %.
type Times = Histogram<u32>;

fn times() -> Times {
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("bounds")
}

/// Publishes this many events, paced to so many a second if told so. Returns
/// the events a second, and the times.
fn timed_events(events: u64, rate: Option<f64>) -> (f64, Times) {
    runtime().block_on(async {
        let bus = Bus::builder().capacity(CAPACITY).build().expect("a bus");
        let swarm = Swarm::of(events);
        let clock = Stopwatch::start();
        let agents: Vec<_> =
            swarm.agents.iter().map(|a| TimedAgent::new(a, &bus, &clock)).collect();
        let spacing = rate.map(|rate| AGENTS as f64 / rate * 1e6);
        let started = Instant::now();
        let publishers: Vec<_> = (0..AGENTS)
            .map(|n| {
                let agent = Arc::clone(&swarm.agents[n]);
                let phase = n as f64 / AGENTS as f64;
                tokio::spawn(publish(bus.clone(), agent, swarm.each, clock.clone(), phase, spacing))
            })
            .collect();
        for publisher in publishers {
            publisher.await.expect("no panic");
        }
        assert_eq!(bus.drain(Duration::from_secs(60)).await, 0);
        let took = started.elapsed();
        swarm.finish(events, took);
        let mut all = times();
        for agent in agents {
            all.add(&*agent.times.lock()).expect("the same bounds");
        }
        assert_eq!(all.len(), swarm.published(), "every event is timed");
        (all.len() as f64 / took.as_secs_f64(), all)
    })
}

/// The life of one paced agent; `spacing` in microseconds.
async fn publish(
    bus: Bus,
    agent: Arc<Agent>,
    each: u64,
    clock: Stopwatch,
    phase: f64,
    spacing: Option<f64>,
) {
    let begin = clock.micros() as f64;
    for n in 0..each {
        let mut now = clock.micros();
        if let Some(spacing) = spacing {
            let due = begin + (n as f64 + phase) * spacing;
            while (now as f64) < due {
                tokio::task::yield_now().await;
                now = clock.micros();
            }
        }
        let event = agent.event().with_timestamp(Timestamp::from_micros(now).expect("in range"));
        bus.publish(event).await.expect("published");
    }
}

/// An agent whose handler also notes how long events took.
struct TimedAgent {
    times: Arc<Mutex<Times>>,
}

impl TimedAgent {
    fn new(agent: &Agent, bus: &Bus, clock: &Stopwatch) -> Self {
        let times = Arc::new(Mutex::new(times()));
        let (handler, clock, record) = (agent.handler(), clock.clone(), Arc::clone(&times));
        let handler = move |event: &Event| {
            let published = event.timestamp().map_or(0, Timestamp::as_micros);
            record.lock().saturating_record(clock.micros().saturating_sub(published));
            handler(event);
        };
        bus.subscribe(agent.ty.as_str()).handle(handler).expect("a subscription").detach();
        Self { times }
    }
}

/// Microseconds since it was started, never 0, from the cycle counter.
#[derive(Clone)]
struct Stopwatch {
    clock: Clock,
    origin: u64,
}

impl Stopwatch {
    fn start() -> Self {
        let clock = Clock::new();
        Self { origin: clock.raw(), clock }
    }

    #[inline]
    fn micros(&self) -> u64 {
        self.clock.delta_as_nanos(self.origin, self.clock.raw()) / 1_000 + 1
    }
}

/// How much resident memory grows, at its highest, while 10 million events of
/// 1 KB, each with a payload of its own, are published into a full queue
/// whose handler never returns.
fn memory(effort: Effort) -> Vec<Row> {
    if resident_mb().is_none() {
        eprintln!("  memory: this system has no /proc, left out");
        return Vec::new();
    }
    let events = 10_000_000 / effort.divide;
    let policies = [
        ("full queue, stuck handler: new events are rejected", Overflow::Reject),
        ("full queue, stuck handler: the oldest are dropped", Overflow::DropOldest),
    ];
    // One bus is kept while the next one is measured: its freed memory could
    // hide growth.
    let mut buses = Vec::new();
    let measure = |(case, overflow)| {
        let runtime = runtime();
        let (grown, bus) = runtime.block_on(stuck(events, overflow));
        buses.push((bus, runtime));
        Row::limit(case, Unit::Megabytes, 64.0, vec![grown])
    };
    let rows = policies.into_iter().map(measure).collect();
    for (bus, runtime) in buses {
        drop(bus);
        runtime.shutdown_background();
    }
    rows
}

async fn stuck(events: u64, overflow: Overflow) -> (f64, Bus) {
    const LOOK_EVERY: u64 = 1 << 16;
    let bus = Bus::builder().capacity(CAPACITY).workers(1).overflow(overflow).build();
    let bus = bus.expect("a bus");
    let stuck = bus.subscribe("x").handle_async(|_| std::future::pending::<()>());
    stuck.expect("a subscription").detach();
    let before = resident_mb().unwrap_or_default();
    let (mut highest, mut refused) = (before, 0);
    for n in 0..events {
        let event = Event::of("x", vec![n as u8; 1_024]);
        refused += u64::from(bus.try_publish(event).is_err());
        if n % LOOK_EVERY == 0 {
            highest = resident_mb().unwrap_or_default().max(highest);
            tokio::task::yield_now().await;
        }
    }
    let highest = resident_mb().unwrap_or_default().max(highest);
    let ledger = bus.ledger();
    assert_eq!(ledger.published + ledger.refused, events);
    assert_eq!(ledger.refused, refused);
    assert_eq!(bus.depth(), CAPACITY, "the queue is full");
    assert_eq!(ledger.outcomes.delivered, 0, "the handler is stuck");
    (highest - before, bus)
}

/// Resident memory of this process.
fn resident_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1_024.0)
}
