//! The thread that reads a log for a replay, some pages ahead.

use std::{path::Path, sync::mpsc as std_mpsc};

use bytes::{Bytes, BytesMut};
use rusqlite::Row;
use swarmbus_core::{Event, Timestamp};
use tokio::sync::mpsc;

use super::{ReplayError, Replayed};
use crate::{
    error::ReadError,
    event_row,
    reader::{FromRows, LogReader, Query},
};

/// Events of one page.
const PAGE: usize = 512;

/// Bytes of payload after which a page ends.
const PAGE_BYTES: usize = 2 << 20;

/// Pages that wait to be replayed, besides the one that is read: enough for
/// either side to be kept from its processor for a moment.
const AHEAD: usize = 6;

/// Payloads up to this long share memory, [`SHARED`] bytes at a time: whoever keeps one
/// keeps those. A thread that frees what another allocated keeps that one waiting.
const SMALL: usize = 4 << 10;
const SHARED: usize = 64 << 10;

/// Pages of events, in order.
pub(super) struct Source {
    pages: mpsc::Receiver<Result<Chunk, ReadError>>,
    /// Vectors that may be filled again.
    empty: std_mpsc::Sender<Vec<Event>>,
}

#[derive(Default)]
struct Chunk {
    events: Vec<Event>,
    payloads: BytesMut,
    damaged: u64,
    last: bool,
}

impl FromRows for Chunk {
    const COLUMNS: &'static str = event_row::COLUMNS;

    fn push(&mut self, row: &Row<'_>, query: &Query) -> rusqlite::Result<usize> {
        // An exact type is looked for by SQLite.
        if query.exact().is_none() && !query.wants_column(row.get_ref(3)?) {
            return Ok(0);
        }
        let payloads = &mut self.payloads;
        let Ok(event) = event_row::read(row, |payload| copy(payload, payloads)) else {
            self.damaged += 1;
            return Ok(0);
        };
        let bytes = event.payload().len();
        self.events.push(event);
        Ok(bytes)
    }

    fn len(&self) -> usize {
        self.events.len()
    }
}

fn copy(payload: &[u8], shared: &mut BytesMut) -> Bytes {
    if payload.len() > SMALL {
        return Bytes::copy_from_slice(payload);
    }
    if shared.capacity() < payload.len() {
        *shared = BytesMut::with_capacity(SHARED);
    }
    shared.extend_from_slice(payload);
    shared.split().freeze()
}

impl Source {
    /// Opens the log and starts to read. Blocks shortly.
    pub(super) fn start(path: &Path, query: Query) -> Result<Self, ReplayError> {
        let reader = LogReader::open(path)?;
        let (to_replay, pages) = mpsc::channel(AHEAD);
        let (empty, reuse) = std_mpsc::channel();
        let read = move || Reading { reader, query, reuse }.run(&to_replay);
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
        // What is accepted from now on is not read, or a busy log has no end.
        let mut query = self.query.clone().up_to(last_seq);
        let end = u64::try_from(newest).ok().and_then(|newest| Timestamp::from_micros(newest + 1));
        if let Some(end) = end
            && query.last() > newest
        {
            query = query.to(end);
        }
        let (mut after, mut payloads) = (None, BytesMut::new());
        loop {
            let events = self.reuse.try_recv().unwrap_or_default();
            let mut chunk = Chunk { events, payloads, ..Chunk::default() };
            after = self.reader.fill(&query, after, (PAGE, PAGE_BYTES), &mut chunk)?;
            payloads = std::mem::take(&mut chunk.payloads);
            if to.blocking_send(Ok(chunk)).is_err() {
                return Ok(());
            }
            if after.is_none() {
                drop(to.blocking_send(Ok(Chunk { last: true, ..Chunk::default() })));
                return Ok(());
            }
        }
    }
}
