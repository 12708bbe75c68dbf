//! [`Reader`]: decides what becomes of each frame that a durable subscription
//! sees. It does no I/O and reads no clock.
//!
//! Frames come by two ways: from the live feed, quick and not sure, and from
//! the log, where all are that the channel still keeps. The reader knows the
//! position up to which all was delivered or reported missing. A live frame
//! that continues there is delivered. One that does not, from beyond or from
//! another epoch, means that the log must be read, page by page, until its end
//! is reached; what the log no longer has becomes a [`Gap`] in its place.
//!
//! A log can also change behind the position: a replica that became master
//! does not have the last writes, and gives their offsets to other frames. So
//! each reading of the log begins with the last frame that was delivered. If
//! another one is found there, the log is read again from the first frame that
//! is remembered, and what was delivered is known by its mark and left out.

use swarmbus::transport::{Gap, GapReason, Position};

use super::recent::Recent;

/// Which events a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) epoch: u64,
    /// Offset of its first event; the first of a channel has 1.
    pub(super) first: u64,
    /// How many events, at least 1.
    pub(super) count: u64,
    /// A random number that each appending to the log has anew. What lies before
    /// the same number is the same: a replica has the beginning of a log.
    pub(super) append: u64,
    /// Tells what is in the frame, even when it was appended twice.
    pub(super) mark: u64,
}

impl Stamp {
    /// Of an entry that cannot be read, which begins after one offset and ends
    /// at another.
    pub(super) fn unreadable(epoch: u64, after: u64, last: u64) -> Self {
        Self {
            epoch,
            first: after + 1,
            count: last.saturating_sub(after).max(1),
            append: last,
            mark: last,
        }
    }

    /// Offset of its last event.
    pub(super) fn last(&self) -> u64 {
        self.first + (self.count - 1)
    }
}

/// What to do with a live frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Deliver it without its first `skip` events.
    Deliver { skip: u64 },
    /// It was delivered before.
    Skip,
    /// Read the log; the frame is there too, if it is still worth anything.
    Recover,
}

/// What to do because of a page of the log, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Deliver a frame of the page without its first `skip` events.
    Deliver { frame: usize, skip: u64 },
    /// Say that events are missing here.
    Gap(Gap),
}

/// How the reading of the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read the frames that end at this offset or later.
    Read { from: u64 },
    /// The end was reached: back to the live feed.
    Live,
}

/// A page of the log, with the end that the log had at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub(super) end: Position,
    pub(super) frames: &'a [Stamp],
    /// There may be more after these.
    pub(super) full: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// All up to here was delivered or reported missing.
    position: Position,
    recent: Recent,
    phase: Phase,
    /// Until the log's end is reached, frames may come that were delivered with
    /// other offsets.
    wary: bool,
    /// The epoch before this one. What is left of it in the live feed comes too
    /// late.
    stale: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Live frames are delivered. `moved`: one was, since the log was read, so
    /// that older ones are no longer what waited meanwhile.
    Live { moved: bool },
    /// The first page of the log: is the position still what it was?
    Verify,
    /// The log is read from its oldest frame, wherever that is.
    Oldest,
    /// It is not: where does the log differ from what was delivered?
    /// `at`: where the last frame ended that does not.
    Reread { at: Option<u64> },
    /// What comes next follows the position.
    Follow,
}

impl Reader {
    /// Goes on after a position; begin with [`recover`](Self::recover).
    pub(super) fn after(position: Position) -> Self {
        let phase = Phase::Live { moved: false };
        Self { position, recent: Recent::default(), phase, wary: false, stale: None }
    }

    /// Begins with the oldest frame of this epoch that there is.
    pub(super) fn oldest(epoch: u64) -> Self {
        Self { phase: Phase::Oldest, ..Self::after(Position { epoch, offset: 0 }) }
    }

    /// Goes on after a frame that need not be delivered.
    pub(super) fn behind(frame: Stamp) -> Self {
        let mut reader = Self::after(Position { epoch: frame.epoch, offset: frame.last() });
        reader.recent.push(frame);
        reader
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// A frame of the live feed. Only while the log is not being read.
    pub(super) fn live(&mut self, frame: Stamp) -> Step {
        let Phase::Live { moved } = self.phase else { return Step::Recover };
        if frame.epoch != self.position.epoch {
            return if self.stale == Some(frame.epoch) { Step::Skip } else { Step::Recover };
        }
        let next = self.next();
        if frame.last() < next {
            // After a newer one an older one makes sense only if it is known.
            let known = !moved || self.recent.has(frame.mark);
            return if known { Step::Skip } else { Step::Recover };
        }
        if frame.first > next {
            return Step::Recover;
        }
        self.phase = Phase::Live { moved: true };
        self.passed(&frame);
        Step::Deliver { skip: next - frame.first }
    }

    /// Whether the log ends where this reader is; if not, and the live feed has
    /// nothing more, the log must be read.
    pub(super) fn is_at(&self, end: Position) -> bool {
        self.position == end
    }

    /// The log must be read, because of [`Step::Recover`], a new connection or
    /// anything else: from the returned offset on.
    pub(super) fn recover(&mut self) -> u64 {
        if self.phase == Phase::Oldest {
            return 0;
        }
        self.phase = Phase::Verify;
        self.position.offset
    }

    /// A page came. `acts` is emptied and filled.
    pub(super) fn page(&mut self, page: Page<'_>, acts: &mut Vec<Act>) -> Next {
        acts.clear();
        if page.end.epoch != self.position.epoch {
            return self.new_epoch(page.end.epoch, acts);
        }
        if self.phase == Phase::Verify {
            match self.verify(page) {
                Ok(()) => self.phase = Phase::Follow,
                Err(next) => return next,
            }
        }
        for (index, frame) in page.frames.iter().enumerate() {
            self.logged(index, frame, acts);
        }
        if page.full {
            return Next::Read { from: self.reached().saturating_add(1) };
        }
        self.finish(page.end.offset, acts);
        Next::Live
    }

    fn new_epoch(&mut self, epoch: u64, acts: &mut Vec<Act>) -> Next {
        self.stale = Some(self.position.epoch);
        self.position = Position { epoch, offset: 0 };
        // A publisher may send again what it had sent in the old epoch.
        (self.phase, self.wary) = (Phase::Follow, true);
        acts.push(Act::Gap(Gap::new(None, GapReason::NewEpoch).up_to(self.position)));
        Next::Read { from: 0 }
    }

    /// Whether the log still has at the position what was delivered there.
    fn verify(&mut self, page: Page<'_>) -> Result<(), Next> {
        let at = self.position.offset;
        let in_order = page.end.offset >= at;
        let known = match self.recent.newest() {
            // Nothing was delivered yet that could be compared.
            None => in_order,
            Some(newest) => in_order && page.frames.first() == Some(newest),
        };
        if known || at == 0 {
            return Ok(());
        }
        (self.phase, self.wary) = (Phase::Reread { at: None }, true);
        Err(Next::Read { from: self.recent.lowest(self.position.epoch).unwrap_or(at) })
    }

    /// A frame of the log.
    fn logged(&mut self, index: usize, frame: &Stamp, acts: &mut Vec<Act>) {
        let known = self.wary && self.recent.has(frame.mark);
        match self.phase {
            Phase::Oldest => self.position.offset = frame.first - 1,
            Phase::Reread { .. } if known && frame.last() <= self.position.offset => {
                self.phase = Phase::Reread { at: Some(frame.last()) };
                return;
            }
            // Something else is there, or what is known has moved.
            Phase::Reread { at } if known || frame.first <= self.position.offset => {
                self.position.offset = at.unwrap_or(frame.first - 1);
                acts.push(self.gap(None, GapReason::Lost));
            }
            Phase::Reread { .. } | Phase::Live { .. } | Phase::Verify | Phase::Follow => {}
        }
        self.phase = Phase::Follow;
        let next = self.next();
        if frame.last() < next {
            return;
        }
        self.hole(frame.first, acts);
        if !known {
            acts.push(Act::Deliver { frame: index, skip: next.saturating_sub(frame.first) });
        }
        self.passed(frame);
    }

    /// The end of the log was reached.
    fn finish(&mut self, end: u64, acts: &mut Vec<Act>) {
        if end < self.position.offset {
            // It was cut off behind what we had.
            self.position.offset = end;
            acts.push(self.gap(None, GapReason::Lost));
        }
        if self.phase == Phase::Oldest {
            self.position.offset = end;
        }
        self.hole(end.saturating_add(1), acts);
        (self.phase, self.wary) = (Phase::Live { moved: false }, false);
    }

    /// Reports what is missing between the position and an offset.
    fn hole(&mut self, until: u64, acts: &mut Vec<Act>) {
        let next = self.next();
        if until > next {
            self.position.offset = until - 1;
            acts.push(self.gap(Some(until - next), GapReason::Trimmed));
        }
    }

    /// The offset of the next event. What strangers write must not overflow.
    fn next(&self) -> u64 {
        self.position.offset.saturating_add(1)
    }

    fn gap(&self, missed: Option<u64>, reason: GapReason) -> Act {
        Act::Gap(Gap::new(missed, reason).up_to(self.position))
    }

    fn passed(&mut self, frame: &Stamp) {
        self.position.offset = frame.last();
        self.recent.push(*frame);
    }

    /// Where the last frame of the log ended that was looked at.
    fn reached(&self) -> u64 {
        match self.phase {
            Phase::Reread { at: Some(at) } => at,
            Phase::Live { .. }
            | Phase::Verify
            | Phase::Oldest
            | Phase::Reread { at: None }
            | Phase::Follow => self.position.offset,
        }
    }
}

#[cfg(test)]
mod tests;
