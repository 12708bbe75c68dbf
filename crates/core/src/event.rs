//! [`Event`]: what agents send to each other.
//!
//! An event is a small header (type, source, priority, time), an optional box
//! of rarely used fields, and a payload that stays bytes until somebody reads
//! it. Cloning one copies no payload and allocates nothing.

mod error;
mod id;
mod payload;
mod priority;
mod target;
mod time;
mod ty;

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use compact_str::CompactString as Str;
pub use error::{AttributeError, EventTypeError, PayloadError};
pub use id::EventId;
pub use payload::{Content, Payload};
pub use priority::{Level, Priority};
pub use target::Target;
pub use time::{Timestamp, TimestampError};
pub use ty::EventType;

/// One message of a swarm.
///
/// Setters consume and return the event, so that one is written in a single
/// expression. Fields that most events lack (target, session, hops, …) live
/// behind one shared pointer: an event without them stays small, and a clone
/// is a handful of copied words.
///
/// ```
/// use swarmbus_core::{Event, Payload, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = Event::of("vote.cast", Payload::json(&serde_json::json!({"yes": true}))?)
///     .with_source("validator-3")
///     .with_target(Target::agent("coordinator-1"));
/// let vote: serde_json::Value = event.decode()?;
/// assert_eq!(vote["yes"], true);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq)]
pub struct Event {
    ty: EventType,
    source: Str,
    payload: Bytes,
    timestamp: Option<Timestamp>,
    /// Not among the rare ones: handlers with a time-out lower it, and that
    /// should not allocate.
    deadline: Option<Timestamp>,
    /// Distinguishes events of one microsecond; 0 until the event is stamped.
    nonce: u64,
    extra: Option<Arc<Extra>>,
    priority: Priority,
    content: Content,
}

/// The fields that most events do not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Extra {
    pub(crate) id: Option<EventId>,
    pub(crate) target: Option<Target>,
    pub(crate) session: Option<Str>,
    pub(crate) correlation_id: Option<EventId>,
    pub(crate) causation_id: Option<EventId>,
    pub(crate) traceparent: Option<Str>,
    pub(crate) hops: Vec<Str>,
    pub(crate) attributes: Vec<(Str, Str)>,
}

impl Extra {
    /// The name must be checked.
    pub(crate) fn put_attribute(&mut self, name: Str, value: Str) {
        match self.attributes.binary_search_by(|(n, _)| n.cmp(&name)) {
            Ok(at) => self.attributes[at].1 = value,
            Err(at) => self.attributes.insert(at, (name, value)),
        }
    }
}

impl Event {
    /// An event of a type that was checked before.
    pub fn new(ty: EventType, payload: impl Into<Payload>) -> Self {
        let Payload { bytes, content } = payload.into();
        Self {
            ty,
            source: Str::const_new(""),
            payload: bytes,
            timestamp: None,
            deadline: None,
            nonce: 0,
            extra: None,
            priority: Priority::DEFAULT,
            content,
        }
    }

    /// An event whose type is a literal of the program.
    ///
    /// # Panics
    ///
    /// When the literal is not a valid type: see [`EventType::new`], which
    /// returns an error instead and is the one to use for other strings.
    pub fn of(ty: &'static str, payload: impl Into<Payload>) -> Self {
        Self::new(EventType::from_static(ty), payload)
    }

    /// The agent or service that publishes. Events of one source keep their
    /// order within one priority.
    #[must_use]
    #[inline]
    pub fn with_source(mut self, source: impl Into<Str>) -> Self {
        self.source = source.into();
        self
    }

    /// 0 lowest to 9 highest; [`Priority::DEFAULT`] is 5.
    #[must_use]
    #[inline]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// When the event happened. The bus fills it in on publishing if it is
    /// missing.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// An id of the caller's own choice, in place of the one made from the
    /// stamp.
    #[must_use]
    pub fn with_id(self, id: impl Into<EventId>) -> Self {
        let id = id.into();
        self.set(|extra| extra.id = Some(id))
    }

    /// The one agent, or the swarm, that this event is for.
    #[must_use]
    pub fn with_target(self, target: Target) -> Self {
        self.set(|extra| extra.target = Some(target))
    }

    /// The session whose handlers see this event first.
    #[must_use]
    pub fn with_session(self, session: impl Into<Str>) -> Self {
        let session = session.into();
        self.set(|extra| extra.session = Some(session))
    }

    /// Ties a request, its reply and everything in between together.
    #[must_use]
    pub fn with_correlation_id(self, id: impl Into<EventId>) -> Self {
        let id = id.into();
        self.set(|extra| extra.correlation_id = Some(id))
    }

    /// The event that made this one happen.
    #[must_use]
    pub fn with_causation_id(self, id: impl Into<EventId>) -> Self {
        let id = id.into();
        self.set(|extra| extra.causation_id = Some(id))
    }

    /// The W3C Trace Context `traceparent` header, carried untouched.
    #[must_use]
    pub fn with_traceparent(self, traceparent: impl Into<Str>) -> Self {
        let traceparent = traceparent.into();
        self.set(|extra| extra.traceparent = Some(traceparent))
    }

    /// After this moment the event is worth nothing: it expires instead of
    /// being handled.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Appends one place that forwarded this event.
    #[must_use]
    pub fn with_hop(self, place: impl Into<Str>) -> Self {
        let place = place.into();
        self.set(|extra| extra.hops.push(place))
    }

    /// A `CloudEvents` extension attribute. A second value under one name
    /// replaces the first.
    ///
    /// # Errors
    ///
    /// When the name is not 1 to 20 lower-case letters and digits, or is one
    /// that the event has a field of its own for.
    pub fn with_attribute(
        self,
        name: impl Into<Str>,
        value: impl Into<Str>,
    ) -> Result<Self, AttributeError> {
        let (name, value) = (name.into(), value.into());
        AttributeError::check(&name)?;
        Ok(self.set(|extra| extra.put_attribute(name, value)))
    }

    /// Replaces the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        let Payload { bytes, content } = payload.into();
        self.payload = bytes;
        self.content = content;
        self
    }

    /// Gives the event its time and the number that its id is made of, if it
    /// has none yet. The bus does this on publishing, so that the id itself,
    /// a `UUIDv7`, need only be computed for an event that leaves the process.
    ///
    /// `nonce` should be unique within one microsecond, among processes too;
    /// 0 means "none". An id is no secret: one that is known may give others
    /// away.
    #[inline]
    pub fn stamp(&mut self, now: Timestamp, nonce: u64) {
        if self.timestamp.is_none() {
            self.timestamp = Some(now);
        }
        if self.nonce == 0 {
            self.nonce = nonce;
        }
    }

    /// Whether [`stamp`](Self::stamp) would change nothing.
    #[inline]
    pub fn is_stamped(&self) -> bool {
        self.timestamp.is_some() && self.nonce != 0
    }

    /// The same again as an event of its own: without an id and a timestamp,
    /// which it gets when it is published.
    #[must_use]
    pub fn unstamped(mut self) -> Self {
        (self.timestamp, self.nonce) = (None, 0);
        if self.extra().is_some_and(|extra| extra.id.is_some()) {
            self = self.set(|extra| extra.id = None);
        }
        self
    }

    /// The id set by [`with_id`](Self::with_id), else the `UUIDv7` made from
    /// the stamp, else `None`. Clones of one stamped event agree on it.
    pub fn id(&self) -> Option<EventId> {
        if let Some(id) = self.extra().and_then(|extra| extra.id.clone()) {
            return Some(id);
        }
        match (self.timestamp, self.nonce) {
            (Some(at), nonce) if nonce != 0 => Some(EventId::v7(at, nonce)),
            _ => None,
        }
    }

    /// What happened, as dotted tokens: `task.created`.
    #[inline]
    pub fn ty(&self) -> &EventType {
        &self.ty
    }

    /// Who published it; empty when nobody said.
    #[inline]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// 0 lowest to 9 highest.
    #[inline]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// When it happened; `None` until set or published.
    #[inline]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// The agent or swarm it is for; `None` for everybody.
    pub fn target(&self) -> Option<&Target> {
        self.extra()?.target.as_ref()
    }

    /// The session it belongs to.
    #[inline]
    pub fn session(&self) -> Option<&str> {
        self.extra()?.session.as_deref()
    }

    /// See [`with_correlation_id`](Self::with_correlation_id).
    pub fn correlation_id(&self) -> Option<&EventId> {
        self.extra()?.correlation_id.as_ref()
    }

    /// See [`with_causation_id`](Self::with_causation_id).
    pub fn causation_id(&self) -> Option<&EventId> {
        self.extra()?.causation_id.as_ref()
    }

    /// See [`with_traceparent`](Self::with_traceparent).
    pub fn traceparent(&self) -> Option<&str> {
        self.extra()?.traceparent.as_deref()
    }

    /// See [`with_deadline`](Self::with_deadline).
    #[inline]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// The places that forwarded it, first to last.
    pub fn hops(&self) -> &[Str] {
        self.extra().map_or(&[], |extra| &extra.hops)
    }

    /// One extension attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let attributes = &self.extra()?.attributes;
        let at = attributes.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(&attributes[at].1)
    }

    /// All extension attributes, sorted by name.
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let attributes: &[(Str, Str)] = self.extra().map_or(&[], |extra| &extra.attributes);
        attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The payload as it travels.
    #[inline]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// What the payload bytes are.
    #[inline]
    pub fn content(&self) -> Content {
        self.content
    }

    /// The payload as text, when that is what it is.
    pub fn text(&self) -> Option<&str> {
        match self.content {
            Content::Text => std::str::from_utf8(&self.payload).ok(),
            Content::Binary | Content::MessagePack | Content::Json => None,
        }
    }

    /// Reads the payload, MessagePack or JSON by its [`Content`], into a type
    /// of the program.
    ///
    /// # Errors
    ///
    /// When the content is text or bytes, when it nests deeper than
    /// [`codec::limits::MAX_DEPTH`](crate::codec::limits::MAX_DEPTH), or when
    /// it does not fit the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        payload::decode(self.content, &self.payload)
    }

    /// The number given to [`stamp`](Self::stamp); 0 for none. There is none
    /// without a timestamp.
    #[inline]
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    #[inline]
    pub(crate) fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// What a decoder puts back: the stamp as it was, and the rare fields in
    /// one allocation. Attributes must be sorted, without a name twice.
    #[must_use]
    pub(crate) fn restored(
        mut self,
        timestamp: Option<Timestamp>,
        nonce: u64,
        deadline: Option<Timestamp>,
        extra: Extra,
    ) -> Self {
        self.timestamp = timestamp;
        self.deadline = deadline;
        self.nonce = nonce;
        self.extra = (extra != Extra::default()).then(|| Arc::new(extra));
        self
    }

    #[must_use]
    pub(crate) fn set(mut self, change: impl FnOnce(&mut Extra)) -> Self {
        change(self.extra_mut());
        self
    }

    pub(crate) fn extra_mut(&mut self) -> &mut Extra {
        Arc::make_mut(self.extra.get_or_insert_default())
    }
}

/// Shows the header and the payload's size: payloads may hold secrets, and
/// logs are forever.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Event");
        out.field("type", &self.ty.as_str());
        if !self.source.is_empty() {
            out.field("source", &self.source);
        }
        out.field("priority", &self.priority.get());
        if let Some(id) = self.id() {
            out.field("id", &format_args!("{id}"));
        }
        if let Some(target) = self.target() {
            out.field("target", &format_args!("{target}"));
        }
        out.field("content", &self.content)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
