//! redis-rs by itself: pub/sub, and the PING that latencies are held against.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, Pipeline,
    aio::{MultiplexedConnection, PubSubStream},
};

use super::{
    arena::{Arena, Arrivals, PIPELINE, histogram, runtime},
    pace::{begin, pace},
};

/// Channels of its own, so that no other subscriber gets anything.
const FLOOD: &str = "bench:redis-rs";
const PACED: &str = "bench:redis-rs:paced";

/// Publishes as fast as it is taken.
pub(super) fn flood(arena: &Arc<Arena>) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let (here, there) = (runtime(), runtime());
    let connection = here.block_on(connect(&arena));
    let mut messages = Some(there.block_on(subscribe(&arena, FLOOD)));
    move |n| {
        let mut stream = messages.take().expect("it was given back");
        let reader = there.spawn(async move {
            let mut arrivals = Arrivals::new(n);
            while let Some(message) = stream.next().await {
                if arrivals.came(message.get_payload_bytes()) {
                    break;
                }
            }
            (stream, Instant::now())
        });
        let (arena, connection) = (Arc::clone(&arena), connection.clone());
        let began = Instant::now();
        let writer = here.spawn(async move {
            let batches = (0..n.div_ceil(PIPELINE)).map(|batch| {
                let mut pipeline = Pipeline::with_capacity(PIPELINE as usize);
                for number in batch * PIPELINE..n.min((batch + 1) * PIPELINE) {
                    pipeline.publish(FLOOD, &arena.payload(number)[..]).ignore();
                }
                let mut connection = connection.clone();
                async move { pipeline.exec_async(&mut connection).await.expect("published") }
            });
            stream::iter(batches).buffered(2).for_each(async |()| ()).await;
        });
        let (stream, ended) = there.block_on(reader).expect("no panic");
        here.block_on(writer).expect("no panic");
        messages = Some(stream);
        ended - began
    }
}

/// Publishes at an even rate.
pub(super) fn paced(arena: &Arc<Arena>) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let (here, there) = (runtime(), runtime());
    let connection = here.block_on(connect(&arena));
    let mut messages = Some(there.block_on(subscribe(&arena, PACED)));
    move |n| {
        let mut stream = messages.take().expect("it was given back");
        let clock = Arc::clone(&arena);
        let reader = there.spawn(async move {
            let mut arrivals = Arrivals::in_any_order(n);
            while let Some(message) = stream.next().await {
                if arrivals.came_after(message.get_payload_bytes(), clock.now()) {
                    break;
                }
            }
            (stream, arrivals.p99())
        });
        pace(n, |number| {
            let mut connection = connection.clone();
            let payload = arena.payload(number);
            begin(&here, async move {
                let published: i64 =
                    connection.publish(PACED, &payload[..]).await.expect("published");
                assert_eq!(published, 1, "subscribers");
            });
        });
        let (stream, p99) = there.block_on(reader).expect("no panic");
        messages = Some(stream);
        p99
    }
}

/// PINGs at the same rate: the way to the server and back.
pub(super) fn pings(arena: &Arc<Arena>) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let here = runtime();
    let connection = here.block_on(connect(&arena));
    move |n| {
        let (pong, pongs) = mpsc::channel();
        pace(n, |_| {
            let (mut connection, pong) = (connection.clone(), pong.clone());
            let (arena, sent) = (Arc::clone(&arena), arena.now());
            begin(&here, async move {
                let answer: String = connection.ping().await.expect("an answer");
                assert_eq!(answer, "PONG");
                let _ = pong.send(arena.now() - sent);
            });
        });
        drop(pong);
        let mut took = histogram();
        pongs.iter().for_each(|nanos| took.saturating_record(nanos));
        assert_eq!(took.len(), n, "answers");
        Duration::from_nanos(took.value_at_quantile(0.99))
    }
}

async fn connect(arena: &Arena) -> MultiplexedConnection {
    let client = Client::open(arena.server.url()).expect("a URL");
    // No side's commands have a limit of time.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    connected.expect("a connection")
}

async fn subscribe(arena: &Arena, channel: &str) -> PubSubStream {
    let client = Client::open(arena.server.url()).expect("a URL");
    let mut pubsub = client.get_async_pubsub().await.expect("a connection");
    pubsub.subscribe(channel).await.expect("subscribed");
    pubsub.into_on_message()
}
