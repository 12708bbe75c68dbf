//! Reading rules from text, with every problem and its place.
//!
//! Each value is first taken as the piece of text that it is, so that its
//! place is known when it turns out to be wrong, and reading can go on.

use std::{collections::HashSet, fmt, marker::PhantomData};

use ahash::RandomState;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, value::RawValue};
use swarmbus_core::{Event, Priority, Str, router::Pattern};

use super::{
    MAX_FILE_LEN, MAX_PROBLEMS, MAX_REGEXES, MAX_RULES, MAX_TARGETS, Rule, RuleFault, RuleProblem,
    SetPriority,
    condition::{Condition, Expected, Text},
    target::RuleTarget,
};
use crate::routes::parse_pattern;

/// Longest name of a rule in bytes: with what stands before it, a hop.
const MAX_NAME: usize = 100;

type Raw<'t> = Option<&'t RawValue>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'t> {
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    #[serde(rename = "description", default)]
    _description: Option<String>,
    #[serde(borrow, default)]
    version: Raw<'t>,
    #[serde(borrow, default)]
    routing: Entries<'t>,
    #[serde(borrow, default)]
    rules: Vec<&'t RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule<'t> {
    #[serde(rename = "description", default)]
    _description: Option<String>,
    #[serde(borrow, default)]
    name: Raw<'t>,
    #[serde(borrow, default, rename = "type")]
    pattern: Raw<'t>,
    #[serde(borrow, default)]
    to: Raw<'t>,
    #[serde(borrow, default)]
    when: Raw<'t>,
    #[serde(borrow, default)]
    priority: Raw<'t>,
    #[serde(borrow, default)]
    raise_to: Raw<'t>,
    #[serde(borrow, default)]
    enabled: Raw<'t>,
    #[serde(borrow, default)]
    order: Raw<'t>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWhen<'t> {
    #[serde(borrow, default)]
    source: Raw<'t>,
    #[serde(borrow, default)]
    session: Raw<'t>,
    #[serde(borrow, default)]
    priority_at_least: Raw<'t>,
    #[serde(borrow, default)]
    attributes: Entries<'t>,
    #[serde(borrow, default)]
    payload: Entries<'t>,
}

/// A rule of a checked file, with its order.
pub(super) fn rules(text: &str) -> Result<Vec<(i64, Rule)>, Vec<RuleProblem>> {
    let mut reader = Reader {
        text,
        problems: Vec::new(),
        names: HashSet::default(),
        targets: HashSet::default(),
        regexes: 0,
    };
    let rules = reader.file();
    if reader.problems.is_empty() {
        return Ok(rules);
    }
    reader.problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(reader.problems)
}

/// A piece of the text, and the field that it is.
#[derive(Clone)]
struct At<'t> {
    raw: &'t str,
    field: String,
}

impl<'t> At<'t> {
    fn field(&self, name: impl fmt::Display, raw: &'t RawValue) -> At<'t> {
        let dot = if self.field.is_empty() { "" } else { "." };
        At { raw: raw.get(), field: format!("{}{dot}{name}", self.field) }
    }

    /// A field whose name is any text.
    fn key(&self, key: &str, raw: &'t RawValue) -> At<'t> {
        At { raw: raw.get(), field: format!("{}[{key:?}]", self.field) }
    }

    fn index(&self, index: usize, raw: &'t RawValue) -> At<'t> {
        At { raw: raw.get(), field: format!("{}[{index}]", self.field) }
    }
}

struct Reader<'t> {
    text: &'t str,
    problems: Vec<RuleProblem>,
    names: HashSet<Str, RandomState>,
    targets: HashSet<RuleTarget, RandomState>,
    regexes: usize,
}

impl<'t> Reader<'t> {
    fn file(&mut self) -> Vec<(i64, Rule)> {
        let whole = At { raw: self.text, field: String::new() };
        if self.text.len() > MAX_FILE_LEN {
            self.fault(&whole, RuleFault::TooLong);
            return Vec::new();
        }
        let Some(Object(file)) = self.read::<Object<RawFile<'_>>>(&whole) else {
            return Vec::new();
        };
        if let Some(raw) = file.version {
            let at = whole.field("version", raw);
            match self.read::<u64>(&at) {
                Some(1) | None => {}
                Some(other) => self.fault(&at, RuleFault::Version(other)),
            }
        }
        let what = "rules";
        if file.routing.0.len() + file.rules.len() > MAX_RULES {
            self.fault(&whole, RuleFault::TooMany { what, limit: MAX_RULES });
            return Vec::new();
        }
        let mut rules = Vec::new();
        for (key, targets) in &file.routing.0 {
            let routing = At { raw: key.get(), field: "routing".to_owned() };
            let Some(pattern) = self.read::<String>(&routing) else { continue };
            let at = routing.key(&pattern, key);
            let to = self.targets(&routing.key(&pattern, targets));
            let name = Some(pattern.as_str().into());
            rules.extend(self.rule(&at, name, (&at, pattern), to).map(|rule| (0, rule)));
        }
        for (index, raw) in file.rules.iter().enumerate() {
            let at = At { raw: "", field: what.to_owned() }.index(index, raw);
            rules.extend(self.long_rule(&at));
        }
        rules
    }

    fn long_rule(&mut self, at: &At<'t>) -> Option<(i64, Rule)> {
        let Object(raw) = self.read::<Object<RawRule<'_>>>(at)?;
        let pattern = match raw.pattern.map(|raw| at.field("type", raw)) {
            Some(at) => self.read(&at).map(|pattern: String| (at, pattern)),
            None => self.missing(at, "type"),
        };
        let to = match raw.to {
            Some(raw) => self.targets(&at.field("to", raw)),
            None => self.missing(at, "to"),
        };
        let name = raw.name.map(|raw| at.field("name", raw));
        let name_at = name.as_ref().or(pattern.as_ref().map(|(at, _)| at)).unwrap_or(at).clone();
        let name = match &name {
            Some(at) => self.read::<String>(at).map(Str::from),
            None => pattern.as_ref().map(|(_, pattern)| pattern.as_str().into()),
        };
        let when = self.when(at, raw.when);
        let priority = self.set_priority(at, raw.priority, raw.raise_to);
        let enabled = raw.enabled.map(|raw| self.read(&at.field("enabled", raw)));
        let order = raw.order.map(|raw| self.read(&at.field("order", raw)));
        let (pattern_at, pattern) = pattern?;
        let rule = self.rule(&name_at, name, (&pattern_at, pattern), to)?;
        let rule = Rule { when: when?, priority: priority?, ..rule };
        enabled.unwrap_or(Some(true))?.then_some((order.unwrap_or(Some(0))?, rule))
    }

    /// What both forms have.
    fn rule(
        &mut self,
        at: &At<'t>,
        name: Option<Str>,
        (pattern_at, pattern): (&At<'t>, String),
        to: Option<Vec<RuleTarget>>,
    ) -> Option<Rule> {
        let pattern = self.pattern(pattern_at, &pattern);
        let name = name?;
        if !(1..=MAX_NAME).contains(&name.len()) {
            // A pattern that is too long for a name is none of its own.
            self.fault(at, RuleFault::Name);
        } else if !self.names.insert(name.clone()) {
            self.fault(at, RuleFault::NameTaken);
        }
        Some(Rule::new(name, pattern?, to?))
    }

    fn targets(&mut self, at: &At<'t>) -> Option<Vec<RuleTarget>> {
        let raw = self.read::<Vec<&RawValue>>(at)?;
        if raw.is_empty() {
            self.fault(at, RuleFault::NoTarget);
            return None;
        }
        if raw.len() > MAX_TARGETS {
            self.fault(at, RuleFault::TooMany { what: "targets", limit: MAX_TARGETS });
            return None;
        }
        let before = self.problems.len();
        let mut targets = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let at = at.index(index, raw);
            let Some(text) = self.read::<String>(&at) else { continue };
            match RuleTarget::parse(&text) {
                Ok(target) => {
                    let limit = MAX_TARGETS;
                    if self.targets.insert(target.clone()) && self.targets.len() == limit + 1 {
                        self.fault(&at, RuleFault::TooMany { what: "different targets", limit });
                    }
                    targets.push(target);
                }
                Err(error) => self.fault(&at, RuleFault::Target(error)),
            }
        }
        (self.problems.len() == before).then_some(targets)
    }

    fn when(&mut self, rule: &At<'t>, raw: Raw<'t>) -> Option<Condition> {
        let Some(raw) = raw else { return Some(Condition::default()) };
        let at = rule.field("when", raw);
        let Object(raw) = self.read::<Object<RawWhen<'_>>>(&at)?;
        let before = self.problems.len();
        let mut when = Condition {
            source: raw.source.and_then(|raw| self.text(&at.field("source", raw))),
            session: raw.session.and_then(|raw| self.text(&at.field("session", raw))),
            priority_at_least: raw
                .priority_at_least
                .and_then(|raw| self.priority(&at.field("priority_at_least", raw))),
            ..Condition::default()
        };
        for (key, value) in &raw.attributes.0 {
            let attributes = At { raw: key.get(), field: format!("{}.attributes", at.field) };
            let Some(name) = self.read::<String>(&attributes) else { continue };
            if let Err(error) = Event::of("a", ()).with_attribute(name.as_str(), "") {
                self.fault(&attributes.key(&name, key), error.into());
            }
            let text = self.text(&attributes.key(&name, value));
            when.attributes.extend(text.map(|text| (name.into(), text)));
        }
        for (key, value) in &raw.payload.0 {
            let payload = At { raw: key.get(), field: format!("{}.payload", at.field) };
            let Some(pointer) = self.read::<String>(&payload) else { continue };
            if !(pointer.is_empty() || pointer.starts_with('/')) {
                self.fault(&payload.key(&pointer, key), RuleFault::Pointer);
            }
            let expected = self.expected(&payload.key(&pointer, value));
            when.payload.extend(expected.map(|expected| (pointer, expected)));
        }
        (self.problems.len() == before).then_some(when)
    }

    fn expected(&mut self, at: &At<'t>) -> Option<Expected> {
        match self.read::<Value>(at)? {
            Value::String(_) => self.text(at).map(Expected::Text),
            Value::Array(_) | Value::Object(_) => {
                self.fault(at, RuleFault::NotScalar);
                None
            }
            value @ (Value::Null | Value::Bool(_) | Value::Number(_)) => {
                Some(Expected::Value(value))
            }
        }
    }

    fn text(&mut self, at: &At<'t>) -> Option<Text> {
        let text = self.read::<String>(at)?;
        if is_regex(&text) {
            self.pattern(at, &text).map(Text::Matches)
        } else {
            Some(Text::Is(text.into()))
        }
    }

    fn pattern(&mut self, at: &At<'t>, text: &str) -> Option<Pattern> {
        if is_regex(text) {
            self.regexes += 1;
            if self.regexes > MAX_REGEXES {
                if self.regexes == MAX_REGEXES + 1 {
                    let what = "regexes";
                    self.fault(at, RuleFault::TooMany { what, limit: MAX_REGEXES });
                }
                return None;
            }
        }
        parse_pattern(text).map_err(|error| self.fault(at, error.into())).ok()
    }

    fn set_priority(&mut self, rule: &At<'t>, set: Raw<'t>, raise: Raw<'t>) -> Option<SetPriority> {
        let set = set.map(|raw| rule.field("priority", raw));
        let raise = raise.map(|raw| rule.field("raise_to", raw));
        match (set, raise) {
            (None, None) => Some(SetPriority::Keep),
            (Some(at), None) => self.priority(&at).map(SetPriority::To),
            (None, Some(at)) => self.priority(&at).map(SetPriority::AtLeast),
            (Some(_), Some(at)) => {
                self.fault(&at, RuleFault::TwoPriorities);
                None
            }
        }
    }

    fn priority(&mut self, at: &At<'t>) -> Option<Priority> {
        let priority = match self.read::<Value>(at)? {
            Value::String(name) => match name.to_ascii_lowercase().as_str() {
                "low" => Some(Priority::LOW),
                "normal" => Some(Priority::DEFAULT),
                "high" => Some(Priority::HIGH),
                "critical" => Some(Priority::CRITICAL),
                _ => None,
            },
            value => value.as_u64().and_then(|n| u8::try_from(n).ok()).and_then(Priority::new),
        };
        if priority.is_none() {
            self.fault(at, RuleFault::Priority);
        }
        priority
    }

    fn missing<T>(&mut self, at: &At<'t>, field: &'static str) -> Option<T> {
        self.fault(at, RuleFault::Missing(field));
        None
    }

    /// Reads one piece of the text.
    fn read<T: Deserialize<'t>>(&mut self, at: &At<'t>) -> Option<T> {
        let mut json = serde_json::Deserializer::from_str(at.raw);
        let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            (path, error.into_inner())
        });
        let read = read.and_then(|value| match json.end() {
            Ok(()) => Ok(value),
            Err(error) => Err((".".to_owned(), error)),
        });
        match read {
            Ok(value) => Some(value),
            Err((path, error)) => {
                let dot = if at.field.is_empty() { "" } else { "." };
                let field = match path.as_str() {
                    "." => at.field.clone(),
                    path => format!("{}{dot}{path}", at.field),
                };
                if self.problems.len() >= MAX_PROBLEMS {
                    return None;
                }
                let text = error.to_string();
                let place = format!(" at line {} column {}", error.line(), error.column());
                let text = text.strip_suffix(&place).unwrap_or(&text).to_owned();
                let (line, column) = self.place(at.raw);
                let (line, column) = match error.line() {
                    0 | 1 => (line, column + error.column().saturating_sub(1)),
                    further => (line + further - 1, error.column().max(1)),
                };
                let fault = RuleFault::Json(text);
                self.problems.push(RuleProblem { line, column, field, fault });
                None
            }
        }
    }

    fn fault(&mut self, at: &At<'t>, fault: RuleFault) {
        if self.problems.len() < MAX_PROBLEMS {
            let (line, column) = self.place(at.raw);
            self.problems.push(RuleProblem { line, column, field: at.field.clone(), fault });
        }
    }

    /// Line and column of a piece of the text.
    fn place(&self, piece: &str) -> (usize, usize) {
        let offset = (piece.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        (line, column)
    }
}

fn is_regex(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/') && text.ends_with('/')
}

/// A struct that is an object in the file: by itself serde would take a list
/// of its fields too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// The entries of an object, in order, as pieces of text.
#[derive(Default)]
struct Entries<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Entries<'t> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        from.deserialize_map(All)
    }
}
