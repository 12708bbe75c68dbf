//! Inline `dispatch` against the least that any router must do.

use std::{
    collections::HashMap,
    hint::black_box,
    time::{Duration, Instant},
};

use ahash::RandomState;
use swarmbus::{Bus, Event, EventType};

use super::{Handler, Swarm};
use crate::{
    compare::random_order,
    harness::{Case, timed},
};

/// One thread, 100 types, the same handlers and events on both sides; events
/// are made once, outside of what is measured.
///
/// Ours: `Dispatcher::dispatch`, or `Bus::dispatch`, with routing, breaker,
/// ledger, metrics and the panic guard. Rival: one lookup in a `HashMap` with
/// ahash and the call of the boxed handler found there, with nothing around
/// it.
pub(super) fn cases() -> [Case; 2] {
    let kept = Case::per_second("inline, Dispatcher::dispatch", |n| dispatch(n, By::Dispatcher));
    let borrowed = Case::per_second("inline, Bus::dispatch", |n| dispatch(n, By::Bus));
    [kept, borrowed].map(|case| case.against("bare ahash map", 0.4, bare_map))
}

/// Events in the order both sides see them.
fn events(swarm: &Swarm) -> (Vec<Event>, Vec<u32>) {
    let events = swarm.agents.iter().map(|agent| agent.event()).collect();
    (events, random_order(ORDER, swarm.agents.len()))
}

/// A power of two, so that the loop wraps around with a mask.
const ORDER: usize = 1 << 12;

#[derive(Clone, Copy)]
enum By {
    Dispatcher,
    Bus,
}

fn dispatch(n: u64, by: By) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let bus = Bus::builder().build().expect("a bus");
        let swarm = Swarm::of(0);
        swarm.subscribe(&bus);
        let (events, order) = events(&swarm);
        let event = |i: usize| black_box(&events[order[i % ORDER] as usize]);
        let started = Instant::now();
        match by {
            By::Bus => {
                for i in 0..n as usize {
                    black_box(bus.dispatch(event(i)).await.expect("handled"));
                }
            }
            By::Dispatcher => {
                let mut dispatcher = bus.dispatcher();
                for i in 0..n as usize {
                    black_box(dispatcher.dispatch(event(i)).await.expect("handled"));
                }
            }
        }
        let took = started.elapsed();
        let ledger = bus.ledger();
        assert!(ledger.balances() && ledger.outcomes.delivered == n);
        swarm.handled(n);
        took
    })
}

fn bare_map(n: u64) -> Duration {
    let swarm = Swarm::of(0);
    let types = swarm.agents.iter().map(|agent| agent.ty.clone());
    let handlers: HashMap<EventType, Handler, RandomState> = types.zip(swarm.handlers()).collect();
    let (events, order) = events(&swarm);
    let mut i = 0;
    let took = timed(n, || {
        let event = black_box(&events[order[i % ORDER] as usize]);
        handlers.get(event.ty()).expect("a handler")(event);
        i += 1;
    });
    swarm.handled(n);
    took
}

impl Swarm {
    fn handled(&self, n: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let sum: u64 = self.agents.iter().map(|agent| agent.handled.load(Relaxed)).sum();
        assert_eq!(sum, n, "lost events");
    }
}
