//! An agent's inbox: its handlers put notes in, its task takes them out.

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::message::Note;

/// Far more than all tasks in flight; an agent that does not read cannot make
/// it grow without end.
const CAPACITY: usize = 1 << 18;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// On cache lines of its own: each handler call writes to it.
    state: CachePadded<Mutex<State>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    notes: Vec<Note>,
    /// The agent waits for a note.
    asleep: bool,
    poked: bool,
    closed: bool,
}

/// The inbox has [`CAPACITY`] notes.
#[derive(Debug, thiserror::Error)]
#[error("the agent's inbox is full")]
pub(super) struct Full;

impl Inbox {
    /// Leaves a note. After [`close`](Self::close) nobody reads it.
    #[inline]
    pub(super) fn push(&self, note: Note) -> Result<(), Full> {
        let mut state = self.state.lock();
        if state.closed {
            return Ok(());
        }
        if state.notes.len() >= CAPACITY {
            return Err(Full);
        }
        state.notes.push(note);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Has [`take`](Self::take) return, if with nothing.
    pub(super) fn poke(&self) {
        self.state.lock().poked = true;
        self.wake.notify_one();
    }

    /// Ends the reader at once.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for notes or a poke, and swaps all notes with `empty`. False
    /// when the inbox is closed.
    pub(super) async fn take(&self, empty: &mut Vec<Note>) -> bool {
        loop {
            {
                let mut state = self.state.lock();
                if state.closed {
                    return false;
                }
                if !state.notes.is_empty() || state.poked {
                    state.poked = false;
                    std::mem::swap(&mut state.notes, empty);
                    return true;
                }
                state.asleep = true;
            }
            self.wake.notified().await;
        }
    }
}
