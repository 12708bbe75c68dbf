//! [`Streams`]: what a transport needs for durable and group channels.

use std::sync::Arc;

use redis::Value;
use swarmbus::transport::{Channel, Mode, TransportError};

use crate::{
    channel::key,
    connection::Link,
    dialer::Dialer,
    durable::{Durable, Retention},
    duties::Commands,
    error::failed,
    group::{Groups, Limits},
    publisher::{Batching, Publisher},
    server::{Call, Server},
    subscriber::Subscriber,
};

/// Two connections: one for what is published, one for what is read and
/// answered, so that neither waits behind the other.
#[derive(Debug)]
pub(crate) struct Streams {
    sending: Link,
    reading: Link,
    pub(crate) durable: Durable,
    pub(crate) groups: Groups,
    durable_publisher: Publisher,
    group_publisher: Publisher,
}

impl Streams {
    /// Connects in the background.
    pub(crate) fn start(
        dialer: &Arc<Dialer>,
        subscriber: &Arc<Subscriber>,
        batching: Batching,
        retention: Retention,
        limits: Limits,
    ) -> Self {
        let link = |name| Link::start(Arc::clone(dialer), Arc::new(Commands(name)));
        let (sending, reading) = (link("streams"), link("reader"));
        let subscriber = Arc::clone(subscriber);
        let durable =
            Durable::new(Server::new(reading.clone()), subscriber, retention, Durable::CHECK_EVERY);
        let groups = Groups::new(Server::new(reading.clone()), limits);
        let publisher = |carrier| Publisher::start(sending.clone(), carrier, batching);
        let durable_publisher = publisher(durable.carrier());
        let group_publisher = publisher(groups.carrier());
        Self { sending, reading, durable, groups, durable_publisher, group_publisher }
    }

    /// `None` for live channels, which have their own.
    pub(crate) fn publisher(&self, mode: Mode) -> Option<&Publisher> {
        match mode {
            Mode::Live => None,
            Mode::Durable => Some(&self.durable_publisher),
            Mode::Group => Some(&self.group_publisher),
        }
    }

    /// Its connections.
    pub(crate) fn links(&self) -> [&Link; 2] {
        [&self.sending, &self.reading]
    }

    pub(crate) fn publishers(&self) -> [&Publisher; 2] {
        [&self.durable_publisher, &self.group_publisher]
    }

    /// See [`RedisTransport::delete`](crate::RedisTransport::delete).
    pub(crate) async fn delete(&self, channel: &Channel) -> Result<(), TransportError> {
        let server = Server::new(self.reading.clone());
        let key = |purpose: &str| key(server.prefix(), channel, purpose);
        let mut keys = vec![key("log"), key("meta")];
        if channel.mode() == Mode::Group {
            let mut names = redis::cmd("HGETALL");
            names.arg(key("groups"));
            let groups = server.insist(Call::Command(&names)).await.map_err(failed)?;
            keys = vec![key("tasks"), key("dead"), key("groups")];
            keys.extend(
                names_in(&groups)
                    .filter(|name| !name.starts_with(' '))
                    .map(|group| key(&format!("delayed:{group}"))),
            );
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(keys);
        server.insist(Call::Command(&unlink)).await.map(drop).map_err(failed)
    }

    /// Ends everything but the publishers, which are closed by themselves.
    pub(crate) fn close(&self) {
        self.durable.close();
        self.groups.close();
        self.reading.close();
        self.sending.close();
    }
}

/// The keys of a map.
fn names_in(map: &Value) -> impl Iterator<Item = String> {
    let pairs = if let Value::Map(pairs) = map { pairs.as_slice() } else { &[] };
    pairs.iter().filter_map(|(name, _)| match name {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}
