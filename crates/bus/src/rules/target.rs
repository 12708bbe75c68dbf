//! [`RuleTarget`]: whom a rule sends copies to.

use std::fmt;

use swarmbus_core::{
    Event, EventId, EventType, Payload, Priority, Str, Target, codec::limits::MAX_STRING_LEN,
    event::EventTypeError,
};

use super::ROUTED_TYPE;

/// Whom a rule sends copies to: a type, an agent or a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleTarget {
    ty: EventType,
    target: Option<Target>,
}

impl RuleTarget {
    /// From `TYPE`, `agent:NAME` or `swarm:NAME`.
    ///
    /// # Errors
    ///
    /// When the type, or `agent.NAME` or `swarm.NAME`, is no event type.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        match Target::parse(text) {
            Some(target) => {
                let kind = match &target {
                    Target::Agent(_) => "agent",
                    Target::Swarm(_) => "swarm",
                };
                let ty = EventType::new(format!("{kind}.{}", target.name()))?;
                Ok(Self { ty, target: Some(target) })
            }
            None => Ok(Self { ty: EventType::new(text)?, target: None }),
        }
    }

    /// The type of the copies.
    pub fn ty(&self) -> &EventType {
        &self.ty
    }

    /// Whom the copies are addressed to; `None` leaves the event's address.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// A copy of `event` for this target; `None` if its budget or its path is
    /// at an end.
    pub(super) fn copy(&self, event: &Event, priority: Priority, hop: &Str) -> Option<Event> {
        let payload = Payload::raw(event.content(), event.payload().clone());
        let mut copy = Event::new(self.ty.clone(), payload)
            .with_source(event.source())
            .with_priority(priority)
            .caused_by(event, hop.clone())
            .ok()?;
        if let Some(target) = self.target.as_ref().or(event.target()) {
            copy = copy.with_target(target.clone());
        }
        if let Some(id) = event.id() {
            let id = format!("{id}/{self}");
            if id.len() <= MAX_STRING_LEN {
                copy = copy.with_id(EventId::from(id.as_str()));
            }
        }
        for (name, value) in event.attributes() {
            // What `caused_by` made of the budget stays.
            if copy.attribute(name).is_none() {
                // Names that only other programs may give are left out.
                copy = copy.clone().with_attribute(name, value).unwrap_or(copy);
            }
        }
        copy.with_attribute(ROUTED_TYPE, event.ty().as_str()).ok()
    }
}

/// As it is written in the file.
impl fmt::Display for RuleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => target.fmt(f),
            None => self.ty.fmt(f),
        }
    }
}
