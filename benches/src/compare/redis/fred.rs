//! fred, a client with pipelines of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    clients::SubscriberClient,
    prelude::{Builder, Client, ClientLike, Config, EventInterface, PubsubInterface},
    types::Message,
};
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::Receiver;

use super::{
    arena::{Arena, Arrivals, PIPELINE, runtime},
    pace::{begin, pace},
};

/// Channels of its own, so that no other subscriber gets anything.
const FLOOD: &str = "bench:fred";
const PACED: &str = "bench:fred:paced";

/// Messages that may wait for the reader. By default it loses what comes while
/// 32 wait.
const INBOX: usize = 1 << 18;

/// Publishes as fast as it is taken.
pub(super) fn flood(arena: &Arc<Arena>) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let (here, there) = (runtime(), runtime());
    let client = here.block_on(connect(&arena));
    let (subscriber, messages) = there.block_on(subscribe(&arena, FLOOD));
    let mut messages = Some(messages);
    move |n| {
        let _open = &subscriber;
        let mut stream = messages.take().expect("it was given back");
        let reader = there.spawn(async move {
            let mut arrivals = Arrivals::in_any_order(n);
            loop {
                let message = stream.recv().await.expect("none is lost");
                if arrivals.came(message.value.as_bytes().expect("bytes")) {
                    return (stream, Instant::now());
                }
            }
        });
        let (arena, client) = (Arc::clone(&arena), client.clone());
        let began = Instant::now();
        let writer = here.spawn(async move {
            let batches = (0..n.div_ceil(PIPELINE)).map(|batch| {
                let (arena, pipeline) = (Arc::clone(&arena), client.pipeline());
                async move {
                    for number in batch * PIPELINE..n.min((batch + 1) * PIPELINE) {
                        let payload = arena.payload(number);
                        let () = pipeline.publish(FLOOD, payload).await.expect("queued");
                    }
                    let subscribers: Vec<i64> = pipeline.all().await.expect("published");
                    assert!(subscribers.iter().all(|n| *n == 1), "subscribers");
                }
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
    let client = here.block_on(connect(&arena));
    let (subscriber, messages) = there.block_on(subscribe(&arena, PACED));
    let mut messages = Some(messages);
    move |n| {
        let _open = &subscriber;
        let mut stream = messages.take().expect("it was given back");
        let clock = Arc::clone(&arena);
        let reader = there.spawn(async move {
            let mut arrivals = Arrivals::in_any_order(n);
            loop {
                let message = stream.recv().await.expect("none is lost");
                let payload = message.value.as_bytes().expect("bytes");
                if arrivals.came_after(payload, clock.now()) {
                    return (stream, arrivals.p99());
                }
            }
        });
        pace(n, |number| {
            let (client, payload) = (client.clone(), arena.payload(number));
            begin(&here, async move {
                let subscribers: i64 = client.publish(PACED, payload).await.expect("published");
                assert_eq!(subscribers, 1, "subscribers");
            });
        });
        let (stream, p99) = there.block_on(reader).expect("no panic");
        messages = Some(stream);
        p99
    }
}

async fn connect(arena: &Arena) -> Client {
    let client = builder(arena).build().expect("a client");
    client.init().await.expect("a connection");
    client
}

async fn subscribe(arena: &Arena, channel: &str) -> (SubscriberClient, Receiver<Message>) {
    let client = builder(arena).build_subscriber_client().expect("a client");
    client.init().await.expect("a connection");
    let messages = client.message_rx();
    let () = client.subscribe(channel).await.expect("subscribed");
    (client, messages)
}

fn builder(arena: &Arena) -> Builder {
    let config = Config::from_url(&arena.server.url()).expect("a URL");
    let mut builder = Builder::from_config(config);
    builder.with_performance_config(|config| config.broadcast_channel_capacity = INBOX);
    builder
}
