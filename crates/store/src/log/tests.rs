//! What needs the writer's own connection, or its clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::{collection::vec, prelude::*};
use swarmbus::{Journal, Settlement};
use swarmbus_core::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{FaultKind, Query, Record, Status};

fn options() -> Options {
    Options::new().keep_for(None)
}

fn open(dir: &TempDir, options: Options) -> EventLog {
    options.open(dir.path().join("events.db")).unwrap()
}

fn event(i: u64) -> Event {
    let mut event = Event::of("task", i.to_string());
    event.stamp(Timestamp::from_micros(1_000 + i).unwrap(), i + 1);
    event
}

fn events(range: std::ops::Range<u64>) -> Vec<Event> {
    range.map(event).collect()
}

fn all(log: &EventLog) -> Vec<Record> {
    let reader = log.reader().unwrap();
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = reader.page(&Query::new(), after, 1_000).unwrap();
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return records;
        }
    }
}

async fn statuses(log: &EventLog) -> Vec<Status> {
    log.flush().await.unwrap();
    all(log).iter().map(|record| record.status).collect()
}

#[tokio::test]
async fn a_full_database_refuses_and_goes_on_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    log.append(&events(0..100)).await.unwrap();
    let limit =
        |pages: u32| log.write(move |conn| conn.pragma_update(None, "max_page_count", pages));
    // Not less than there are.
    limit(1).await.unwrap();
    let mut next = 100;
    let error = loop {
        match log.append(&events(next..next + 10)).await {
            Ok(()) => next += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, WriteError::Fault(f) if f.kind() == FaultKind::DiskFull), "{error}");
    // A settlement that comes now takes no space, and is not lost if it does.
    log.settle(&event(5), Settlement::Delivered);
    log.write(|conn| conn.pragma_update(None, "max_page_count", 1_000_000)).await.unwrap();
    log.append(&events(next..next + 10)).await.unwrap();
    let statuses = statuses(&log).await;
    assert_eq!(statuses.len() as u64, next + 10);
    assert_eq!(statuses[5], Status::Delivered);
    assert_eq!(statuses.iter().filter(|s| **s == Status::Pending).count() as u64, next + 9);
}

#[tokio::test]
async fn each_commit_is_synced_or_a_sync_follows() {
    let dir = tempfile::tempdir().unwrap();
    let synchronous =
        |conn: &Connection| conn.query_row("PRAGMA synchronous", (), |row| row.get::<_, i64>(0));
    let log = open(&dir, options());
    assert_eq!(log.write(synchronous).await.unwrap(), 1, "NORMAL: the log syncs itself");
    for i in 0..20 {
        let (one, two) = (events(2 * i..2 * i + 1), events(2 * i + 1..2 * i + 2));
        let (one, two) = tokio::join!(log.append(&one), log.append(&two));
        assert_eq!((one, two), (Ok(()), Ok(())));
        let stats = log.stats();
        assert!(stats.syncs >= stats.commits, "{stats:?}");
    }
    log.close().await.unwrap();

    let log = open(&dir, options().durability(Durability::GROUP));
    log.append(&events(0..1)).await.unwrap();
    while log.stats().syncs == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_comes_while_a_transaction_is_written_shares_its_sync() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    let (begun, has_begun) = oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let job = log.write(move |_| {
        let _ = begun.send(());
        let _ = ended.recv();
        Ok(())
    });
    let batch = events(0..30);
    let appends = async {
        has_begun.await.unwrap();
        let before = log.stats().commits;
        let mut appends: Vec<_> = batch.chunks(1).map(|one| Box::pin(log.append(one))).collect();
        std::future::poll_fn(|cx| {
            for append in &mut appends {
                assert!(append.as_mut().poll(cx).is_pending());
            }
            std::task::Poll::Ready(())
        })
        .await;
        drop(end);
        for append in appends {
            append.await.unwrap();
        }
        assert_eq!(log.stats().commits, before + 1, "one for the job and all events");
    };
    let (job, ()) = tokio::join!(job, appends);
    job.unwrap();
    assert_eq!(statuses(&log).await, [Status::Pending; 30]);
}

/// Its threads would have to wake those who wait in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_runtime_whose_threads_are_blocked_holds_up_no_append() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let blocks = tokio::spawn(async move {
        begun.send(()).unwrap();
        let _ = blocked.recv();
    });
    has_begun.await.unwrap();
    for i in 0..20 {
        let (one, other) = (events(2 * i..2 * i + 1), events(2 * i + 1..2 * i + 2));
        let (one, other) = tokio::join!(log.append(&one), log.append(&other));
        assert_eq!((one, other), (Ok(()), Ok(())));
    }
    drop(unblock);
    blocks.await.unwrap();
}

#[tokio::test]
async fn a_job_that_fails_is_undone_and_the_events_beside_it_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    let job = log.write(|conn| {
        conn.execute("UPDATE log_state SET opened = 77", ())?;
        conn.execute("INSERT INTO no_such_table VALUES (1)", ())
    });
    let batch = events(0..1);
    let (job, append) = tokio::join!(job, log.append(&batch));
    assert!(matches!(job, Err(WriteError::Fault(_))));
    append.unwrap();
    let opened = |conn: &Connection| {
        conn.query_row("SELECT opened FROM log_state", (), |r| r.get::<_, i64>(0))
    };
    assert_eq!(log.write(opened).await.unwrap(), 1);
    assert_eq!(all(&log).len(), 1);
}

#[tokio::test]
async fn a_panic_of_the_writer_is_an_error_and_no_hang() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    log.append(&events(0..1)).await.unwrap();
    let panics = log.write::<(), _>(|_| panic!("a bug"));
    let batch = events(1..2);
    let (panicked, beside) = tokio::join!(panics, log.append(&batch));
    assert_eq!(panicked, Err(WriteError::Panicked));
    // It may have come first.
    assert!(beside.is_ok() || beside == Err(WriteError::Panicked));
    assert_eq!(log.append(&events(2..3)).await, Err(WriteError::Panicked));
    log.settle(&event(0), Settlement::Delivered);
    assert_eq!(log.close().await, Err(WriteError::Panicked));
    // The lock is free, and what was committed is there.
    drop(log);
    assert_eq!(all(&open(&dir, options()))[0].event, event(0));
}

#[tokio::test]
async fn old_events_go_in_steps_and_pending_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    let now = Timestamp::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    let mut batch = events(0..3_500);
    batch.push(Event::of("new", ()).with_id("new").with_timestamp(now));
    log.append(&batch).await.unwrap();
    for event in batch.iter().skip(1_500) {
        log.settle(event, Settlement::Delivered);
    }
    log.close().await.unwrap();

    let log = open(&dir, options().keep_for(Some(Duration::from_secs(3_600))));
    while log.stats().aged_out < 2_000 {
        log.flush().await.unwrap();
    }
    let left: Vec<Event> = all(&log).into_iter().map(|record| record.event).collect();
    assert_eq!(left.len(), 1_501);
    assert_eq!(left[..1_500], batch[..1_500]);
    assert_eq!(left[1_500], batch[3_500]);
    assert_eq!(log.stats().aged_out, 2_000);
}

#[tokio::test]
async fn events_beyond_what_is_tracked_are_settled_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options().max_pending(1_000));
    for start in (0..3_000).step_by(100) {
        log.append(&events(start..start + 100)).await.unwrap();
        assert!(log.stats().pending <= 1_000);
    }
    assert!(log.stats().forgotten >= 2_000);
    for i in 0..3_000 {
        log.settle(&event(i), Settlement::Delivered);
        if i % 500 == 0 {
            log.flush().await.unwrap();
        }
    }
    let statuses = statuses(&log).await;
    let lost = log.stats().settlements_lost;
    assert_eq!(statuses.iter().filter(|s| **s == Status::Pending).count() as u64, lost);
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn what_is_withdrawn_was_never_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    log.append(&events(0..3)).await.unwrap();
    log.settle(&event(1), Settlement::Withdrawn);
    // One that gave up before the log had it.
    log.settle(&event(9), Settlement::Withdrawn);
    log.flush().await.unwrap();
    let left: Vec<Event> = all(&log).into_iter().map(|record| record.event).collect();
    assert_eq!(left, [event(0), event(2)]);
    log.close().await.unwrap();

    // Offered again and refused, it is as pending as it was.
    let log = open(&dir, options());
    log.append(&events(0..1)).await.unwrap();
    log.settle(&event(0), Settlement::Withdrawn);
    assert_eq!(statuses(&log).await, [Status::Pending; 2]);
    assert_eq!(all(&log)[0].retry_count, 1);
}

/// A log is closed with rows that end before what it has settled: the newest
/// were withdrawn, or went with their time.
#[tokio::test]
async fn what_is_accepted_after_the_newest_rows_went_is_offered_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    log.append(&events(0..3)).await.unwrap();
    log.settle(&event(0), Settlement::Delivered);
    log.settle(&event(1), Settlement::Delivered);
    log.settle(&event(2), Settlement::Withdrawn);
    log.close().await.unwrap();

    let log = open(&dir, options());
    log.append(&events(3..4)).await.unwrap();
    log.close().await.unwrap();

    let log = open(&dir, options());
    let bus = swarmbus::Bus::builder().journal(log.clone()).build().unwrap();
    assert_eq!(log.recover(&bus).await.unwrap().offered, 1);
}

/// Keeps the writer busy until the other end is dropped or rings.
async fn hold(log: &EventLog) -> std::sync::mpsc::Sender<()> {
    let (started, starts) = std::sync::mpsc::channel();
    let (release, held) = std::sync::mpsc::channel();
    let other = log.clone();
    tokio::spawn(async move {
        let wait = move |_: &Connection| {
            let _ = started.send(());
            let _ = held.recv();
            Ok(())
        };
        other.write(wait).await
    });
    tokio::task::yield_now().await;
    starts.recv().unwrap();
    release
}

#[tokio::test]
async fn an_event_that_two_offer_again_at_once_keeps_its_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    log.append(&events(0..2)).await.unwrap();
    log.close().await.unwrap();

    let log = open(&dir, options());
    let held = hold(&log).await;
    let batch = events(0..1);
    let (a, b, ()) = tokio::join!(log.append(&batch), log.append(&batch), async { drop(held) });
    assert_eq!((a, b), (Ok(()), Ok(())));
    assert_eq!(statuses(&log).await, [Status::Pending; 2]);
    assert_eq!(all(&log)[0].retry_count, 2);
    log.settle(&event(0), Settlement::Delivered);
    assert_eq!(statuses(&log).await, [Status::Delivered, Status::Pending]);
}

#[tokio::test]
async fn an_event_whose_first_row_was_not_written_is_pending_once_its_second_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, options());
    let held = hold(&log).await;
    let batch = events(0..1);
    let (started, starts) = std::sync::mpsc::channel();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    // Fails, and the event beside it with it.
    let fails = log.write::<(), _>(move |conn| {
        let _ = started.send(());
        let _ = wait.recv();
        conn.execute_batch("ROLLBACK")?;
        Err(rusqlite::Error::InvalidQuery)
    });
    let again = async {
        drop(held);
        starts.recv().unwrap();
        tokio::join!(log.append(&batch), log.append(&batch), async { drop(release) })
    };
    let (first, failed, (second, third, ())) = tokio::join!(log.append(&batch), fails, again);
    assert!(first.is_err() && failed.is_err());
    assert_eq!((second, third), (Ok(()), Ok(())));
    log.close().await.unwrap();

    let log = open(&dir, options());
    let bus = swarmbus::Bus::builder().journal(log.clone()).build().unwrap();
    assert_eq!(log.recover(&bus).await.unwrap().offered, 1, "it was accepted");
}

#[tokio::test]
async fn what_was_committed_is_synced_even_if_the_writer_panics() {
    let dir = tempfile::tempdir().unwrap();
    let rarely = Durability::GroupCommit { at_most: Duration::from_secs(60) };
    let log = open(&dir, options().durability(rarely));
    log.append(&events(0..1)).await.unwrap();
    assert_eq!(log.stats().syncs, 0);
    assert_eq!(log.write::<(), _>(|_| panic!("a bug")).await, Err(WriteError::Panicked));
    assert_eq!(log.close().await, Err(WriteError::Panicked));
    assert_eq!(log.stats().syncs, 1);
}

/// Numbers that no log has, in a file that is one.
#[tokio::test]
async fn a_log_without_numbers_left_is_not_opened() {
    for sql in [
        "UPDATE log_state SET settled_below = 9223372036854775807",
        "UPDATE events SET seq = 9223372036854775807",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir, options());
        log.append(&events(0..1)).await.unwrap();
        log.close().await.unwrap();
        Connection::open(dir.path().join("events.db")).unwrap().execute_batch(sql).unwrap();
        let error = EventLog::open(dir.path().join("events.db")).unwrap_err();
        let OpenError::Fault(fault) = &error else { panic!("{error}") };
        assert_eq!(fault.kind(), FaultKind::Corrupt, "{sql}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u64),
    Settle(u64, Settlement),
    Flush,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let settlement = prop_oneof![
        4 => Just(Settlement::Delivered),
        1 => Just(Settlement::Failed),
        1 => Just(Settlement::Dead),
        1 => Just(Settlement::Withdrawn),
    ];
    prop_oneof![
        6 => (0..30_u64).prop_map(Step::Append),
        8 => (0..30_u64, settlement).prop_map(|(i, settlement)| Step::Settle(i, settlement)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

/// A row as the naive model has it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    event: u64,
    status: Status,
    retries: u32,
    /// It was pending before its last publisher came.
    again: bool,
    /// Settled, or not accepted since the log was opened.
    untracked: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_is_a_list_of_rows(steps in vec(any_step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let group = options().durability(Durability::GROUP);
            let mut log = open(&dir, group.clone());
            let mut model: Vec<Row> = Vec::new();
            for step in steps {
                match step {
                    Step::Append(i) => {
                        log.append(&[event(i)]).await.unwrap();
                        append(&mut model, i);
                    }
                    Step::Settle(i, settlement) => {
                        log.settle(&event(i), settlement);
                        settle(&mut model, i, settlement);
                    }
                    Step::Flush => log.flush().await.unwrap(),
                    Step::Reopen => {
                        log.close().await.unwrap();
                        log = open(&dir, group.clone());
                        model.iter_mut().for_each(|row| row.untracked = true);
                    }
                }
            }
            log.flush().await.unwrap();
            let mut rows = all(&log);
            rows.sort_by_key(|record| record.seq);
            let rows: Vec<_> =
                rows.iter().map(|r| (r.event.clone(), r.status, r.retry_count)).collect();
            let expected: Vec<_> =
                model.iter().map(|row| (event(row.event), row.status, row.retries)).collect();
            assert_eq!(rows, expected);

            // The next run finds all that is pending.
            log.close().await.unwrap();
            let log = open(&dir, group);
            let bus = swarmbus::Bus::builder().journal(log.clone()).build().unwrap();
            let pending = model.iter().filter(|row| row.status == Status::Pending).count();
            assert_eq!(log.recover(&bus).await.unwrap().offered, pending as u64);
        });
    }
}

fn append(model: &mut Vec<Row>, event: u64) {
    let pending = |row: &&mut Row| row.event == event && row.status == Status::Pending;
    match model.iter_mut().find(pending) {
        Some(row) => {
            row.retries += 1;
            (row.again, row.untracked) = (true, false);
        }
        None => model.push(Row {
            event,
            status: Status::Pending,
            retries: 0,
            again: false,
            untracked: false,
        }),
    }
}

fn settle(model: &mut Vec<Row>, event: u64, settlement: Settlement) {
    let pending = |row: &Row| row.event == event && row.status == Status::Pending;
    let Some(at) = model.iter().position(pending) else { return };
    let row = &mut model[at];
    match settlement {
        Settlement::Delivered => row.status = Status::Delivered,
        Settlement::Failed => row.status = Status::Failed,
        Settlement::Dead => row.status = Status::Dead,
        Settlement::Withdrawn if row.untracked || row.again => {}
        Settlement::Withdrawn => {
            model.remove(at);
        }
    }
}
