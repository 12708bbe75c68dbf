//! Layer: filters. What a handler does not want never reaches its breaker.

use std::{fmt, num::NonZeroU32, sync::Arc};

use swarmbus_core::{
    Event, EventType, Str,
    event::EventTypeError,
    router::{Pattern, PatternError},
};

use super::rate_limit::Limiter;
use crate::{
    handler::{BusId, HandlerError, in_handler},
    routes::parse_pattern,
};

/// Which of the matching events a handler wants.
///
/// ```
/// use swarmbus::{Event, Filter};
///
/// let urgent_votes = Filter::all([
///     Filter::pattern("vote.*")?,
///     Filter::custom(|event: &Event| event.priority().get() >= 6),
///     Filter::not(Filter::attribute("region", "test")),
/// ]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Filter(Kind);

#[derive(Clone)]
enum Kind {
    Type(EventType),
    Pattern(Arc<Pattern>),
    Session(Str),
    Attribute(Str, Str),
    Custom(Arc<dyn Fn(&Event) -> bool + Send + Sync>),
    All(Arc<[Filter]>),
    Any(Arc<[Filter]>),
    Not(Arc<Filter>),
    Rate(Arc<Limiter>),
}

impl Filter {
    /// Events of exactly this type.
    ///
    /// # Errors
    ///
    /// When the type is not one.
    pub fn ty(ty: &str) -> Result<Self, EventTypeError> {
        Ok(Self(Kind::Type(EventType::new(ty)?)))
    }

    /// Events whose type matches a pattern, as in
    /// [`Bus::subscribe`](crate::Bus::subscribe).
    ///
    /// # Errors
    ///
    /// When the pattern is not one.
    pub fn pattern(pattern: &str) -> Result<Self, PatternError> {
        Ok(Self(Kind::Pattern(Arc::new(parse_pattern(pattern)?))))
    }

    /// Events of one session.
    pub fn session(session: impl Into<Str>) -> Self {
        Self(Kind::Session(session.into()))
    }

    /// Events whose attribute `name` has this value.
    pub fn attribute(name: impl Into<Str>, value: impl Into<Str>) -> Self {
        Self(Kind::Attribute(name.into(), value.into()))
    }

    /// Events for which a function says so. If it panics, the handler counts
    /// as failed.
    pub fn custom(wants: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(wants)))
    }

    /// Events that all of these want; every event if there are none. Asked in
    /// order, up to the first that does not.
    pub fn all(filters: impl IntoIterator<Item = Self>) -> Self {
        Self(Kind::All(filters.into_iter().collect()))
    }

    /// Events that at least one of these wants; none if there are none.
    pub fn any(filters: impl IntoIterator<Item = Self>) -> Self {
        Self(Kind::Any(filters.into_iter().collect()))
    }

    /// Events that the other filter does not want.
    #[expect(clippy::should_implement_trait, reason = "stands beside `all` and `any`")]
    pub fn not(filter: Self) -> Self {
        Self(Kind::Not(Arc::new(filter)))
    }

    /// At most this many events a second, in bursts of as many. Clones share
    /// the allowance.
    ///
    /// ```
    /// # use std::num::NonZeroU32;
    /// # use swarmbus::{Event, Filter};
    /// let few = Filter::rate(NonZeroU32::new(2).unwrap());
    /// let event = Event::of("log.line", ());
    /// let wanted = (0..5).filter(|_| few.wants(&event)).count();
    /// assert_eq!(wanted, 2);
    /// ```
    pub fn rate(per_second: NonZeroU32) -> Self {
        Self(Kind::Rate(Arc::new(Limiter::per_second(per_second))))
    }

    /// Whether this filter wants an event. Asking a rate filter uses up some
    /// of its allowance.
    pub fn wants(&self, event: &Event) -> bool {
        match &self.0 {
            Kind::Type(ty) => event.ty() == ty,
            Kind::Pattern(pattern) => pattern.matches(event.ty().as_str()),
            Kind::Session(session) => event.session() == Some(session),
            Kind::Attribute(name, value) => event.attribute(name) == Some(value),
            Kind::Custom(wants) => wants(event),
            Kind::All(filters) => filters.iter().all(|filter| filter.wants(event)),
            Kind::Any(filters) => filters.iter().any(|filter| filter.wants(event)),
            Kind::Not(filter) => !filter.wants(event),
            Kind::Rate(limiter) => limiter.check().is_ok(),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Type(ty) => write!(f, "type {ty}"),
            Kind::Pattern(pattern) => write!(f, "pattern {pattern}"),
            Kind::Session(session) => write!(f, "session {session}"),
            Kind::Attribute(name, value) => write!(f, "{name} = {value}"),
            Kind::Custom(_) => f.write_str("custom"),
            Kind::All(filters) => write!(f, "all of {filters:?}"),
            Kind::Any(filters) => write!(f, "any of {filters:?}"),
            Kind::Not(filter) => write!(f, "not {filter:?}"),
            Kind::Rate(_) => f.write_str("rate"),
        }
    }
}

/// The filter of one handler, if it has one. Boxed, as it is large and most
/// have none.
#[derive(Debug, Default)]
pub(crate) struct FilterLayer(pub(crate) Option<Box<Filter>>);

impl FilterLayer {
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    pub(crate) fn wants(&self, event: &Event, bus: BusId) -> Result<bool, Box<HandlerError>> {
        match &self.0 {
            None => Ok(true),
            Some(filter) => {
                let mut wants = false;
                in_handler(bus, || {
                    wants = filter.wants(event);
                    Ok(())
                })?;
                Ok(wants)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_wants_what_it_says() {
        let event = Event::of("task.created", ())
            .with_session("s1")
            .with_attribute("region", "eu")
            .unwrap();
        let yes = [
            Filter::ty("task.created").unwrap(),
            Filter::pattern("task.*").unwrap(),
            Filter::session("s1"),
            Filter::attribute("region", "eu"),
            Filter::custom(|event| event.source().is_empty()),
        ];
        let no = [
            Filter::ty("task.done").unwrap(),
            Filter::pattern("vote.>").unwrap(),
            Filter::session("s2"),
            Filter::attribute("region", "us"),
            Filter::custom(|_| false),
        ];
        for (yes, no) in yes.iter().zip(&no) {
            assert!(yes.wants(&event), "{yes:?}");
            assert!(!no.wants(&event), "{no:?}");
            assert!(!Filter::not(yes.clone()).wants(&event));
            assert!(Filter::any([no.clone(), yes.clone()]).wants(&event));
            assert!(!Filter::all([yes.clone(), no.clone()]).wants(&event));
        }
        assert!(Filter::all(yes).wants(&event));
        assert!(!Filter::any(no).wants(&event));
        assert!(Filter::all([]).wants(&event));
        assert!(!Filter::any([]).wants(&event));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_filter_stops_wanting_for_a_while() {
        let event = Event::of("a", ());
        let filter = Filter::rate(NonZeroU32::new(3).unwrap());
        let wanted = || (0..10).filter(|_| filter.wants(&event)).count();
        assert_eq!(wanted(), 3);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(wanted(), 3);
    }
}
