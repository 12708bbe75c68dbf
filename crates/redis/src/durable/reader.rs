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
//! does not have the last writes, and gives their offsets to other frames. Then
//! a new term begins, and the log says up to which offset it has what the old
//! term had. From there on it is read again; what was delivered is known by its
//! mark and left out. What the old term had beyond is lost; by its offsets the
//! reader knows what of that it had.
//!
//! Nobody may have noticed. So each reading of the log begins with the last frame
//! that was delivered. If another one is found there, the log is read again from
//! the first frame that is remembered.

use std::collections::VecDeque;

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
    /// In which term it was appended.
    pub(super) term: u32,
    /// What the offsets before it stand for, if those are lost events.
    pub(super) lost: Option<Lost>,
}

/// Events that were confirmed and that a server lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// The term in which they were appended.
    pub(super) term: u32,
    /// They had the offsets after this one,
    pub(super) from: u64,
    /// up to this one.
    pub(super) to: u64,
}

impl Lost {
    /// As `log_append.lua` writes it; `None` if that makes no sense.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let lost = Self { term: number(0)?.try_into().ok()?, from: number(8)?, to: number(16)? };
        Some(lost).filter(|lost| lost.from < lost.to)
    }
}

impl Stamp {
    /// Of an entry that cannot be read, which begins after one offset and ends
    /// at another.
    pub(super) fn unreadable(end: Position, after: u64, last: u64) -> Self {
        Self {
            epoch: end.epoch,
            first: after + 1,
            count: last.saturating_sub(after).max(1),
            append: last,
            mark: last,
            term: end.term,
            lost: None,
        }
    }

    /// Of one of its events.
    pub(super) fn position(&self, offset: u64) -> Position {
        Position { epoch: self.epoch, term: self.term, offset }
    }

    /// Whether it was the same appending. What is lost before it only the log says.
    fn is_the_same(&self, other: &Self) -> bool {
        (self.append, self.first, self.mark) == (other.append, other.first, other.mark)
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
    /// Up to here it is what the reader's term had; `None` if that is the same
    /// term, or it is not known.
    pub(super) common: Option<u64>,
    pub(super) frames: &'a [Stamp],
    /// There may be more after these.
    pub(super) full: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// All up to here was delivered or reported missing.
    position: Position,
    /// Beyond the position if that had to go back: so far the reader was in its
    /// term.
    furthest: u64,
    /// How far it was in terms before this one.
    past: VecDeque<(u32, u64)>,
    /// The term in which it began.
    began: u32,
    /// The term that the log was in when it was looked at last.
    seen: u32,
    recent: Recent,
    phase: Phase,
    /// So many frames from here on may have been delivered with other offsets: as
    /// long as some from before are remembered.
    wary: usize,
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
    /// The first page from where the log is said to part from what was delivered.
    Parted,
    /// The log is read from its oldest frame, wherever that is.
    Oldest,
    /// It is not: where does the log differ from what was delivered?
    /// `at`: where the last frame ended that does not.
    Reread { at: Option<u64> },
    /// What comes next follows the position.
    Follow,
}

impl Reader {
    /// Terms that are remembered: as many as the server knows of.
    const TERMS: usize = 16;

    /// Goes on after a position; begin with [`recover`](Self::recover).
    pub(super) fn after(position: Position) -> Self {
        Self {
            position,
            furthest: position.offset,
            past: VecDeque::new(),
            began: position.term,
            seen: position.term,
            recent: Recent::default(),
            phase: Phase::Live { moved: false },
            wary: 0,
            stale: None,
        }
    }

    /// Begins with the oldest frame of this epoch that there is.
    pub(super) fn oldest(epoch: u64) -> Self {
        Self { phase: Phase::Oldest, ..Self::after(Position { epoch, term: 0, offset: 0 }) }
    }

    /// Goes on after the last frame of a log, which need not be delivered.
    pub(super) fn behind(frame: Stamp, end: Position) -> Self {
        let mut reader = Self::after(end);
        reader.recent.push(frame);
        reader
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn term(&self) -> u32 {
        self.position.term
    }

    /// A frame of the live feed. Only while the log is not being read.
    pub(super) fn live(&mut self, frame: Stamp) -> Step {
        let Phase::Live { moved } = self.phase else { return Step::Recover };
        if frame.epoch != self.position.epoch {
            return if self.stale == Some(frame.epoch) { Step::Skip } else { Step::Recover };
        }
        if frame.term != self.position.term {
            return Step::Recover;
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
        // A publisher sends again what was not confirmed when the server changed.
        let known = self.is_known(&frame);
        self.passed(&frame);
        if known { Step::Skip } else { Step::Deliver { skip: next - frame.first } }
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
        if self.position.offset < self.furthest {
            // It went back, so what it had may come again.
            self.wary = Recent::FRAMES;
        }
        self.phase = Phase::Verify;
        self.position.offset
    }

    /// A page came. `acts` is emptied and filled.
    pub(super) fn page(&mut self, page: Page<'_>, acts: &mut Vec<Act>) -> Next {
        acts.clear();
        let changed = std::mem::replace(&mut self.seen, page.end.term) != page.end.term;
        if page.end.epoch != self.position.epoch {
            return self.new_epoch(page.end.epoch, acts);
        }
        if changed && matches!(self.phase, Phase::Follow | Phase::Reread { .. }) {
            // In the middle of it.
            self.phase = Phase::Verify;
            return Next::Read { from: self.position.offset };
        }
        if matches!(self.phase, Phase::Verify | Phase::Parted) {
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
        self.finish(page.end, acts);
        Next::Live
    }

    fn new_epoch(&mut self, epoch: u64, acts: &mut Vec<Act>) -> Next {
        self.stale = Some(self.position.epoch);
        self.position = Position { epoch, term: 0, offset: 0 };
        (self.furthest, self.began) = (0, 0);
        self.past.clear();
        // A publisher may send again what it had sent in the old epoch.
        (self.phase, self.wary) = (Phase::Follow, Recent::FRAMES);
        acts.push(Act::Gap(Gap::new(None, GapReason::NewEpoch).up_to(self.position)));
        Next::Read { from: 0 }
    }

    /// Whether the log still has at the position what was delivered there.
    fn verify(&mut self, page: Page<'_>) -> Result<(), Next> {
        let at = self.position.offset;
        if let Some(common) = page.common {
            // Frames may be here again that were delivered.
            self.wary = Recent::FRAMES;
            if at > common {
                (self.position.offset, self.phase) = (common, Phase::Parted);
                return Err(Next::Read { from: common });
            }
        }
        let in_order = page.end.offset >= at;
        // If the position went back, the newest frame is beyond it.
        let newest = self.recent.newest().filter(|f| f.last() <= at && self.phase != Phase::Parted);
        let back = newest.is_none() || at < self.furthest;
        let last = if back { self.recent.at(self.position.epoch, at) } else { newest };
        let known = match last {
            // Nothing was delivered yet that could be compared.
            None => in_order,
            Some(newest) => in_order && page.frames.first().is_some_and(|f| f.is_the_same(newest)),
        };
        if known || at == 0 {
            return Ok(());
        }
        (self.phase, self.wary) = (Phase::Reread { at: None }, Recent::FRAMES);
        Err(Next::Read { from: self.recent.lowest(self.position.epoch).unwrap_or(at) })
    }

    /// A frame of the log.
    fn logged(&mut self, index: usize, frame: &Stamp, acts: &mut Vec<Act>) {
        let known = self.is_known(frame);
        match self.phase {
            Phase::Oldest => {
                (self.position, self.began) = (frame.position(frame.first - 1), frame.term);
                self.furthest = self.position.offset;
            }
            Phase::Reread { .. } if known && frame.last() <= self.position.offset => {
                self.phase = Phase::Reread { at: Some(frame.last()) };
                return;
            }
            // Something else is there, or what is known has moved, or it is gone though
            // something older is not.
            Phase::Reread { at }
                if known
                    || frame.first <= self.position.offset
                    || at.is_some_and(|at| at < self.position.offset) =>
            {
                self.position.offset = at.unwrap_or(frame.first - 1);
                acts.push(self.gap(None, GapReason::Lost));
            }
            Phase::Reread { .. }
            | Phase::Live { .. }
            | Phase::Verify
            | Phase::Parted
            | Phase::Follow => {}
        }
        self.phase = Phase::Follow;
        let next = self.next();
        if frame.last() < next {
            return;
        }
        self.enter(frame.term);
        self.hole(frame.first, frame.lost, acts);
        if !known {
            acts.push(Act::Deliver { frame: index, skip: next.saturating_sub(frame.first) });
        }
        self.passed(frame);
    }

    /// The end of the log was reached.
    fn finish(&mut self, end: Position, acts: &mut Vec<Act>) {
        if end.offset < self.position.offset {
            // It was cut off behind what we had.
            self.position.offset = end.offset;
            acts.push(self.gap(None, GapReason::Lost));
        }
        if self.phase == Phase::Oldest {
            (self.position, self.began, self.furthest) = (end, end.term, end.offset);
        }
        // What the term before had with these offsets was something else.
        self.enter(end.term);
        self.hole(end.offset.saturating_add(1), None, acts);
        self.phase = Phase::Live { moved: false };
    }

    /// What follows is of this term, or of one after it.
    fn enter(&mut self, term: u32) {
        if term > self.position.term {
            if self.past.len() == Self::TERMS {
                self.past.pop_front();
            }
            self.past.push_back((self.position.term, self.furthest));
            (self.position.term, self.furthest) = (term, self.position.offset);
        }
    }

    /// Reports what is missing between the position and an offset.
    fn hole(&mut self, until: u64, lost: Option<Lost>, acts: &mut Vec<Act>) {
        let next = self.next();
        if until <= next {
            return;
        }
        let size = until - next;
        self.position.offset = until - 1;
        let furthest = self.furthest;
        self.furthest = furthest.max(until - 1);
        // Of a hole in which the position already was, the end is left.
        let told = lost.map_or(0, |lost| (lost.to - lost.from).min(size));
        if size > told {
            // What was there before the position had to go back, it had.
            let had = furthest.saturating_sub(next - 1).min(size - told);
            self.missed(size - told - had, GapReason::Trimmed, acts);
        }
        if let Some(lost) = lost {
            let had = self.had(lost.term).max(lost.to - told);
            self.missed(lost.to.saturating_sub(had), GapReason::Lost, acts);
        }
    }

    fn missed(&mut self, count: u64, reason: GapReason, acts: &mut Vec<Act>) {
        if count > 0 {
            acts.push(self.gap(Some(count), reason));
        }
    }

    /// Up to which offset of a term before this one nothing is missing.
    fn had(&self, term: u32) -> u64 {
        if term < self.began {
            // It was over before.
            return u64::MAX;
        }
        let past = self.past.iter().find(|(past, _)| *past == term);
        past.map_or(0, |(_, furthest)| *furthest)
    }

    /// The offset of the next event. What strangers write must not overflow.
    fn next(&self) -> u64 {
        self.position.offset.saturating_add(1)
    }

    fn gap(&self, missed: Option<u64>, reason: GapReason) -> Act {
        Act::Gap(Gap::new(missed, reason).up_to(self.position))
    }

    /// Whether it was delivered before, perhaps with other offsets.
    fn is_known(&self, frame: &Stamp) -> bool {
        self.wary > 0 && self.recent.has(frame.mark)
    }

    fn passed(&mut self, frame: &Stamp) {
        self.wary = self.wary.saturating_sub(1);
        self.position.offset = frame.last();
        self.furthest = self.furthest.max(frame.last());
        self.recent.push(*frame);
    }

    /// Where the last frame of the log ended that was looked at.
    fn reached(&self) -> u64 {
        match self.phase {
            Phase::Reread { at: Some(at) } => at,
            Phase::Live { .. }
            | Phase::Verify
            | Phase::Parted
            | Phase::Oldest
            | Phase::Reread { at: None }
            | Phase::Follow => self.position.offset,
        }
    }
}

#[cfg(test)]
mod tests;
