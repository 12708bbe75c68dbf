//! Layer: loop guard. Cuts events that come back to where they were.

use super::Call;
use crate::ledger::Outcome;

impl Call<'_> {
    /// Asks the handler's guard about the event's path. One without a path,
    /// which nothing caused, costs nothing.
    #[inline]
    pub(super) fn is_no_loop(self) -> Result<(), Outcome> {
        let subscriber = &self.matched.subscriber;
        let Some(guard) = &subscriber.pipeline.loop_guard else { return Ok(()) };
        guard.check(self.event, &subscriber.name).map_err(|error| {
            tracing::debug!(handler = &*subscriber.name, event = %self.event.ty(), %error, "cut");
            Outcome::Looped
        })
    }
}
