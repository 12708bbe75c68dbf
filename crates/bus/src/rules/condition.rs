//! The conditions of a rule.

use std::cell::OnceCell;

use serde_json::Value;
use swarmbus_core::{Event, Priority, Str, router::Pattern};

/// What must be true of an event; all of it.
#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) source: Option<Text>,
    pub(super) session: Option<Text>,
    pub(super) priority_at_least: Option<Priority>,
    pub(super) attributes: Vec<(Str, Text)>,
    pub(super) payload: Vec<(String, Expected)>,
}

/// A text, or a regex for the whole of one.
#[derive(Debug)]
pub(super) enum Text {
    Is(Str),
    Matches(Pattern),
}

/// What must stand somewhere in a payload.
#[derive(Debug)]
pub(super) enum Expected {
    Text(Text),
    /// A number, `true`, `false` or `null`.
    Value(Value),
}

/// An event's payload, decoded at most once and only if a rule asks.
pub(super) struct Payload<'a> {
    event: &'a Event,
    value: OnceCell<Option<Value>>,
}

impl<'a> Payload<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        Self { event, value: OnceCell::new() }
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.get_or_init(|| self.event.decode().ok()).as_ref()?.pointer(pointer)
    }
}

impl Condition {
    pub(super) fn holds(&self, event: &Event, payload: &Payload<'_>) -> bool {
        let text = |wanted: &Option<Text>, is: Option<&str>| match wanted {
            Some(wanted) => is.is_some_and(|is| wanted.holds(is)),
            None => true,
        };
        self.priority_at_least.is_none_or(|least| event.priority() >= least)
            && text(&self.source, Some(event.source()))
            && text(&self.session, event.session())
            && self.attributes.iter().all(|(name, wanted)| {
                event.attribute(name).is_some_and(|value| wanted.holds(value))
            })
            && self
                .payload
                .iter()
                .all(|(at, wanted)| payload.at(at).is_some_and(|value| wanted.holds(value)))
    }
}

impl Text {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => wanted == text,
            Self::Matches(regex) => regex.matches(text),
        }
    }
}

impl Expected {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(text), Value::String(value)) => text.holds(value),
            (Self::Text(_), _) => false,
            (Self::Value(Value::Number(wanted)), Value::Number(value)) => {
                // 1 and 1.0 are one number to JSON, and two to its reader.
                wanted == value
                    || ((wanted.is_f64() || value.is_f64()) && wanted.as_f64() == value.as_f64())
            }
            (Self::Value(wanted), value) => wanted == value,
        }
    }
}
