//! [`Audience`]: the subscribers of one channel, and what they saw.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use anyhow::Result;
use parking_lot::Mutex;
use swarmbus::transport::{Gap, Inbox, Incoming, Mode, Received, SubscribeOptions, Transport as _};
use swarmbus_redis::RedisTransport;
use tokio::time::Instant;

use crate::{
    book::{Book, Counts},
    child::Child,
    fault::Fault,
    load::{self, LANES, Load},
};

/// Events that wait for a subscriber.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(65_536).expect("not 0");

/// Workers of the group.
const WORKERS: usize = 2;

/// After this time without an answer, a task comes again.
const REDELIVER: Duration = Duration::from_secs(2);

/// Deliveries of a task that nobody can do.
pub(crate) const TRIES: u32 = 3;

pub(crate) struct Audience {
    pub(crate) load: Arc<Load>,
    seen: Arc<Mutex<Seen>>,
    child: Option<Child>,
}

/// What the subscribers saw.
pub(crate) struct Seen {
    book: Book,
    mark: Option<Mark>,
}

/// The fault is over: when does each lane flow again?
struct Mark {
    from: Vec<u64>,
    flowing: [bool; LANES],
    since: Instant,
    recovered: Option<Duration>,
}

impl Seen {
    pub(crate) fn event(&mut self, lane: usize, number: u64, redelivered: bool) {
        let new = self.book.event(lane, number, redelivered);
        let Some(mark) = self.mark.as_mut().filter(|mark| new && mark.recovered.is_none()) else {
            return;
        };
        if number >= mark.from[lane] {
            mark.flowing[lane] = true;
            if mark.flowing == [true; LANES] {
                mark.recovered = Some(mark.since.elapsed());
            }
        }
    }

    pub(crate) fn gap(&mut self, missed: Option<u64>) {
        self.book.gap(missed);
    }
}

impl Audience {
    pub(crate) async fn start(
        load: Arc<Load>,
        fault: Fault,
        transport: &RedisTransport,
        url: &str,
    ) -> Result<Self> {
        let book = Book::new(LANES, load.mode() != Mode::Group);
        let seen = Arc::new(Mutex::new(Seen { book, mark: None }));
        let child = if fault == Fault::Restart {
            Some(Child::start(load.channel.clone(), url, Arc::clone(&seen)).await?)
        } else {
            let workers = if load.mode() == Mode::Group { WORKERS } else { 1 };
            for worker in 0..workers {
                let inbox = transport.subscribe(&load.channel, options(load.mode(), fault)).await?;
                tokio::spawn(read(inbox, Arc::clone(&seen), worker == 0));
            }
            None
        };
        Ok(Self { load, seen, child })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.seen.lock().book.counts()
    }

    /// The fault is over. From now on, events that are made after it are waited
    /// for; or, if nothing can be under way, those that have not come yet.
    pub(crate) fn mark(&self, nothing_under_way: bool) {
        let since = Instant::now();
        let from = if nothing_under_way { vec![0; LANES] } else { self.load.made() };
        let mark = Mark { from, flowing: [false; LANES], since, recovered: None };
        self.seen.lock().mark = Some(mark);
    }

    /// How long after the mark every lane brought what was made after it.
    pub(crate) fn recovered(&self) -> Option<Duration> {
        self.seen.lock().mark.as_ref().and_then(|mark| mark.recovered)
    }

    /// The next fault is another matter.
    pub(crate) fn next_part(&self) {
        self.seen.lock().book.window(self.load.accepted());
    }

    /// How many of the events that nobody can do were done.
    pub(crate) fn poison_done(&self) -> u64 {
        let seen = self.seen.lock();
        let poisoned = self.load.poisoned();
        poisoned.iter().map(|(lane, number)| seen.book.seen(*lane, *number, number + 1)).sum()
    }

    pub(crate) fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Nothing more comes.
    pub(crate) async fn close(&mut self) -> Result<Counts> {
        if let Some(child) = &mut self.child {
            child.kill().await?;
        }
        Ok(self.seen.lock().book.close(&self.load.accepted()))
    }
}

pub(crate) fn options(mode: Mode, fault: Fault) -> SubscribeOptions {
    let options = SubscribeOptions::new();
    match (mode, fault) {
        (Mode::Group, Fault::Poison) => {
            options.redeliver_after(Duration::from_millis(500)).max_deliveries(TRIES)
        }
        (Mode::Group, _) => options.redeliver_after(REDELIVER).max_deliveries(1_000),
        _ => options.capacity(CAPACITY),
    }
}

/// Takes what comes until the transport is closed. A task that nobody can do is
/// given back, or makes the worker forget it, as if it had died.
async fn read(mut inbox: Inbox, seen: Arc<Mutex<Seen>>, gives_back: bool) {
    let mut batch = Vec::new();
    while inbox.next_batch(&mut batch).await > 0 {
        let mut seen = seen.lock();
        for incoming in batch.drain(..) {
            match incoming {
                Incoming::Event(received) => take(received, &mut seen, gives_back),
                Incoming::Gap(Gap { missed, .. }) => seen.gap(missed),
                _ => {}
            }
        }
    }
}

fn take(received: Received, seen: &mut Seen, gives_back: bool) {
    let redelivered = received.redelivered();
    match load::read(&received.event) {
        Some((_, _, true)) if gives_back => received.nack(Duration::ZERO),
        Some((_, _, true)) => drop(received),
        Some((lane, number, false)) if lane < LANES => {
            seen.event(lane, number, redelivered);
            received.ack();
        }
        _ => received.ack(),
    }
}
