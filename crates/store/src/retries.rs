//! Making the retries that were asked for through the file.

use std::{path::PathBuf, time::Duration};

use swarmbus::{Bus, RetryError};

use crate::{
    dead_letters::{LetterFile, LetterPage, StoredLetter},
    error::RecoverError,
    log::EventLog,
};

/// Letters that are offered together.
const PAGE: usize = 64;

/// Looks that came to nothing make the next ones rarer, up to this many times
/// the interval.
const SLOWEST: u32 = 60;

/// Longer than the log takes to write down what became of a letter.
const SHORTEST: Duration = Duration::from_millis(100);

/// What [`EventLog::make_retries`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retries {
    /// Letters that were delivered, and are gone.
    pub delivered: u64,
    /// Letters whose handler was called, and failed again. Nobody wants them
    /// retried any more.
    pub failed: u64,
    /// Letters whose handler was not called: it is not subscribed, or its
    /// breaker is open. They will be offered again.
    pub waiting: u64,
}

impl EventLog {
    /// Makes the retries that [`LetterFile`] was asked for, once. The log is
    /// the journal of the bus, which learns from there what became of them.
    ///
    /// # Errors
    ///
    /// [`RecoverError::Open`] or [`RecoverError::Read`] if the file cannot be
    /// read; [`RecoverError::Stopped`] if the bus is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, some retries were made. What was not
    /// delivered is still there.
    pub async fn make_retries(&self, bus: &Bus) -> Result<Retries, RecoverError> {
        let retries = make(self.path().to_owned(), bus).await?;
        // What failed again is no longer asked for, once that is written.
        self.flush().await.map_err(|_| RecoverError::Stopped)?;
        Ok(retries)
    }

    /// Makes retries that are asked for through the file, for as long as the
    /// bus lives: looks every `every` (at least 0.1 s), and as long as nothing
    /// changes rarer, down to a sixtieth as often. Give it to `tokio::spawn`. It keeps
    /// neither the bus nor the log open.
    ///
    /// A retry is made at least once: one that was delivered just before a
    /// crash may be made again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use swarmbus::Bus;
    /// use swarmbus_store::EventLog;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let log = EventLog::open(dir.path().join("events.db"))?;
    /// let bus = Bus::builder().journal(log.clone()).build()?;
    /// tokio::spawn(log.serve_retries(&bus, Duration::from_secs(1)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve_retries(
        &self,
        bus: &Bus,
        every: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (path, bus) = (self.path().to_owned(), bus.downgrade());
        let every = every.max(SHORTEST);
        async move {
            let (mut wait, mut last) = (1, Retries::default());
            loop {
                tokio::time::sleep(every.saturating_mul(wait)).await;
                let Some(bus) = bus.upgrade() else { return };
                match make(path.clone(), &bus).await {
                    Ok(retries) => {
                        // Letters that wait for their handler are no news.
                        let still = retries.waiting > 0 && retries == last;
                        wait = if still { (wait * 2).min(SLOWEST) } else { 1 };
                        last = retries;
                    }
                    Err(RecoverError::Stopped) => return,
                    Err(error) => {
                        tracing::warn!(%error, "cannot look for letters to retry");
                        wait = (wait * 2).min(SLOWEST);
                    }
                }
            }
        }
    }
}

async fn make(path: PathBuf, bus: &Bus) -> Result<Retries, RecoverError> {
    let mut retries = Retries::default();
    let mut file = None;
    let mut after = None;
    loop {
        let (page, back) = read(path.clone(), file, after).await?;
        file = Some(back);
        for letter in page.letters.iter().filter_map(StoredLetter::to_letter) {
            tokio::task::coop::consume_budget().await;
            let attempts = letter.attempts;
            match bus.dead_letters().offer(letter).await {
                Ok(()) => retries.delivered += 1,
                Err(RetryError::NotDelivered {
                    outcome: swarmbus::Outcome::DeadLettered, ..
                }) => {
                    retries.failed += 1;
                }
                Err(RetryError::Closed) => return Err(RecoverError::Stopped),
                Err(error) => {
                    tracing::debug!(%error, attempts, "a letter waits for its handler");
                    retries.waiting += 1;
                }
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(retries);
        }
    }
}

async fn read(
    path: PathBuf,
    file: Option<LetterFile>,
    after: Option<i64>,
) -> Result<(LetterPage, LetterFile), RecoverError> {
    let read = move || {
        let file = match file {
            Some(file) => file,
            None => LetterFile::open_to_read(path)?,
        };
        let page = file.to_retry(after, PAGE)?;
        Ok((page, file))
    };
    // The other error: the runtime shuts down.
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(RecoverError::Stopped))
}
