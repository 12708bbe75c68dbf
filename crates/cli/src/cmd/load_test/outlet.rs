//! An agent's way out: how it hands events to the bus, and what it keeps when
//! the bus does not take them.

use std::{ops::AddAssign, time::Duration};

use swarmbus::{Bus, DispatchError, Event, PublishCause};

use super::remote::Wire;

/// How many events make a batch.
const BATCH: usize = 64;

/// How often an event that was handed back is offered again, and after what
/// time.
const RETRIES: u32 = 16;
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// What an agent counts for itself, to compare with the bus's ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Events that the bus took.
    pub(super) accepted: u64,
    /// How often the bus handed an event back.
    pub(super) handed_back: u64,
    /// Events that were handed back so often that the agent gave up.
    pub(super) given_up: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.handed_back += other.handed_back;
        self.given_up += other.given_up;
    }
}

/// How agents hand events to the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// `Bus::publish`.
    Queued,
    /// `Bus::dispatch`.
    Inline,
    /// `Bus::publish_batch`.
    Batch,
}

/// The bus takes no more events.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) struct Outlet {
    bus: Bus,
    mode: Mode,
    batch: Vec<Event>,
    /// In place of the bus.
    wire: Option<Box<Wire>>,
    pub(super) sent: Sent,
}

impl Outlet {
    pub(super) fn new(bus: Bus, mode: Mode) -> Self {
        Self { bus, mode, batch: Vec::new(), wire: None, sent: Sent::default() }
    }

    /// One that leads over a transport.
    pub(super) fn over(self, wire: Wire) -> Self {
        Self { wire: Some(Box::new(wire)), ..self }
    }

    /// Publishes an event, or keeps it for a batch.
    #[inline]
    pub(super) async fn send(&mut self, event: Event) -> Result<(), Closed> {
        if let Some(wire) = &mut self.wire {
            return wire.send(&event, &mut self.sent).await;
        }
        match self.mode {
            Mode::Queued => self.publish(event).await,
            Mode::Inline => self.dispatch(event).await,
            Mode::Batch => {
                self.batch.push(event);
                if self.batch.len() < BATCH { Ok(()) } else { self.flush().await }
            }
        }
    }

    /// Publishes what is kept.
    pub(super) async fn flush(&mut self) -> Result<(), Closed> {
        if let Some(wire) = &mut self.wire {
            return wire.flush(&mut self.sent).await;
        }
        let mut tries = 0;
        while !self.batch.is_empty() {
            let before = self.batch.len();
            let result = self.bus.publish_batch(&mut self.batch).await;
            let left = self.batch.len();
            self.sent.accepted += (before - left) as u64;
            let Err(error) = result else { break };
            self.sent.handed_back += left as u64;
            if error.cause == PublishCause::Closed {
                return Err(Closed);
            }
            tries = if left < before { 1 } else { tries + 1 };
            if tries > RETRIES {
                self.batch.remove(0);
                self.sent.given_up += 1;
                tries = 0;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Ok(())
    }

    #[inline]
    async fn publish(&mut self, event: Event) -> Result<(), Closed> {
        match self.bus.publish(event).await {
            Ok(()) => {
                self.sent.accepted += 1;
                Ok(())
            }
            Err(error) => self.retry(*error.event, error.cause).await,
        }
    }

    /// Offers an event again that was handed back.
    #[cold]
    async fn retry(&mut self, mut event: Event, mut cause: PublishCause) -> Result<(), Closed> {
        for _ in 0..RETRIES {
            self.sent.handed_back += 1;
            if cause == PublishCause::Closed {
                return Err(Closed);
            }
            tokio::time::sleep(RETRY_AFTER).await;
            match self.bus.publish(event).await {
                Ok(()) => {
                    self.sent.accepted += 1;
                    return Ok(());
                }
                Err(error) => (event, cause) = (*error.event, error.cause),
            }
        }
        self.sent.handed_back += 1;
        self.sent.given_up += 1;
        Ok(())
    }

    #[inline]
    async fn dispatch(&mut self, event: Event) -> Result<(), Closed> {
        // Handlers that are plain functions never make a caller wait, so
        // nothing else would let other agents have the thread.
        tokio::task::coop::consume_budget().await;
        match self.bus.dispatch(&event).await {
            Ok(_) => self.sent.accepted += 1,
            Err(DispatchError::Closed) => return Err(Closed),
            Err(_) => self.sent.given_up += 1,
        }
        Ok(())
    }
}
