//! What the tests of the log share.

use std::path::PathBuf;

use swarmbus_store::{EventLog, Options, Query, Record};
use tempfile::TempDir;

pub(crate) fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("events.db")
}

/// Keeps events for ever: tests write times that they choose.
pub(crate) fn options() -> Options {
    Options::new().keep_for(None)
}

pub(crate) fn open(dir: &TempDir) -> EventLog {
    options().open(path(dir)).unwrap()
}

/// Everything that a query finds, in small pages.
pub(crate) fn all(log: &EventLog, query: &Query) -> Vec<Record> {
    let reader = log.reader().unwrap();
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = reader.page(query, after, 7).unwrap();
        assert!(page.damaged.is_empty());
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return records;
        }
    }
}

/// Everything in the log, in order of acceptance, once all is written.
pub(crate) async fn flushed(log: &EventLog) -> Vec<Record> {
    log.flush().await.unwrap();
    let mut records = all(log, &Query::new());
    records.sort_by_key(|record| record.seq);
    records
}
