//! Schedules of a bus in the file of its log.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use proptest::prelude::*;
use swarmbus::{
    Bus, Event, Timestamp,
    schedule::{
        CronExpression, Missed, Plan, Schedule, ScheduleChange, ScheduleConfig, ScheduleId,
        ScheduleStore,
    },
};
use swarmbus_store::EventLog;
use tempfile::tempdir;
use tokio::sync::Notify;

use crate::support::{open, path};

/// A bus that has the log as journal and as store of schedules, and the
/// attributes of what it handled.
struct Run {
    bus: Bus,
    log: EventLog,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    rang: Arc<Notify>,
}

impl Run {
    /// The wall clock shows the time, and so many hours more.
    fn start(dir: &tempfile::TempDir, hours: u64) -> Self {
        let log = open(dir);
        let schedules = ScheduleConfig::default().store(log.clone()).wall_clock(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Timestamp::from_unix(now + Duration::from_secs(hours * 3_600))
        });
        let bus = Bus::builder().journal(log.clone()).schedules(schedules).build().unwrap();
        let (seen, rang) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let (s, r) = (Arc::clone(&seen), Arc::clone(&rang));
        bus.subscribe(">")
            .handle(move |event: &Event| {
                let of = |name| event.attribute(name).unwrap().to_owned();
                s.lock().push((of("schedule"), of("scheduledat")));
                r.notify_one();
            })
            .unwrap()
            .detach();
        Self { bus, log, seen, rang }
    }

    async fn saw(&self, count: usize) {
        let wait = async {
            while self.seen.lock().len() < count {
                self.rang.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    async fn end(self) {
        assert!(self.bus.shutdown(Duration::from_secs(60)).await.is_clean());
        drop(self.bus);
        self.log.close().await.unwrap();
    }
}

fn in_the_future() -> Timestamp {
    "2200-01-01T00:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn a_schedule_fires_in_the_run_after_the_one_that_made_it() {
    let dir = tempdir().unwrap();
    let first = Run::start(&dir, 0);
    first.bus.schedules().restore().await.unwrap();
    let hour = Duration::from_secs(3_600);
    let once = first.bus.schedule(Event::of("once", "payload")).after(hour).await.unwrap();
    let later = first.bus.schedule(Event::of("later", ())).named("later").at(in_the_future());
    later.await.unwrap();
    let gone = first.bus.schedule(Event::of("gone", ())).cron("0 0 0 1 1 *").await.unwrap();
    assert!(first.bus.schedules().cancel(&gone).await.unwrap());
    let due = first.bus.schedules().next(&once).unwrap();
    first.end().await;

    let second = Run::start(&dir, 2);
    let restored = second.bus.schedules().restore().await.unwrap();
    assert_eq!((restored.schedules, restored.overdue, restored.damaged), (2, 1, vec![]));
    second.saw(1).await;
    assert_eq!(second.seen.lock()[0].0, once.as_str());
    let fired: Timestamp = second.seen.lock()[0].1.parse().unwrap();
    let apart = fired.saturating_since(due).max(due.saturating_since(fired));
    assert!(apart < Duration::from_secs(60), "{apart:?}");
    second.end().await;

    let third = Run::start(&dir, 2);
    let restored = third.bus.schedules().restore().await.unwrap();
    assert_eq!(restored.schedules, 1, "what has fired does not come again");
    third.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_harms_nothing() {
    let dir = tempdir().unwrap();
    let run = Run::start(&dir, 0);
    run.bus.schedules().restore().await.unwrap();
    for name in ["good", "plan", "cron", "event", "missed", "micros"] {
        let new = run.bus.schedule(Event::of("x", ())).named(name);
        new.every(Duration::from_secs(3_600)).await.unwrap();
    }
    run.end().await;
    let conn = rusqlite::Connection::open(path(&dir)).unwrap();
    conn.execute_batch(
        "UPDATE schedules SET plan = 'often' WHERE id = 'plan';
         UPDATE schedules SET plan = 'cron', cron = 'often' WHERE id = 'cron';
         UPDATE schedules SET event = x'00' WHERE id = 'event';
         UPDATE schedules SET missed = 'fire_all', missed_limit = 0 WHERE id = 'missed';
         UPDATE schedules SET micros = 1 WHERE id = 'micros';",
    )
    .unwrap();
    drop(conn);
    let run = Run::start(&dir, 0);
    let restored = run.bus.schedules().restore().await.unwrap();
    assert_eq!(restored.schedules, 1);
    let mut damaged: Vec<_> = restored.damaged.iter().map(|damaged| &*damaged.id).collect();
    damaged.sort_unstable();
    assert_eq!(damaged, ["cron", "event", "micros", "missed", "plan"]);
    assert_eq!(run.bus.schedules().list().len(), 1);
    run.end().await;
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let time = 1_u64..Timestamp::MAX.as_micros();
    let micros = |n: u64| Timestamp::from_micros(n).unwrap();
    let plan = prop_oneof![
        time.clone().prop_map(move |n| Plan::At(micros(n))),
        (0_u64..1 << 62).prop_map(|n| Plan::After(Duration::from_micros(n))),
        (1_000_u64..1 << 62).prop_map(|n| Plan::Every(Duration::from_micros(n))),
        (0_u8..60).prop_map(|n| {
            Plan::Cron(CronExpression::new(&format!("{n} */7 * * * MON-FRI")).unwrap())
        }),
    ];
    let missed = prop_oneof![
        Just(Missed::FireOnce),
        Just(Missed::Skip),
        (1_u32..1_000).prop_map(|limit| Missed::FireAll { limit }),
    ];
    ("[a-z ]{1,9}", plan, missed, time, "\\PC{0,20}").prop_map(
        move |(id, plan, missed, next, text)| Schedule {
            id: ScheduleId::new(id).unwrap(),
            plan,
            missed,
            event: Event::of("x.y", text.clone()).with_source(text).with_session("s"),
            next: micros(next),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_loaded(
        steps in prop::collection::vec(prop::collection::vec((any_schedule(), any::<bool>()), 0..5), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempdir().unwrap();
            let log = open(&dir);
            let mut model = std::collections::BTreeMap::new();
            for step in steps {
                let changes: Vec<_> = step
                    .into_iter()
                    .map(|(schedule, keep)| {
                        if keep {
                            model.insert(schedule.id.clone(), schedule.clone());
                            ScheduleChange::Save(schedule)
                        } else {
                            model.remove(&schedule.id);
                            ScheduleChange::Remove(schedule.id)
                        }
                    })
                    .collect();
                ScheduleStore::write(&log, &changes).await.unwrap();
            }
            let mut loaded = log.load().await.unwrap().schedules;
            loaded.sort_by(|a, b| a.id.cmp(&b.id));
            assert_eq!(loaded, model.into_values().collect::<Vec<_>>());
            log.close().await.unwrap();
        });
    }
}
