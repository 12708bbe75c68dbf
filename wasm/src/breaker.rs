//! The circuit breaker: a permit is two numbers that JavaScript keeps.
//!
//! What is only looked at or set up now and then goes as a list of numbers
//! (`settings.rs`, `report.rs`).

use std::cell::Cell;
use std::time::Duration;

use swarmbus_core::Moment;
use swarmbus_core::breaker::{self, Permit, StateKind, Ticket, Transition};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::backoff::duration;
use crate::clock::{millis, moment, read};
use crate::report::{cause_number, state_number};
use crate::{report, settings};

/// What stands for a call that was turned away.
const REJECTED: f64 = -1.0;

/// A breaker. Times are milliseconds of the clock in `clock.ts`, which is read only
/// when the answer depends on it.
///
/// A ticket is a number: not negative for an ordinary call, below -1 for a probe.
///
/// A change of state is a number: 0 for none, or 1 more than the old state, 8 times
/// the new one and 64 times the cause, as `STATES` and `CAUSES` of `breaker.ts`
/// number them.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Breaker {
    breaker: breaker::Breaker,
    /// What the last `acquire` changed.
    changed: Cell<u32>,
    /// When the last ticket was given out.
    started: Cell<f64>,
    /// What the last `acquire` that was turned away was told.
    rejected: Cell<(StateKind, Duration)>,
}

#[wasm_bindgen]
impl Breaker {
    /// What is wrong with settings; 0 for nothing.
    pub fn check(settings: &[f64]) -> u32 {
        settings::breaker(settings).err().unwrap_or(0)
    }

    /// None when `check` finds something wrong.
    pub fn create(settings: &[f64]) -> Option<Breaker> {
        let config = settings::breaker(settings).ok()?;
        Some(Self::of(breaker::Breaker::new(config)))
    }

    /// From a snapshot, too; none when that is no list of `snapshot`.
    pub fn restore(settings: &[f64], snapshot: &[f64]) -> Option<Breaker> {
        let config = settings::breaker(settings).ok()?;
        report::restore(config, snapshot, read()).map(Self::of)
    }

    /// A ticket, or -1: then `rejected_by` and `retry_after` say more. `changed` is
    /// of interest for a rejection or a probe; nothing else makes a change.
    pub fn acquire(&self) -> f64 {
        match self.breaker.acquire(read) {
            Ok(permit) => {
                if permit.is_probe() {
                    self.changed.set(change(permit.transition()));
                }
                self.give_out(permit)
            }
            Err(no) => {
                self.changed.set(change(no.transition));
                self.rejected.set((no.state, no.retry_after));
                REJECTED
            }
        }
    }

    /// A ticket whatever the state.
    pub fn bypass(&self) -> f64 {
        self.give_out(self.breaker.bypass())
    }

    /// When the ticket just given out was, if calls are timed, else negative. It is
    /// passed back with the ticket.
    pub fn started(&self) -> f64 {
        self.started.get()
    }

    /// What the last `acquire` changed.
    pub fn changed(&self) -> u32 {
        self.changed.get()
    }

    /// The state that turned the last call away.
    pub fn rejected_by(&self) -> u32 {
        state_number(self.rejected.get().0)
    }

    /// How long the last call that was turned away should wait, in milliseconds;
    /// infinite if only a person ends it.
    pub fn retry_after(&self) -> f64 {
        match self.rejected.get().1 {
            Duration::MAX => f64::INFINITY,
            wait => wait.as_secs_f64() * 1e3,
        }
    }

    /// The call of this ticket succeeded. Returns what that changed.
    pub fn success(&self, ticket: f64, started: f64) -> u32 {
        change(self.permit(ticket, started).success(read))
    }

    /// The call of this ticket failed. Returns what that changed.
    pub fn failure(&self, ticket: f64, started: f64) -> u32 {
        change(self.permit(ticket, started).failure(read))
    }

    /// The call of this ticket counts as nothing. Gives its probe slot back.
    pub fn release(&self, ticket: f64) {
        drop(self.permit(ticket, -1.0));
    }

    /// The state.
    pub fn state(&self) -> u32 {
        state_number(self.breaker.kind())
    }

    /// Whether `acquire` would give the same ticket again and again, and a success
    /// with it would change nothing.
    pub fn is_quiet(&self) -> bool {
        self.breaker.is_quiet()
    }

    /// Opens as the rules would.
    pub fn trip(&self) -> u32 {
        change(self.breaker.trip(read))
    }

    /// Opens for so many milliseconds, or sees to it that it is open that long.
    pub fn keep_open(&self, time: f64) -> u32 {
        change(self.breaker.keep_open(duration(time), read))
    }

    /// Rejects every call until told otherwise.
    pub fn force_open(&self) -> u32 {
        change(self.breaker.force_open(read))
    }

    /// Lets every call through and records nothing.
    pub fn disable(&self) -> u32 {
        change(self.breaker.disable(read))
    }

    /// Lets every call through and records outcomes.
    pub fn metrics_only(&self) -> u32 {
        change(self.breaker.metrics_only(read))
    }

    /// Rejects every call until reset.
    pub fn isolate(&self) -> u32 {
        change(self.breaker.isolate(read))
    }

    /// Closes, whatever the state.
    pub fn reset(&self) -> u32 {
        change(self.breaker.reset(read))
    }

    /// State and counters.
    pub fn stats(&self) -> Vec<f64> {
        report::stats(&self.breaker, read())
    }

    /// What outlives the process.
    pub fn snapshot(&self) -> Vec<f64> {
        report::snapshot(&self.breaker, read())
    }
}

impl Breaker {
    fn of(breaker: breaker::Breaker) -> Self {
        Self {
            breaker,
            changed: Cell::new(0),
            started: Cell::new(-1.0),
            rejected: Cell::new((StateKind::Closed, Duration::ZERO)),
        }
    }

    fn give_out(&self, permit: Permit<'_>) -> f64 {
        let ticket = permit.detach();
        self.started.set(ticket.started().map_or(-1.0, millis));
        // Exact below 2^53, and for the one that stands for "does not matter".
        let number = ticket.to_bits() as f64;
        if ticket.is_probe() { -2.0 - number } else { number }
    }

    fn permit(&self, number: f64, started: f64) -> Permit<'_> {
        let bits = if number < 0.0 { -2.0 - number } else { number };
        let started: Option<Moment> = (started >= 0.0).then(|| moment(started));
        self.breaker.attach(Ticket::from_bits(bits as u64, started))
    }
}

fn change(transition: Option<Transition>) -> u32 {
    transition.map_or(0, |Transition { from, to, cause }| {
        1 + state_number(from) + 8 * state_number(to) + 64 * cause_number(cause)
    })
}
