//! The scripts against a real server.

use super::*;
use crate::{durable::header::Header, local::Server, script::tests::Desk};

const RETENTION: Retention = Retention {
    events: 1_000,
    log: Duration::from_secs(60),
    meta: Duration::from_secs(600),
    known: Duration::from_secs(60),
};

struct Log {
    desk: Desk,
    keys: Keys,
    retention: Retention,
}

impl Log {
    async fn new() -> Self {
        let keys = Keys::new("test", &Channel::durable("c").unwrap());
        Self { desk: Desk::new(Server::start().unwrap()).await, keys, retention: RETENTION }
    }

    async fn append<'a>(&mut self, change: impl FnOnce(&mut Append<'a>)) -> Appended {
        self.try_append(change).await.unwrap()
    }

    async fn try_append<'a>(
        &mut self,
        change: impl FnOnce(&mut Append<'a>),
    ) -> Result<Appended, ConnectionError> {
        let record = "test:{c}:publisher:7";
        let mut append = Append {
            frame: b"frame",
            count: 3,
            publisher: 7,
            record,
            number: 1,
            reached: None,
            publish: "PUBLISH",
            server: 1,
        };
        change(&mut append);
        let call = append.call(&self.keys, &self.retention);
        let (who, appended) = Appended::read(self.desk.run(&APPEND, &call).await?)?;
        assert_eq!(who.publisher, append.publisher);
        Ok(appended)
    }

    async fn page(&mut self, part: Part, frames: usize) -> LogPage {
        let call = read(&self.keys, part, frames, None, &self.retention, 1);
        LogPage::read(self.desk.run(&READ, &call).await.unwrap()).unwrap()
    }

    /// First and last offset of each entry.
    async fn entries(&mut self, part: Part) -> Vec<(u64, u64)> {
        let page = self.page(part, 100).await;
        let stamps = page.entries.iter().map(|(_, entry)| Header::parse(entry).unwrap().stamp);
        stamps.map(|stamp| (stamp.first, stamp.last())).collect()
    }
}

fn confirmed(place: Position, number: u64) -> Option<Confirmed<Position>> {
    let reached = crate::reached::Reached::new(RETENTION.known);
    reached.note(7, place, number, |_, _| false);
    reached.get(7)
}

fn offset(appended: Appended) -> u64 {
    match appended {
        Appended::Done(position) => position.offset,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_are_appended_once_and_in_order() {
    let mut log = Log::new().await;
    let first = log.append(|_| ()).await;
    assert_eq!(offset(first), 3);
    let Appended::Done(end) = first else { unreachable!() };
    assert_eq!(log.append(|_| ()).await, Appended::Known(end), "sent again");
    assert_eq!(offset(log.append(|a| a.number = 4).await), 6);
    assert!(matches!(log.append(|a| a.number = 2).await, Appended::Known(_)), "late");
    let other = |a: &mut Append<'_>| (a.publisher, a.record) = (8, "test:{c}:publisher:8");
    assert_eq!(offset(log.append(other).await), 9, "publishers number on their own");
    assert_eq!(log.entries(Part::From(0)).await, [(1, 3), (4, 6), (7, 9)]);
    assert_eq!(log.entries(Part::From(4)).await, [(4, 6), (7, 9)], "4 lies within");
    assert_eq!(log.entries(Part::Newest).await, [(7, 9), (4, 6), (1, 3)]);
}

#[tokio::test]
async fn an_entry_says_what_it_is() {
    let mut log = Log::new().await;
    log.append(|_| ()).await;
    let page = log.page(Part::Newest, 1).await;
    let stamp = Header::parse(&page.entries[0].1).unwrap().stamp;
    assert_eq!((stamp.epoch, stamp.first, stamp.count), (page.end.epoch, 1, 3));
    assert!(page.entries[0].1.frame == "frame");
    log.append(|a| a.number = 4).await;
    let next = Header::parse(&log.page(Part::Newest, 1).await.entries[0].1).unwrap().stamp;
    assert!(next.append != stamp.append && next.mark != stamp.mark);
}

#[tokio::test]
async fn a_key_is_used_once() {
    let mut log = Log::new().await;
    let key = |publisher| {
        move |a: &mut Append<'_>| {
            (a.publisher, a.record, a.number) = (publisher, "test:{c}:idem:k", 0);
        }
    };
    assert_eq!(offset(log.append(key(1)).await), 3);
    assert!(matches!(log.append(key(1)).await, Appended::Known(_)), "the same, sent again");
    assert_eq!(log.append(key(2)).await, Appended::KeyUsed);
    assert_eq!(log.entries(Part::From(0)).await, [(1, 3)]);
}

#[tokio::test]
async fn retention_counts_events() {
    let mut log = Log::new().await;
    log.retention.events = 6;
    // Nodes of a stream are dropped as a whole; a big frame has one of its own.
    let frame = vec![0; 5_000];
    for number in [1, 4, 7, 10, 13] {
        log.append(|a| (a.frame, a.number) = (&frame, number)).await;
    }
    assert_eq!(log.entries(Part::From(0)).await, [(10, 12), (13, 15)]);
}

#[tokio::test]
async fn a_lost_meta_begins_a_new_epoch_with_an_empty_log() {
    let mut log = Log::new().await;
    let Appended::Done(old) = log.append(|_| ()).await else { panic!("appended") };
    log.desk.ask("DEL test:{c}:meta").await;
    let next = |a: &mut Append<'_>| (a.number, a.reached) = (4, confirmed(old, 3));
    let Appended::Done(new) = log.append(next).await else { panic!("appended") };
    assert_eq!((new.epoch == old.epoch, new.offset), (false, 3));
    assert_eq!(log.entries(Part::From(0)).await, [(1, 3)]);
    log.desk.ask("DEL test:{c}:meta").await;
    let page = log.page(Part::From(0), 10).await;
    assert!(page.end.epoch != new.epoch && page.entries.is_empty(), "for a reader, too");
    assert_eq!(log.page(Part::From(0), 10).await.end, page.end, "it stays");
}

#[tokio::test]
async fn a_meta_that_is_too_old_begins_a_new_epoch() {
    let mut log = Log::new().await;
    let Appended::Done(old) = log.append(|_| ()).await else { panic!("appended") };
    log.desk.ask("HSET test:{c}:meta offset 0").await;
    let Appended::Done(new) = log.append(|a| a.number = 4).await else { panic!("appended") };
    assert_eq!((new.epoch == old.epoch, new.offset), (false, 3));
    assert_eq!(log.entries(Part::From(0)).await, [(1, 3)]);
}

#[tokio::test]
async fn confirmed_writes_that_are_lost_leave_a_hole() {
    let mut log = Log::new().await;
    let Appended::Done(end) = log.append(|_| ()).await else { panic!("appended") };
    // As if two frames had not reached the replica that is master now.
    let reached = confirmed(Position { offset: 9, ..end }, 3);
    assert_eq!(offset(log.append(|a| (a.number, a.reached) = (4, reached)).await), 12);
    assert_eq!(log.entries(Part::From(0)).await, [(1, 3), (10, 12)]);
}

#[tokio::test]
async fn what_a_server_lost_is_counted_once_whoever_tells() {
    let mut log = Log::new().await;
    log.append(|_| ()).await;
    let other = |a: &mut Append<'_>| {
        (a.publisher, a.record, a.server) = (8, "test:{c}:publisher:8", 2);
    };
    let old = Position { offset: 3, ..log.page(Part::Newest, 1).await.end };
    // A replica that has no more takes over from a server that had confirmed 9 and 15.
    let reached = |offset| confirmed(Position { offset, ..old }, 6);
    let Appended::Done(first) =
        log.append(|a| (a.number, a.reached, a.server) = (7, reached(9), 2)).await
    else {
        panic!("appended")
    };
    assert_eq!((first.term, first.offset), (1, 12));
    let end = offset(log.append(|a| (other(a), a.number = 7, a.reached = reached(15)).0).await);
    assert_eq!(end, 12 + 6 + 3, "9 are counted");
    let call = read(&log.keys, Part::From(0), 10, None, &log.retention, 2);
    let page = LogPage::read(log.desk.run(&READ, &call).await.unwrap()).unwrap();
    let lost: Vec<_> = page.entries.iter().filter_map(|(_, entry)| entry.lost).collect();
    let of = |from, to| Lost { term: 0, from, to };
    assert_eq!(lost, [of(3, 9), of(9, 15)]);
    // Who read up to there in the term before has to go back to 3.
    let call = read(&log.keys, Part::From(9), 10, Some(0), &log.retention, 2);
    let page = LogPage::read(log.desk.run(&READ, &call).await.unwrap()).unwrap();
    assert_eq!((page.common, page.end.term), (Some(3), 1));
    let call = read(&log.keys, Part::From(9), 0, Some(1), &log.retention, 3);
    let page = LogPage::read(log.desk.run(&READ, &call).await.unwrap()).unwrap();
    assert_eq!((page.common, page.end.term), (Some(21), 2), "a reader notices, too");
}

#[tokio::test]
async fn a_server_that_keeps_everything_is_believed_until_something_is_missing() {
    let mut log = Log::new().await;
    // Runs with an odd number keep what they have confirmed.
    let Appended::Done(end) = log.append(|a| a.server = 1).await else { panic!("appended") };
    let reached = |place: Position| confirmed(place, 3);
    let next = |number, place, server| {
        move |a: &mut Append<'_>| (a.number, a.reached, a.server) = (number, reached(place), server)
    };
    let Appended::Done(end) = log.append(next(4, end, 3)).await else { panic!("appended") };
    assert_eq!((end.term, end.offset), (0, 6), "started again");
    let call = read(&log.keys, Part::From(0), 0, Some(0), &log.retention, 5);
    let page = LogPage::read(log.desk.run(&READ, &call).await.unwrap()).unwrap();
    assert_eq!((page.end, page.common), (end, None), "for a reader, too");
    // A file of yesterday, put back.
    let lost = Position { offset: 9, ..end };
    let Appended::Done(end) = log.append(next(10, lost, 7)).await else { panic!("appended") };
    assert_eq!((end.term, end.offset), (1, 12));
    assert_eq!(offset(log.append(next(13, end, 8)).await), 15);
    assert_eq!(log.page(Part::From(0), 0).await.end.term, 3, "others are not");
}

#[tokio::test]
async fn without_memory_nothing_is_changed() {
    let server = Server::builder().max_memory(3 << 20, "noeviction").start().unwrap();
    let mut log = Log { desk: Desk::new(server).await, ..Log::new().await };
    let frame = vec![0; 200_000];
    let mut number = 1;
    let refused = loop {
        match log.try_append(|a| (a.frame, a.count, a.number) = (&frame, 1, number)).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ConnectionError::OutOfMemory);
    log.desk.ask("CONFIG SET maxmemory 0").await;
    assert_eq!(log.page(Part::Newest, 1).await.end.offset, number - 1);
    assert_eq!(offset(log.append(|a| (a.count, a.number) = (1, number)).await), number);
}
