//! The recorded gaps between events, faster or slower.

use std::time::Duration;

use swarmbus_core::Timestamp;
use tokio::time::Instant;

use super::ReplayError;

/// When the next event is due.
pub(super) struct Pace {
    factor: f64,
    /// When the replay began, and the time of its first event.
    start: Option<(Instant, Timestamp)>,
}

/// Longer than anybody waits, and short enough for every clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Pace {
    pub(super) fn new(factor: f64) -> Result<Self, ReplayError> {
        if factor.is_finite() && factor > 0.0 {
            Ok(Self { factor, start: None })
        } else {
            Err(ReplayError::Speed(factor))
        }
    }

    /// Waits until the event of this time is due: counted from the first, so
    /// that delays do not add up.
    pub(super) async fn wait(&mut self, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        let (start, first) = *self.start.get_or_insert_with(|| (Instant::now(), at));
        let gap = at.saturating_since(first).as_secs_f64() / self.factor;
        let gap = Duration::try_from_secs_f64(gap).map_or(LONGEST, |gap| gap.min(LONGEST));
        tokio::time::sleep_until(start + gap).await;
    }
}
