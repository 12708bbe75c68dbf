//! An agent's way out over a transport: to the channel of each process in which
//! somebody handles the event.
//!
//! A payload has a trailer, by which events are told apart: the number of the
//! agent (4 bytes) and of the event among those to this channel (8 bytes), both
//! little-endian.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Result;
use swarmbus::{
    Event, EventType, Payload,
    transport::{Channel, Transport, TransportError},
};
use swarmbus_redis::RedisTransport;

use crate::cmd::load_test::{
    outlet::{Closed, Sent},
    swarm::{Swarm, result_type, task_type, vote_type},
};

/// Bytes after the body.
pub(in crate::cmd::load_test) const TRAILER_LEN: usize = 12;

/// How many events make a batch.
const BATCH: usize = 64;

/// Which process has which agents: Node.js has the first workers, each in a
/// process of its own, which come after those of this program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub(super) processes: usize,
    pub(super) node_agents: usize,
}

impl Spread {
    /// The process of the coordinator or validator with this number.
    fn of(self, number: usize) -> usize {
        number % self.processes
    }

    fn of_worker(self, number: usize) -> usize {
        if number < self.node_agents { self.processes + number } else { self.of(number) }
    }

    /// The processes of a worker's validators.
    pub(super) fn of_validators(self, swarm: &Swarm, worker: usize) -> Vec<usize> {
        let validators = swarm.members(swarm.team_of(worker), swarm.validators);
        let there: BTreeSet<_> = validators.map(|validator| self.of(validator)).collect();
        there.into_iter().collect()
    }
}

/// A process, and how its agents reach the others.
pub(in crate::cmd::load_test) struct Home {
    process: usize,
    spread: Spread,
    transport: RedisTransport,
    routes: Arc<Routes>,
}

struct Routes {
    channels: Vec<Channel>,
    /// In which processes somebody handles a type.
    places: HashMap<EventType, Vec<usize>>,
    /// Events that the transport took, for each channel.
    published: Vec<AtomicU64>,
}

impl Home {
    pub(super) fn new(
        process: usize,
        transport: RedisTransport,
        channels: Vec<Channel>,
        (swarm, spread): (&Swarm, Spread),
    ) -> Result<Self> {
        let places = places(swarm, spread)?;
        let published = channels.iter().map(|_| AtomicU64::new(0)).collect();
        let routes = Arc::new(Routes { channels, places, published });
        Ok(Self { process, spread, transport, routes })
    }

    /// Whether this process has the coordinator and the validator with this number.
    pub(in crate::cmd::load_test) fn has(&self, number: usize) -> bool {
        self.spread.of(number) == self.process
    }

    /// Whether it has the worker with this number.
    pub(in crate::cmd::load_test) fn has_worker(&self, number: usize) -> bool {
        self.spread.of_worker(number) == self.process
    }

    /// The way out of the agent with this number among all.
    pub(in crate::cmd::load_test) fn wire(&self, agent: u32) -> Wire {
        let lanes = self.routes.channels.iter().map(|_| Lane::default()).collect();
        let (transport, routes) = (self.transport.clone(), Arc::clone(&self.routes));
        Wire { agent, transport, routes, lanes }
    }

    /// Events that the transport took, for each channel.
    pub(super) fn published(&self) -> Vec<u64> {
        self.routes.published.iter().map(|count| count.load(Relaxed)).collect()
    }
}

fn places(swarm: &Swarm, spread: Spread) -> Result<HashMap<EventType, Vec<usize>>> {
    let mut places = HashMap::new();
    for worker in 0..swarm.workers {
        places.insert(task_type(worker, None)?, vec![spread.of_worker(worker)]);
        let results = result_type(swarm.team_of(worker), worker)?;
        places.insert(results, spread.of_validators(swarm, worker));
    }
    for coordinator in 0..swarm.coordinators {
        places.insert(vote_type(coordinator)?, vec![spread.of(coordinator)]);
    }
    Ok(places)
}

pub(in crate::cmd::load_test) struct Wire {
    agent: u32,
    transport: RedisTransport,
    routes: Arc<Routes>,
    lanes: Vec<Lane>,
}

/// What one agent publishes to one channel.
#[derive(Default)]
struct Lane {
    next: u64,
    batch: Vec<Event>,
}

impl Wire {
    /// Keeps an event for the batches of those who handle it.
    pub(in crate::cmd::load_test) async fn send(
        &mut self,
        event: &Event,
        sent: &mut Sent,
    ) -> Result<(), Closed> {
        let routes = Arc::clone(&self.routes);
        for place in routes.places.get(event.ty()).into_iter().flatten() {
            let lane = &mut self.lanes[*place];
            let payload = numbered(event, self.agent, lane.next);
            lane.next += 1;
            lane.batch.push(event.clone().with_payload(payload));
            if lane.batch.len() >= BATCH {
                self.publish(*place, sent).await?;
            }
        }
        Ok(())
    }

    /// Publishes what is kept.
    pub(in crate::cmd::load_test) async fn flush(&mut self, sent: &mut Sent) -> Result<(), Closed> {
        for place in 0..self.lanes.len() {
            if !self.lanes[place].batch.is_empty() {
                self.publish(place, sent).await?;
            }
        }
        Ok(())
    }

    async fn publish(&mut self, place: usize, sent: &mut Sent) -> Result<(), Closed> {
        let Routes { channels, published, .. } = &*self.routes;
        let batch = &mut self.lanes[place].batch;
        let before = batch.len();
        // The transport waits for its connection, and for room.
        let result = self.transport.publish_batch(&channels[place], batch).await;
        let taken = (before - batch.len()) as u64;
        published[place].fetch_add(taken, Relaxed);
        sent.accepted += taken;
        if result.is_err() {
            sent.handed_back += batch.len() as u64;
            sent.given_up += batch.len() as u64;
            batch.clear();
        }
        if matches!(result, Err(TransportError::Closed)) { Err(Closed) } else { Ok(()) }
    }
}

fn numbered(event: &Event, agent: u32, number: u64) -> Payload {
    let payload = event.payload();
    let mut bytes = Vec::with_capacity(payload.len() + TRAILER_LEN);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&agent.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    Payload::raw(event.content(), bytes)
}

/// The event as the agent made it, its agent and its number; `None` if nobody
/// here published it.
pub(super) fn read(event: Event) -> Option<(Event, u32, u64)> {
    let payload = event.payload();
    let at = payload.len().checked_sub(TRAILER_LEN)?;
    let (agent, number) = payload[at..].split_at_checked(4)?;
    let agent = u32::from_le_bytes(agent.try_into().ok()?);
    let number = u64::from_le_bytes(number.try_into().ok()?);
    let body = Payload::raw(event.content(), payload.slice(..at));
    Some((event.with_payload(body), agent, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_off_again() {
        let event = Event::of("worker.1.task", "body");
        let sent = event.clone().with_payload(numbered(&event, 7, 1 << 40));
        assert_eq!(read(sent), Some((event, 7, 1 << 40)));
        assert_eq!(read(Event::of("worker.1.task", "body")), None);
    }

    #[test]
    fn a_result_goes_to_the_processes_of_its_validators() {
        let swarm = Swarm::of(100);
        let spread = Spread { processes: 4, node_agents: 0 };
        let places = places(&swarm, spread).unwrap();
        let at = |ty: &str| places[&EventType::new(ty).unwrap()].clone();
        // Team 3 has validators 3 and 13.
        assert_eq!(at("team.3.result.13"), [1, 3]);
        assert_eq!(at("worker.6.task"), [2]);
        assert_eq!(at("coordinator.19.vote"), [3]);
    }

    #[test]
    fn the_first_workers_are_those_of_node() {
        let spread = Spread { processes: 2, node_agents: 3 };
        let places = places(&Swarm::of(100), spread).unwrap();
        let at = |ty: &str| places[&EventType::new(ty).unwrap()].clone();
        assert_eq!(
            [at("worker.0.task"), at("worker.2.task"), at("worker.3.task")],
            [[2], [4], [1]]
        );
        assert_eq!(at("team.0.result.0"), [0]);
    }
}
