//! [`Probe`]: tries whether what is published still arrives.
//!
//! A connection can look well and be none: the other end is gone and nobody
//! said so, or publisher and subscriber have come to different servers after a
//! failover. So a number goes the way of every event and has to come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    channel::probe_key,
    connection::Link,
    error::ConnectionError,
    meter::PingMeter,
    subscriber::{Acknowledged, Listener, Subscriber},
    wire::{Connection, Messages},
};

/// The way there and back of one transport.
pub(crate) struct Probe {
    publisher: Link,
    subscriber: Link,
    key: String,
    echo: Arc<Echo>,
    meter: PingMeter,
}

/// The numbers that went out and came back.
#[derive(Default)]
struct Echo {
    sent: AtomicU64,
    /// The highest one.
    back: watch::Sender<u64>,
}

impl Echo {
    /// The number of the next probe.
    fn next(&self) -> u64 {
        self.sent.fetch_add(1, Relaxed) + 1
    }

    /// A stranger can say what it likes on the channel: a number that was not sent would do for
    /// all that will be.
    fn came_back(&self, number: u64) {
        let is_ours = number <= self.sent.load(Relaxed);
        self.back.send_if_modified(|last| {
            let newer = is_ours && *last < number;
            if newer {
                *last = number;
            }
            newer
        });
    }
}

impl Listener for Echo {
    fn messages(&self, messages: Messages<'_>) {
        let number = |message: Bytes| std::str::from_utf8(&message).ok()?.parse().ok();
        messages.payloads().filter_map(number).for_each(|number| self.came_back(number));
    }
}

impl Probe {
    /// Listens to its channel; the second value says when.
    pub(crate) fn start(publisher: Link, subscriber: &Subscriber) -> (Self, Acknowledged) {
        let dialer = publisher.dialer();
        let key = probe_key(&dialer.settings.prefix, &dialer.instance);
        let echo = Arc::<Echo>::default();
        let acknowledged = subscriber.listen(&key, Arc::clone(&echo) as _);
        let subscriber = subscriber.link().clone();
        (Self { publisher, subscriber, key, echo, meter: PingMeter::new() }, acknowledged)
    }

    /// How long an event takes from here to the server and back. Cancel safe.
    ///
    /// A connection that does not carry it is given up.
    pub(crate) async fn ping(&self, patience: Duration) -> Result<Duration, ConnectionError> {
        let ping = self.try_ping(patience).await;
        self.meter.pinged(&ping);
        ping
    }

    async fn try_ping(&self, patience: Duration) -> Result<Duration, ConnectionError> {
        let (publisher, connection) = connected(&self.publisher, patience).await?;
        let (subscriber, _) = connected(&self.subscriber, patience).await?;
        let (number, began) = (self.echo.next(), Instant::now());
        let mut echo = self.echo.back.subscribe();
        let dialer = self.publisher.dialer();
        let mut publish = redis::cmd(dialer.publish());
        publish.arg(&self.key).arg(number);
        if let Err(error) = dialer.ask(&connection, &publish).await {
            if error.breaks_connection() {
                self.publisher.give_up(publisher, error.clone());
            }
            return Err(error);
        }
        if timeout(patience, echo.wait_for(|came| *came >= number)).await.is_err() {
            let error = ConnectionError::TimedOut(patience);
            self.subscriber.give_up(subscriber, error.clone());
            return Err(error);
        }
        Ok(began.elapsed())
    }

    /// Pings without end.
    pub(crate) async fn run(&self, mut each_time: impl FnMut()) {
        let settings = &self.publisher.dialer().settings;
        let (every, patience) = (settings.probe_every, settings.response_timeout);
        loop {
            sleep(every).await;
            // What is wrong is in the state of the connections.
            let _ = self.ping(patience).await;
            each_time();
        }
    }
}

async fn connected(link: &Link, patience: Duration) -> Result<(u64, Connection), ConnectionError> {
    let waited = timeout(patience, link.next(0)).await;
    waited.unwrap_or_else(|_| Err(link.error().unwrap_or(ConnectionError::TimedOut(patience))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_not_sent_answers_no_probe() {
        let echo = Echo::default();
        let number = echo.next();
        echo.came_back(u64::MAX);
        echo.came_back(number + 1);
        assert_eq!(*echo.back.borrow(), 0);
        echo.came_back(number);
        echo.came_back(0);
        assert_eq!(*echo.back.borrow(), number);
    }
}
