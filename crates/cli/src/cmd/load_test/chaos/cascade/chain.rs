//! A chain of services whose last one hangs, and what that does to calls that
//! do not need it.
//!
//! A call enters at the first service and needs as many as chance decides. Each
//! service has few places, so that calls which wait for the last one take them
//! from all others, up to the beginning of the chain.

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;
use swarmbus::{Bulkhead, CallError, Guard, breaker};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::cmd::load_test::faults::mix;

const SERVICES: [&str; 5] = ["A", "B", "C", "D", "E"];
const LAST: usize = SERVICES.len() - 1;

/// What a service does before it calls the next.
const WORK: Duration = Duration::from_millis(5);

/// How long a call of the first service may take, and by how much less that of
/// each next: it is the service that hangs that runs into its limit first, and
/// not one that waits for it.
const TIMEOUT: Duration = Duration::from_millis(500);
const LESS: Duration = Duration::from_millis(50);

/// A call that takes longer has been held up.
const LATE: Duration = Duration::from_millis(250);

const PLACES: Bulkhead = Bulkhead::new().concurrent(10).queue(50).wait(Duration::from_secs(1));
const OPEN_FOR: Duration = Duration::from_millis(500);

/// When calls come, and when the last service hangs: in the middle third.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) seed: u64,
    pub(super) per_second: f64,
    pub(super) length: Duration,
}

/// What became of the calls of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    pub(super) calls: u64,
    /// Calls that needed the last service while it hung.
    pub(super) in_need: u64,
    /// Others that failed.
    pub(super) failed: u64,
    /// Others that succeeded and were held up.
    pub(super) held_up: u64,
    /// Calls that failed or were held up before anything hung, by themselves.
    pub(super) hit_before: u64,
    pub(super) trips: u64,
}

impl Outcome {
    /// Calls that did not need what failed, and were hit all the same.
    pub(super) fn cascaded(&self) -> u64 {
        self.failed + self.held_up
    }
}

/// What a service answers. One that says what it lacks has not failed itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Done,
    Unavailable,
}

struct Chain {
    guards: Vec<Guard<Reply, Infallible>>,
    hangs: AtomicBool,
}

type Called<'a> = Pin<Box<dyn Future<Output = Result<Reply, CallError<Infallible>>> + Send + 'a>>;

/// Lets the load run through a chain, until `stop`.
pub(super) async fn run(
    load: Load,
    breakers: bool,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Result<Outcome> {
    let chain = Arc::new(Chain::new(breakers)?);
    let started = Instant::now();
    let trouble = load.length / 3..load.length * 2 / 3;
    let (mut outcome, mut calls) = (Outcome::default(), JoinSet::new());
    for number in 0..(load.per_second * load.length.as_secs_f64()) as u64 {
        let due = Duration::from_secs_f64(number as f64 / load.per_second);
        sleep_until(started + due).await;
        if stop.load(Relaxed) {
            break;
        }
        let (hangs, before) = (trouble.contains(&due), due < trouble.start);
        chain.hangs.store(hangs, Relaxed);
        let last = (mix(load.seed ^ mix(number)) % SERVICES.len() as u64) as usize;
        let (chain, done) = (Arc::clone(&chain), Arc::clone(&done));
        calls.spawn(async move {
            let began = Instant::now();
            let fine = matches!(chain.call(0, last).await, Ok(Reply::Done));
            done.fetch_add(1, Relaxed);
            let hung = hangs || chain.hangs.load(Relaxed);
            let (in_need, before) = (hung && last == LAST, !hung && before);
            Call { in_need, before, fine, late: began.elapsed() > LATE }
        });
        while let Some(Ok(call)) = calls.try_join_next() {
            outcome.add(call);
        }
    }
    while let Some(Ok(call)) = calls.join_next().await {
        outcome.add(call);
    }
    outcome.trips = chain.guards.iter().map(|guard| guard.stats().trips).sum();
    Ok(outcome)
}

/// One call at its end.
struct Call {
    in_need: bool,
    /// It was over before anything hung.
    before: bool,
    fine: bool,
    late: bool,
}

impl Outcome {
    fn add(&mut self, call: Call) {
        self.calls += 1;
        self.in_need += u64::from(call.in_need);
        if call.before {
            self.hit_before += u64::from(!call.fine || call.late);
        } else if !call.in_need {
            self.failed += u64::from(!call.fine);
            self.held_up += u64::from(call.fine && call.late);
        }
    }
}

impl Chain {
    fn new(breakers: bool) -> Result<Self> {
        let breaker = breaker::Config::builder().open_for(OPEN_FOR).build()?;
        let guards = SERVICES.iter().zip(0..).map(|(name, before)| {
            let mut guard = Guard::builder(name).bulkhead(PLACES).timeout(TIMEOUT - LESS * before);
            if breakers {
                guard = guard.breaker(breaker.clone());
            }
            Ok(guard.build()?)
        });
        Ok(Self { guards: guards.collect::<Result<_>>()?, hangs: AtomicBool::new(false) })
    }

    /// Calls a service, which calls the next, up to the last that is needed.
    fn call(&self, service: usize, last: usize) -> Called<'_> {
        Box::pin(self.guards[service].call(move || async move {
            if service == LAST && self.hangs.load(Relaxed) {
                return pending().await;
            }
            sleep(WORK).await;
            if service == last {
                return Ok(Reply::Done);
            }
            Ok(self.call(service + 1, last).await.unwrap_or(Reply::Unavailable))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both chains under the same load, without breakers and with.
    async fn both(seed: u64, seconds: u64) -> [Outcome; 2] {
        let load = Load { seed, per_second: 300.0, length: Duration::from_secs(seconds) };
        let run = async |breakers| run(load, breakers, Arc::default(), Arc::default()).await;
        [run(false).await.unwrap(), run(true).await.unwrap()]
    }

    #[tokio::test(start_paused = true)]
    async fn breakers_halve_what_a_hanging_service_does_to_others() {
        for (seed, seconds) in [(1, 5), (2, 5), (3, 5), (4, 5), (1, 20)] {
            let [without, with] = both(seed, seconds).await;
            println!("{seconds} s, without breakers: {without:?}, with: {with:?}");
            assert_eq!((without.calls, with.calls), (300 * seconds, 300 * seconds));
            assert_eq!((without.hit_before, with.hit_before), (0, 0));
            assert!(without.cascaded() > 50 * seconds, "{without:?}");
            assert!(with.cascaded() * 4 <= without.cascaded(), "{with:?}, {without:?}");
            assert!(with.trips > 0 && without.trips == 0);
        }
    }
}
