//! [`Tap`]: what the live feed brought, until the reader takes it.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::header::Entry;

/// Between the connection, which must never wait, and a reader that may be
/// slow. Bounded: what does not fit is dropped, all of it, because the reader
/// finds it in the log.
#[derive(Debug, Default)]
pub(super) struct Tap {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    bytes: usize,
    missed: bool,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Entries, in order.
    Entries(Vec<Entry>),
    /// Something may have been missed: the log must be read.
    Missed,
}

impl Tap {
    const ENTRIES: usize = 16_384;
    const BYTES: usize = 8 << 20;

    /// An entry came. Never waits.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.state.lock();
        if state.missed {
            return;
        }
        state.bytes = state.bytes.saturating_add(entry.len());
        if state.entries.len() >= Self::ENTRIES || state.bytes > Self::BYTES {
            drop(state);
            return self.missed();
        }
        let first = state.entries.is_empty();
        state.entries.push(entry);
        drop(state);
        if first {
            self.arrived.notify_one();
        }
    }

    /// The connection was another one for a while, or there was none.
    pub(super) fn missed(&self) {
        *self.state.lock() = State { missed: true, ..State::default() };
        self.arrived.notify_one();
    }

    /// Forgets what came so far: the log is read from here on.
    pub(super) fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// Waits for something. Cancel safe.
    pub(super) async fn next(&self) -> Taken {
        loop {
            {
                let mut state = self.state.lock();
                if std::mem::take(&mut state.missed) {
                    return Taken::Missed;
                }
                if !state.entries.is_empty() {
                    state.bytes = 0;
                    return Taken::Entries(std::mem::take(&mut state.entries));
                }
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(frame: impl Into<bytes::Bytes>) -> Entry {
        Entry { frame: frame.into(), ..Entry::default() }
    }

    #[tokio::test]
    async fn entries_come_in_order() {
        let tap = Tap::default();
        tap.push(entry("a"));
        tap.push(entry("b"));
        assert_eq!(tap.next().await, Taken::Entries(vec![entry("a"), entry("b")]));
    }

    #[tokio::test]
    async fn too_much_is_dropped_and_said() {
        let tap = Tap::default();
        for _ in 0..=Tap::ENTRIES {
            tap.push(entry("a"));
        }
        tap.push(entry("after"));
        assert_eq!(tap.next().await, Taken::Missed);
        tap.push(entry("b"));
        assert_eq!(tap.next().await, Taken::Entries(vec![entry("b")]));
        tap.push(entry(vec![0; Tap::BYTES + 1]));
        assert_eq!(tap.next().await, Taken::Missed);
    }

    #[tokio::test]
    async fn what_was_missed_is_forgotten_when_the_log_is_read() {
        let tap = Tap::default();
        tap.missed();
        tap.clear();
        tap.push(entry("b"));
        assert_eq!(tap.next().await, Taken::Entries(vec![entry("b")]));
    }
}
