//! Schedules of a whole bus, under the paused clock and an invented wall
//! clock.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::{Bus, BusBuilder, EventMiddleware, PublishCause, Subscription};

mod restarts;

/// A wall clock that passes with tokio's and can be set.
#[derive(Clone)]
struct Wall {
    zero: Instant,
    offset: Arc<AtomicI64>,
}

impl Wall {
    fn new() -> Self {
        Self { zero: Instant::now(), offset: Arc::default() }
    }

    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.zero.elapsed().as_micros()).unwrap();
        let at = 1_767_225_600_000_000 + passed + self.offset.load(SeqCst);
        Timestamp::from_micros(at.try_into().unwrap()).unwrap()
    }

    fn set_by(&self, seconds: i64) {
        self.offset.fetch_add(seconds * 1_000_000, SeqCst);
    }

    fn config(&self) -> ScheduleConfig {
        let wall = self.clone();
        ScheduleConfig::default().wall_clock(move || wall.now())
    }
}

/// What a handler saw, and when.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Event, Instant)>>>);

impl Seen {
    fn on(&self, bus: &Bus) -> Subscription {
        let seen = self.clone();
        let note = move |event: &Event| seen.0.lock().push((event.clone(), Instant::now()));
        bus.subscribe(">").handle(note).unwrap()
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Since then, in whole seconds.
    fn seconds(&self, since: Instant) -> Vec<u64> {
        self.0.lock().iter().map(|(_, at)| (*at - since).as_secs()).collect()
    }

    fn due(&self) -> Vec<String> {
        let due =
            |(event, _): &(Event, Instant)| event.attribute("scheduledat").unwrap().to_owned();
        self.0.lock().iter().map(due).collect()
    }
}

fn bus(config: ScheduleConfig) -> Bus {
    Bus::builder().workers(1).schedules(config).build().unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn tick() -> Event {
    Event::of("tick", "payload").with_id("template").with_source("clock")
}

/// Lets time pass, with all that happens in it.
async fn pass(time: Duration) {
    // The paused clock goes from timer to timer.
    let end = std::future::pending::<()>();
    assert!(timeout(time, end).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_plan_fires_at_its_times_as_a_fresh_event() {
    let (wall, seen, start) = (Wall::new(), Seen::default(), Instant::now());
    let bus = bus(wall.config());
    let _all = seen.on(&bus);
    bus.schedule(tick()).after(seconds(3)).await.unwrap();
    bus.schedule(tick()).at(wall.now().saturating_add(seconds(5))).await.unwrap();
    let every = bus.schedule(tick()).every(seconds(4)).await.unwrap();
    let cron = bus.schedule(tick()).named("cron").cron("*/10 * * * * *").await.unwrap();
    assert_eq!(cron.as_str(), "cron");
    assert_eq!(bus.schedules().next(&every), Some(wall.now().saturating_add(seconds(4))));
    let listed: Vec<_> = bus.schedules().list().into_iter().map(|s| s.next).collect();
    assert!(listed.is_sorted() && listed.len() == 4);
    pass(seconds(21)).await;
    assert_eq!(seen.seconds(start), [3, 4, 5, 8, 10, 12, 16, 20, 20]);
    let all = seen.0.lock().clone();
    let mut ids: Vec<_> = all.iter().map(|(event, _)| event.id().unwrap().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "each has an id of its own");
    let (event, _) = &all[4];
    assert_eq!(event.attribute("schedule"), Some("cron"));
    assert_eq!(event.attribute("scheduledat"), Some("2026-01-01T00:00:10Z"));
    assert_eq!((event.source(), event.text()), ("clock", Some("payload")));
    assert_eq!(bus.schedules().list().len(), 2, "at and after have ended");
    assert_eq!(bus.schedules().stats().fired, 9);
}

#[tokio::test(start_paused = true)]
async fn every_keeps_to_its_grid_however_late_it_is() {
    let (wall, seen, start) = (Wall::new(), Seen::default(), Instant::now());
    let bus = bus(wall.config());
    let _all = seen.on(&bus);
    bus.schedule(tick()).every(seconds(10)).await.unwrap();
    pass(seconds(9)).await;
    // Nothing runs meanwhile, as if the thread had been blocked.
    advance(seconds(16)).await;
    pass(seconds(20)).await;
    assert_eq!(seen.seconds(start), [25, 30, 40], "one for those at 10 and 20");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_schedule_is_silent_and_its_name_free() {
    let (wall, seen) = (Wall::new(), Seen::default());
    let bus = bus(wall.config());
    let _all = seen.on(&bus);
    let id = bus.schedule(tick()).named("x").every(seconds(1)).await.unwrap();
    assert!(bus.schedules().cancel(&id).await.unwrap());
    assert!(!bus.schedules().cancel(&id).await.unwrap());
    assert_eq!(bus.schedules().next(&id), None);
    pass(seconds(5)).await;
    assert_eq!(seen.len(), 0);
    bus.schedule(tick()).named("x").after(seconds(1)).await.unwrap();
    pass(seconds(2)).await;
    assert_eq!(seen.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_name_and_plan_goes_on_where_it_is() {
    let (wall, seen, start) = (Wall::new(), Seen::default(), Instant::now());
    let bus = bus(wall.config().capacity(1));
    let _all = seen.on(&bus);
    let make = |period| bus.schedule(tick()).named("x").every(seconds(period));
    make(10).await.unwrap();
    pass(seconds(9)).await;
    make(10).await.unwrap();
    pass(seconds(2)).await;
    assert_eq!(seen.seconds(start), [10]);
    make(3).await.unwrap();
    pass(seconds(4)).await;
    assert_eq!(seen.seconds(start), [10, 14]);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_a_typed_error() {
    let wall = Wall::new();
    let bus = bus(wall.config().capacity(2));
    let new = || bus.schedule(tick());
    assert!(matches!(new().every(Duration::ZERO).await, Err(ScheduleError::Period)));
    assert!(matches!(new().cron("often").await, Err(ScheduleError::Cron(_))));
    assert!(matches!(new().cron("0 0 0 30 2 *").await, Err(ScheduleError::Never)));
    assert!(matches!(new().named("").after(seconds(1)).await, Err(ScheduleError::Name(_))));
    let none = Missed::FireAll { limit: 0 };
    assert!(matches!(new().missed(none).every(seconds(1)).await, Err(ScheduleError::FireAllLimit)));
    let huge = bus.schedule(tick().with_source("x".repeat(1 << 20))).after(seconds(1)).await;
    assert!(matches!(huge, Err(ScheduleError::Event(_))));
    new().after(Duration::MAX).await.unwrap();
    new().at(Timestamp::MAX).await.unwrap();
    let full = new().after(seconds(1)).await;
    assert!(matches!(full, Err(ScheduleError::TooMany { limit: 2 })));
    assert!(bus.shutdown(seconds(1)).await.is_clean());
    assert!(matches!(new().after(seconds(1)).await, Err(ScheduleError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_is_noticed_within_the_recheck() {
    let (wall, seen, start) = (Wall::new(), Seen::default(), Instant::now());
    let bus = bus(wall.config());
    let _all = seen.on(&bus);
    let at = wall.now().saturating_add(seconds(3_600));
    bus.schedule(tick()).at(at).await.unwrap();
    bus.schedule(tick()).missed(Missed::Skip).cron("0 30 * * * *").await.unwrap();
    bus.schedule(tick()).named("steady").after(seconds(60)).await.unwrap();
    pass(seconds(10)).await;
    wall.set_by(3_600);
    pass(Duration::from_millis(5_500)).await;
    assert_eq!(seen.len(), 1, "the one at a time; the cron's was half an hour ago");
    wall.set_by(-3_600);
    pass(seconds(40)).await;
    assert_eq!(seen.len(), 1, "what measures time has not noticed");
    pass(seconds(10)).await;
    assert_eq!(seen.seconds(start)[1], 60);
    assert_eq!(seen.0.lock()[1].0.attribute("schedule"), Some("steady"));
    pass(seconds(1_750)).await;
    assert_eq!(seen.len(), 2, "00:30 was passed over, and does not come again");
}

#[tokio::test(start_paused = true)]
async fn a_full_bus_holds_up_only_the_firing_that_waits() {
    let wall = Wall::new();
    let bus = Bus::builder().workers(2).capacity(2).schedules(wall.config()).build().unwrap();
    // Two sources with a worker each; the first is stuck and its queue full.
    let (open, seen) = (Arc::new(tokio::sync::Notify::new()), Seen::default());
    let (stuck, sources) = (Arc::clone(&open), two_sources(&bus));
    let own = sources[0].clone();
    bus.subscribe("block")
        .handle_async(move |_: Event| {
            let stuck = Arc::clone(&stuck);
            async move { stuck.notified().await }
        })
        .unwrap()
        .detach();
    let _all = seen.on(&bus);
    let block = || Event::of("block", ()).with_source(own.clone());
    bus.publish(block()).await.unwrap();
    pass(seconds(1)).await;
    let filling = bus.publish(block()).await;
    filling.unwrap();
    let slow = bus.schedule(Event::of("slow", ()).with_source(own.clone()));
    let slow = slow.every(seconds(1)).await.unwrap();
    let gone = bus.schedule(Event::of("gone", ()).with_source(own.clone()));
    let gone = gone.every(seconds(1)).await.unwrap();
    let fast = Event::of("fast", ()).with_source(sources[1].clone());
    bus.schedule(fast).every(seconds(1)).await.unwrap();
    pass(Duration::from_millis(5_500)).await;
    let of = |ty: &str| seen.0.lock().iter().filter(|(event, _)| event.ty().as_str() == ty).count();
    assert_eq!((of("fast"), of("slow")), (5, 0));
    assert_eq!(bus.schedules().stats().waiting, 2);
    assert!(bus.schedules().get(&slow).is_some());
    assert!(bus.schedules().cancel(&gone).await.unwrap());
    // `notify_one` keeps a permit for the one that comes to wait later.
    open.notify_one();
    pass(Duration::from_millis(10)).await;
    open.notify_one();
    pass(Duration::from_millis(100)).await;
    assert_eq!((of("slow"), of("gone")), (2, 0), "the one that waited, and one for all missed");
    pass(seconds(3)).await;
    assert_eq!((of("slow"), of("gone")), (5, 0));
    assert_eq!(bus.schedules().stats().waiting, 0);
}

/// Two sources that do not share a worker.
fn two_sources(bus: &Bus) -> [String; 2] {
    let shard = |name: &str| bus.inner().shard_number(name);
    let first = "s0".to_owned();
    let other = (1..).map(|n| format!("s{n}")).find(|name| shard(name) != shard(&first));
    [first, other.unwrap()]
}

struct Refuses(AtomicBool);

impl EventMiddleware for Refuses {
    fn publishing(&self, event: &mut Event) -> Result<(), String> {
        assert!(event.text() != Some("panic"), "no");
        if self.0.swap(false, SeqCst) { Err("not this one".to_owned()) } else { Ok(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn middleware_that_refuses_or_panics_loses_one_firing() {
    let (wall, seen) = (Wall::new(), Seen::default());
    let builder: BusBuilder = Bus::builder().event_middleware(Refuses(AtomicBool::new(true)));
    let bus = builder.schedules(wall.config()).build().unwrap();
    let _all = seen.on(&bus);
    bus.schedule(tick()).every(seconds(1)).await.unwrap();
    bus.schedule(Event::of("tick", "panic")).after(seconds(2)).await.unwrap();
    pass(Duration::from_millis(3_500)).await;
    assert_eq!((seen.len(), bus.schedules().stats().refused), (2, 2));
}

/// A store that can be told to fail, or to hang, from a number of writes on.
#[derive(Clone, Default)]
struct Fragile {
    kept: MemorySchedules,
    writes: Arc<AtomicU32>,
    broken_after: Arc<AtomicU32>,
    panics: Arc<AtomicBool>,
}

impl Fragile {
    fn new() -> Self {
        let new = Self::default();
        new.broken_after.store(u32::MAX, SeqCst);
        new
    }

    fn breaks_now(&self) {
        self.broken_after.store(0, SeqCst);
    }

    fn works(&self) {
        self.broken_after.store(u32::MAX, SeqCst);
    }
}

#[async_trait]
impl ScheduleStore for Fragile {
    async fn load(&self) -> Result<LoadedSchedules, ScheduleStoreError> {
        self.kept.load().await
    }

    async fn write(&self, changes: &[ScheduleChange]) -> Result<(), ScheduleStoreError> {
        if self.writes.fetch_add(1, SeqCst) >= self.broken_after.load(SeqCst) {
            assert!(!self.panics.load(SeqCst), "the disk is gone");
            return Err(ScheduleStoreError::Failed("the disk is full".into()));
        }
        self.kept.write(changes).await
    }
}

/// A bus on this store, restored.
async fn restored(wall: &Wall, store: &Fragile, seen: &Seen) -> (Bus, Restored) {
    let bus = bus(wall.config().store(store.clone()));
    seen.on(&bus).detach();
    let restored = bus.schedules().restore().await.unwrap();
    (bus, restored)
}

#[tokio::test(start_paused = true)]
async fn schedules_go_on_after_a_restart() {
    let (wall, store, start) = (Wall::new(), Fragile::new(), Instant::now());
    let (bus, none) = restored(&wall, &store, &Seen::default()).await;
    assert_eq!(none, Restored::default());
    bus.schedule(tick()).named("every").every(seconds(10)).await.unwrap();
    bus.schedule(tick()).named("at").at(wall.now().saturating_add(seconds(100))).await.unwrap();
    let gone = bus.schedule(tick()).after(seconds(50)).await.unwrap();
    assert!(bus.schedules().cancel(&gone).await.unwrap());
    pass(seconds(12)).await;
    let before = bus.schedules().list();
    assert!(bus.shutdown(seconds(1)).await.is_clean());
    pass(seconds(3)).await;

    let seen = Seen::default();
    let (bus, restored) = restored(&wall, &store, &seen).await;
    assert_eq!((restored.schedules, restored.overdue), (2, 0));
    assert_eq!(bus.schedules().list(), before);
    // As a program does at every start.
    bus.schedule(tick()).named("every").every(seconds(10)).await.unwrap();
    pass(seconds(10)).await;
    assert_eq!(seen.seconds(start), [20]);
    assert!(matches!(bus.schedules().restore().await, Err(RestoreError::Twice)));
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_down_goes_by_the_policy() {
    let (wall, store) = (Wall::new(), Fragile::new());
    let (bus, _) = restored(&wall, &store, &Seen::default()).await;
    let policies = [Missed::FireOnce, Missed::Skip, Missed::FireAll { limit: 3 }];
    for (name, missed) in ["once", "skip", "all"].into_iter().zip(policies) {
        bus.schedule(tick()).named(name).missed(missed).cron("0 0 * * * *").await.unwrap();
    }
    bus.schedule(tick()).named("late").missed(Missed::Skip).after(seconds(60)).await.unwrap();
    assert!(bus.shutdown(seconds(1)).await.is_clean());
    pass(seconds(5 * 3_600 + 600)).await;

    let seen = Seen::default();
    let (bus, restored) = restored(&wall, &store, &seen).await;
    assert_eq!((restored.schedules, restored.overdue), (4, 4));
    pass(seconds(1)).await;
    let of = |name: &str| {
        let all = seen.0.lock();
        all.iter().filter(|(event, _)| event.attribute("schedule") == Some(name)).count()
    };
    assert_eq!((of("once"), of("skip"), of("all"), of("late")), (1, 0, 3, 0));
    assert_eq!(bus.schedules().list().len(), 3, "the late one has ended");
    let hours = seen.due();
    for hour in ["2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z", "2026-01-01T05:00:00Z"] {
        assert!(hours.iter().any(|at| at == hour));
    }
    pass(seconds(3_000)).await;
    assert_eq!((of("once"), of("skip"), of("all")), (2, 1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_publishing_and_recording_fires_again() {
    let (wall, store, first) = (Wall::new(), Fragile::new(), Seen::default());
    let (bus, _) = restored(&wall, &store, &first).await;
    bus.schedule(tick()).named("x").at(wall.now().saturating_add(seconds(15))).await.unwrap();
    bus.schedule(tick()).named("y").every(seconds(7)).await.unwrap();
    pass(seconds(8)).await;
    assert_eq!(std::mem::take(&mut *first.0.lock()).len(), 1);
    // From here on nothing reaches the store, as after a crash; and the wall
    // clock drifts all the time.
    store.breaks_now();
    wall.offset.fetch_add(300_000, SeqCst);
    pass(seconds(8)).await;
    assert_eq!(first.len(), 2);
    assert_eq!(bus.schedules().stats().unsaved, 2);
    drop(bus);
    wall.offset.fetch_add(300_000, SeqCst);
    pass(seconds(1)).await;

    store.works();
    let second = Seen::default();
    let (bus, restored) = restored(&wall, &store, &second).await;
    assert_eq!((restored.schedules, restored.overdue), (2, 2));
    wall.offset.fetch_add(300_000, SeqCst);
    pass(seconds(1)).await;
    let (mut again, mut before) = (second.due(), first.due());
    again.sort();
    before.sort();
    assert_eq!(again, before, "the same firings, told by their attributes");
    assert!(bus.shutdown(seconds(1)).await.is_clean());
    assert_eq!(store.load().await.unwrap().schedules.len(), 1, "the other has ended");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_refuses_new_schedules_and_recovers() {
    let (wall, store, seen) = (Wall::new(), Fragile::new(), Seen::default());
    let early = bus(wall.config().store(store.clone()));
    let refused = early.schedule(tick()).after(seconds(1)).await;
    assert!(matches!(refused, Err(ScheduleError::NotRestored)));
    // It may be in the store: nobody knows yet.
    let unknown = early.schedules().cancel(&ScheduleId::new("x").unwrap()).await;
    assert!(matches!(unknown, Err(CancelError::NotRestored)));
    let (bus, _) = restored(&wall, &store, &seen).await;
    let id = bus.schedule(tick()).named("x").every(seconds(1)).await.unwrap();
    store.breaks_now();
    let refused = bus.schedule(tick()).named("y").every(seconds(1)).await;
    assert!(matches!(refused, Err(ScheduleError::Store(_))));
    store.panics.store(true, SeqCst);
    let refused = bus.schedule(tick()).named("y").every(seconds(1)).await;
    let Err(ScheduleError::Store(error)) = refused else { panic!("{refused:?}") };
    assert!(matches!(&*error, ScheduleStoreError::Panicked(text) if text == "the disk is gone"));
    pass(Duration::from_millis(4_500)).await;
    assert_eq!((seen.len(), bus.schedules().list().len()), (4, 1), "what there is goes on");
    let cancelled = bus.schedules().cancel(&id).await;
    assert!(matches!(cancelled, Err(CancelError::Store(_))));
    assert_eq!(bus.schedules().list(), []);
    assert_eq!(store.load().await.unwrap().schedules.len(), 1);
    store.works();
    pass(seconds(30)).await;
    assert_eq!(store.load().await.unwrap().schedules, [], "it is tried until it works");
    assert_eq!(bus.schedules().stats().unsaved, 0);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_for_the_store_has_made_nothing() {
    let (wall, store, seen) = (Wall::new(), Fragile::new(), Seen::default());
    let (bus, _) = restored(&wall, &store, &seen).await;
    let making = bus.schedule(tick()).every(seconds(1));
    assert!(timeout(Duration::ZERO, making).await.is_err());
    pass(seconds(3)).await;
    assert_eq!((seen.len(), bus.schedules().list().len()), (0, 0));
    assert_eq!(store.load().await.unwrap().schedules, []);
}

struct Hangs;

#[async_trait]
impl ScheduleStore for Hangs {
    async fn load(&self) -> Result<LoadedSchedules, ScheduleStoreError> {
        Ok(LoadedSchedules::default())
    }

    async fn write(&self, _: &[ScheduleChange]) -> Result<(), ScheduleStoreError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_neither_handlers_nor_memory() {
    let wall = Wall::new();
    let bus = bus(wall.config().store(Hangs).capacity(2));
    bus.schedules().restore().await.unwrap();
    for _ in 0..2 {
        let making = bus.schedule(tick()).named("x").every(seconds(1));
        assert!(timeout(seconds(1), making).await.is_err());
    }
    let refused = bus.schedule(tick()).named("x").every(seconds(1)).await;
    assert!(matches!(refused, Err(ScheduleError::TooMany { limit: 2 })));
    bus.publish(tick()).await.unwrap();
    assert!(bus.shutdown(seconds(5)).await.is_clean());
}

/// Takes a second for each write.
struct Slow(MemorySchedules);

#[async_trait]
impl ScheduleStore for Slow {
    async fn load(&self) -> Result<LoadedSchedules, ScheduleStoreError> {
        self.0.load().await
    }

    async fn write(&self, changes: &[ScheduleChange]) -> Result<(), ScheduleStoreError> {
        pass(seconds(1)).await;
        self.0.write(changes).await
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_are_being_written_count_too() {
    let (wall, store) = (Wall::new(), MemorySchedules::default());
    let bus = Arc::new(bus(wall.config().store(Slow(store.clone())).capacity(2)));
    bus.schedules().restore().await.unwrap();
    let mut making = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let bus = Arc::clone(&bus);
        making.spawn(async move { bus.schedule(tick()).every(seconds(60)).await });
        pass(Duration::from_millis(100)).await;
    }
    let made = making.join_all().await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 2, "{made:?}");
    assert_eq!(store.load().await.unwrap().schedules.len(), 2, "or they could not be restored");
    assert_eq!(bus.schedules().stats().schedules, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_with_too_many_is_not_restored_by_halves() {
    let (wall, store) = (Wall::new(), MemorySchedules::default());
    let first = bus(wall.config().store(store.clone()));
    first.schedules().restore().await.unwrap();
    for _ in 0..3 {
        first.schedule(tick()).every(seconds(9)).await.unwrap();
    }
    let second = bus(wall.config().store(store).capacity(2));
    let refused = second.schedules().restore().await;
    assert!(matches!(refused, Err(RestoreError::TooMany { found: 3, limit: 2 })));
    assert_eq!(second.schedules().list(), []);
    let refused = second.try_publish(tick());
    assert!(!matches!(refused, Err(error) if error.cause == PublishCause::Closed));
}

#[tokio::test(start_paused = true)]
async fn thousands_at_one_moment_all_fire() {
    let (wall, seen) = (Wall::new(), Seen::default());
    let bus = bus(wall.config());
    let _all = seen.on(&bus);
    for _ in 0..3_000 {
        bus.schedule(tick()).after(seconds(60)).await.unwrap();
    }
    pass(seconds(70)).await;
    assert_eq!((seen.len(), bus.schedules().list().len()), (3_000, 0));
}

#[tokio::test(start_paused = true)]
async fn thousands_that_wait_for_room_all_fire() {
    const COUNT: usize = 3_000;
    let (wall, seen) = (Wall::new(), Seen::default());
    let bus = Bus::builder().workers(1).capacity(1).schedules(wall.config()).build().unwrap();
    let (open, opened) = tokio::sync::watch::channel(false);
    bus.subscribe("block")
        .handle_async(move |_: Event| {
            let mut opened = opened.clone();
            async move { opened.wait_for(|open| *open).await.map(drop) }
        })
        .unwrap()
        .detach();
    let _all = seen.on(&bus);
    for _ in 0..2 {
        bus.publish(Event::of("block", ())).await.unwrap();
        pass(seconds(1)).await;
    }
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        ids.push(bus.schedule(tick()).after(seconds(60)).await.unwrap());
    }
    pass(seconds(70)).await;
    assert_eq!(bus.schedules().stats().waiting, COUNT);
    for id in &ids[..100] {
        assert!(bus.schedules().cancel(id).await.unwrap());
    }
    open.send(true).unwrap();
    pass(seconds(100)).await;
    let stats = bus.schedules().stats();
    assert_eq!((stats.schedules, stats.waiting, stats.fired), (0, 0, COUNT as u64 - 100));
    assert_eq!(seen.len(), COUNT - 100 + 2);
}
