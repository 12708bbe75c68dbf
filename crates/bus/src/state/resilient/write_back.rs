//! The task that writes to the primary what was written in its absence.

use std::{
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    Shared,
    write::{Outcome, Write},
};
use crate::state::StateError;

/// Longest wait for a breaker that only a person closes: then look again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Shortest wait after a failure, while the breaker is still closed.
const PAUSE: Duration = Duration::from_millis(10);

/// Lives while there is something to write and somebody holds the store.
///
/// What was there when the primary answers is written while calls go on in
/// memory; for what came in meanwhile, calls wait. Otherwise a busy process
/// would never get to the end.
pub(super) async fn run(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let wait = match strong.write_back().await {
            Ended::Done => return,
            Ended::Again(wait) => wait.clamp(PAUSE, LOOK_AGAIN),
        };
        // While it waits, nobody is held.
        let was_reset = Arc::clone(&strong.was_reset);
        drop(strong);
        let _ = timeout(wait, was_reset.notified()).await;
    }
}

enum Ended {
    /// Nothing is left.
    Done,
    /// The primary is not to be asked for so long.
    Again(Duration),
}

impl Shared {
    async fn write_back(&self) -> Ended {
        let there = self.local.lock().log.len();
        if let Err(wait) = self.write_some(there).await {
            return Ended::Again(wait);
        }
        let _nobody_else = self.gate.write().await;
        if let Err(wait) = self.write_some(usize::MAX).await {
            return Ended::Again(wait);
        }
        let mut local = self.local.lock();
        local.is_writing_back = false;
        local.overlay.settle(Instant::now());
        self.degradation.recovered();
        Ended::Done
    }

    /// Writes so many, or as many as there are.
    async fn write_some(&self, count: usize) -> Result<(), Duration> {
        for _ in 0..count {
            let Some(write) = self.local.lock().log.first().cloned() else { break };
            let permit = self.breaker.acquire(&self.clock).map_err(|no| no.retry_after)?;
            match self.bounded(write.repeat(&*self.primary)).await {
                Err(error) if error.is_unavailable() => {
                    permit.failure(&self.clock);
                    self.tally.failures.fetch_add(1, Relaxed);
                    return Err(Duration::ZERO);
                }
                result => {
                    permit.success(&self.clock);
                    self.resolve(&write, result);
                }
            }
        }
        Ok(())
    }

    fn resolve(&self, write: &Write, result: Result<Outcome, StateError>) {
        let mut local = self.local.lock();
        match result {
            Ok(Outcome::Written) => {
                local.log.pop();
                self.tally.written_back.fetch_add(1, Relaxed);
            }
            Ok(Outcome::Conflict) => {
                let given_up = local.log.remove(&write.key);
                local.overlay.give_up(Instant::now(), &write.key);
                self.tally.conflicts.fetch_add(given_up as u64, Relaxed);
            }
            Err(_) => {
                local.log.pop();
                self.tally.refused.fetch_add(1, Relaxed);
            }
        }
        self.waiting.send_replace(local.log.len());
    }
}
