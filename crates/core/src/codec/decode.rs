//! From a record to an [`Event`]: every rule of the format but the payload's
//! own is checked here, so that an event has exactly one encoding.

use super::{
    DecodeError, EventView, Field, Limits,
    layout::{Section, flag},
    strings,
};
use crate::event::{AttributeError, Event, EventType, Extra, Payload, Str};

pub(super) fn event(view: &EventView<'_>) -> Result<Event, DecodeError> {
    let ty = EventType::new(strings::text(view.type_bytes(), Field::Type)?)?;
    let (stated, actual) = (view.type_hash(), ty.stable_hash());
    if stated != actual {
        return Err(DecodeError::TypeHash { stated, actual });
    }
    if view.nonce() != 0 && view.timestamp().is_none() {
        return Err(DecodeError::Nonce);
    }
    let source = view.source()?;
    let extra = extra(view)?;
    Ok(Event::new(ty, Payload::raw(view.content(), view.payload()))
        .with_source(source)
        .with_priority(view.priority())
        .restored(view.timestamp(), view.nonce(), view.deadline(), extra))
}

fn extra(view: &EventView<'_>) -> Result<Extra, DecodeError> {
    use Field::{CausationId, CorrelationId, Id, Traceparent};
    use Section::{Causation, Correlation};
    Ok(Extra {
        id: view.own_id(Section::Id, flag::ID, flag::ID_UUID, Id)?,
        target: view.target()?,
        session: view.session()?.map(Str::from),
        correlation_id: view.own_id(
            Correlation,
            flag::CORRELATION,
            flag::CORRELATION_UUID,
            CorrelationId,
        )?,
        causation_id: view.own_id(Causation, flag::CAUSATION, flag::CAUSATION_UUID, CausationId)?,
        traceparent: view
            .optional(Section::Traceparent, flag::TRACEPARENT, Traceparent)?
            .map(Str::from),
        hops: hops(view)?,
        attributes: attributes(
            view.section(Section::Attributes),
            view.attribute_count(),
            view.limits(),
        )?,
    })
}

fn hops(view: &EventView<'_>) -> Result<Vec<Str>, DecodeError> {
    let (count, limit) = (view.hop_count(), view.limits().hops);
    if count > limit {
        return Err(DecodeError::TooManyHops { count, limit });
    }
    view.hops().map(|hop| hop.map(Str::from)).collect()
}

fn attributes(
    mut bytes: &[u8],
    count: usize,
    limits: &Limits,
) -> Result<Vec<(Str, Str)>, DecodeError> {
    if count > limits.attributes {
        return Err(DecodeError::TooManyAttributes { count, limit: limits.attributes });
    }
    let mut attributes: Vec<(Str, Str)> = Vec::new();
    for _ in 0..count {
        let ([name, value], rest) = strings::attribute(bytes)?;
        let name = strings::text(name, Field::AttributeName)?;
        AttributeError::check_carried(name)?;
        if attributes.last().is_some_and(|(last, _)| last.as_str() >= name) {
            return Err(DecodeError::AttributeOrder);
        }
        let value = strings::limited(value, Field::AttributeValue, limits.attribute_len)?;
        attributes.push((name.into(), value.into()));
        bytes = rest;
    }
    if bytes.is_empty() { Ok(attributes) } else { Err(DecodeError::Attributes) }
}
