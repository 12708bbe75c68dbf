//! [`Memory`]: how much this process has while the server is away.

use std::time::Duration;

use tokio::time::{Instant, interval};

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(20);

/// Resident memory, in bytes. Zero where the system does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) start: u64,
    /// The most in the first third.
    pub(crate) early: u64,
    /// The most after that.
    pub(crate) late: u64,
}

impl Memory {
    pub(crate) async fn watch(time: Duration) -> Self {
        let (began, mut looks) = (Instant::now(), interval(EVERY));
        let mut memory = Self { start: resident(), ..Self::default() };
        while began.elapsed() < time {
            looks.tick().await;
            let is_early = began.elapsed() < time / 3;
            let most = if is_early { &mut memory.early } else { &mut memory.late };
            *most = resident().max(*most);
        }
        memory
    }

    /// It is bounded if the last two thirds bring no more than the first did, up
    /// to what an allocator does.
    pub(crate) fn is_bounded(self) -> bool {
        self.late <= self.early + self.early / 5 + (32 << 20)
    }
}

fn resident() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}
