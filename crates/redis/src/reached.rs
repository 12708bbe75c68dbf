//! [`Reached`]: how far publishers came, by the server's word. They say it with
//! each frame, so that a server that has lost what it had confirmed is found out.

use std::{num::NonZeroUsize, time::Duration};

use ahash::RandomState;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Publishers (of one channel each) of which it is known how far they came. One
/// that is forgotten does not notice that a failover lost what was confirmed.
const PUBLISHERS: NonZeroUsize = NonZeroUsize::new(4_096).expect("not 0");

pub(crate) struct Reached<P> {
    publishers: Mutex<LruCache<u64, Confirmed<P>, RandomState>>,
    /// How long the server remembers a publisher that is silent.
    known: Duration,
}

/// What was confirmed to a publisher last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmed<P> {
    /// Where the last event is.
    pub(crate) place: P,
    /// The publisher's number of it; 0 if the server may have forgotten that by
    /// itself.
    pub(crate) number: u64,
    at: Instant,
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) publisher: u64,
    /// The number of its last event that the server has; 0 with a key.
    pub(crate) number: u64,
}

impl<P: Copy> Reached<P> {
    pub(crate) fn new(known: Duration) -> Self {
        let publishers = LruCache::with_hasher(PUBLISHERS, RandomState::default());
        Self { publishers: Mutex::new(publishers), known }
    }

    pub(crate) fn get(&self, publisher: u64) -> Option<Confirmed<P>> {
        let mut confirmed = *self.publishers.lock().get(&publisher)?;
        if confirmed.at.elapsed() > self.known / 2 {
            confirmed.number = 0;
        }
        Some(confirmed)
    }

    /// The server has this publisher's events up to this number. `older`: whether
    /// a place is behind the one that is known.
    pub(crate) fn note(
        &self,
        publisher: u64,
        place: P,
        number: u64,
        older: impl FnOnce(P, P) -> bool,
    ) {
        let mut publishers = self.publishers.lock();
        let known = publishers.get(&publisher).map(|known| known.place);
        let place = known.filter(|known| older(place, *known)).unwrap_or(place);
        publishers.put(publisher, Confirmed { place, number, at: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_number_counts_as_long_as_the_server_knows_it() {
        let reached = Reached::new(Duration::from_secs(10));
        let shown = |reached: &Reached<u64>| reached.get(7).map(|c| (c.place, c.number));
        assert_eq!(shown(&reached), None);
        reached.note(7, 100, 40, |new, known| new < known);
        reached.note(7, 90, 50, |new, known| new < known);
        assert_eq!(shown(&reached), Some((100, 50)));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(shown(&reached), Some((100, 0)));
    }
}
