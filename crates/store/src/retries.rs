//! Making the retries that were asked for through the file.

use std::{path::PathBuf, time::Duration};

use swarmbus::{Bus, Outcome, RetryError};

use crate::{
    dead_letters::{LetterFile, LetterPage},
    error::RecoverError,
    log::EventLog,
};

/// Letters that are offered together.
const PAGE: usize = 64;

/// However eager the program is.
const SHORTEST: Duration = Duration::from_millis(10);

/// Looks that came to nothing make the next ones rarer, up to this many times
/// the interval.
const SLOWEST: u32 = 60;

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
    /// read, [`RecoverError::Write`] if what became of letters cannot be
    /// written; [`RecoverError::Stopped`] if the bus is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, some retries were made. What was not
    /// delivered is still there.
    pub async fn make_retries(&self, bus: &Bus) -> Result<Retries, RecoverError> {
        make(self.path().to_owned(), bus).await
    }

    /// Makes retries that are asked for through the file, for as long as the
    /// bus lives: looks every `every`, which is 10 ms at least. As long as
    /// letters wait whose handler cannot be called, or the file cannot be read,
    /// it looks rarer, down to a sixtieth as often. Give it to `tokio::spawn`.
    /// It keeps neither the bus nor the log open.
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
        let (path, bus, every) = (self.path().to_owned(), bus.downgrade(), every.max(SHORTEST));
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
    let (mut look, mut closed) = (Look::default(), false);
    loop {
        let page;
        (page, look) = next(path.clone(), look).await?;
        for stored in &page.letters {
            let Some(letter) = stored.to_letter() else { continue };
            tokio::task::coop::consume_budget().await;
            match bus.dead_letters().offer(letter).await {
                Ok(()) => {
                    retries.delivered += 1;
                    look.delivered.push(stored.number);
                }
                Err(RetryError::NotDelivered {
                    outcome: Outcome::DeadLettered | Outcome::Failed,
                    ..
                }) => {
                    retries.failed += 1;
                    look.failed.push(stored.number);
                }
                Err(RetryError::Closed) => {
                    closed = true;
                    break;
                }
                Err(error) => {
                    tracing::debug!(letter = stored.number, %error, "a letter waits");
                    retries.waiting += 1;
                }
            }
        }
        look.after = page.next;
        if look.after.is_none() || closed {
            next(path, look).await?;
            return if closed { Err(RecoverError::Stopped) } else { Ok(retries) };
        }
    }
}

/// One look at the letters that are to be retried.
#[derive(Default)]
struct Look {
    file: Option<LetterFile>,
    after: Option<i64>,
    /// What became of the last page, to be written down before the next. The
    /// journal does so too; but if the log is not this bus's journal, nobody
    /// else does, and the same letters would be retried for ever.
    delivered: Vec<i64>,
    failed: Vec<i64>,
}

impl Look {
    fn next(&mut self, path: PathBuf) -> Result<LetterPage, RecoverError> {
        if !self.delivered.is_empty() || !self.failed.is_empty() {
            LetterFile::open(&path)?.retried(&self.delivered, &self.failed)?;
            self.delivered.clear();
            self.failed.clear();
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(LetterFile::open_to_read(path)?),
        };
        Ok(file.to_retry(self.after, PAGE)?)
    }
}

async fn next(path: PathBuf, mut look: Look) -> Result<(LetterPage, Look), RecoverError> {
    let next = move || look.next(path).map(|page| (page, look));
    // The other error: the runtime shuts down.
    tokio::task::spawn_blocking(next).await.unwrap_or(Err(RecoverError::Stopped))
}
