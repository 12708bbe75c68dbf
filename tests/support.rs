//! What the system tests share.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{Bus, Event};
use tokio::sync::Notify;

/// Longer than anything here takes; only a test that fails waits for it.
pub const LONG: Duration = Duration::from_secs(60);

/// What a handler has seen, in order.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    /// Remembers an event by its text, or its type if it has none.
    pub fn note(&self, event: &Event) {
        self.push(event.text().unwrap_or(event.ty().as_str()));
    }

    /// Remembers a word.
    pub fn push(&self, word: &str) {
        self.0.lock().push(word.to_owned());
    }

    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A count to wait for.
#[derive(Clone, Default)]
pub struct Count(Arc<(AtomicU64, Notify)>);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.0.fetch_add(1, SeqCst);
        self.0.1.notify_waiters();
    }

    /// So far.
    pub fn get(&self) -> u64 {
        self.0.0.load(SeqCst)
    }

    /// Waits until it is at least `n`.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub async fn reaches(&self, n: u64) {
        within(async {
            loop {
                let more = self.0.1.notified();
                if self.get() >= n {
                    return;
                }
                more.await;
            }
        })
        .await;
    }
}

/// The result of a future that should not take long.
///
/// # Panics
///
/// When it does.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("this took too long")
}

/// Drains a bus and checks that its ledger balances.
///
/// # Panics
///
/// When it does not.
pub async fn settle(bus: &Bus) {
    assert_eq!(bus.drain(LONG).await, 0, "{}", bus.ledger());
    let ledger = bus.ledger();
    assert!(ledger.balances(), "{ledger}");
}

/// A door that handlers wait at, to be stuck for as long as a test likes.
#[derive(Clone, Default)]
pub struct Door(Arc<(parking_lot::Mutex<bool>, parking_lot::Condvar)>);

impl Door {
    /// Blocks the thread until the door opens, or so long that the test has
    /// failed.
    pub fn wait(&self) {
        let mut open = self.0.0.lock();
        self.0.1.wait_while_for(&mut open, |open| !*open, LONG);
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;
