//! [`Permit`]: leave for one call, and the way back for its result.

use std::{fmt, mem::ManuallyDrop};

use super::{Breaker, StateKind, Transition, rules::Outcome, stripes::Tag, word::Word};
use crate::{Clock, Moment};

/// Leave for one call. Resolve it with [`success`](Self::success) or
/// [`failure`](Self::failure); dropping it counts nothing.
#[must_use = "a permit dropped at once says nothing about the call"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    ticket: Ticket,
    transition: Option<Transition>,
}

/// What a permit knows of its granting. Copied out before it is resolved: a
/// permit nobody points to lives in registers.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    /// What the breaker was.
    word: Word,
    /// When it was, if calls are timed.
    started: Option<Moment>,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(breaker: &'a Breaker, word: Word, started: Option<Moment>) -> Self {
        Self { breaker, ticket: Ticket { word, started }, transition: None }
    }

    #[inline]
    pub(super) fn with_transition(mut self, transition: Option<Transition>) -> Self {
        self.transition = transition;
        self
    }

    /// The call succeeded. `now` is read only if the time matters. Returns the
    /// change this made, if any.
    #[inline(always)]
    pub fn success(self, now: impl Clock) -> Option<Transition> {
        let (breaker, ticket) = self.into_parts();
        let word = breaker.gate.0.word();
        // Inlined to here, as nearly all successes end here.
        if word.absorbs_success() { None } else { breaker.succeeded(word, ticket, now) }
    }

    /// The call failed. Returns the change this made, if any.
    #[inline]
    pub fn failure(self, now: impl Clock) -> Option<Transition> {
        let (breaker, ticket) = self.into_parts();
        let word = breaker.gate.0.word();
        let late = word.generation() != ticket.word.generation();
        if late || word.state() == StateKind::Disabled {
            return None;
        }
        breaker.resolve(ticket, true, now.now())
    }

    /// The change that granting this permit made: open to half-open.
    #[inline]
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }

    /// Whether this call is a probe of a half-open breaker.
    #[inline]
    pub fn is_probe(&self) -> bool {
        !self.ticket.word.admits()
    }

    /// Without running [`Drop`].
    #[inline]
    fn into_parts(self) -> (&'a Breaker, Ticket) {
        let permit = ManuallyDrop::new(self);
        (permit.breaker, permit.ticket)
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_probe() {
            self.breaker.release(self.ticket.word.generation());
        }
    }
}

impl Breaker {
    /// A success that may have something to change.
    #[inline(never)]
    fn succeeded(&self, word: Word, ticket: Ticket, now: impl Clock) -> Option<Transition> {
        if word.generation() != ticket.word.generation() {
            return None;
        }
        if word.counts_lock_free() {
            return self.count_success(word, ticket, now);
        }
        self.resolve(ticket, false, now.now())
    }

    /// A success that changes nothing but counts, unless it was slow.
    fn count_success(&self, word: Word, ticket: Ticket, now: impl Clock) -> Option<Transition> {
        let (mut epoch, mut read) = (0, None);
        if word.is_timed() || word.is_stepped() {
            let now = now.now();
            if self.gate.0.is_slow(ticket.started, now) {
                return self.resolve(ticket, false, now);
            }
            epoch = self.gate.0.epoch(now);
            read = Some(now);
        }
        let tag = Tag::new(word.generation(), epoch);
        if self.stripes.as_ref().is_some_and(|stripes| stripes.add(tag)) {
            return None;
        }
        self.resolve(ticket, false, read.unwrap_or_else(|| now.now()))
    }

    #[cold]
    #[inline(never)]
    fn resolve(&self, ticket: Ticket, failed: bool, now: Moment) -> Option<Transition> {
        let outcome = Outcome { failed, slow: self.gate.0.is_slow(ticket.started, now) };
        self.with(|machine| machine.resolve(ticket.word.generation(), outcome, now))
    }

    #[cold]
    #[inline(never)]
    fn release(&self, generation: u64) {
        self.with(|machine| machine.release(generation));
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("is_probe", &self.is_probe()).finish_non_exhaustive()
    }
}
