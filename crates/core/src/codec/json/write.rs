//! From an [`Event`] to `CloudEvents` JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{ANONYMOUS, ToJsonError, UNSTAMPED, hops::join};
use crate::event::{Content, Event, Priority};

/// An event as one JSON object, without spaces or a line end. The members
/// come in a fixed order.
///
/// # Errors
///
/// When the source is [`ANONYMOUS`](super::ANONYMOUS) itself, or the id is
/// empty or [`UNSTAMPED`](super::UNSTAMPED): those have a meaning in JSON.
pub fn to_json(event: &Event) -> Result<Vec<u8>, ToJsonError> {
    let (id, source) = (id(event)?, source(event)?);
    let mut out = Vec::with_capacity(event.payload().len() * 4 / 3 + 256);
    let mut writer = serde_json::Serializer::new(&mut out);
    let mut map = writer.serialize_map(None)?;
    map.serialize_entry("specversion", "1.0")?;
    map.serialize_entry("id", &id)?;
    map.serialize_entry("source", source)?;
    map.serialize_entry("type", event.ty().as_str())?;
    fields(event, &mut map)?;
    payload(event, &mut map)?;
    map.end()?;
    Ok(out)
}

fn id(event: &Event) -> Result<String, ToJsonError> {
    let own = event.extra().and_then(|extra| extra.id.as_ref()?.as_text());
    match own {
        Some(text) if text.is_empty() || text == UNSTAMPED => {
            Err(ToJsonError::Reserved { name: "id", value: text.into() })
        }
        _ => Ok(event.id().map_or_else(|| UNSTAMPED.to_owned(), |id| id.to_string())),
    }
}

fn source(event: &Event) -> Result<&str, ToJsonError> {
    match event.source() {
        "" => Ok(ANONYMOUS),
        ANONYMOUS => Err(ToJsonError::Reserved { name: "source", value: ANONYMOUS.into() }),
        source => Ok(source),
    }
}

fn fields<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    if let Some(at) = event.timestamp() {
        map.serialize_entry("time", &at.to_string())?;
    }
    if event.nonce() != 0 {
        map.serialize_entry("nonce", &format!("{:016x}", event.nonce()))?;
    }
    if event.priority() != Priority::DEFAULT {
        map.serialize_entry("priority", &event.priority().get())?;
    }
    let ids = [("correlationid", event.correlation_id()), ("causationid", event.causation_id())];
    for (name, id) in ids {
        if let Some(id) = id {
            map.serialize_entry(name, &id.to_string())?;
        }
    }
    if let Some(target) = event.target() {
        map.serialize_entry("target", &target.to_string())?;
    }
    let texts = [("session", event.session()), ("traceparent", event.traceparent())];
    for (name, text) in texts {
        if let Some(text) = text {
            map.serialize_entry(name, text)?;
        }
    }
    if let Some(at) = event.deadline() {
        map.serialize_entry("deadline", &at.to_string())?;
    }
    if !event.hops().is_empty() {
        map.serialize_entry("hops", &join(event.hops()))?;
    }
    for (name, value) in event.attributes() {
        map.serialize_entry(name, value)?;
    }
    Ok(())
}

fn payload<M: SerializeMap>(event: &Event, map: &mut M) -> Result<(), M::Error> {
    let (content, bytes) = (event.content(), event.payload());
    if content == Content::Binary && bytes.is_empty() {
        return Ok(());
    }
    map.serialize_entry("datacontenttype", content.media_type())?;
    if let Some(text) = event.text() {
        return map.serialize_entry("data", text);
    }
    if content == Content::Json
        && let Some(raw) = verbatim(bytes)
    {
        return map.serialize_entry("data", raw);
    }
    map.serialize_entry("data_base64", &STANDARD.encode(bytes))
}

/// Bytes that may stand in the document as they are: one JSON value with no
/// space around it, which a reader would not give back.
fn verbatim(bytes: &[u8]) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
    (raw.get().len() == bytes.len()).then_some(raw)
}
