//! How much a [`MemoryTransport`] keeps.

use std::num::NonZeroUsize;

use super::MemoryTransport;

/// What all channels of one transport have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) retention: usize,
    pub(super) tasks: usize,
    pub(super) dead_letters: usize,
}

/// Makes a [`MemoryTransport`].
///
/// | setting | default |
/// | --- | --- |
/// | [`retention`](Self::retention) | 10,000 events |
/// | [`tasks`](Self::tasks) | 10,000 tasks |
/// | [`dead_letters`](Self::dead_letters) | 1,000 tasks |
#[derive(Clone, Debug)]
pub struct MemoryBuilder {
    settings: Settings,
}

impl Default for MemoryBuilder {
    fn default() -> Self {
        Self { settings: Settings { retention: 10_000, tasks: 10_000, dead_letters: 1_000 } }
    }
}

impl MemoryBuilder {
    /// How many events a durable channel keeps: the newest.
    #[must_use]
    pub fn retention(mut self, events: NonZeroUsize) -> Self {
        self.settings.retention = events.get();
        self
    }

    /// How many tasks a group may have that are not done. Then tasks are
    /// refused with [`TransportError::Full`](crate::transport::TransportError::Full).
    #[must_use]
    pub fn tasks(mut self, tasks: NonZeroUsize) -> Self {
        self.settings.tasks = tasks.get();
        self
    }

    /// How many dead letters a group channel keeps: the newest.
    #[must_use]
    pub fn dead_letters(mut self, tasks: NonZeroUsize) -> Self {
        self.settings.dead_letters = tasks.get();
        self
    }

    /// The transport.
    pub fn build(self) -> MemoryTransport {
        MemoryTransport::with(self.settings)
    }
}
