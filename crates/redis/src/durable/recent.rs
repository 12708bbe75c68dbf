//! [`Recent`]: what the last frames were, to know them again.

use std::collections::VecDeque;

use super::reader::Stamp;

/// The last frames that were delivered.
///
/// Offsets alone do not name an event for ever: after a failover a server may
/// give them anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    frames: VecDeque<Stamp>,
}

impl Recent {
    /// A failover loses what was on its way to the replica: seconds at most.
    pub(super) const FRAMES: usize = 1_024;

    pub(super) fn push(&mut self, frame: Stamp) {
        if self.frames.len() == Self::FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
    }

    pub(super) fn has(&self, mark: u64) -> bool {
        // From the back: what is asked for is most often the newest.
        self.frames.iter().rev().any(|frame| frame.mark == mark)
    }

    /// The frame that was delivered last.
    pub(super) fn newest(&self) -> Option<&Stamp> {
        self.frames.back()
    }

    /// The frame that was delivered last of those that had this offset.
    pub(super) fn at(&self, epoch: u64, offset: u64) -> Option<&Stamp> {
        let had = |f: &&Stamp| f.epoch == epoch && f.first <= offset && f.last() >= offset;
        self.frames.iter().rev().find(had)
    }

    /// The lowest offset of an event of this epoch that is known. Not always
    /// that of the oldest frame: offsets may have been given anew.
    pub(super) fn lowest(&self, epoch: u64) -> Option<u64> {
        self.frames.iter().filter(|f| f.epoch == epoch).map(|f| f.first).min()
    }
}
