//! [`Streams`]: what a transport needs for durable and group channels.

use std::sync::Arc;

use swarmbus::transport::Mode;

use crate::{
    connection::Link,
    dialer::Dialer,
    durable::{Durable, Retention},
    duties::Commands,
    group::{Groups, Limits},
    publisher::{Batching, Publisher},
    server::Server,
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

    pub(crate) fn publishers(&self) -> [&Publisher; 2] {
        [&self.durable_publisher, &self.group_publisher]
    }

    /// Ends everything but the publishers, which are closed by themselves.
    pub(crate) fn close(&self) {
        self.durable.close();
        self.groups.close();
        self.reading.close();
        self.sending.close();
    }
}
