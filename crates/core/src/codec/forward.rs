//! [`Changes`]: what a forwarder may alter without reading the payload.

use bytes::{BufMut, BytesMut};

use super::{
    EncodeError, EventView, Field, Limits,
    encode::{check, put_hop},
    layout::{RECORD_HEADER, Section, flag, put, record, u16_at},
    limits::MAX_HOP_LEN,
};
use crate::event::{Priority, Target, Timestamp};

/// What [`FrameWriter::append_changed`] alters; everything else is copied.
///
/// ```
/// use swarmbus_core::{Event, Priority, codec::{self, Changes, FrameWriter}};
///
/// let bytes = codec::encode(&Event::of("task.created", "17").with_hop("edge-1"))?;
/// let mut writer = FrameWriter::new();
/// let changes = Changes::new().with_priority(Priority::HIGH).with_hop("gateway-2");
/// writer.append_changed(&codec::peek(&bytes)?, &changes)?;
/// let event = codec::peek(&writer.finish()?)?.to_event()?;
/// assert_eq!(event.hops(), ["edge-1", "gateway-2"]);
/// assert_eq!(event.priority(), Priority::HIGH);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`FrameWriter::append_changed`]: super::FrameWriter::append_changed
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    priority: Option<Priority>,
    deadline: Option<Option<Timestamp>>,
    target: Option<Option<&'a Target>>,
    hop: Option<&'a str>,
}

impl<'a> Changes<'a> {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Another deadline, or none.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Option<Timestamp>) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Another target, or everybody.
    #[must_use]
    pub fn with_target(mut self, target: Option<&'a Target>) -> Self {
        self.target = Some(target);
        self
    }

    /// One more place at the end of the hop path.
    #[must_use]
    pub fn with_hop(mut self, place: &'a str) -> Self {
        self.hop = Some(place);
        self
    }
}

/// A changed record, cut into the pieces that are copied and those that are
/// new.
pub(super) struct Plan<'a> {
    header: [u8; RECORD_HEADER],
    len: usize,
    /// From the header to the target.
    before: &'a [u8],
    target: &'a [u8],
    /// From the target to the end of the hops.
    between: &'a [u8],
    hop: Option<&'a str>,
    /// Attributes and payload.
    after: &'a [u8],
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        view: &EventView<'a>,
        changes: &Changes<'a>,
        limits: &Limits,
    ) -> Result<Self, EncodeError> {
        let bytes = view.record_bytes();
        let (target, hops) =
            (view.section_range(Section::Target), view.section_range(Section::Hops));
        let piece = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
        let mut plan = Self {
            header: *view.header(),
            len: bytes.len(),
            before: piece(RECORD_HEADER..target.start),
            target: piece(target.clone()),
            between: piece(target.end..hops.end),
            hop: changes.hop,
            after: piece(hops.end..bytes.len()),
        };
        if let Some(priority) = changes.priority {
            plan.header[record::PRIORITY] = priority.get();
        }
        if let Some(deadline) = changes.deadline {
            let micros = deadline.map_or(0, Timestamp::as_micros);
            put(&mut plan.header, record::DEADLINE, micros.to_le_bytes());
        }
        if let Some(target) = changes.target {
            plan.set_target(target, limits)?;
        }
        if let Some(hop) = changes.hop {
            plan.count_hop(hop, limits)?;
        }
        if plan.len > limits.record_len {
            return Err(EncodeError::RecordTooLong { len: plan.len, limit: limits.record_len });
        }
        put(&mut plan.header, record::LEN, (plan.len as u32).to_le_bytes());
        Ok(plan)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.header);
        out.put_slice(self.before);
        out.put_slice(self.target);
        out.put_slice(self.between);
        if let Some(hop) = self.hop {
            put_hop(out, hop);
        }
        out.put_slice(self.after);
    }

    fn set_target(
        &mut self,
        target: Option<&'a Target>,
        limits: &Limits,
    ) -> Result<(), EncodeError> {
        let (name, bits) = match target {
            None => ("", 0),
            Some(Target::Agent(name)) => (name.as_str(), flag::TARGET),
            Some(Target::Swarm(name)) => (name.as_str(), flag::TARGET | flag::TARGET_SWARM),
        };
        check(Field::Target, name.len(), limits.string_len)?;
        self.len = self.len - self.target.len() + name.len();
        self.target = name.as_bytes();
        let flags = u16_at(&self.header, record::FLAGS) & !(flag::TARGET | flag::TARGET_SWARM);
        put(&mut self.header, record::FLAGS, (flags | bits).to_le_bytes());
        put(&mut self.header, record::TARGET_LEN, (name.len() as u16).to_le_bytes());
        Ok(())
    }

    fn count_hop(&mut self, hop: &str, limits: &Limits) -> Result<(), EncodeError> {
        check(Field::Hop, hop.len(), MAX_HOP_LEN)?;
        let count = usize::from(self.header[record::HOP_COUNT]) + 1;
        let len = usize::from(u16_at(&self.header, record::HOPS_LEN)) + 1 + hop.len();
        // The length may lie: a view has not looked inside the hops.
        let (Ok(len), true) = (u16::try_from(len), count <= limits.hops) else {
            return Err(EncodeError::TooManyHops { count, limit: limits.hops });
        };
        self.header[record::HOP_COUNT] = count as u8;
        put(&mut self.header, record::HOPS_LEN, len.to_le_bytes());
        self.len += 1 + hop.len();
        Ok(())
    }
}
