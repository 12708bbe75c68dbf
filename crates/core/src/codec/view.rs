//! [`EventView`]: one event of a frame, read where it lies.

use bytes::Bytes;

use super::{
    DecodeError, Field, Limits,
    layout::{
        RECORD_HEADER, SECTIONS, Section, flag, record, section_lengths, u16_at, u32_at, u64_at,
    },
    strings,
};
use crate::event::{Content, Event, EventId, EventType, Priority, Target, Timestamp};

/// One event of a frame, not yet decoded.
///
/// Its numbers and lengths were checked when it was made; strings are checked
/// when they are asked for, the payload by whoever decodes it. A reader that
/// routes by type compares [`type_hash`](Self::type_hash) and then
/// [`type_bytes`](Self::type_bytes): the hash is what a stranger wrote and
/// proves nothing, not even that it belongs to the bytes, before
/// [`to_event`](Self::to_event) has compared them.
#[derive(Clone, Copy)]
pub struct EventView<'a> {
    header: &'a [u8; RECORD_HEADER],
    record: &'a [u8],
    /// The frame's bytes, of which `record` is a part; none for a peek.
    owner: Option<&'a Bytes>,
    limits: &'a Limits,
    priority: Priority,
    content: Content,
}

impl<'a> EventView<'a> {
    /// `XXH64` of the type with seed 0, as the header states it: see
    /// [`EventType::stable_hash`].
    #[inline]
    pub fn type_hash(&self) -> u64 {
        u64_at(self.header, record::TYPE_HASH)
    }

    /// The bytes of the type, unchecked.
    #[inline]
    pub fn type_bytes(&self) -> &'a [u8] {
        // Right after the header; its end was checked with all the sections.
        let end = RECORD_HEADER + usize::from(self.header[record::TYPE_LEN]);
        self.record.get(RECORD_HEADER..end).unwrap_or_default()
    }

    /// The type as text.
    ///
    /// # Errors
    ///
    /// When the bytes are not UTF-8 or break a rule of [`EventType`].
    pub fn ty(&self) -> Result<&'a str, DecodeError> {
        let text = strings::text(self.type_bytes(), Field::Type)?;
        EventType::check(text)?;
        Ok(text)
    }

    /// 0 lowest to 9 highest.
    #[inline]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// What the payload bytes are said to be.
    #[inline]
    pub fn content(&self) -> Content {
        self.content
    }

    /// When it happened.
    #[inline]
    pub fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_micros(u64_at(self.header, record::TIMESTAMP))
    }

    /// When it expires.
    #[inline]
    pub fn deadline(&self) -> Option<Timestamp> {
        Timestamp::from_micros(u64_at(self.header, record::DEADLINE))
    }

    /// How many places forwarded it.
    #[inline]
    pub fn hop_count(&self) -> usize {
        usize::from(self.header[record::HOP_COUNT])
    }

    /// Who published it; empty when nobody said.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8 or longer than the limit.
    pub fn source(&self) -> Result<&'a str, DecodeError> {
        strings::limited(self.section(Section::Source), Field::Source, self.limits.string_len)
    }

    /// Whom it is for; `None` for everybody.
    ///
    /// # Errors
    ///
    /// When the name is not UTF-8 or longer than the limit, or is there
    /// without its flag.
    pub fn target(&self) -> Result<Option<Target>, DecodeError> {
        let name = self.optional(Section::Target, flag::TARGET, Field::Target)?;
        Ok(match (name, self.has(flag::TARGET_SWARM)) {
            (Some(name), false) => Some(Target::agent(name)),
            (Some(name), true) => Some(Target::swarm(name)),
            (None, false) => None,
            (None, true) => return Err(DecodeError::Absent(Field::Target)),
        })
    }

    /// The session it belongs to.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8 or longer than the limit, or is there without its
    /// flag.
    pub fn session(&self) -> Result<Option<&'a str>, DecodeError> {
        self.optional(Section::Session, flag::SESSION, Field::Session)
    }

    /// The places that forwarded it, first to last, for a loop guard that
    /// need not decode the event. Ends after the first error.
    pub fn hops(&self) -> impl Iterator<Item = Result<&'a str, DecodeError>> + use<'a> {
        strings::hops(self.section(Section::Hops), self.hop_count())
    }

    /// The id: the event's own, or the one made from its stamp.
    ///
    /// # Errors
    ///
    /// When an id of its own is malformed.
    pub fn id(&self) -> Result<Option<EventId>, DecodeError> {
        let own = self.own_id(Section::Id, flag::ID, flag::ID_UUID, Field::Id)?;
        Ok(own.or_else(|| match (self.timestamp(), self.nonce()) {
            (Some(at), nonce) if nonce != 0 => Some(EventId::v7(at, nonce)),
            _ => None,
        }))
    }

    /// The payload as a slice of the frame: shares its memory and keeps all
    /// of it alive. From a [`peek`](super::peek), which has only borrowed
    /// bytes, it is a copy.
    pub fn payload(&self) -> Bytes {
        match self.owner {
            Some(frame) => frame.slice_ref(self.payload_bytes()),
            None => Bytes::copy_from_slice(self.payload_bytes()),
        }
    }

    /// The payload where it lies.
    pub fn payload_bytes(&self) -> &'a [u8] {
        self.record.get(self.payload_start()..).unwrap_or_default()
    }

    /// The whole record, for [`FrameWriter::append_record`] and for stores
    /// that keep events as they came.
    ///
    /// [`FrameWriter::append_record`]: super::FrameWriter::append_record
    #[inline]
    pub fn record_bytes(&self) -> &'a [u8] {
        self.record
    }

    /// Checks everything but the payload's inside, and makes an event of it.
    /// The payload still shares the frame's memory.
    ///
    /// # Errors
    ///
    /// For each rule that the record breaks: see [`DecodeError`]. Other
    /// events of the frame are not affected.
    pub fn to_event(&self) -> Result<Event, DecodeError> {
        super::decode::event(self)
    }
}

impl<'a> EventView<'a> {
    /// `record` is one whole record. Checks numbers and lengths.
    #[inline]
    pub(super) fn new(
        record: &'a [u8],
        owner: Option<&'a Bytes>,
        limits: &'a Limits,
    ) -> Result<Self, DecodeError> {
        let too_short = DecodeError::RecordLength { len: record.len(), have: record.len() };
        let header = record.first_chunk::<RECORD_HEADER>().ok_or(too_short)?;
        let flags = u16_at(header, record::FLAGS);
        if flags & !flag::ALL != 0 {
            return Err(DecodeError::RecordFlags(flags));
        }
        let priority = header[record::PRIORITY];
        let priority = Priority::new(priority).ok_or(DecodeError::Priority(priority))?;
        let content = header[record::CONTENT];
        let content = Content::from_u8(content).ok_or(DecodeError::Content(content))?;
        let timestamp = u64_at(header, record::TIMESTAMP);
        if timestamp > Timestamp::MAX.as_micros() {
            return Err(DecodeError::Timestamp(timestamp));
        }
        let deadline = u64_at(header, record::DEADLINE);
        if deadline > Timestamp::MAX.as_micros() {
            return Err(DecodeError::Deadline(deadline));
        }
        let strings: u64 = section_lengths(header).into_iter().map(u64::from).sum();
        if strings > (record.len() - RECORD_HEADER) as u64 {
            return Err(DecodeError::Sections);
        }
        Ok(Self { header, record, owner, limits, priority, content })
    }

    pub(super) fn header(&self) -> &'a [u8; RECORD_HEADER] {
        self.header
    }

    pub(super) fn limits(&self) -> &'a Limits {
        self.limits
    }

    pub(super) fn nonce(&self) -> u64 {
        u64_at(self.header, record::NONCE)
    }

    pub(super) fn attribute_count(&self) -> usize {
        usize::from(u16_at(self.header, record::ATTRIBUTE_COUNT))
    }

    #[inline]
    pub(super) fn has(&self, bit: u16) -> bool {
        u16_at(self.header, record::FLAGS) & bit != 0
    }

    /// Where a section begins and ends within the record.
    pub(super) fn section_range(&self, section: Section) -> std::ops::Range<usize> {
        let lengths = section_lengths(self.header);
        let before: u32 = lengths[..section as usize].iter().sum();
        let start = RECORD_HEADER + before as usize;
        start..start + lengths[section as usize] as usize
    }

    pub(super) fn section(&self, section: Section) -> &'a [u8] {
        self.record.get(self.section_range(section)).unwrap_or_default()
    }

    /// A string that is there when its flag is set.
    pub(super) fn optional(
        &self,
        section: Section,
        bit: u16,
        field: Field,
    ) -> Result<Option<&'a str>, DecodeError> {
        let bytes = self.section(section);
        match (self.has(bit), bytes.is_empty()) {
            (true, _) => strings::limited(bytes, field, self.limits.string_len).map(Some),
            (false, true) => Ok(None),
            (false, false) => Err(DecodeError::Absent(field)),
        }
    }

    /// An id that is there when its flag is set: 16 bytes or text.
    pub(super) fn own_id(
        &self,
        section: Section,
        bit: u16,
        uuid: u16,
        field: Field,
    ) -> Result<Option<EventId>, DecodeError> {
        if !self.has(uuid) {
            let Some(text) = self.optional(section, bit, field)? else { return Ok(None) };
            let id = EventId::from(text);
            // A canonical UUID belongs into 16 bytes.
            return if id.as_text().is_some() {
                Ok(Some(id))
            } else {
                Err(DecodeError::Uuid(field))
            };
        }
        if !self.has(bit) {
            return Err(DecodeError::Absent(field));
        }
        let bytes = self.section(section).try_into().map_err(|_| DecodeError::Uuid(field))?;
        Ok(Some(EventId::from_uuid_bytes(bytes)))
    }

    fn payload_start(&self) -> usize {
        let strings: u32 = section_lengths(self.header).iter().sum();
        RECORD_HEADER + strings as usize
    }
}

/// Splits the first record off what is left of a frame.
#[inline]
pub(super) fn split_record<'a>(
    rest: &'a [u8],
    limits: &Limits,
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let len = match rest.first_chunk::<4>() {
        Some(bytes) => u32_at(bytes, record::LEN) as usize,
        None => 0,
    };
    if len > limits.record_len {
        return Err(DecodeError::RecordTooLong { len, limit: limits.record_len });
    }
    if len < RECORD_HEADER {
        return Err(DecodeError::RecordLength { len, have: rest.len() });
    }
    rest.split_at_checked(len).ok_or(DecodeError::RecordLength { len, have: rest.len() })
}

/// Shows what a [`Debug`](std::fmt::Debug) of an event shows: no payload.
impl std::fmt::Debug for EventView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventView")
            .field("type", &String::from_utf8_lossy(self.type_bytes()))
            .field("priority", &self.priority.get())
            .field("content", &self.content)
            .field("payload_bytes", &self.payload_bytes().len())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(Section::Type as usize == 0 && Section::Attributes as usize + 1 == SECTIONS);
