//! [`LetterFilter`]: which dead letters to list, retry or purge.

use std::sync::Arc;

use swarmbus_core::{
    EventType, Timestamp,
    router::{Pattern, PatternError},
};

use super::{DeadLetter, DeadReason};
use crate::routes::parse_pattern;

/// Which dead letters: all, narrowed down by what is set.
///
/// ```
/// use swarmbus::LetterFilter;
///
/// let votes_of_the_validator = LetterFilter::all().handler("validator").event_type("vote.*")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    handler: Option<Arc<str>>,
    event_type: Option<Pattern>,
    reason: Option<DeadReason>,
    before: Option<Timestamp>,
}

impl LetterFilter {
    /// Every letter.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those of handlers with this name.
    #[must_use]
    pub fn handler(mut self, name: impl AsRef<str>) -> Self {
        self.handler = Some(name.as_ref().into());
        self
    }

    /// Only those whose event's type matches a pattern, as in
    /// [`Bus::subscribe`](crate::Bus::subscribe).
    ///
    /// # Errors
    ///
    /// When the pattern is not one.
    pub fn event_type(mut self, pattern: &str) -> Result<Self, PatternError> {
        self.event_type = Some(parse_pattern(pattern)?);
        Ok(self)
    }

    /// Only those that failed for this reason.
    #[must_use]
    pub fn reason(mut self, reason: DeadReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Only those that failed, the last time, before this.
    #[must_use]
    pub fn before(mut self, at: Timestamp) -> Self {
        self.before = Some(at);
        self
    }

    /// Whether a letter is one of them.
    pub fn wants(&self, letter: &DeadLetter) -> bool {
        self.wants_parts(&letter.handler, letter.event.ty(), letter.reason, letter.at)
    }

    /// The same for a letter that is kept elsewhere, in a file for example.
    pub fn wants_parts(
        &self,
        handler: &str,
        event_type: &EventType,
        reason: DeadReason,
        at: Timestamp,
    ) -> bool {
        self.handler.as_deref().is_none_or(|wanted| wanted == handler)
            && self.event_type.as_ref().is_none_or(|wanted| wanted.matches(event_type.as_str()))
            && self.reason.is_none_or(|wanted| wanted == reason)
            && self.before.is_none_or(|limit| at < limit)
    }
}
