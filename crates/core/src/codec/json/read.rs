//! From `CloudEvents` JSON to an [`Event`].

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ANONYMOUS, FromJsonError, UNSTAMPED, hops::split};
use crate::{
    codec::Limits,
    event::{
        AttributeError, Content, Event, EventId, EventType, Extra, Payload, Priority, Str, Target,
        Timestamp,
    },
};

/// An event of one JSON object, within [`Limits::DEFAULT`].
///
/// # Errors
///
/// When it is not a `CloudEvents` 1.0 event, or has something that an event
/// of swarmbus has no place for: nothing is dropped.
pub fn from_json(json: &[u8]) -> Result<Event, FromJsonError> {
    from_json_with(json, &Limits::DEFAULT)
}

/// An event of one JSON object of at most [`Limits::frame_len`] bytes. Limits
/// on single fields are for whoever writes the event into a frame.
///
/// # Errors
///
/// See [`from_json`].
pub fn from_json_with(json: &[u8], limits: &Limits) -> Result<Event, FromJsonError> {
    let (len, limit) = (json.len(), limits.frame_len);
    if len > limit {
        return Err(FromJsonError::TooLong { len, limit });
    }
    let mut members = Members::read(json, limits)?;
    match members.text("specversion")? {
        Some(version) if version == "1.0" => {}
        Some(version) => return Err(FromJsonError::SpecVersion(version)),
        None => return Err(FromJsonError::Missing("specversion")),
    }
    let ty = EventType::new(members.required("type")?)?;
    let source = match members.required("source")? {
        source if source == ANONYMOUS => Str::default(),
        source => source,
    };
    let priority = members.priority()?;
    let payload = members.payload()?;
    let timestamp = members.time("time")?;
    let (id, nonce) = members.id(timestamp)?;
    let deadline = members.time("deadline")?;
    let extra = Extra {
        id,
        target: members.target()?,
        session: members.text("session")?,
        correlation_id: members.text("correlationid")?.map(|text| text.as_str().into()),
        causation_id: members.text("causationid")?.map(|text| text.as_str().into()),
        traceparent: members.text("traceparent")?,
        hops: match members.text("hops")? {
            Some(text) => split(&text).ok_or(FromJsonError::Hops)?,
            None => Vec::new(),
        },
        // Last: what is left.
        attributes: members.attributes()?,
    };
    Ok(Event::new(ty, payload)
        .with_source(source)
        .with_priority(priority)
        .restored(timestamp, nonce, deadline, extra))
}

/// The members of the document that nobody has taken yet. The values are
/// slices of it.
struct Members<'a>(Vec<(Str, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Fields with a name of their own.
    const FIELDS: usize = 24;

    fn read(json: &'a [u8], limits: &Limits) -> Result<Self, FromJsonError> {
        let limit = limits.attributes.saturating_add(Self::FIELDS);
        let mut reader = serde_json::Deserializer::from_slice(json);
        let mut found = Found { members: Vec::new(), limit };
        let read = found.deserialize(&mut reader).and_then(|()| reader.end());
        let Found { mut members, .. } = found;
        if members.len() > limit {
            return Err(FromJsonError::TooManyMembers(limit));
        }
        read?;
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(FromJsonError::Duplicate(pair[0].0.clone()));
        }
        // In CloudEvents `null` is the same as absent; in `data` it is a value.
        members.retain(|(name, value)| value.get() != "null" || name == "data");
        Ok(Self(members))
    }

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(self.0.remove(at).1)
    }

    fn text(&mut self, name: &str) -> Result<Option<Str>, FromJsonError> {
        self.take(name).map(|value| string(name, value)).transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<Str, FromJsonError> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or(FromJsonError::Missing(name))
    }

    fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, FromJsonError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| FromJsonError::Time { name, error })
    }

    fn priority(&mut self) -> Result<Priority, FromJsonError> {
        let Some(value) = self.take("priority") else { return Ok(Priority::DEFAULT) };
        let number: u8 = serde_json::from_str(value.get()).map_err(|_| FromJsonError::Priority)?;
        Priority::new(number).ok_or(FromJsonError::Priority)
    }

    /// The id of its own and the nonce: with a nonce that makes the very id
    /// there is none of its own.
    fn id(&mut self, at: Option<Timestamp>) -> Result<(Option<EventId>, u64), FromJsonError> {
        let text = self.required("id")?;
        let id = (text != UNSTAMPED).then(|| EventId::from(text.as_str()));
        let Some(nonce) = self.text("nonce")? else { return Ok((id, 0)) };
        let hex = nonce.len() == 16
            && nonce.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let nonce = u64::from_str_radix(&nonce, 16).ok().filter(|nonce| hex && *nonce != 0);
        match (nonce, at, id) {
            (Some(nonce), Some(at), Some(id)) => {
                Ok(((id != EventId::v7(at, nonce)).then_some(id), nonce))
            }
            _ => Err(FromJsonError::Nonce),
        }
    }

    fn target(&mut self) -> Result<Option<Target>, FromJsonError> {
        let Some(text) = self.text("target")? else { return Ok(None) };
        Target::parse(&text).map(Some).ok_or(FromJsonError::Target)
    }

    fn payload(&mut self) -> Result<Payload, FromJsonError> {
        let content = self.text("datacontenttype")?.map(|text| content(&text)).transpose()?;
        match (self.take("data"), self.take("data_base64")) {
            (None, None) => Ok(Payload::raw(content.unwrap_or(Content::Binary), Vec::new())),
            (Some(_), Some(_)) => Err(FromJsonError::TwoPayloads),
            (Some(data), None) => match content.unwrap_or(Content::Json) {
                Content::Json => Ok(Payload::raw(Content::Json, data.get().to_owned())),
                // A string stands for its UTF-8 bytes.
                content @ (Content::Text | Content::Binary) => {
                    let text: String =
                        serde_json::from_str(data.get()).map_err(|_| FromJsonError::Data)?;
                    Ok(Payload::raw(content, text))
                }
                Content::MessagePack => Err(FromJsonError::Data),
            },
            (None, Some(data)) => {
                let text = string("data_base64", data)?;
                let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| FromJsonError::Base64)?;
                Ok(Payload::raw(content.unwrap_or(Content::Binary), bytes))
            }
        }
    }

    fn attributes(self) -> Result<Vec<(Str, Str)>, FromJsonError> {
        let checked = self.0.into_iter().map(|(name, value)| {
            AttributeError::check_carried(&name)
                .map_err(|error| FromJsonError::Attribute { name: name.clone(), error })?;
            let value = string(&name, value)?;
            Ok((name, value))
        });
        checked.collect()
    }
}

fn string(name: &str, value: &RawValue) -> Result<Str, FromJsonError> {
    serde_json::from_str::<String>(value.get())
        .map(Str::from)
        .map_err(|_| FromJsonError::NotAString(name.into()))
}

/// The kind of payload that a media type stands for.
fn content(media_type: &str) -> Result<Content, FromJsonError> {
    let (name, parameter) = match media_type.split_once(';') {
        Some((name, parameter)) => (name.trim(), Some(parameter.trim())),
        None => (media_type, None),
    };
    let all = [Content::Binary, Content::MessagePack, Content::Json, Content::Text];
    let known = all.into_iter().find(|content| content.media_type().eq_ignore_ascii_case(name));
    let unknown = || FromJsonError::MediaType(media_type.into());
    match (known.ok_or_else(unknown)?, parameter) {
        (content, None) => Ok(content),
        (content @ (Content::Json | Content::Text), Some(parameter))
            if parameter.eq_ignore_ascii_case("charset=utf-8") =>
        {
            Ok(content)
        }
        _ => Err(unknown()),
    }
}

/// Collects members until there are too many.
struct Found<'a> {
    members: Vec<(Str, &'a RawValue)>,
    limit: usize,
}

impl<'a> DeserializeSeed<'a> for &mut Found<'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for &mut Found<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            self.members.push((name.into(), value));
            if self.members.len() > self.limit {
                return Err(A::Error::custom("too many members"));
            }
        }
        Ok(())
    }
}
