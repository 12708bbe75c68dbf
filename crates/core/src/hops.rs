//! What an event carries so that chains of events end: the path it took, and
//! budgets of time and cost.
//!
//! A handler that publishes because of an event says so with
//! [`Event::caused_by`]. The new event then carries the path that led to it, and
//! what is left of the cause's budgets. [`LoopGuard`] cuts a path that comes
//! back to where it was: A → B → C → A.
//!
//! ```
//! use swarmbus_core::{Event, hops::{HopError, LoopGuard}};
//!
//! let question = Event::of("review.asked", ()).with_budget(10);
//! let draft = Event::of("draft.made", ()).caused_by(&question, "writer")?;
//! let verdict = Event::of("review.done", ()).caused_by(&draft, "critic")?;
//! assert_eq!(verdict.hops(), ["writer", "critic"]);
//! assert_eq!(verdict.budget(), Some(8));
//!
//! // The writer has been on this path: a second draft would start a loop.
//! let refused = LoopGuard::default().check(&verdict, "writer").unwrap_err();
//! assert!(matches!(refused, HopError::Loop { .. }));
//! assert_eq!(refused.to_string(), "the event came back: writer → critic → writer");
//! # Ok::<(), HopError>(())
//! ```
//!
//! # Places
//!
//! A place is what must not be visited twice: name the handler, not the agent.
//! An agent that asks and gets a reply is no loop; a handler that gets what it
//! caused is one.
//!
//! # Budgets
//!
//! | budget | carried as | on each hop |
//! | --- | --- | --- |
//! | time | [`deadline`](Event::deadline) | the earlier of the two |
//! | cost | [`budget`](Event::budget), an attribute | the cause's less the hop's cost ([`HOP_COST`]), or the own if that is smaller |
//!
//! Like the time to live of an IP packet, a budget of 0 lets an event arrive
//! and be handled, but cause nothing more. The unit is the program's: hops, if
//! nothing else is [spent](Event::spend); calls of a model, or cents, if it
//! says so.
//!
//! Only what is published with `caused_by` is held to this: the bus cannot know
//! why a handler publishes.

use std::fmt;

use compact_str::format_compact;

use crate::{
    codec::limits::{MAX_HOP_LEN, MAX_HOPS},
    event::{Event, Extra, Str},
};

/// The extension attributes that carry these marks between processes.
pub mod attribute {
    /// What may still be spent, in decimal digits: [`Event::budget`](crate::Event::budget).
    pub const BUDGET: &str = "budget";
    /// `true` on an event that is played again: [`Event::is_replayed`](crate::Event::is_replayed).
    pub const REPLAYED: &str = "replayed";
}

/// What one hop costs unless [`Event::caused_by_costing`] says otherwise.
pub const HOP_COST: u64 = 1;

/// Why an event must not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HopError {
    /// It has been here as often as it may.
    #[error("the event came back: {}", Path(path))]
    Loop {
        /// The places it passed, in order; the last is where it came back to.
        path: Vec<Str>,
    },
    /// What is left of its budget does not pay for this.
    #[error("the event's budget is spent: {left} left, {cost} needed")]
    BudgetSpent {
        /// What is left.
        left: u64,
        /// What was to be paid.
        cost: u64,
    },
    /// It has come too far: a loop of many places, or one that names itself
    /// differently each time.
    #[error("the event took {hops} hops, at most {limit} are allowed")]
    TooManyHops {
        /// The length of its path.
        hops: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// A place has a name of 1 to [`MAX_HOP_LEN`] bytes.
    #[error("the name of a place is 1 to {MAX_HOP_LEN} bytes long, not {0}")]
    PlaceName(usize),
}

/// Refuses events that go in circles. Pure and `Copy`.
///
/// | setting | default |
/// | --- | --- |
/// | [`max_visits`](Self::max_visits) | 1 |
/// | [`max_hops`](Self::max_hops) | 64, which is also the most that a frame carries |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoopGuard {
    max_visits: u32,
    max_hops: u32,
}

impl LoopGuard {
    /// One visit, 64 hops.
    pub const DEFAULT: Self = Self { max_visits: 1, max_hops: MAX_HOPS as u32 };

    /// How often one path may lead through one place; 0 counts as 1.
    #[must_use]
    pub const fn max_visits(mut self, visits: u32) -> Self {
        self.max_visits = if visits == 0 { 1 } else { visits };
        self
    }

    /// How long a path may be; 0 admits only events that nothing caused.
    #[must_use]
    pub const fn max_hops(mut self, hops: u32) -> Self {
        self.max_hops = hops;
        self
    }

    /// Whether an event may enter `place`. Costs nothing for one that has no
    /// path, and does not look at its budget.
    ///
    /// # Errors
    ///
    /// [`HopError::Loop`] or [`HopError::TooManyHops`].
    #[inline]
    pub fn check(&self, event: &Event, place: &str) -> Result<(), HopError> {
        if event.hops().is_empty() { Ok(()) } else { self.check_path(event.hops(), place) }
    }

    fn check_path(&self, path: &[Str], place: &str) -> Result<(), HopError> {
        let (max_visits, limit) = (self.max_visits as usize, self.max_hops as usize);
        if path.len() > limit {
            return Err(HopError::TooManyHops { hops: path.len(), limit });
        }
        if path.iter().filter(|hop| hop.as_str() == place).count() >= max_visits {
            return Err(HopError::Loop { path: extended(path, place.into()) });
        }
        Ok(())
    }
}

impl Default for LoopGuard {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Event {
    /// Says that this event is published because of `cause`, by the place `by`:
    /// a hop that costs [`HOP_COST`].
    ///
    /// | field | becomes |
    /// | --- | --- |
    /// | causation id | the cause's id |
    /// | correlation id | unless set: the cause's, or else its id |
    /// | traceparent, session | unless set: the cause's |
    /// | hops | the cause's and `by` |
    /// | deadline | the earlier of the two |
    /// | budget | what the cause has left after this hop, or the own if that is smaller |
    /// | replayed | also if the cause is |
    ///
    /// A cause that was only dispatched has no id, and none is taken over.
    ///
    /// # Errors
    ///
    /// [`HopError::BudgetSpent`], [`HopError::TooManyHops`] beyond
    /// [`MAX_HOPS`], or [`HopError::PlaceName`]. Then the event must not be
    /// published and is dropped.
    pub fn caused_by(self, cause: &Self, by: impl Into<Str>) -> Result<Self, HopError> {
        self.caused_by_costing(cause, by, HOP_COST)
    }

    /// [`caused_by`](Self::caused_by) with a hop of another cost; 0 is free.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn caused_by_costing(
        self,
        cause: &Self,
        by: impl Into<Str>,
        cost: u64,
    ) -> Result<Self, HopError> {
        let by = by.into();
        if !(1..=MAX_HOP_LEN).contains(&by.len()) {
            return Err(HopError::PlaceName(by.len()));
        }
        if cause.hops().len() >= MAX_HOPS {
            return Err(HopError::TooManyHops { hops: cause.hops().len() + 1, limit: MAX_HOPS });
        }
        let left = cause.budget().map(|budget| pay(budget, cost)).transpose()?;
        let budget = self.budget().into_iter().chain(left).min();

        let deadline = self.deadline().into_iter().chain(cause.deadline()).min();
        let timed = match deadline {
            Some(at) => self.with_deadline(at),
            None => self,
        };
        Ok(timed.set(|extra| {
            let id = cause.id();
            let inherit = |own: &mut Option<Str>, other: Option<&str>| {
                if own.is_none() {
                    *own = other.map(Str::from);
                }
            };
            inherit(&mut extra.traceparent, cause.traceparent());
            inherit(&mut extra.session, cause.session());
            if extra.correlation_id.is_none() {
                extra.correlation_id = cause.correlation_id().cloned().or_else(|| id.clone());
            }
            extra.causation_id = id;
            extra.hops = extended(cause.hops(), by);
            if let Some(budget) = budget {
                extra.put_budget(budget);
            }
            if cause.is_replayed() {
                extra.mark_replayed();
            }
        }))
    }

    /// How much may be spent on this event and on all that it causes. For the
    /// event that starts a chain: [`caused_by`](Self::caused_by) never lets a
    /// budget grow.
    #[must_use]
    pub fn with_budget(self, budget: u64) -> Self {
        self.set(|extra| extra.put_budget(budget))
    }

    /// What may still be spent; `None` is no limit.
    ///
    /// An attribute from another process that is no decimal number of 64 bits
    /// is a budget of 0: whoever sent it meant a limit, and the safe one is the
    /// smallest.
    pub fn budget(&self) -> Option<u64> {
        let text = self.attribute(attribute::BUDGET)?;
        // `parse` alone would take a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        Some(text.parse().ok().filter(|_| digits).unwrap_or(0))
    }

    /// Pays for something out of the budget and returns what is left; `None`
    /// if there is no limit.
    ///
    /// A handler pays from its own copy, which it then names as the cause.
    ///
    /// ```
    /// use swarmbus_core::{Event, hops::HopError};
    ///
    /// fn answer(question: &Event) -> Result<Event, HopError> {
    ///     let mut question = question.clone();
    ///     question.spend(5)?; // a call of the large model
    ///     Event::of("answer", ()).caused_by(&question, "oracle")
    /// }
    /// let question = Event::of("question", ()).with_budget(7);
    /// assert_eq!(answer(&question)?.budget(), Some(1));
    /// assert!(answer(&question.with_budget(3)).is_err());
    /// # Ok::<(), HopError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HopError::BudgetSpent`]; the event is then as it was.
    pub fn spend(&mut self, cost: u64) -> Result<Option<u64>, HopError> {
        let Some(budget) = self.budget() else { return Ok(None) };
        let left = pay(budget, cost)?;
        self.extra_mut().put_budget(left);
        Ok(Some(left))
    }

    /// Shares the budget among `ways` events that this one is going to cause:
    /// copies of this event, each the cause of one. The shares add up to the
    /// budget; what cannot be shared evenly goes to the first ones.
    ///
    /// The deadline is not shared: time passes for all of them at once.
    ///
    /// ```
    /// use swarmbus_core::{Event, hops::HopError};
    ///
    /// let task = Event::of("task", ()).with_budget(11);
    /// let parts: Vec<Event> = task
    ///     .split_budget(3)
    ///     .map(|share| Event::of("part", ()).caused_by(&share, "splitter"))
    ///     .collect::<Result<_, _>>()?;
    /// let budgets: Vec<_> = parts.iter().filter_map(Event::budget).collect();
    /// assert_eq!(budgets, [3, 3, 2]); // 4, 4 and 3 before the hop
    /// # Ok::<(), HopError>(())
    /// ```
    pub fn split_budget(&self, ways: usize) -> impl ExactSizeIterator<Item = Self> {
        let budget = self.budget();
        (0..ways).map(move |way| match budget {
            None => self.clone(),
            Some(budget) => {
                let (ways, way) = (ways as u64, way as u64);
                self.clone().with_budget(budget / ways + u64::from(way < budget % ways))
            }
        })
    }

    /// Marks an event that is played again from a log. What it causes is
    /// marked too.
    #[must_use]
    pub fn replayed(self) -> Self {
        self.set(Extra::mark_replayed)
    }

    /// Whether the event, or one that led to it, is played again: a handler
    /// with effects outside may then leave them out.
    pub fn is_replayed(&self) -> bool {
        self.attribute(attribute::REPLAYED).is_some_and(|value| value != "false")
    }
}

impl Extra {
    fn put_budget(&mut self, budget: u64) {
        self.put_attribute(Str::const_new(attribute::BUDGET), format_compact!("{budget}"));
    }

    fn mark_replayed(&mut self) {
        self.put_attribute(Str::const_new(attribute::REPLAYED), Str::const_new("true"));
    }
}

fn pay(budget: u64, cost: u64) -> Result<u64, HopError> {
    budget.checked_sub(cost).ok_or(HopError::BudgetSpent { left: budget, cost })
}

fn extended(path: &[Str], place: Str) -> Vec<Str> {
    let mut longer = Vec::with_capacity(path.len() + 1);
    longer.extend_from_slice(path);
    longer.push(place);
    longer
}

struct Path<'a>(&'a [Str]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, place) in self.0.iter().enumerate() {
            let arrow = if at == 0 { "" } else { " → " };
            write!(f, "{arrow}{place}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
