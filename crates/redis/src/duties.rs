//! What connections for commands are for.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    channel::probe_key, connection::Duty, dialer::Dialer, error::ConnectionError, wire::Connection,
};

/// A connection for commands, without duties of its own.
pub(crate) struct Commands(pub(crate) &'static str);

impl Duty for Commands {
    fn name(&self) -> &'static str {
        self.0
    }
}

/// A connection for commands that wait on the server.
pub(crate) struct Blocking(pub(crate) &'static str);

impl Duty for Blocking {
    fn name(&self) -> &'static str {
        self.0
    }

    fn blocking(&self) -> bool {
        true
    }
}

/// The connection that publishes. It is of use only to a user that may.
pub(crate) struct PublisherDuty(Arc<Dialer>);

impl PublisherDuty {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        Self(dialer)
    }
}

#[async_trait]
impl Duty for PublisherDuty {
    fn name(&self) -> &'static str {
        "publisher"
    }

    async fn begin(&self, _number: u64, connection: &Connection) -> Result<(), ConnectionError> {
        let key = probe_key(&self.0.settings.prefix, &self.0.instance);
        let mut publish = redis::cmd(self.0.publish());
        publish.arg(key).arg("hello");
        self.0.ask(connection, &publish).await.map(drop)
    }
}
