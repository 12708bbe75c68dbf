//! What the handlers see, counted for each thread apart.

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use thread_local::ThreadLocal;

/// Latencies are kept to three digits, up to a minute.
const DIGITS: u8 = 3;
const LONGEST_NS: u64 = 60_000_000_000;

/// A part for each thread, so that no two processors write to one.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    parts: ThreadLocal<CachePadded<Mutex<Part>>>,
}

/// What one thread has seen, or all of them.
#[derive(Debug)]
pub(super) struct Part {
    /// Publish to handler, in nanoseconds, of every call.
    pub(super) latency: Histogram<u64>,
    /// Calls that returned success.
    pub(super) delivered: u64,
    /// Payloads that were not what the sender wrote.
    pub(super) corrupted: u64,
}

impl Default for Part {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Self {
            latency: latency.unwrap_or_else(|_| unreachable!("1 to a minute is a valid range")),
            delivered: 0,
            corrupted: 0,
        }
    }
}

impl Recorder {
    /// Changes the part of this thread.
    #[inline]
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Part) -> T) -> T {
        change(&mut self.parts.get_or_default().lock())
    }

    /// Calls that returned success, so far.
    pub(super) fn delivered(&self) -> u64 {
        self.parts.iter().map(|part| part.lock().delivered).sum()
    }

    /// All parts together.
    pub(super) fn total(&self) -> Part {
        let mut total = Part::default();
        for part in self.parts.iter() {
            let part = part.lock();
            total.latency += &part.latency;
            total.delivered += part.delivered;
            total.corrupted += part.corrupted;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let recorder = Recorder::default();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let recorder = &recorder;
                scope.spawn(move || {
                    recorder.with(|part| {
                        part.delivered += thread;
                        part.latency.saturating_record(thread * 1_000);
                    });
                });
            }
        });
        assert_eq!(recorder.delivered(), 10);
        let total = recorder.total();
        assert_eq!((total.latency.len(), total.latency.max() / 1_000), (4, 4));
    }
}
