//! The bus's two clocks, and the stamp that events get from them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use swarmbus_core::{Clock, Event, Moment, Timestamp};
use tokio::time::Instant;

/// Reads time for one bus.
///
/// Deadlines of breakers and timers use tokio's clock, so that a test may
/// pause it. Events are stamped from the processor's cycle counter, which
/// costs 9 ns where the operating system's clock costs 21.
#[derive(Debug)]
pub(crate) struct BusClock {
    cycles: quanta::Clock,
    origin: Instant,
}

impl BusClock {
    pub(crate) fn new() -> Self {
        Self { cycles: quanta::Clock::new(), origin: Instant::now() }
    }

    /// One whose cycle counter stands still until the test moves it.
    #[cfg(test)]
    pub(crate) fn mocked() -> (Self, std::sync::Arc<quanta::Mock>) {
        let (cycles, hand) = quanta::Clock::mock();
        (Self { cycles, origin: Instant::now() }, hand)
    }

    /// The cycle counter: only differences mean something.
    #[inline]
    pub(crate) fn cycles(&self) -> u64 {
        self.cycles.raw()
    }

    /// Time between two readings of [`cycles`](Self::cycles).
    #[inline]
    pub(crate) fn between(&self, earlier: u64, later: u64) -> Duration {
        self.cycles.delta(earlier, later)
    }

    /// Wall-clock time from the operating system.
    pub(crate) fn wall() -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix(since_epoch)
    }
}

/// The wall clock where a test may have another: that of the operating system
/// does not follow tokio's.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

/// Who waits for a time of the wall clock reads it again after this long, so
/// that a jump is noticed.
pub(crate) const WALL_RECHECK: Duration = Duration::from_secs(5);

impl WallClock {
    pub(crate) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Reads it; not to be called under a lock. If the program's clock panics,
    /// this is the operating system's.
    pub(crate) fn now(&self) -> Timestamp {
        catch_unwind(AssertUnwindSafe(|| (self.0)())).unwrap_or_else(|_| BusClock::wall())
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(BusClock::wall)
    }
}

impl Clock for &BusClock {
    #[inline]
    fn now(&self) -> Moment {
        Moment::ORIGIN + self.origin.elapsed()
    }
}

/// Gives events their time and the number their id is made of.
///
/// One belongs to each queue shard, under its lock, so that no cache line is
/// shared between shards for it.
#[derive(Debug)]
pub(crate) struct Stamper {
    anchor_cycles: u64,
    anchor_micros: u64,
    /// Microseconds a cycle, in parts of 2^[`PARTS`](Self::PARTS): nothing but a
    /// product of two small numbers lies between a cycle count and a time.
    micros_per_cycle: u64,
    /// How many cycles after the anchor it is renewed.
    reanchor: u64,
    nonce: u64,
}

impl Stamper {
    /// Steps through all 64-bit numbers without repeating one.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    /// As much of it as an id holds, so that an event can be made again from
    /// its id and time.
    const NONCE: u64 = u64::MAX >> 2;
    /// The wall clock is asked again after this many microseconds, so that a clock
    /// that was set is followed.
    const REANCHOR: u64 = 500_000;
    /// So many bits that the product fits for as long as an anchor holds, and the
    /// error in that time is far below a microsecond.
    const PARTS: u32 = 43;

    pub(crate) fn new(clock: &BusClock, seed: u64) -> Self {
        // Of so many cycles that the nanoseconds have all digits that matter.
        let nanos = clock.cycles.delta_as_nanos(0, 1 << Self::PARTS);
        let micros_per_cycle = (nanos / 1_000).max(1);
        Self {
            anchor_cycles: clock.cycles(),
            anchor_micros: BusClock::wall().as_micros(),
            micros_per_cycle,
            reanchor: (Self::REANCHOR << Self::PARTS) / micros_per_cycle,
            nonce: seed,
        }
    }

    /// Stamps an event that was published when the cycle counter showed
    /// `cycles`.
    #[inline]
    pub(crate) fn stamp(&mut self, clock: &BusClock, cycles: u64, event: &mut Event) {
        if !event.is_stamped() {
            let at = self.time(clock, cycles);
            self.stamp_at(at, event);
        }
    }

    /// The time when the cycle counter showed `cycles`, for events that came then.
    #[inline]
    pub(crate) fn time(&mut self, clock: &BusClock, cycles: u64) -> Option<Timestamp> {
        let mut since = cycles.saturating_sub(self.anchor_cycles);
        if since > self.reanchor {
            self.anchor(clock);
            since = 0;
        }
        let micros = (since * self.micros_per_cycle) >> Self::PARTS;
        Timestamp::from_micros(self.anchor_micros + micros)
    }

    /// Stamps an event that came at this [`time`](Self::time).
    #[inline]
    pub(crate) fn stamp_at(&mut self, at: Option<Timestamp>, event: &mut Event) {
        self.nonce = self.nonce.wrapping_add(Self::STEP);
        if let Some(at) = at {
            event.stamp(at, (self.nonce & Self::NONCE).max(1));
        }
    }

    #[cold]
    #[inline(never)]
    fn anchor(&mut self, clock: &BusClock) {
        *self = Self::new(clock, self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_follow_the_wall_clock_and_differ() {
        let clock = BusClock::new();
        let mut stamper = Stamper::new(&clock, 7);
        let before = BusClock::wall();
        let mut ids = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let mut event = Event::of("a", ());
            stamper.stamp(&clock, clock.cycles(), &mut event);
            let at = event.timestamp().unwrap();
            // The two clocks may disagree by their calibration, the more the
            // longer it was interrupted.
            assert!(at.saturating_add(Duration::from_secs(30)) >= before);
            assert!(at <= BusClock::wall().saturating_add(Duration::from_secs(30)));
            assert!(ids.insert(event.id().unwrap().to_string()));
        }
    }

    #[test]
    fn a_stamp_that_is_there_stays() {
        let clock = BusClock::new();
        let at = Timestamp::from_micros(5).unwrap();
        let mut event = Event::of("a", ()).with_timestamp(at);
        Stamper::new(&clock, 7).stamp(&clock, clock.cycles(), &mut event);
        assert_eq!(event.timestamp(), Some(at));
        assert!(event.is_stamped());
    }
}
