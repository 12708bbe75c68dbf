//! [`Subscription`]: one subscriber of a durable channel, at work.
//!
//! It delivers what the live feed brings as long as that is complete, and reads
//! the log when it is not: after a new connection, a jump of offsets, an inbox
//! that was full for long. So a slow subscriber holds a page in memory, not all
//! that it has yet to read.

use std::{sync::Arc, time::Duration};

use swarmbus::transport::{Feed, Incoming, Position, TransportError};
use swarmbus_core::backoff::Backoff;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    header::{self, Entry, Header},
    reader::{Act, Next, Page, Reader, Stamp, Step},
    scripts::{self, Keys, LogPage, Part, READ, Retention},
    tap::{Taken, Tap},
};
use crate::{
    error::{ConnectionError, refused},
    meter::ReceiveMeter,
    server::{Call, Server},
};

/// Bytes that one page of the log should have.
const PAGE_BYTES: usize = 1 << 20;

/// Between tries to read when the server does not answer as it should.
const AGAIN: Backoff = Backoff::exponential(Duration::from_millis(50)).cap(Duration::from_secs(2));

/// Reads logs.
#[derive(Clone)]
pub(super) struct LogReader {
    pub(super) server: Server,
    pub(super) keys: Keys,
    pub(super) retention: Retention,
}

pub(super) struct Subscription {
    log: LogReader,
    tap: Arc<Tap>,
    reader: Reader,
    check_every: Duration,
    meter: ReceiveMeter,
    /// Frames of the next page.
    frames: usize,
    batch: Vec<Incoming>,
}

impl LogReader {
    /// Tries as long as a command may take.
    pub(super) async fn try_read(
        &self,
        part: Part,
        frames: usize,
        term: Option<u32>,
    ) -> Result<LogPage, ConnectionError> {
        let call = |server| scripts::read(&self.keys, part, frames, term, &self.retention, server);
        LogPage::read(self.server.insist(Call::Signed(&READ, &call)).await?)
    }

    /// Tries until there is an answer, or there will never be one.
    async fn read(
        &self,
        part: Part,
        frames: usize,
        term: Option<u32>,
    ) -> Result<LogPage, TransportError> {
        let mut failures = 0;
        loop {
            match self.try_read(part, frames, term).await {
                Ok(page) => return Ok(page),
                Err(ConnectionError::Closed) => return Err(TransportError::Closed),
                Err(error) if error.is_final() => return Err(refused(error)),
                Err(_) => sleep(AGAIN.delay(failures, 0)).await,
            }
            failures = failures.saturating_add(1);
        }
    }
}

impl Subscription {
    pub(super) fn new(
        log: LogReader,
        tap: Arc<Tap>,
        reader: Reader,
        check_every: Duration,
        meter: ReceiveMeter,
    ) -> Self {
        Self { log, tap, reader, check_every, meter, frames: 16, batch: Vec::new() }
    }

    /// Until the inbox is dropped or the transport is closed.
    pub(super) async fn run(mut self, feed: Feed, catch_up: bool, end: CancellationToken) {
        let error = tokio::select! {
            Err(error) = self.work(&feed, catch_up) => Some(error),
            () = feed.gone() => None,
            () = end.cancelled() => None,
        };
        match error {
            None | Some(TransportError::Closed) => {}
            Some(error) => feed.fail(error),
        }
    }

    async fn work(
        &mut self,
        feed: &Feed,
        catch_up: bool,
    ) -> Result<std::convert::Infallible, TransportError> {
        if catch_up {
            self.catch_up(feed).await?;
        }
        loop {
            let check = Instant::now() + self.check_every;
            let taken = tokio::select! {
                biased;
                taken = self.tap.next() => taken,
                () = sleep_until(check) => {
                    let end = self.log.read(Part::From(0), 0, None).await?.end;
                    if self.reader.is_at(end) { continue } else { Taken::Missed }
                }
            };
            match taken {
                Taken::Missed => self.catch_up(feed).await?,
                Taken::Entries(entries) => self.live(feed, &entries).await?,
            }
        }
    }

    async fn live(&mut self, feed: &Feed, entries: &[Entry]) -> Result<(), TransportError> {
        for entry in entries {
            // What a stranger published is nobody's loss; if it was one of ours,
            // the next jumps.
            let Ok(header) = Header::parse(entry) else { continue };
            match self.reader.live(header.stamp) {
                Step::Deliver { skip } => self.unpack(&header, skip),
                Step::Skip => {}
                Step::Recover => {
                    self.deliver(feed).await;
                    return self.catch_up(feed).await;
                }
            }
        }
        self.deliver(feed).await;
        Ok(())
    }

    /// Reads the log from the position to its end.
    async fn catch_up(&mut self, feed: &Feed) -> Result<(), TransportError> {
        let mut from = self.reader.recover();
        let mut acts = Vec::new();
        loop {
            // What came before this page was read is on it, or follows.
            self.tap.clear();
            let limit = self.frames;
            let term = Some(self.reader.term());
            let page = self.log.read(Part::From(from), limit, term).await?;
            let LogPage { end, entries, common } = page;
            let bytes: usize = entries.iter().map(|(_, entry)| entry.len()).sum();
            let headers = self.headers(end, &entries);
            let stamps: Vec<_> = headers.iter().map(|(stamp, _)| *stamp).collect();
            let full = stamps.len() == limit;
            let next = self.reader.page(Page { end, common, frames: &stamps, full }, &mut acts);
            for act in acts.drain(..) {
                match act {
                    Act::Gap(gap) => self.batch.push(Incoming::Gap(gap)),
                    Act::Deliver { frame, skip } => match &headers[frame] {
                        (_, Some(header)) => self.unpack(header, skip),
                        (stamp, None) => self.batch.push(header::unreadable(stamp, skip)),
                    },
                }
            }
            drop((headers, entries));
            self.deliver(feed).await;
            self.frames = page_size(limit, bytes);
            match next {
                Next::Read { from: next } => from = next,
                Next::Live => return Ok(()),
            }
        }
    }

    /// Takes entries apart. One that cannot be read still has its offsets, by
    /// its id.
    fn headers(&self, end: Position, entries: &[(u64, Entry)]) -> Vec<(Stamp, Option<Header>)> {
        let mut before = self.reader.position().offset;
        let mut headers = Vec::with_capacity(entries.len());
        for (id, entry) in entries {
            let readable = Header::parse(entry).ok().filter(|header| header.stamp.last() == *id);
            let stamp = readable.as_ref().map_or_else(
                || Stamp::unreadable(end, before.min(id.saturating_sub(1)), *id),
                |header| header.stamp,
            );
            headers.push((stamp, readable));
            before = *id;
        }
        headers
    }

    fn unpack(&mut self, header: &Header, skip: u64) {
        header.unpack(skip, |incoming| self.batch.push(incoming));
    }

    /// Waits for the subscriber as long as it takes. What comes in meanwhile
    /// waits in the log.
    async fn deliver(&mut self, feed: &Feed) {
        self.meter.received(&self.batch);
        loop {
            feed.deliver(&mut self.batch);
            if self.batch.is_empty() || !feed.room().await {
                return;
            }
        }
    }
}

/// Frames of the next page, after one of so many with so many bytes.
fn page_size(frames: usize, bytes: usize) -> usize {
    let fitting = PAGE_BYTES.saturating_mul(frames) / bytes.max(1);
    fitting.clamp(1, frames.saturating_mul(2)).min(1_024)
}
