//! From an [`Event`] to the bytes of a record.

use bytes::{BufMut, BytesMut};

use super::{
    EncodeError, Field, Limits,
    layout::{RECORD_HEADER, flag, put, record},
    limits::MAX_HOP_LEN,
};
use crate::event::{Event, EventId, Extra, Str, Target, Timestamp};

/// The header of an event's record, and the length that it states. Fails
/// before a byte is written. `limits` are clamped, so each length within them
/// fits its field.
pub(super) fn header(
    event: &Event,
    limits: &Limits,
) -> Result<([u8; RECORD_HEADER], usize), EncodeError> {
    let mut out = Header { bytes: [0; RECORD_HEADER], flags: 0, len: RECORD_HEADER, limits };
    let ty = event.ty();
    out.bytes[record::PRIORITY] = event.priority().get();
    out.bytes[record::CONTENT] = event.content() as u8;
    out.put(record::TYPE_HASH, ty.stable_hash().to_le_bytes());
    out.put(record::TIMESTAMP, event.timestamp().map_or(0, Timestamp::as_micros).to_le_bytes());
    out.put(record::NONCE, event.nonce().to_le_bytes());
    // At most 255 by the rules of a type.
    out.bytes[record::TYPE_LEN] = ty.as_str().len() as u8;
    out.len += ty.as_str().len();
    out.string(Field::Source, record::SOURCE_LEN, event.source())?;
    let deadline = event.deadline().map_or(0, Timestamp::as_micros);
    out.put(record::DEADLINE, deadline.to_le_bytes());
    if let Some(extra) = event.extra() {
        out.extra(extra)?;
    }
    out.finish(event.payload().len())
}

/// Everything behind the header, in the order of
/// [`Section`](super::layout::Section).
pub(super) fn body(event: &Event, out: &mut BytesMut) {
    out.put_slice(event.ty().as_str().as_bytes());
    out.put_slice(event.source().as_bytes());
    if let Some(extra) = event.extra() {
        put_id(out, extra.id.as_ref());
        out.put_slice(extra.target.as_ref().map_or("", Target::name).as_bytes());
        out.put_slice(extra.session.as_deref().unwrap_or_default().as_bytes());
        put_id(out, extra.correlation_id.as_ref());
        put_id(out, extra.causation_id.as_ref());
        out.put_slice(extra.traceparent.as_deref().unwrap_or_default().as_bytes());
        for hop in &extra.hops {
            put_hop(out, hop);
        }
        for (name, value) in &extra.attributes {
            out.put_u8(name.len() as u8);
            out.put_slice(name.as_bytes());
            out.put_u16_le(value.len() as u16);
            out.put_slice(value.as_bytes());
        }
    }
    out.put_slice(event.payload());
}

/// One hop: a length byte and the name, whose length was checked.
pub(super) fn put_hop(out: &mut BytesMut, name: &str) {
    out.put_u8(name.len() as u8);
    out.put_slice(name.as_bytes());
}

/// Refuses what is longer than its limit.
pub(super) fn check(field: Field, len: usize, limit: usize) -> Result<(), EncodeError> {
    if len <= limit { Ok(()) } else { Err(EncodeError::FieldTooLong { field, len, limit }) }
}

fn put_id(out: &mut BytesMut, id: Option<&EventId>) {
    match id.map(|id| (id.as_uuid_bytes(), id.as_text())) {
        Some((Some(uuid), _)) => out.put_slice(uuid),
        Some((None, text)) => out.put_slice(text.unwrap_or_default().as_bytes()),
        None => {}
    }
}

/// A record's header in the making.
struct Header<'a> {
    bytes: [u8; RECORD_HEADER],
    flags: u16,
    /// Of the record so far.
    len: usize,
    limits: &'a Limits,
}

impl Header<'_> {
    fn extra(&mut self, extra: &Extra) -> Result<(), EncodeError> {
        use Field::{CausationId, CorrelationId, Id, Session, Traceparent};
        use flag::{CAUSATION, CAUSATION_UUID, CORRELATION, CORRELATION_UUID, ID, ID_UUID};
        use record::{CAUSATION_LEN, CORRELATION_LEN, ID_LEN};
        self.id(Id, ID_LEN, (ID, ID_UUID), extra.id.as_ref())?;
        if let Some(target) = &extra.target {
            self.flags |= match target {
                Target::Agent(_) => flag::TARGET,
                Target::Swarm(_) => flag::TARGET | flag::TARGET_SWARM,
            };
            self.string(Field::Target, record::TARGET_LEN, target.name())?;
        }
        if let Some(session) = &extra.session {
            self.flags |= flag::SESSION;
            self.string(Session, record::SESSION_LEN, session)?;
        }
        let correlation = extra.correlation_id.as_ref();
        self.id(CorrelationId, CORRELATION_LEN, (CORRELATION, CORRELATION_UUID), correlation)?;
        let causation = extra.causation_id.as_ref();
        self.id(CausationId, CAUSATION_LEN, (CAUSATION, CAUSATION_UUID), causation)?;
        if let Some(traceparent) = &extra.traceparent {
            self.flags |= flag::TRACEPARENT;
            self.string(Traceparent, record::TRACEPARENT_LEN, traceparent)?;
        }
        self.hops(&extra.hops)?;
        self.attributes(&extra.attributes)
    }

    fn string(&mut self, field: Field, at: usize, text: &str) -> Result<(), EncodeError> {
        check(field, text.len(), self.limits.string_len)?;
        self.put(at, (text.len() as u16).to_le_bytes());
        self.len += text.len();
        Ok(())
    }

    fn id(
        &mut self,
        field: Field,
        at: usize,
        (present, uuid): (u16, u16),
        id: Option<&EventId>,
    ) -> Result<(), EncodeError> {
        let Some(id) = id else { return Ok(()) };
        self.flags |= present;
        match id.as_text() {
            Some(text) => self.string(field, at, text),
            None => {
                self.flags |= uuid;
                self.put(at, 16_u16.to_le_bytes());
                self.len += 16;
                Ok(())
            }
        }
    }

    fn hops(&mut self, hops: &[Str]) -> Result<(), EncodeError> {
        let (count, limit) = (hops.len(), self.limits.hops);
        if count > limit {
            return Err(EncodeError::TooManyHops { count, limit });
        }
        let mut len = 0;
        for hop in hops {
            check(Field::Hop, hop.len(), MAX_HOP_LEN)?;
            len += 1 + hop.len();
        }
        // 255 hops of 256 bytes at most: both casts hold.
        self.bytes[record::HOP_COUNT] = count as u8;
        self.put(record::HOPS_LEN, (len as u16).to_le_bytes());
        self.len += len;
        Ok(())
    }

    fn attributes(&mut self, attributes: &[(Str, Str)]) -> Result<(), EncodeError> {
        let (count, limit) = (attributes.len(), self.limits.attributes);
        if count > limit {
            return Err(EncodeError::TooManyAttributes { count, limit });
        }
        let mut len = 0;
        for (name, value) in attributes {
            check(Field::AttributeValue, value.len(), self.limits.attribute_len)?;
            len += 3 + name.len() + value.len();
        }
        self.put(record::ATTRIBUTE_COUNT, (count as u16).to_le_bytes());
        // Cut off only where the whole record is too long anyway.
        self.put(record::ATTRIBUTES_LEN, (len as u32).to_le_bytes());
        self.len += len;
        Ok(())
    }

    fn finish(mut self, payload: usize) -> Result<([u8; RECORD_HEADER], usize), EncodeError> {
        let (len, limit) = (self.len.saturating_add(payload), self.limits.record_len);
        if len > limit {
            return Err(EncodeError::RecordTooLong { len, limit });
        }
        self.put(record::FLAGS, self.flags.to_le_bytes());
        self.put(record::LEN, (len as u32).to_le_bytes());
        Ok((self.bytes, len))
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        put(&mut self.bytes, at, value);
    }
}
