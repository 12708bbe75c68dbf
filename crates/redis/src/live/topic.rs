//! [`Topic`]: a live channel that is listened to, and its inboxes.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use swarmbus::transport::{Feed, Gap, GapReason, Incoming, Received};

use tokio::time::Instant;

use super::numbers::Numbers;
use crate::{
    envelope::{Envelope, Kind},
    error::{ConnectionError, refused},
    meter::ReceiveMeter,
    subscriber::Listener,
    wire::Messages,
};

/// All inboxes of one live channel. They share a subscription, and what comes
/// is decoded once.
pub(crate) struct Topic {
    state: Mutex<State>,
    /// Since when it is listened to.
    since: Instant,
    meter: ReceiveMeter,
}

/// A message may have been on its way for this long, so that its publisher is
/// so much older than it says.
const MARGIN: Duration = Duration::from_millis(20);

struct State {
    feeds: Vec<Feed>,
    numbers: Numbers,
    /// What one message brought. Kept for its memory.
    batch: Vec<Incoming>,
    copy: Vec<Incoming>,
}

impl Topic {
    /// Inboxes of one channel in one process.
    pub(crate) const MAX_INBOXES: usize = 10_000;

    pub(crate) fn new(meter: ReceiveMeter) -> Self {
        let state = State {
            feeds: Vec::new(),
            numbers: Numbers::new(),
            batch: Vec::new(),
            copy: Vec::new(),
        };
        Self { state: Mutex::new(state), since: Instant::now(), meter }
    }

    /// `false` if there are as many as there may be.
    pub(crate) fn add(&self, feed: Feed) -> bool {
        let mut state = self.state.lock();
        if state.feeds.len() >= Self::MAX_INBOXES {
            state.feeds.retain(|feed| !feed.is_gone());
        }
        let fits = state.feeds.len() < Self::MAX_INBOXES;
        if fits {
            state.feeds.push(feed);
        }
        fits
    }

    /// Whether anybody still reads.
    pub(crate) fn is_read(&self) -> bool {
        let mut state = self.state.lock();
        state.feeds.retain(|feed| !feed.is_gone());
        !state.feeds.is_empty()
    }

    /// Ends all inboxes.
    pub(crate) fn end(&self) {
        let feeds = std::mem::take(&mut self.state.lock().feeds);
        drop(feeds);
    }
}

impl Listener for Topic {
    fn messages(&self, messages: Messages<'_>) {
        let state = &mut *self.state.lock();
        for message in messages.payloads() {
            read(&message, &mut state.numbers, self.since, &mut state.batch);
        }
        self.meter.received(&state.batch);
        state.deliver(&self.meter);
    }

    fn interrupted(&self) {
        self.state.lock().numbers.interrupted();
    }

    fn refused(&self, error: &ConnectionError) {
        let feeds = std::mem::take(&mut self.state.lock().feeds);
        for feed in feeds {
            feed.fail(refused(error.clone()));
        }
    }
}

impl State {
    /// Hands what came to everybody. Who has no room misses it, and is told.
    fn deliver(&mut self, meter: &ReceiveMeter) {
        self.feeds.retain(|feed| !feed.is_gone());
        let Some((last, others)) = self.feeds.split_last() else {
            self.batch.clear();
            return;
        };
        for feed in others {
            self.copy.extend(self.batch.iter().map(copy));
            feed.deliver(&mut self.copy);
            meter.slow(feed.drop_rest(&mut self.copy));
        }
        last.deliver(&mut self.batch);
        meter.slow(last.drop_rest(&mut self.batch));
    }
}

fn copy(incoming: &Incoming) -> Incoming {
    match incoming {
        Incoming::Event(received) => Incoming::Event(Received::live(received.event.clone())),
        Incoming::Gap(gap) => Incoming::Gap(gap.clone()),
        // Live messages bring nothing else.
        _ => Incoming::Gap(Gap::new(None, GapReason::Unreadable)),
    }
}

/// What a message brings: events that are new, and gaps in their place.
fn read(message: &Bytes, numbers: &mut Numbers, since: Instant, batch: &mut Vec<Incoming>) {
    let unreadable = |missed: Option<u64>| Incoming::Gap(Gap::new(missed, GapReason::Unreadable));
    let envelope = match Envelope::read(message) {
        Ok(envelope) if envelope.kind != Kind::Durable => envelope,
        _ => {
            batch.push(unreadable(None));
            return;
        }
    };
    let numbered = (envelope.first, u64::from(envelope.count));
    let age = Duration::from_millis(envelope.age.into()) + MARGIN;
    let found = numbers.came(envelope.origin, numbered, || age < since.elapsed());
    batch.extend(found.gap.map(Incoming::Gap));
    let new = u64::from(envelope.count) - found.skip;
    if new == 0 {
        return;
    }
    let Ok(frame) = envelope.frame(message) else {
        batch.push(unreadable(Some(new)));
        return;
    };
    let (mut seen, mut good) = (0, 0);
    for view in &frame {
        seen += 1;
        if seen <= found.skip {
            continue;
        }
        match view.and_then(|view| view.to_event()) {
            Ok(event) => {
                good += 1;
                batch.push(Incoming::Event(Received::live(event)));
            }
            // Counted below if nothing can be read behind it.
            Err(_) if seen < u64::from(envelope.count) => {
                good += 1;
                batch.push(unreadable(Some(1)));
            }
            Err(_) => {}
        }
    }
    if good < new {
        batch.push(unreadable(Some(new - good)));
    }
}

#[cfg(test)]
mod tests {
    use swarmbus_core::{Event, codec};

    use super::*;

    fn message(origin: u64, first: u64, texts: &[&'static str]) -> Vec<u8> {
        let events: Vec<_> = texts.iter().map(|text| Event::of("x", *text)).collect();
        let count = u32::try_from(events.len()).unwrap();
        let mut bytes =
            Envelope { kind: Kind::Live, origin, first, count, age: 0 }.to_bytes().to_vec();
        bytes.extend_from_slice(&codec::encode_batch(&events).unwrap());
        bytes
    }

    /// Texts of events, and gaps as `-N`.
    fn read_all(numbers: &mut Numbers, message: Vec<u8>) -> Vec<String> {
        let mut batch = Vec::new();
        read(&message.into(), numbers, Instant::now(), &mut batch);
        let shown = |incoming: &Incoming| match incoming {
            Incoming::Event(received) => received.event.text().unwrap().to_owned(),
            Incoming::Gap(gap) => format!("-{:?} {}", gap.missed, gap.reason.name()),
            other => panic!("{other:?}"),
        };
        batch.iter().map(shown).collect()
    }

    #[test]
    fn gaps_are_in_their_place_and_nothing_comes_twice() {
        let mut numbers = Numbers::new();
        assert_eq!(read_all(&mut numbers, message(1, 1, &["1", "2"])), ["1", "2"]);
        assert_eq!(read_all(&mut numbers, message(1, 2, &["2", "3"])), ["3"]);
        assert_eq!(read_all(&mut numbers, message(1, 1, &["1", "2", "3"])), [""; 0]);
        assert_eq!(read_all(&mut numbers, message(1, 6, &["6"])), ["-Some(2) lost", "6"]);
        assert_eq!(read_all(&mut numbers, message(2, 9, &["9"])), ["9"]);
    }

    #[test]
    fn what_cannot_be_read_is_a_gap() {
        let mut numbers = Numbers::new();
        assert_eq!(read_all(&mut numbers, b"hello".to_vec()), ["-None unreadable"]);
        let mut cut = message(1, 1, &["1", "2"]);
        cut.truncate(cut.len() - 1);
        assert_eq!(read_all(&mut numbers, cut), ["-Some(2) unreadable"]);
        // A record that is no event, between two that are.
        let mut bad = message(1, 3, &["3", "4", "5"]);
        let record = (bad.len() - 32 - 16) / 3;
        bad[32 + 16 + record + 6] = 77; // its priority
        assert_eq!(read_all(&mut numbers, bad), ["3", "-Some(1) unreadable", "5"]);
        let mut bad = message(1, 6, &["6", "7"]);
        let record = (bad.len() - 32 - 16) / 2;
        bad[32 + 16 + record + 6] = 77;
        assert_eq!(read_all(&mut numbers, bad), ["6", "-Some(1) unreadable"]);
        // A length that leads nowhere: what follows cannot be found.
        let mut bad = message(1, 8, &["8", "9", "10"]);
        bad[32 + 16] = 3;
        assert_eq!(read_all(&mut numbers, bad).last().unwrap(), "-Some(2) unreadable");
        assert_eq!(read_all(&mut numbers, message(1, 11, &["11"])), ["11"]);
    }
}
