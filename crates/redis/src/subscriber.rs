//! [`Subscriber`]: one connection that listens, for everybody who listens.
//!
//! What is listened to is a set of names, each with its [`Listener`]. A task
//! brings the server's idea of that set in line with ours, and every new
//! connection begins with all of it; each SUBSCRIBE has to be acknowledged.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ahash::RandomState;
use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Value;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    connection::{Duty, Link},
    dialer::Dialer,
    error::ConnectionError,
    wire::{Connection, Messages, Push, Subscription},
};

/// Takes the messages of one name. Called in the task that reads the
/// connection: briefly, and without waiting.
pub(crate) trait Listener: Send + Sync + 'static {
    /// At least one, in order.
    fn messages(&self, messages: Messages<'_>);

    /// From here to [`resumed`](Self::resumed) messages are missed.
    fn interrupted(&self) {}

    /// Listens again.
    fn resumed(&self) {}

    /// The server does not allow it, or not any more.
    fn refused(&self, _error: &ConnectionError) {}
}

/// Names that are subscribed to together.
const CHUNK: usize = 512;

/// The connection that listens.
pub(crate) struct Subscriber {
    shared: Arc<Shared>,
    link: Link,
    /// Ends the task.
    _alive: DropGuard,
}

struct Shared {
    dialer: Arc<Dialer>,
    topics: Mutex<Topics>,
    /// The set has changed.
    changed: Notify,
    /// Of the newest connection: messages of older ones come too late.
    number: AtomicU64,
}

#[derive(Default)]
struct Topics {
    wanted: HashMap<String, Topic, RandomState>,
    /// Perhaps still known to the server.
    unwanted: Vec<String>,
}

struct Topic {
    listener: Arc<dyn Listener>,
    /// The connection that it is acknowledged on; 0 for none.
    on: u64,
    ack: watch::Sender<Ack>,
}

#[derive(Clone, Debug, PartialEq)]
enum Ack {
    Pending,
    Active,
    Refused(ConnectionError),
}

/// Tells when a name is listened to.
pub(crate) struct Acknowledged(watch::Receiver<Ack>);

impl Acknowledged {
    /// Waits for the server's word. Cancel safe.
    pub(crate) async fn within(mut self, patience: Duration) -> Result<(), ConnectionError> {
        let known = timeout(patience, self.0.wait_for(|ack| *ack != Ack::Pending)).await;
        match known.map(|known| known.map(|ack| ack.clone())) {
            Ok(Ok(Ack::Refused(error))) => Err(error),
            Ok(Ok(Ack::Active | Ack::Pending)) => Ok(()),
            // Nobody wants it any more.
            Ok(Err(_)) => Err(ConnectionError::Closed),
            Err(_) => Err(ConnectionError::TimedOut(patience)),
        }
    }
}

impl Subscriber {
    /// Connects, and fails if the first try fails.
    pub(crate) async fn connect(dialer: Arc<Dialer>) -> Result<Self, ConnectionError> {
        let shared = Arc::new(Shared::new(&dialer));
        let link = Link::connect(dialer, Arc::clone(&shared) as Arc<dyn Duty>).await?;
        Ok(Self::with(shared, link))
    }

    /// Connects in the background.
    pub(crate) fn start(dialer: Arc<Dialer>) -> Self {
        let shared = Arc::new(Shared::new(&dialer));
        let link = Link::start(dialer, Arc::clone(&shared) as Arc<dyn Duty>);
        Self::with(shared, link)
    }

    fn with(shared: Arc<Shared>, link: Link) -> Self {
        let end = CancellationToken::new();
        let task = keep_in_line(Arc::clone(&shared), link.clone());
        tokio::spawn(end.clone().run_until_cancelled_owned(task));
        Self { shared, link, _alive: end.drop_guard() }
    }

    /// Listens to a name. One that has a listener already gets the new one.
    pub(crate) fn listen(&self, key: &str, listener: Arc<dyn Listener>) -> Acknowledged {
        let acknowledged = self.shared.topics.lock().want(key, listener);
        self.shared.changed.notify_one();
        acknowledged
    }

    /// Does not listen to it any more.
    pub(crate) fn forget(&self, key: &str) {
        let gone = self.shared.topics.lock().forget(key);
        drop(gone);
        self.shared.changed.notify_one();
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Ends the connection and forgets all listeners.
    pub(crate) fn close(&self) {
        self.link.close();
        let gone = std::mem::take(&mut self.shared.topics.lock().wanted);
        drop(gone);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Topics {
    fn want(&mut self, key: &str, listener: Arc<dyn Listener>) -> Acknowledged {
        let topic = match self.wanted.get_mut(key) {
            Some(topic) => {
                topic.listener = listener;
                topic
            }
            None => {
                let ack = watch::Sender::new(Ack::Pending);
                self.wanted.entry(key.to_owned()).or_insert(Topic { listener, on: 0, ack })
            }
        };
        Acknowledged(topic.ack.subscribe())
    }

    fn forget(&mut self, key: &str) -> Option<Topic> {
        let (key, topic) = self.wanted.remove_entry(key)?;
        // One that is not acknowledged yet is left when it is.
        if topic.on != 0 {
            self.unwanted.push(key);
        }
        Some(topic)
    }

    /// What this connection does not listen to yet.
    fn missing(&self, number: u64) -> Vec<String> {
        let missing = self.wanted.iter().filter(|(_, topic)| topic.on != number);
        missing.map(|(key, _)| key.clone()).collect()
    }
}

#[async_trait]
impl Duty for Shared {
    fn name(&self) -> &'static str {
        "subscriber"
    }

    fn push(&self, number: u64, push: Push<'_>) -> Result<(), ConnectionError> {
        if number < self.number.load(Relaxed) {
            return Ok(());
        }
        match push {
            Push::Messages(messages) => self.messages(messages),
            Push::Left(name) => return self.left(number, name),
            Push::Ended(_) => {}
        }
        Ok(())
    }

    async fn begin(&self, number: u64, connection: &Connection) -> Result<(), ConnectionError> {
        self.number.store(number, Relaxed);
        let missing = {
            let mut topics = self.topics.lock();
            topics.unwanted.clear();
            topics.missing(number)
        };
        self.subscribe(number, connection, &missing).await
    }

    fn ended(&self) {
        let topics = self.topics.lock();
        let active = topics.wanted.values().filter(|topic| topic.on != 0);
        let listeners: Vec<_> = active.map(|topic| Arc::clone(&topic.listener)).collect();
        for topic in topics.wanted.values() {
            topic.ack.send_if_modified(|ack| {
                let was_active = *ack == Ack::Active;
                if was_active {
                    *ack = Ack::Pending;
                }
                was_active
            });
        }
        drop(topics);
        listeners.iter().for_each(|listener| listener.interrupted());
    }
}

impl Shared {
    fn new(dialer: &Arc<Dialer>) -> Self {
        Self {
            dialer: Arc::clone(dialer),
            topics: Mutex::default(),
            changed: Notify::new(),
            number: AtomicU64::new(0),
        }
    }

    fn messages(&self, mut messages: Messages<'_>) {
        while let Some((name, row, rest)) = messages.split() {
            messages = rest;
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let topic =
                self.topics.lock().wanted.get(name).map(|topic| Arc::clone(&topic.listener));
            if let Some(listener) = topic {
                listener.messages(row);
            }
        }
    }

    /// A node of a cluster has ended a subscription, because it does not have the
    /// slot any more.
    fn left(&self, number: u64, name: &str) -> Result<(), ConnectionError> {
        match self.topics.lock().wanted.get(name) {
            Some(topic) if topic.on == number => {
                Err(ConnectionError::Moved { to: "another node".to_owned() })
            }
            _ => Ok(()),
        }
    }

    async fn unsubscribe(
        &self,
        connection: &Connection,
        keys: &[String],
    ) -> Result<(), ConnectionError> {
        // What is said of a slot that has moved is said of its other names, too.
        let sharded = self.dialer.is_sharded();
        let command = if sharded { Subscription::SUnsubscribe } else { Subscription::Unsubscribe };
        connection.subscribe(command, keys).await.map(drop)
    }

    /// Subscribes, many names at a time. Names that the server refuses are told
    /// to those who wait for them; an error is one of the connection.
    async fn subscribe(
        &self,
        number: u64,
        connection: &Connection,
        keys: &[String],
    ) -> Result<(), ConnectionError> {
        let sharded = self.dialer.is_sharded();
        let command = if sharded { Subscription::SSubscribe } else { Subscription::Subscribe };
        for chunk in keys.chunks(CHUNK) {
            let answers = connection.subscribe(command, chunk).await?;
            for (key, answer) in chunk.chunks(1).zip(answers) {
                let word = match answer {
                    Value::ServerError(error) => {
                        match ConnectionError::answered(&error, command.name()) {
                            error @ ConnectionError::NoPermission { .. } => Ack::Refused(error),
                            error => return Err(error),
                        }
                    }
                    _ => Ack::Active,
                };
                self.acknowledged(number, key, &word);
            }
        }
        Ok(())
    }

    fn acknowledged(&self, number: u64, keys: &[String], word: &Ack) {
        let mut told = Vec::new();
        {
            let mut topics = self.topics.lock();
            if number < self.number.load(Relaxed) {
                return;
            }
            for key in keys {
                let Some(topic) = topics.wanted.get_mut(key) else {
                    // Forgotten while it was on its way.
                    topics.unwanted.push(key.clone());
                    self.changed.notify_one();
                    continue;
                };
                topic.on = number;
                topic.ack.send_replace(word.clone());
                told.push(Arc::clone(&topic.listener));
            }
        }
        for listener in told {
            match word {
                Ack::Active => listener.resumed(),
                Ack::Refused(error) => listener.refused(error),
                Ack::Pending => {}
            }
        }
    }

    /// Has the server know of changes.
    async fn adjust(&self, number: u64, connection: &Connection) -> Result<(), ConnectionError> {
        let (missing, unwanted) = {
            let mut topics = self.topics.lock();
            let mut unwanted = std::mem::take(&mut topics.unwanted);
            unwanted.retain(|key| !topics.wanted.contains_key(key));
            (topics.missing(number), unwanted)
        };
        for chunk in unwanted.chunks(CHUNK) {
            self.unsubscribe(connection, chunk).await?;
            // Wanted again in the meantime, they have to be subscribed again.
            for key in chunk {
                if let Some(topic) = self.topics.lock().wanted.get_mut(key) {
                    topic.on = 0;
                    self.changed.notify_one();
                }
            }
        }
        self.subscribe(number, connection, &missing).await
    }
}

async fn keep_in_line(shared: Arc<Shared>, link: Link) {
    loop {
        shared.changed.notified().await;
        let Ok((number, connection)) = link.next(0).await else { return };
        if let Err(error) = shared.adjust(number, &connection).await {
            // The next connection begins with everything.
            link.give_up(number, error);
        }
    }
}
