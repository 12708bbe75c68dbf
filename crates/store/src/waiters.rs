//! Telling those who wait for a transaction how it went, by one wake-up for
//! all of them.
//!
//! Each wake-up from outside of a runtime would be a system call, as the
//! runtime's threads are done with one task and at rest before the next is
//! woken: with a hundred publishers that took longer than writing their events.
//! So a task of their own runtime wakes them.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::WriteError;

/// How long a runtime may take to wake those who have their answer. Then the
/// log's own thread does.
const PATIENCE: Duration = Duration::from_millis(10);

/// The writer's end. Dropped without an answer, it says that there is none.
#[derive(Default)]
pub(crate) struct Waiters(Arc<Mutex<State>>);

/// One that waits: how its transaction went, or `None` if the writer is gone.
pub(crate) struct Ticket {
    shared: Arc<Mutex<State>>,
    place: usize,
}

#[derive(Default)]
struct State {
    answer: Option<Option<Result<(), WriteError>>>,
    waiting: Vec<Option<Waiting>>,
    /// The runtime of those who wait inside.
    runtime: Option<Handle>,
}

struct Waiting {
    waker: Waker,
    inside: bool,
}

impl Waiters {
    /// One more that waits.
    pub(crate) fn join(&self) -> Ticket {
        let mut state = self.0.lock();
        state.waiting.push(None);
        Ticket { shared: Arc::clone(&self.0), place: state.waiting.len() - 1 }
    }

    /// Tells all of them. If it is not known whether they have been woken, says
    /// who are to be woken later.
    pub(crate) fn answer(self, result: Result<(), WriteError>) -> Option<Crowd> {
        self.end(Some(result))
    }

    fn end(&self, answer: Option<Result<(), WriteError>>) -> Option<Crowd> {
        let mut state = self.0.lock();
        if state.answer.is_some() {
            return None;
        }
        state.answer = Some(answer);
        let (waiting, runtime) = (std::mem::take(&mut state.waiting), state.runtime.take());
        drop(state);
        let (inside, outside): (Vec<_>, Vec<_>) =
            waiting.into_iter().flatten().partition(|waiting| waiting.inside);
        outside.into_iter().for_each(|waiting| waiting.waker.wake());
        let crowd = Crowd::default();
        *crowd.0.lock() = inside.into_iter().map(|waiting| waiting.waker).collect();
        match runtime {
            Some(runtime) if crowd.0.lock().len() > 1 => {
                let first = crowd.clone();
                runtime.spawn(async move { drop(first) });
                Some(crowd)
            }
            _ => None,
        }
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Those who are to be woken, by the task in their runtime or by whoever finds
/// that this takes too long: all of its threads may be waiting for something.
/// The first to be dropped does it, for a runtime that ends drops its tasks.
#[derive(Clone, Default)]
pub(crate) struct Crowd(Arc<Mutex<Vec<Waker>>>);

impl Crowd {
    /// Whether all have been woken.
    pub(crate) fn is_awake(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let wakers = std::mem::take(&mut *self.0.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Those who have their answer and may not know, and until when.
#[derive(Default)]
pub(crate) struct Told(VecDeque<(Crowd, Instant)>);

impl Told {
    pub(crate) fn add(&mut self, crowd: Option<Crowd>) {
        self.0.extend(crowd.map(|crowd| (crowd, Instant::now() + PATIENCE)));
    }

    /// When to see after them.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.front().map(|(_, until)| *until)
    }

    /// Wakes those whom their runtime has not woken in time.
    pub(crate) fn wake_late(&mut self) {
        let now = Instant::now();
        let is_over = |(crowd, until): &(Crowd, Instant)| crowd.is_awake() || *until <= now;
        while self.0.front().is_some_and(is_over) {
            drop(self.0.pop_front());
        }
    }
}

impl Future for Ticket {
    type Output = Option<Result<(), WriteError>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.lock();
        if let Some(answer) = &state.answer {
            return Poll::Ready(answer.clone());
        }
        // In a runtime of one thread, whoever rests is woken once in any case.
        let runtime = Handle::try_current().ok();
        let runtime = runtime.filter(|r| r.runtime_flavor() == RuntimeFlavor::MultiThread);
        let inside = match (&state.runtime, runtime) {
            (_, None) => false,
            (Some(theirs), Some(ours)) => theirs.id() == ours.id(),
            (None, ours) => {
                state.runtime = ours;
                true
            }
        };
        let waiting = Waiting { waker: cx.waker().clone(), inside };
        let earlier = state.waiting.get_mut(self.place).and_then(|place| place.replace(waiting));
        drop(state);
        // It may be the last to hold its task.
        drop(earlier);
        Poll::Pending
    }
}

impl Drop for Ticket {
    /// Who gives up is not woken.
    fn drop(&mut self) {
        let left = self.shared.lock().waiting.get_mut(self.place).and_then(Option::take);
        // It may be the last to hold its task.
        drop(left);
    }
}

#[cfg(test)]
mod tests;
