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

/// What a permit knows of its granting, without its breaker: for who cannot hold a
/// borrow, as across a boundary between languages. See [`Permit::detach`].
// Copied out before a permit is resolved: one nobody points to lives in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What the breaker was.
    word: Word,
    /// When it was, if calls are timed.
    started: Option<Moment>,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(breaker: &'a Breaker, word: Word, started: Option<Moment>) -> Self {
        Self { breaker, ticket: Ticket::new(word, started), transition: None }
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
        if word.absorbs_success() {
            return None;
        }
        breaker.succeeded(word, ticket.word, ticket.started, now)
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

    /// [`success`](Self::success) or [`failure`](Self::failure).
    #[inline(always)]
    pub fn resolve(self, success: bool, now: impl Clock) -> Option<Transition> {
        if success { self.success(now) } else { self.failure(now) }
    }

    /// The change that granting this permit made: open to half-open.
    #[inline]
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }

    /// Whether this call is a probe of a half-open breaker.
    #[inline]
    pub fn is_probe(&self) -> bool {
        self.ticket.is_probe()
    }

    /// Takes the permit off its breaker, unresolved. Nothing frees its probe slot
    /// but [`Breaker::attach`] and what is done with the permit then.
    ///
    /// ```
    /// use swarmbus_core::{Moment, breaker::{Breaker, Config, Ticket}};
    ///
    /// let breaker = Breaker::new(Config::default());
    /// let ticket = breaker.acquire(Moment::ORIGIN)?.detach();
    /// let (bits, started) = (ticket.to_bits(), ticket.started());
    ///
    /// // Later, and perhaps after a journey as two numbers.
    /// let ticket = Ticket::from_bits(bits, started);
    /// breaker.attach(ticket).failure(Moment::ORIGIN);
    /// assert_eq!(breaker.stats().failures, 1);
    /// # Ok::<(), swarmbus_core::breaker::Rejected>(())
    /// ```
    #[inline]
    pub fn detach(self) -> Ticket {
        self.into_parts().1
    }

    /// Without running [`Drop`].
    #[inline]
    fn into_parts(self) -> (&'a Breaker, Ticket) {
        let permit = ManuallyDrop::new(self);
        (permit.breaker, permit.ticket)
    }
}

impl Ticket {
    #[inline]
    pub(super) const fn new(word: Word, started: Option<Moment>) -> Self {
        Self { word, started }
    }

    /// The state it was granted in, as a number to pass back to
    /// [`from_bits`](Self::from_bits). Below 2^53 as long as the breaker has
    /// changed its state less than 2^45 times, or `u64::MAX` when the result
    /// does not matter: an `f64` holds it.
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.word.bits()
    }

    /// When it was granted, if its breaker measures slow calls.
    #[inline]
    pub const fn started(self) -> Option<Moment> {
        self.started
    }

    /// A ticket from its numbers. Any are fine: invented ones count as a late
    /// result, unless they happen to be of the breaker's current generation.
    #[inline]
    pub const fn from_bits(bits: u64, started: Option<Moment>) -> Self {
        Self { word: Word::from_bits(bits), started }
    }

    /// Whether the call is a probe of a half-open breaker: its slot is to be given
    /// back, by resolving or dropping the permit.
    #[inline]
    pub const fn is_probe(self) -> bool {
        !self.word.admits()
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
    /// The permit of a ticket that this breaker gave out. A ticket is good for one
    /// permit: one resolved twice counts twice.
    #[inline]
    pub fn attach(&self, ticket: Ticket) -> Permit<'_> {
        Permit { breaker: self, ticket, transition: None }
    }
}

impl Breaker {
    /// A success that may have something to change. Takes the ticket in parts,
    /// which fit into registers.
    #[inline(never)]
    fn succeeded(
        &self,
        word: Word,
        granted: Word,
        started: Option<Moment>,
        now: impl Clock,
    ) -> Option<Transition> {
        let ticket = Ticket::new(granted, started);
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
