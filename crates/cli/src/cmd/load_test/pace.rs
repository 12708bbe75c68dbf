//! A pace for coordinators: below saturation, tasks begin at an even rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use super::inbox::Inbox;

/// A coordinator that was held up makes good for at most this long (in
/// nanoseconds), lest it floods the bus.
const MAX_DEBT: f64 = 10e6;

/// When one coordinator may begin its next task.
#[derive(Debug)]
pub(super) struct Pace {
    every: f64,
    next: f64,
}

impl Pace {
    /// `per_second` tasks. `phase`, from 0 to 1, keeps coordinators from
    /// beginning all at once.
    pub(super) fn new(per_second: f64, phase: f64) -> Self {
        let every = 1e9 / per_second;
        Self { every, next: every * phase }
    }

    #[inline]
    pub(super) fn may_begin(&mut self, now: u64) -> bool {
        let now = now as f64;
        if now < self.next {
            return false;
        }
        self.next = (self.next + self.every).max(now - MAX_DEBT);
        true
    }
}

/// How often each coordinator looks at the time.
const PACED: Duration = Duration::from_millis(1);
const UNPACED: Duration = Duration::from_millis(5);

/// The shortest sleep that is one.
const SHORTEST: Duration = Duration::from_micros(50);

/// A thread that wakes the coordinators in turn: a timer of the runtime has
/// steps of 1 ms, in which all of them would wake at once.
pub(super) struct Ticker {
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Ticker {
    pub(super) fn start(inboxes: Vec<Arc<Inbox>>, paced: bool) -> std::io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let period = if paced { PACED } else { UNPACED };
        let pause = (period / inboxes.len().max(1) as u32).max(SHORTEST);
        let at_once = (pause.as_nanos() * inboxes.len() as u128).div_ceil(period.as_nanos());
        let thread = thread::Builder::new().name("ticker".to_owned()).spawn(move || {
            let mut turn = inboxes.iter().cycle();
            while !end.load(Relaxed) {
                thread::sleep(pause);
                turn.by_ref().take(at_once as usize).for_each(|inbox| inbox.poke());
            }
        })?;
        Ok(Self { ended, thread })
    }

    pub(super) fn stop(self) {
        self.ended.store(true, Relaxed);
        // It has nothing to say, and no way to panic.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_begin_at_the_rate_and_debt_is_limited() {
        let mut pace = Pace::new(1e6, 0.5);
        assert!(!pace.may_begin(499));
        let begun = (0..100_000).filter(|now| pace.may_begin(*now)).count();
        assert_eq!(begun, 100);
        let later = 1_000_000_000;
        let at_once = (0..1_000_000).take_while(|_| pace.may_begin(later)).count();
        assert!((10_000..=10_002).contains(&at_once), "{at_once}");
    }
}
