//! Layer: bulkheads. At most so many calls at once, so that one slow service
//! does not take the whole ship down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The settings of a compartment for calls.
///
/// | setting | default |
/// | --- | --- |
/// | [`concurrent`](Self::concurrent) | 10 |
/// | [`queue`](Self::queue) | 50 |
/// | [`wait`](Self::wait) | 30 s |
///
/// ```
/// use std::time::Duration;
/// use swarmbus::{Bulkhead, CallError, Guard};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let one = Bulkhead::new().concurrent(1).queue(1).wait(Duration::from_secs(5));
/// let guard = Guard::builder("printer").bulkhead(one).build()?;
/// let call = || guard.call(|| async {
///     tokio::time::sleep(Duration::from_secs(60)).await;
///     Ok::<_, String>("printed")
/// });
/// // One prints, one waits and gives up after 5 s, the third is turned away.
/// let (first, second, third) = tokio::join!(call(), call(), call());
/// assert_eq!(first, Ok("printed"));
/// assert!(matches!(second, Err(CallError::BulkheadTimeout { .. })));
/// assert!(matches!(third, Err(CallError::BulkheadFull)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulkhead {
    pub(crate) concurrent: usize,
    pub(crate) queue: usize,
    pub(crate) wait: Duration,
}

impl Bulkhead {
    /// The defaults.
    pub const fn new() -> Self {
        Self { concurrent: 10, queue: 50, wait: Duration::from_secs(30) }
    }

    /// How many calls run at once; 1 to 1,000,000.
    #[must_use]
    pub const fn concurrent(mut self, calls: usize) -> Self {
        self.concurrent = calls;
        self
    }

    /// How many more may wait, first come, first served; 0 for none, at most
    /// 1,000,000. Those beyond are rejected.
    #[must_use]
    pub const fn queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }

    /// How long one waits before it gives up; at most a year.
    #[must_use]
    pub const fn wait(mut self, at_most: Duration) -> Self {
        self.wait = at_most;
        self
    }
}

impl Default for Bulkhead {
    fn default() -> Self {
        Self::new()
    }
}

/// The most calls, or calls that wait, of one bulkhead.
pub(crate) const MOST: usize = 1_000_000;

/// One bulkhead, seen from outside.
#[derive(Clone, Debug)]
pub struct BulkheadReport {
    /// The handler's, service's or guard's name.
    pub name: Arc<str>,
    /// Calls that run.
    pub running: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls that found the queue full.
    pub rejected: u64,
    /// Calls that waited too long.
    pub timed_out: u64,
}

/// Why a call did not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    TimedOut { waited: Duration },
}

/// A compartment that any number of callers share.
#[derive(Debug)]
pub(crate) struct BulkheadLayer {
    name: Arc<str>,
    settings: Bulkhead,
    places: Semaphore,
    waiting: AtomicUsize,
    rejected: AtomicU64,
    timed_out: AtomicU64,
}

/// A place inside, free again when dropped.
pub(crate) type Place<'a> = SemaphorePermit<'a>;

impl BulkheadLayer {
    /// The settings have been checked.
    pub(crate) fn new(name: &Arc<str>, settings: Bulkhead) -> Self {
        Self {
            name: Arc::clone(name),
            settings,
            places: Semaphore::new(settings.concurrent),
            waiting: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        }
    }

    /// A place, if one is free and nobody waits for it.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Place<'_>> {
        self.places.try_acquire().ok()
    }

    /// A place, after waiting for it. Those who wait are served in order.
    ///
    /// Cancel safe: whoever stops waiting leaves the queue.
    pub(crate) async fn enter_later(&self) -> Result<Place<'_>, Refused> {
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.settings.queue {
            self.rejected.fetch_add(1, Relaxed);
            return Err(Refused::Full);
        }
        match tokio::time::timeout(self.settings.wait, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => {
                self.timed_out.fetch_add(1, Relaxed);
                Err(Refused::TimedOut { waited: self.settings.wait })
            }
        }
    }

    pub(crate) fn report(&self) -> BulkheadReport {
        BulkheadReport {
            name: Arc::clone(&self.name),
            running: self.settings.concurrent - self.places.available_permits(),
            waiting: self.waiting.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
        }
    }
}

/// One that waits, and how many did before it.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin};

    use tokio::time::Instant;

    use super::*;

    fn bulkhead(concurrent: usize, queue: usize) -> BulkheadLayer {
        let wait = Duration::from_secs(30);
        let settings = Bulkhead::new().concurrent(concurrent).queue(queue).wait(wait);
        BulkheadLayer::new(&"b".into(), settings)
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_those_who_wait_in_their_order() {
        let bulkhead = bulkhead(1, 2);
        let first = bulkhead.try_enter().unwrap();
        let mut second = pin!(bulkhead.enter_later());
        let mut third = pin!(bulkhead.enter_later());
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        assert_eq!(bulkhead.enter_later().await.unwrap_err(), Refused::Full);
        drop(first);
        // The place is promised: nobody new may take it.
        assert!(bulkhead.try_enter().is_none());
        assert!(poll(third.as_mut()).is_pending());
        let place = second.await.unwrap();
        drop(place);
        let _place = third.await.unwrap();
        let report = bulkhead.report();
        assert_eq!((report.running, report.waiting, report.rejected), (1, 0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_gives_up() {
        let bulkhead = bulkhead(1, 1);
        let _inside = bulkhead.try_enter().unwrap();
        let began = Instant::now();
        let refused = bulkhead.enter_later().await.unwrap_err();
        assert_eq!(refused, Refused::TimedOut { waited: Duration::from_secs(30) });
        assert_eq!(began.elapsed().as_secs(), 30);
        let report = bulkhead.report();
        assert_eq!((report.waiting, report.timed_out), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_loses_no_place() {
        let bulkhead = bulkhead(1, 2);
        let first = bulkhead.try_enter().unwrap();
        {
            let mut gone = pin!(bulkhead.enter_later());
            assert!(poll(gone.as_mut()).is_pending());
            // It is offered the place and dropped before it takes it.
            drop(first);
        }
        assert_eq!(bulkhead.report().waiting, 0);
        assert!(bulkhead.try_enter().is_some());
    }
}
