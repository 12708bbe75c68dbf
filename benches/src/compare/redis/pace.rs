//! An open load: what is slow does not hold up what comes after it.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::runtime::Runtime;

/// Events a second.
pub(super) const RATE: u64 = 10_000;

/// Calls `send`, which must not wait, with numbers from 0, at an even rate.
///
/// The thread sleeps in between and may be woken late, by the system's timer or
/// because others have the processors; then it sends what is due at once. How
/// late it is is in nobody's figure.
pub(super) fn pace(count: u64, mut send: impl FnMut(u64)) {
    let (began, mut number) = (Instant::now(), 0);
    while number < count {
        let due = began.elapsed().as_nanos() as u64 / (1_000_000_000 / RATE);
        while number < due.min(count) {
            send(number);
            number += 1;
        }
        // An event is due when its share of the second is over; before that a sleep
        // would be none, and the thread would take a whole processor.
        let next = began + Duration::from_secs(1) * (number + 1) as u32 / RATE as u32;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Begins something at once, so that what begins later comes later, and leaves
/// the rest to the runtime.
pub(super) fn begin(runtime: &Runtime, task: impl Future<Output = ()> + Send + 'static) {
    let mut task = Box::pin(task);
    let _entered = runtime.enter();
    if task.as_mut().now_or_never().is_none() {
        runtime.spawn(task);
    }
}
