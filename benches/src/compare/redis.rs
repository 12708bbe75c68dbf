//! The messenger on Redis, beside Redis's own benchmark and other clients.
//!
//! All sides use one private server, in turns; it cuts off no subscriber,
//! however much waits for it (`client-output-buffer-limit pubsub 0 0 0`), and
//! keeps nothing on disk. Events have 200 bytes of payload, and each has its
//! number in it: a run has ended when the subscriber has had every one, once and
//! in order (where publishers of a rival overtake each other, in any order). Only what
//! `redis-benchmark` sends is all the same; its subscriber is a thread that
//! compares what comes, byte by byte, and counts it.
//!
//! Publisher and subscriber have connections and runtimes of their own, as
//! they would in two processes. What is measured goes from the first event
//! published to the last received; for `redis-benchmark`, from the first
//! received, so that its start does not count.
//!
//! The rivals send pipelines, two at a time. For the percentile, each event is
//! published by itself, and ours goes from one messenger to a handler of another.

mod arena;
mod bare;
mod fred;
mod node;
mod ours;
mod pace;
mod tool;

use std::{num::NonZeroUsize, sync::Arc};

use swarmbus_redis::{RedisBuilder, RedisTransport, Settings};

use self::arena::Arena;
use crate::harness::Case;

/// Events of a run that looks for percentiles: 1.5 s of them.
const PACED: u64 = 15_000;

/// What is compared with rivals.
pub fn cases() -> Vec<Case> {
    let arena = &Arc::new(Arena::new());
    let clients: Vec<_> = ["node-redis", "ioredis"]
        .into_iter()
        .filter_map(|name| Some((name, node::Client::start(arena, name)?)))
        .collect();

    let (live, durable) = (arena::live(), arena::durable());
    let publish = "redis-benchmark -P 64 PUBLISH";
    let mut batches = Case::per_second("live, micro-batched", ours::flood(arena, live, batched))
        .against(publish, 1.0, tool::publish(arena, "bench:tool:batched"))
        .against("fred", 1.0, fred::flood(arena))
        .against("redis-rs", 1.0, bare::flood(arena));
    for (name, side) in &clients {
        batches = batches.against(name, 1.0, side.flood());
    }
    let single = arena::single();
    let single = Case::per_second("live, an event a PUBLISH", ours::flood(arena, single, alone))
        .against(publish, 0.5, tool::publish(arena, "bench:tool:single"));
    let logged = Case::per_second("durable, micro-batched", ours::flood(arena, durable, batched))
        .against("redis-benchmark -P 64 XADD", 1.0, tool::xadd(arena));

    let name = "p99 from publish to remote handler, 10,000/s";
    let mut paced = Case::percentile(name, PACED, ours::paced(arena))
        .against("PING, redis-rs", 0.25, bare::pings(arena))
        .against("fred", 1.0, fred::paced(arena))
        .against("redis-rs", 1.0, bare::paced(arena));
    for (name, side) in &clients {
        paced = paced.against(name, 1.0, side.paced());
    }
    vec![batches, single, logged, paced]
}

fn batched(url: &str) -> RedisBuilder {
    RedisTransport::builder(Settings::new(url).expect("a URL"))
}

fn alone(url: &str) -> RedisBuilder {
    batched(url).batch_events(NonZeroUsize::MIN)
}
