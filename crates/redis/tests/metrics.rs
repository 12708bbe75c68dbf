//! Every metric that is promised is recorded.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use swarmbus::{
    Event,
    core::backoff::Backoff,
    transport::{Channel, Inbox, Incoming, Received, SubscribeOptions, Transport},
};
use swarmbus_redis::{METRICS, RedisTransport, Settings, local::Server};
use tokio::time::timeout;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Everything that was recorded and is more than nothing.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, String> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    let values = all.filter_map(|(key, _, _, value)| {
        let is_something = match &value {
            DebugValue::Counter(count) => *count > 0,
            DebugValue::Gauge(_) => true,
            DebugValue::Histogram(values) => !values.is_empty(),
        };
        is_something.then(|| (key.key().name().to_owned(), format!("{value:?}")))
    });
    values.collect()
}

async fn task(inbox: &mut Inbox) -> Received {
    let next = timeout(LONG, inbox.next()).await.expect("nothing came");
    next.and_then(Incoming::event).expect("a task")
}

#[tokio::test]
async fn every_metric_is_recorded() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let server = Server::start().unwrap();
    let settings = Settings::new(&server.url())
        .unwrap()
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .response_timeout(Duration::from_millis(300))
        .probe_every(Duration::from_millis(50));
    let transport = RedisTransport::builder(settings).connect().await.unwrap();
    let (news, tasks) = (Channel::live("news").unwrap(), Channel::group("tasks").unwrap());

    let mut inbox = transport.subscribe(&news, SubscribeOptions::new()).await.unwrap();
    server.run(["PUBLISH", "swarmbus:{news}:live", "no frame"]).unwrap();
    transport.publish(&news, Event::of("test", "x")).await.unwrap();
    assert!(matches!(timeout(LONG, inbox.next()).await.unwrap(), Some(Incoming::Gap(_))));
    assert!(matches!(timeout(LONG, inbox.next()).await.unwrap(), Some(Incoming::Event(_))));

    let options = SubscribeOptions::new().max_deliveries(2);
    let mut worker = transport.subscribe(&tasks, options).await.unwrap();
    transport.publish(&tasks, Event::of("test", "poison")).await.unwrap();
    task(&mut worker).await.nack(Duration::ZERO);
    task(&mut worker).await.nack(Duration::ZERO);
    let given_up = async {
        while transport.dead_letters(&tasks, 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, given_up).await.expect("it is given up");
    assert_eq!(transport.dead_letters(&tasks, 0).await.unwrap().len(), 0);

    transport.ping().await.unwrap();
    server.kill9();
    let mut seen = recorded(&snapshotter);
    let mut state = transport.state();
    timeout(LONG, state.wait_for(|state| !state.is_connected())).await.unwrap().unwrap();
    transport.publish(&news, Event::of("test", "too late")).await.unwrap();
    assert_eq!(transport.close_within(Duration::ZERO).await.len(), 1);
    let missing = |seen: &BTreeMap<String, String>| {
        let names = METRICS.iter().map(|metric| metric.name);
        names.filter(|name| !seen.contains_key(*name)).collect::<Vec<_>>()
    };
    let all = async {
        loop {
            // A snapshot takes what it shows.
            seen.extend(recorded(&snapshotter));
            if missing(&seen).is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let recorded = timeout(LONG, all).await;
    assert!(recorded.is_ok(), "not recorded: {:?}", missing(&seen));
}
