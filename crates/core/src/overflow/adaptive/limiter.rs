//! [`Limiter`]: the state machine behind
//! [`Overflow::AdaptiveRate`](crate::overflow::Overflow::AdaptiveRate).

use std::time::Duration;

use super::{
    super::{Decision, Reason},
    AdaptiveRateConfig,
};
use crate::{Clock, Moment, Priority};

/// The limit of one queue. It is only asked while the queue has room.
#[derive(Debug)]
pub(in crate::overflow) struct Limiter {
    config: AdaptiveRateConfig,
    /// Events from which on the queue is overloaded.
    high: usize,
    /// Events below which it is calm.
    low: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Everybody is admitted and no clock is read.
    Open,
    /// The high-water mark was reached: fewer events are admitted than are
    /// taken out, until the queue is below the low-water mark.
    Draining { pace: Pace, meter: Meter },
    /// It was: the limit is lifted step by step.
    Easing {
        pace: Pace,
        /// When the limit was doubled, or the queue not calm, for the last
        /// time.
        eased: Moment,
        /// When the queue was not calm for the last time.
        pressed: Moment,
    },
}

impl Limiter {
    pub(in crate::overflow) fn new(config: AdaptiveRateConfig, capacity: usize) -> Self {
        // At least 1: even a queue of one event can be calm, when empty.
        let part = |fraction: f64| ((capacity as f64 * fraction).ceil() as usize).max(1);
        let (low, high) = (part(config.low_water), part(config.high_water));
        Self { config, high, low, state: State::Open }
    }

    #[inline]
    pub(in crate::overflow) fn decide(
        &mut self,
        incoming: Priority,
        len: usize,
        now: impl Clock,
    ) -> Decision {
        if matches!(self.state, State::Open) && len < self.high {
            return Decision::Accept;
        }
        self.decide_by_pace(incoming, len, now.now())
    }

    /// Events per second, while there is a limit.
    pub(in crate::overflow) fn limit(&self) -> Option<f64> {
        match self.state {
            State::Open => None,
            State::Draining { pace, .. } | State::Easing { pace, .. } => {
                Some(SECOND as f64 / pace.interval as f64)
            }
        }
    }

    #[cold]
    fn decide_by_pace(&mut self, incoming: Priority, len: usize, now: Moment) -> Decision {
        self.state = self.advance(len, now);
        let tolerance = self.config.step;
        let limited = incoming < Priority::CRITICAL;
        let admitted = match &mut self.state {
            State::Open => Ok(()),
            State::Draining { pace, meter } => {
                let interval = meter.interval(len, now) / self.config.cut;
                pace.interval = whole(interval, self.config.min_rate);
                let admitted = if limited { pace.admit(now, tolerance) } else { Ok(()) };
                meter.admitted += usize::from(admitted.is_ok());
                admitted
            }
            State::Easing { pace, .. } if limited => pace.admit(now, tolerance),
            State::Easing { .. } => Ok(()),
        };
        match admitted {
            Ok(()) => Decision::Accept,
            Err(retry_after) => Decision::Reject(Reason::RateLimited { retry_after }),
        }
    }

    /// The state that follows from finding `len` events in the queue.
    fn advance(&self, len: usize, now: Moment) -> State {
        let step = self.config.step;
        match self.state {
            State::Open => self.drain(len, now),
            State::Draining { pace, meter } if len < self.low => {
                let interval = whole(meter.interval(len, now), self.config.min_rate);
                // Nobody asked since, so a long silence was calm all along.
                let last = meter.seen;
                self.ease(Pace { interval, ..pace }, last, last, now)
            }
            State::Draining { pace, meter } => {
                State::Draining { pace, meter: meter.seen(len, now, step) }
            }
            State::Easing { .. } if len >= self.high => self.drain(len, now),
            State::Easing { pace, .. } if len >= self.low => {
                State::Easing { pace, eased: now, pressed: now }
            }
            State::Easing { pace, eased, pressed } => self.ease(pace, eased, pressed, now),
        }
    }

    fn drain(&self, len: usize, now: Moment) -> State {
        // Due a step ahead: nothing has been saved up for a burst. The
        // interval is measured before it is used.
        let pace = Pace { interval: 1, due: now + self.config.step };
        State::Draining { pace, meter: Meter::new(len, now) }
    }

    fn ease(&self, mut pace: Pace, mut eased: Moment, pressed: Moment, now: Moment) -> State {
        if now - pressed >= self.config.recovery {
            return State::Open;
        }
        while now - eased >= self.config.step && pace.interval > 1 {
            pace.interval /= 2;
            eased = eased + self.config.step;
        }
        State::Easing { pace, eased, pressed }
    }
}

/// Admits one event every `interval` nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: u64,
    /// When the next event is due if they come evenly.
    due: Moment,
}

impl Pace {
    /// Or else how long until the answer is yes. An event may come earlier
    /// than due by the tolerance: that is the longest burst, as a time.
    fn admit(&mut self, now: Moment, tolerance: Duration) -> Result<(), Duration> {
        let early = self.due - now;
        if early > tolerance {
            return Err(early - tolerance);
        }
        self.due = self.due.max(now) + Duration::from_nanos(self.interval);
        Ok(())
    }
}

/// How fast the queue is emptied. Nothing else puts events in than what the
/// gate admits, and the queue is not empty meanwhile: so this is what the
/// consumers can do, not just what they are given.
#[derive(Clone, Copy, Debug)]
struct Meter {
    began: Moment,
    /// Events in the queue when it began.
    depth: usize,
    /// Events let into the queue since.
    admitted: usize,
    /// Half of what the measurement before came to: time and events.
    carried: (Duration, usize),
    /// The last time it was told anything.
    seen: Moment,
}

impl Meter {
    /// Events that make a measurement.
    const ENOUGH: usize = 8;

    fn new(depth: usize, now: Moment) -> Self {
        Self { began: now, depth, admitted: 0, carried: (Duration::ZERO, 0), seen: now }
    }

    /// Nanoseconds for each event taken out, counting one that is under way:
    /// while none has been, the guess grows with the time, so the first
    /// events are admitted at ever longer intervals instead of not at all.
    fn interval(&self, len: usize, now: Moment) -> f64 {
        let (time, taken_out) = self.total(len, now);
        time.as_nanos() as f64 / (taken_out + 1) as f64
    }

    /// Forgets half after each step, so that it follows consumers that get
    /// faster or slower; but not what little is known of slow ones.
    fn seen(mut self, len: usize, now: Moment, step: Duration) -> Self {
        let (time, taken_out) = self.total(len, now);
        if now - self.began >= step && taken_out >= Self::ENOUGH {
            self.carried = (time / 2, taken_out / 2);
            (self.began, self.depth, self.admitted) = (now, len, 0);
        }
        self.seen = now;
        self
    }

    fn total(&self, len: usize, now: Moment) -> (Duration, usize) {
        let (time, taken_out) = self.carried;
        let since = (self.depth + self.admitted).saturating_sub(len);
        (time + (now - self.began), taken_out + since)
    }
}

/// The interval in whole nanoseconds, never longer than the minimum rate asks.
fn whole(interval: f64, min_rate: u32) -> u64 {
    (interval as u64).clamp(1, SECOND / u64::from(min_rate))
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;
