//! Offering again what was pending when the log was opened.

use swarmbus::{Bus, Event, PublishCause};

use crate::{
    error::RecoverError,
    intake::Intake,
    log::EventLog,
    reader::{LogReader, Page},
};

/// Events that are offered together.
const PAGE: usize = 256;

/// What [`EventLog::recover`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Events that the bus took again.
    pub offered: u64,
    /// Events that the bus's middleware refused. They stay pending.
    pub refused: u64,
    /// Rows that are no events. They stay pending.
    pub damaged: u64,
}

impl EventLog {
    /// Publishes what an earlier run of the program accepted and did not
    /// settle, in the order in which it was accepted, and with its retry count
    /// raised by one. Subscribe before, and call it before anything new is
    /// published where order matters.
    ///
    /// Each event keeps its id and its place in the log. It takes memory for
    /// a page at a time, and waits while the bus is full. What was accepted
    /// since the log was opened is not touched, so calling it twice does no
    /// harm. A new bus on the same log wants the log closed and opened again.
    ///
    /// # Errors
    ///
    /// See [`RecoverError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returns, some events were offered. The next call goes
    /// on behind them.
    pub async fn recover(&self, bus: &Bus) -> Result<Recovered, RecoverError> {
        let mut recovered = Recovered::default();
        let _alone = self.recovering().await;
        let Some((mut from, below)) = self.intake().unrecovered() else { return Ok(recovered) };
        let mut reader = self.reader()?;
        loop {
            let (page, back) = read_page(reader, from, below).await?;
            reader = back;
            let next = page.next.map_or(below, |cursor| cursor.seq() + 1);
            for (seq, damage) in &page.damaged {
                tracing::warn!(seq, %damage, "a pending row of the event log is no event");
                self.intake().left_pending(*seq);
                recovered.damaged += 1;
            }
            Offer::new(self.intake(), page, next).to(bus, &mut recovered).await?;
            if next >= below {
                return Ok(recovered);
            }
            from = next;
        }
    }
}

async fn read_page(
    reader: LogReader,
    from: i64,
    below: i64,
) -> Result<(Page, LogReader), RecoverError> {
    let read = move || {
        let page = reader.pending(from, below, PAGE);
        page.map(|page| (page, reader))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(page) => Ok(page?),
        // The runtime shuts down.
        Err(_) => Err(RecoverError::Stopped),
    }
}

/// A page on its way to the bus. Dropped in the middle, it says how far it got.
struct Offer<'a> {
    intake: &'a Intake,
    seqs: Vec<i64>,
    events: Vec<Event>,
    /// The first row behind the page.
    next: i64,
}

impl<'a> Offer<'a> {
    fn new(intake: &'a Intake, page: Page, next: i64) -> Self {
        let (seqs, events) =
            page.records.into_iter().map(|record| (record.seq, record.event)).unzip();
        Self { intake, seqs, events, next }
    }

    async fn to(mut self, bus: &Bus, recovered: &mut Recovered) -> Result<(), RecoverError> {
        while !self.events.is_empty() {
            let before = self.events.len();
            let published = bus.publish_batch(&mut self.events).await;
            recovered.offered += (before - self.events.len()) as u64;
            match published {
                Ok(()) => {}
                Err(error) if matches!(error.cause, PublishCause::Refused(_)) => {
                    self.intake.left_pending(self.at());
                    self.events.remove(0);
                    recovered.refused += 1;
                }
                Err(source) => {
                    return Err(RecoverError::Publish { offered: recovered.offered, source });
                }
            }
        }
        Ok(())
    }

    /// The row of the first event that is left.
    fn at(&self) -> i64 {
        let done = self.seqs.len() - self.events.len();
        self.seqs.get(done).copied().unwrap_or(self.next)
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        self.intake.recovered(self.at());
    }
}
