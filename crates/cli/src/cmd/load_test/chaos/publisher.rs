//! Publishing by the plan.

use std::{
    ops::{AddAssign, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use swarmbus::{Bus, Event, core::Str};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{plan::Plan, service};
use crate::cmd::load_test::{
    args::Args,
    faults::mix,
    message::{Body, HEADER_LEN, Note, Watch, What},
    outlet::{Mode, Outlet, Sent},
};

/// The most tasks that publish: while one waits for room in the queue, or for a
/// log, the others go on.
const MOST: usize = 100;

/// What publishers counted for themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    pub(super) sent: Sent,
    /// The sum of a hash of all events that the bus took.
    pub(super) hash: u64,
}

impl AddAssign for Published {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

struct Publisher {
    outlet: Outlet,
    watch: Watch,
    body: Body,
    sources: Vec<Str>,
    hash: u64,
}

pub(super) fn start(
    bus: &Bus,
    args: &Args,
    plan: &Plan,
    watch: &Watch,
    started: Instant,
    stop: &Arc<AtomicBool>,
) -> JoinSet<Published> {
    let mut body = vec![0; args.payload - HEADER_LEN];
    fastrand::Rng::with_seed(args.seed).fill(&mut body);
    let body = Body::new(body);
    let publishers = args.agents.min(MOST);
    (0..publishers)
        .map(|number| {
            // All events of a source are published by one task, in their order.
            let sources = (number..args.agents).step_by(publishers);
            let publisher = Publisher {
                outlet: Outlet::new(bus.clone(), Mode::Queued),
                watch: watch.clone(),
                body: body.clone(),
                sources: sources.map(|n| Str::from(format!("agent-{n}"))).collect(),
                hash: 0,
            };
            let ours = Ours { number: number as u64, of: publishers as u64 };
            publisher.run(ours, plan.clone(), started, Arc::clone(stop))
        })
        .collect()
}

/// Which events are one publisher's: every so manieth.
#[derive(Clone, Copy)]
struct Ours {
    number: u64,
    of: u64,
}

impl Ours {
    fn among(self, events: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let first = events.start.next_multiple_of(self.of) + self.number;
        let before = first.checked_sub(self.of).filter(|before| *before >= events.start);
        (before.unwrap_or(first)..events.end).step_by(self.of as usize)
    }
}

impl Publisher {
    /// Publishes every event of the plan that is this publisher's, until told
    /// to stop. One that is late does not leave any out.
    async fn run(
        mut self,
        ours: Ours,
        plan: Plan,
        started: Instant,
        stop: Arc<AtomicBool>,
    ) -> Published {
        'steps: for step in plan.steps() {
            for event in ours.among(&step.events) {
                sleep_until(started + step.due).await;
                if stop.load(Relaxed) || !self.publish(&plan, event).await {
                    break 'steps;
                }
            }
        }
        Published { sent: self.outlet.sent, hash: self.hash }
    }

    /// False when the bus is closed.
    async fn publish(&mut self, plan: &Plan, number: u64) -> bool {
        let service = plan.service_of(number);
        let now = self.watch.now();
        let note = Note { what: What::Task, coordinator: service as u32, task: number, began: now };
        let source = self.sources[mix(number) as usize % self.sources.len()].clone();
        let event = Event::new(service::event_type(service), self.body.payload(note, now));
        let before = self.outlet.sent.accepted;
        let open = self.outlet.send(event.with_source(source)).await.is_ok();
        if self.outlet.sent.accepted > before {
            self.hash = self.hash.wrapping_add(mix(number));
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_one_publisher() {
        for of in [1, 3, 100] {
            for (start, end) in [(0, 0), (0, 7), (5, 6), (99, 420)] {
                let all = (0..of).flat_map(|number| Ours { number, of }.among(&(start..end)));
                let mut all: Vec<_> = all.collect();
                all.sort_unstable();
                assert_eq!(all, (start..end).collect::<Vec<_>>());
            }
        }
    }
}
