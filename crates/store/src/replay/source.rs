//! The thread that reads a log for a replay, some pages ahead.

use std::{path::Path, sync::mpsc as std_mpsc};

use swarmbus_core::{Event, Timestamp};
use tokio::sync::mpsc;

use super::{ReplayError, Replayed};
use crate::{
    error::ReadError,
    reader::{LogReader, Query},
};

/// Events of one page.
const PAGE: usize = 256;

/// Pages that wait to be replayed, besides the one that is read.
const AHEAD: usize = 2;

/// Pages of events, in order.
pub(super) struct Source {
    pages: mpsc::Receiver<Result<Chunk, ReadError>>,
    /// Vectors that may be filled again.
    empty: std_mpsc::Sender<Vec<Event>>,
}

struct Chunk {
    events: Vec<Event>,
    damaged: u64,
    last: bool,
}

impl Source {
    /// Opens the log and starts to read. Blocks shortly.
    pub(super) fn start(path: &Path, query: Query, mark: bool) -> Result<Self, ReplayError> {
        let reader = LogReader::open(path)?;
        let (to_replay, pages) = mpsc::channel(AHEAD);
        let (empty, reuse) = std_mpsc::channel();
        let read = move || Reading { reader, query, mark, reuse }.run(&to_replay);
        let thread = std::thread::Builder::new().name("swarmbus-replay".to_owned());
        // It ends when the log does, or when nobody receives.
        thread.spawn(read).map_err(ReplayError::Thread)?;
        Ok(Self { pages, empty })
    }

    /// The next events; `None` after the last.
    ///
    /// Cancel safe: no event is lost.
    pub(super) async fn next(
        &mut self,
        done: &mut Replayed,
    ) -> Result<Option<Vec<Event>>, ReplayError> {
        let chunk = self.pages.recv().await.ok_or(ReplayError::Panicked)??;
        done.damaged += chunk.damaged;
        Ok((!chunk.last).then_some(chunk.events))
    }

    pub(super) fn give_back(&self, events: Vec<Event>) {
        // The thread may have ended before.
        drop(self.empty.send(events));
    }
}

struct Reading {
    reader: LogReader,
    query: Query,
    mark: bool,
    reuse: std_mpsc::Receiver<Vec<Event>>,
}

impl Reading {
    fn run(self, to: &mpsc::Sender<Result<Chunk, ReadError>>) {
        if let Err(error) = self.read(to) {
            // Nobody to tell: the replay was dropped.
            drop(to.blocking_send(Err(error)));
        }
    }

    fn read(&self, to: &mpsc::Sender<Result<Chunk, ReadError>>) -> Result<(), ReadError> {
        let (newest, last_seq) = self.reader.read(|conn| {
            let sql = "SELECT coalesce(max(timestamp), 0) FROM events";
            let newest = conn.query_row(sql, (), |row| row.get::<_, i64>(0))?;
            let sql = "SELECT coalesce(max(seq), 0) FROM events";
            Ok((newest, conn.query_row(sql, (), |row| row.get::<_, i64>(0))?))
        })?;
        let mut query = self.query.clone();
        // What is accepted from now on is not read, or a busy log has no end.
        let end = u64::try_from(newest).ok().and_then(|newest| Timestamp::from_micros(newest + 1));
        if let Some(end) = end
            && query.last() > newest
        {
            query = query.to(end);
        }
        let mut after = None;
        loop {
            let page = self.reader.page(&query, after, PAGE)?;
            let mut events = self.reuse.try_recv().unwrap_or_default();
            let records = page.records.into_iter().filter(|record| record.seq <= last_seq);
            let mark = |event: Event| if self.mark { event.replayed() } else { event };
            events.extend(records.map(|record| mark(record.event)));
            let damaged = page.damaged.len() as u64;
            let sent = to.blocking_send(Ok(Chunk { events, damaged, last: false }));
            after = page.next;
            if sent.is_err() {
                return Ok(());
            }
            if after.is_none() {
                let last = Chunk { events: Vec::new(), damaged: 0, last: true };
                drop(to.blocking_send(Ok(last)));
                return Ok(());
            }
        }
    }
}
