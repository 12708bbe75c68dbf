//! swarmbus: transports, and for percentiles messengers with a handler.

use std::{
    num::NonZeroUsize,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use swarmbus::{
    Content, Event, Payload,
    messenger::{Message, Messenger, To},
    transport::{Channel, Incoming, SubscribeOptions, Transport},
};
use swarmbus_redis::{RedisBuilder, RedisTransport};

use super::{
    arena::{Arena, Arrivals, runtime},
    pace::pace,
};

/// The inbox of the subscriber, which is not what is compared.
const INBOX: NonZeroUsize = NonZeroUsize::new(1 << 18).expect("not 0");

/// Publishes as fast as it is taken, an event at a time.
pub(super) fn flood(
    arena: &Arc<Arena>,
    channel: Channel,
    builder: fn(&str) -> RedisBuilder,
) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let (here, there) = (runtime(), runtime());
    let url = arena.server.url();
    let publisher = here.block_on(builder(&url).connect()).expect("a connection");
    let publisher = Arc::new(publisher);
    let (mut inbox, subscriber) = there.block_on(async {
        let subscriber = builder(&url).connect().await.expect("a connection");
        let options = SubscribeOptions::new().capacity(INBOX);
        (Some(subscriber.subscribe(&channel, options).await.expect("an inbox")), subscriber)
    });
    move |n| {
        let _open = &subscriber;
        let mut reading = inbox.take().expect("it was given back");
        let reader = there.spawn(async move {
            let (mut arrivals, mut batch) = (Arrivals::new(n), Vec::new());
            loop {
                assert!(reading.next_batch(&mut batch).await > 0, "{:?}", reading.error());
                let mut last = false;
                for incoming in batch.drain(..) {
                    let Incoming::Event(received) = incoming else { panic!("{incoming:?}") };
                    last = arrivals.came(received.event.payload());
                }
                if last {
                    return (reading, Instant::now());
                }
            }
        });
        let (arena, channel) = (Arc::clone(&arena), channel.clone());
        let publisher = Arc::clone(&publisher);
        let began = Instant::now();
        let writer = here.spawn(async move {
            for number in 0..n {
                let event = event(&arena, number);
                publisher.publish(&channel, event).await.expect("it is taken");
            }
            publisher.flush().await.expect("nothing is lost");
        });
        let (reading, ended) = there.block_on(reader).expect("no panic");
        here.block_on(writer).expect("no panic");
        inbox = Some(reading);
        ended - began
    }
}

/// Sends at an even rate, to a handler of another messenger.
pub(super) fn paced(arena: &Arc<Arena>) -> impl FnMut(u64) -> Duration + use<> {
    let arena = Arc::clone(arena);
    let (here, there) = (runtime(), runtime());
    let join = async |name: &str| {
        let transport = RedisTransport::connect(&arena.server.url()).await.expect("a connection");
        Messenger::join(Arc::new(transport), name, name).await.expect("a messenger")
    };
    let sender = here.block_on(join("bench-here"));
    let receiver = there.block_on(join("bench-there"));
    let (done, ended) = mpsc::channel();
    let arrivals = Arc::new(Mutex::new(Arrivals::new(0)));
    let handler = {
        let (arena, arrivals) = (Arc::clone(&arena), Arc::clone(&arrivals));
        let listen = receiver.on("bench.event").handle(move |message: &Message| {
            let mut arrivals = arrivals.lock();
            if arrivals.came_after(message.event.payload(), arena.now()) {
                done.send(arrivals.p99()).expect("somebody waits for it");
            }
        });
        listen.expect("a handler")
    };
    let to = To::swarm("bench-there").expect("a name");
    move |n| {
        let _on = (&handler, &receiver, &there);
        *arrivals.lock() = Arrivals::new(n);
        let entered = here.enter();
        pace(n, |number| {
            let sent = sender.send(&to, event(&arena, number)).now_or_never();
            sent.expect("there is room").expect("it is taken");
        });
        drop(entered);
        ended.recv_timeout(Duration::from_secs(60)).expect("all events")
    }
}

fn event(arena: &Arena, number: u64) -> Event {
    Event::of("bench.event", Payload::raw(Content::Binary, arena.payload(number)))
}
