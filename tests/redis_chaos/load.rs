//! Who publishes: numbered events, at a steady rate, whatever happens.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{
    Event, Payload,
    core::Content,
    transport::{Channel, Mode, Transport, TransportError},
};
use swarmbus_redis::{ConnectionError, RedisTransport};
use tokio::time::{MissedTickBehavior, interval};

/// Bytes of a payload.
pub(crate) const PAYLOAD: usize = 200;

/// Publishers of each channel.
pub(crate) const LANES: usize = 2;

/// From one batch to the next.
const TICK: Duration = Duration::from_millis(5);

/// Events that are published together as fast as can be.
const BURST: u64 = 50;

/// What all publishers of a channel share with those who watch them.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) channel: Channel,
    /// Events a second of all lanes; 0: as many as can be.
    pub(crate) rate: AtomicU64,
    lanes: [Line; LANES],
    stop: AtomicBool,
    /// More bytes in each payload.
    pub(crate) padding: AtomicUsize,
    /// Publish one that nobody can do.
    pub(crate) poison: AtomicBool,
    /// Lane and number of those.
    poisoned: Mutex<Vec<(usize, u64)>>,
    /// Of what kind the errors were.
    errors: Mutex<BTreeSet<&'static str>>,
}

#[derive(Debug, Default)]
struct Line {
    /// Numbers given.
    made: AtomicU64,
    /// Events that the transport took.
    accepted: AtomicU64,
}

impl Load {
    pub(crate) fn new(channel: Channel, rate: u64) -> Self {
        Self {
            channel,
            rate: AtomicU64::new(rate),
            lanes: Default::default(),
            stop: AtomicBool::new(false),
            padding: AtomicUsize::new(0),
            poison: AtomicBool::new(false),
            poisoned: Mutex::default(),
            errors: Mutex::default(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.channel.mode()
    }

    /// The numbers that come next.
    pub(crate) fn made(&self) -> Vec<u64> {
        self.lanes.iter().map(|line| line.made.load(SeqCst)).collect()
    }

    /// Events of each lane that the transport took.
    pub(crate) fn accepted(&self) -> Vec<u64> {
        self.lanes.iter().map(|line| line.accepted.load(SeqCst)).collect()
    }

    pub(crate) fn total(&self) -> u64 {
        self.accepted().iter().sum()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    /// Those that nobody can do: lane and number.
    pub(crate) fn poisoned(&self) -> Vec<(usize, u64)> {
        self.poisoned.lock().clone()
    }

    /// Forgets errors that were seen.
    pub(crate) fn forget_errors(&self) {
        self.errors.lock().clear();
    }

    pub(crate) fn errors(&self) -> Vec<&'static str> {
        self.errors.lock().iter().copied().collect()
    }

    /// Publishes until told to stop.
    pub(crate) async fn publish(self: Arc<Self>, lane: usize, transport: RedisTransport) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What is due in a tick is seldom a whole number; the rest is made up for.
        let (mut owed, whole) = (0, 1_000 * LANES as u64);
        let mut batch = Vec::new();
        while !self.stop.load(SeqCst) {
            let rate = self.rate.load(SeqCst);
            let count = if rate == 0 {
                BURST
            } else {
                ticks.tick().await;
                owed += rate * TICK.as_millis() as u64;
                owed / whole
            };
            owed %= whole;
            let line = &self.lanes[lane];
            for _ in 0..count {
                let number = line.made.fetch_add(1, SeqCst);
                batch.push(self.event(lane, number));
            }
            while !batch.is_empty() {
                let before = batch.len();
                let result = transport.publish_batch(&self.channel, &mut batch).await;
                line.accepted.fetch_add((before - batch.len()) as u64, SeqCst);
                match result {
                    Ok(()) => {}
                    Err(TransportError::Closed) => return,
                    Err(error) => drop(self.errors.lock().insert(kind(&error))),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn event(&self, lane: usize, number: u64) -> Event {
        let poison = self.poison.swap(false, SeqCst);
        if poison {
            self.poisoned.lock().push((lane, number));
        }
        let mut bytes = Vec::with_capacity(PAYLOAD + self.padding.load(SeqCst));
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[lane as u8, u8::from(poison)]);
        bytes.resize(bytes.capacity(), b'.');
        Event::of("chaos.event", "").with_payload(Payload::raw(Content::Binary, bytes))
    }
}

/// What a publisher made: its lane, its number, and whether nobody can do it.
pub(crate) fn read(event: &Event) -> Option<(usize, u64, bool)> {
    let (number, rest) = event.payload().split_at_checked(8)?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    Some((usize::from(*rest.first()?), number, *rest.get(1)? != 0))
}

/// What a program can tell apart.
fn kind(error: &TransportError) -> &'static str {
    let cause = match error {
        TransportError::Disconnected(cause) | TransportError::Refused(cause) => {
            cause.downcast_ref::<ConnectionError>()
        }
        TransportError::Full => return "full",
        TransportError::TimedOut => return "timed out",
        _ => None,
    };
    match cause {
        Some(ConnectionError::OutOfMemory) => "out of memory",
        Some(ConnectionError::ReadOnly(_)) => "read only",
        Some(ConnectionError::WrongRole { .. }) => "wrong role",
        Some(ConnectionError::WrongPassword) => "wrong password",
        Some(ConnectionError::Unreachable { .. }) => "unreachable",
        Some(ConnectionError::Lost(_)) => "lost",
        Some(ConnectionError::Loading) => "loading",
        Some(ConnectionError::TimedOut(_)) => "no answer",
        _ => "other",
    }
}
