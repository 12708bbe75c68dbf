//! The state under tokio's paused clock, and its file on a real disk.

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout}; // sleep: every test here pauses the clock

use super::*;
use crate::{BreakerScope, Event, Subscription, health::Check};

const SECOND: Duration = Duration::from_secs(1);

/// Something that a check asks about.
#[derive(Clone, Default)]
struct Thing(Arc<AtomicBool>);

impl Thing {
    fn is_broken(&self, broken: bool) {
        self.0.store(broken, SeqCst);
    }

    fn ask(&self) -> impl Fn() -> std::future::Ready<Result<(), &'static str>> + use<> {
        let broken = Arc::clone(&self.0);
        move || std::future::ready(if broken.load(SeqCst) { Err("gone") } else { Ok(()) })
    }
}

fn bus_and_health() -> (Bus, Health) {
    let bus = Bus::builder().build().unwrap();
    let health = Health::builder().start(&bus).unwrap();
    (bus, health)
}

async fn reach(system: &System, kind: StateKind) {
    let reached = timeout(600 * SECOND, system.wait_for(kind)).await;
    reached.unwrap_or_else(|_| panic!("{:?} instead of {kind}", system.state()));
}

/// What the system went through, without times.
fn path(system: &System) -> Vec<StateKind> {
    system.history().iter().map(|change| change.to).collect()
}

use StateKind::{Degraded, Failed, Healthy, Initializing, Maintenance, Recovering};

#[tokio::test(start_paused = true)]
async fn a_readiness_check_takes_it_down_and_up_again() {
    let (bus, health) = bus_and_health();
    let mailer = Thing::default();
    health.register(Check::readiness("mailer", mailer.ask())).unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    reach(&system, Healthy).await;
    mailer.is_broken(true);
    reach(&system, Degraded).await;
    assert_eq!(system.state().reason(), Some("readiness of mailer: gone"));
    mailer.is_broken(false);
    reach(&system, Recovering).await;
    let recovering = Instant::now();
    reach(&system, Healthy).await;
    assert!(recovering.elapsed() >= 10 * SECOND, "it settled first");
    assert_eq!(path(&system), [Healthy, Degraded, Recovering, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn a_relapse_while_recovering_starts_over() {
    let (bus, health) = bus_and_health();
    let mailer = Thing::default();
    let check = Check::readiness("mailer", mailer.ask()).failures(1);
    health.register(check).unwrap();
    let system = System::builder().settle_for(60 * SECOND).start(&bus, &health).await.unwrap();
    reach(&system, Healthy).await;
    for _ in 0..2 {
        mailer.is_broken(true);
        reach(&system, Degraded).await;
        mailer.is_broken(false);
        reach(&system, Recovering).await;
        sleep(50 * SECOND).await;
    }
    assert_eq!(system.state().kind(), Recovering);
    reach(&system, Healthy).await;
    assert_eq!(path(&system), [Healthy, Degraded, Recovering, Degraded, Recovering, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_degrades_and_its_probes_recover() {
    let (bus, health) = bus_and_health();
    let broken = Thing::default();
    let ask = broken.ask();
    let _handler: Subscription = bus
        .subscribe("mail")
        .name("mailer")
        .breaker(BreakerScope::PerHandler)
        .handle(move |_: &Event| ask().into_inner())
        .unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    reach(&system, Healthy).await;
    let send = async || {
        bus.dispatch(&Event::of("mail", ())).await.unwrap();
    };
    broken.is_broken(true);
    for _ in 0..5 {
        send().await;
    }
    reach(&system, Degraded).await;
    assert_eq!(system.state().reason(), Some("the breaker of mailer is open"));
    sleep(30 * SECOND).await;
    assert_eq!(system.state().kind(), Degraded, "nobody has asked");
    broken.is_broken(false);
    send().await;
    reach(&system, Recovering).await;
    assert_eq!(system.state().reason(), Some("the breaker of mailer is probing"));
    sleep(60 * SECOND).await;
    assert_eq!(system.state().kind(), Recovering, "the breaker is still half-open");
    send().await;
    send().await;
    reach(&system, Healthy).await;
}

#[tokio::test(start_paused = true)]
async fn failing_liveness_is_failed_until_it_lives() {
    let (bus, health) = bus_and_health();
    let disk = Thing::default();
    health.register(Check::liveness("disk", disk.ask())).unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    reach(&system, Healthy).await;
    disk.is_broken(true);
    let broken = Instant::now();
    reach(&system, Failed).await;
    assert!(broken.elapsed() > 60 * SECOND, "after three in a row");
    disk.is_broken(false);
    reach(&system, Healthy).await;
    assert_eq!(path(&system), [Healthy, Failed, Recovering, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn it_initializes_until_all_has_started_or_time_is_over() {
    let (bus, health) = bus_and_health();
    let cache = Thing::default();
    cache.is_broken(true);
    health.register(Check::startup("cache", cache.ask())).unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    sleep(119 * SECOND).await;
    assert_eq!(system.state().kind(), Initializing);
    reach(&system, Failed).await;
    assert_eq!(system.state().reason(), Some("cache has not started in time"));
    cache.is_broken(false);
    reach(&system, Healthy).await;
    assert_eq!(path(&system), [Failed, Recovering, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_from_the_start_is_late_however_often_it_may() {
    let (bus, health) = bus_and_health();
    let cache = Thing::default();
    cache.is_broken(true);
    health.register(Check::startup("cache", cache.ask()).failures(1_000)).unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    sleep(122 * SECOND).await;
    assert_eq!(path(&system), [Failed]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_stands_in_degrades() {
    let (bus, health) = bus_and_health();
    let broken = Thing::default();
    let ask = broken.ask();
    let _handler: Subscription = bus
        .subscribe("mail")
        .name("mailer")
        .fallback("outbox", |_: &Event| ())
        .handle(move |_: &Event| ask().into_inner())
        .unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    reach(&system, Healthy).await;
    broken.is_broken(true);
    bus.dispatch(&Event::of("mail", ())).await.unwrap();
    reach(&system, Degraded).await;
    assert_eq!(system.state().reason(), Some("outbox stands in for mailer"));
    broken.is_broken(false);
    bus.dispatch(&Event::of("mail", ())).await.unwrap();
    reach(&system, Healthy).await;
}

#[tokio::test(start_paused = true)]
async fn the_program_may_say_that_it_is_degraded() {
    let (bus, health) = bus_and_health();
    let guarded = Thing::default();
    let ask = guarded.ask();
    let system = System::builder()
        .degraded_when(move || ask().into_inner().err().map(|_| "the guard is degraded".to_owned()))
        .start(&bus, &health)
        .await
        .unwrap();
    reach(&system, Healthy).await;
    guarded.is_broken(true);
    reach(&system, Degraded).await;
    assert_eq!(system.state().reason(), Some("the guard is degraded"));

    let panics = System::builder().degraded_when(|| panic!("ouch")).start(&bus, &health).await;
    let panics = panics.unwrap();
    reach(&panics, Degraded).await;
    assert!(panics.state().reason().unwrap().ends_with("panicked: ouch"));
}

#[tokio::test(start_paused = true)]
async fn maintenance_is_for_people_to_begin_and_end() {
    let (bus, health) = bus_and_health();
    let disk = Thing::default();
    health.register(Check::liveness("disk", disk.ask()).failures(1)).unwrap();
    let system = System::builder().start(&bus, &health).await.unwrap();
    reach(&system, Healthy).await;
    let refused = system.leave_maintenance().await.unwrap_err();
    assert!(matches!(refused, MaintenanceError::Refused(_)), "{refused}");
    let begun = system.enter_maintenance("a new disk").await.unwrap();
    assert_eq!((begun.from, begun.to, &*begun.reason), (Healthy, Maintenance, "a new disk"));
    assert!(system.enter_maintenance("again").await.is_err());
    disk.is_broken(true);
    sleep(300 * SECOND).await;
    assert_eq!(system.state().kind(), Maintenance);
    disk.is_broken(false);
    sleep(60 * SECOND).await;
    system.leave_maintenance().await.unwrap();
    reach(&system, Healthy).await;
    assert_eq!(path(&system), [Healthy, Maintenance, Initializing, Healthy]);
}

#[tokio::test(start_paused = true)]
async fn callbacks_see_each_change_once_and_may_panic() {
    let (bus, health) = bus_and_health();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let system = System::builder()
        .on_transition(|_| panic!("ouch"))
        .on_transition(move |change| note.lock().unwrap().push(change.clone()))
        .start(&bus, &health)
        .await
        .unwrap();
    reach(&system, Healthy).await;
    system.enter_maintenance("x").await.unwrap();
    system.leave_maintenance().await.unwrap();
    reach(&system, Healthy).await;
    assert_eq!(*seen.lock().unwrap(), system.history());
    assert_eq!(system.history().len(), 4);
    let states = system.watch();
    drop(system);
    timeout(SECOND, async {
        while states.has_changed().is_ok() {
            sleep(SECOND / 10).await;
        }
    })
    .await
    .expect("without a handle nobody looks any more");
}

struct Disk {
    folder: TempDir,
    bus: Bus,
    health: Health,
}

impl Disk {
    fn new() -> Self {
        let (bus, health) = bus_and_health();
        Self { folder: tempfile::tempdir().unwrap(), bus, health }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("state.json")
    }

    async fn start(&self) -> Result<System, StartError> {
        System::builder().file(self.file()).start(&self.bus, &self.health).await
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test(start_paused = true)]
async fn history_and_maintenance_survive_a_restart() {
    let disk = Disk::new();
    let first = disk.start().await.unwrap();
    reach(&first, Healthy).await;
    first.saved().await.unwrap();
    drop(first);

    let second = disk.start().await.unwrap();
    assert_eq!(path(&second)[..2], [Healthy, Initializing]);
    second.enter_maintenance("the move").await.unwrap();
    drop(second);

    let third = disk.start().await.unwrap();
    assert_eq!(third.state().kind(), Maintenance);
    assert_eq!(third.state().reason(), Some("the move"));
    assert!(third.set_aside().is_none());
    sleep(60 * SECOND).await;
    assert_eq!(third.state().kind(), Maintenance);
    assert_eq!(disk.names(), ["state.json"], "no new file is left");
}

#[tokio::test(start_paused = true)]
async fn the_file_is_whole_whenever_it_is_read() {
    let disk = Disk::new();
    let system = disk.start().await.unwrap();
    let (file, done) = (disk.file(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&done);
    let reader = std::thread::spawn(move || {
        let mut versions = std::collections::HashSet::new();
        while !stop.load(SeqCst) {
            let text = fs::read_to_string(&file).unwrap();
            serde_json::from_str::<Lifecycle>(&text).unwrap();
            versions.insert(text);
        }
        versions.len()
    });
    for _ in 0..25 {
        system.enter_maintenance("x".repeat(1_000)).await.unwrap();
        system.leave_maintenance().await.unwrap();
    }
    done.store(true, SeqCst);
    assert!(reader.join().unwrap() > 1, "it was read in between");
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_file_is_set_aside() {
    let disk = Disk::new();
    for corrupt in [
        "",
        "{\"state\":",
        "[1,2]",
        r#"{"state":{"kind":"healthy","since":"2026-01-01T00:00:00Z"},"history":[]}"#,
    ] {
        fs::write(disk.file(), corrupt).unwrap();
        let system = disk.start().await.unwrap();
        assert!(system.history().is_empty() || path(&system) == [Healthy]);
        let aside = system.set_aside().unwrap();
        assert!(!aside.why.is_empty());
        assert_eq!(fs::read_to_string(&aside.path).unwrap(), corrupt);
        assert_eq!(disk.names(), ["state.json", "state.json.corrupt"]);
    }
    fs::write(disk.file(), vec![b' '; (4 << 20) + 1]).unwrap();
    let system = disk.start().await.unwrap();
    assert!(system.set_aside().unwrap().why.contains("longer"));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_left_is_removed() {
    let disk = Disk::new();
    let left = disk.folder.path().join(".state.json-x1y2.new");
    let others = disk.folder.path().join(".other.json-x1y2.new");
    let longer = disk.folder.path().join(".state.json-2-x1y2.new");
    for file in [&left, &others, &longer] {
        fs::write(file, "{").unwrap();
    }
    let _system = disk.start().await.unwrap();
    let names = [".other.json-x1y2.new", ".state.json-2-x1y2.new", "state.json"];
    assert_eq!(disk.names(), names, "others' are left alone");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_written_shows() {
    let disk = Disk::new();
    let nowhere = disk.folder.path().join("missing").join("state.json");
    let start = System::builder().file(&nowhere).start(&disk.bus, &disk.health).await;
    assert!(matches!(start, Err(StartError::Save { path, .. }) if path == nowhere));
    fs::create_dir(disk.file()).unwrap();
    assert!(matches!(disk.start().await, Err(StartError::Read { .. })));
    fs::remove_dir(disk.file()).unwrap();

    let system = disk.start().await.unwrap();
    reach(&system, Healthy).await;
    system.saved().await.unwrap();
    fs::remove_dir_all(disk.folder.path()).unwrap();
    let error = system.enter_maintenance("x").await.unwrap_err();
    assert!(matches!(error, MaintenanceError::NotSaved(_)), "{error}");
    assert_eq!(system.state().kind(), Maintenance, "it is done all the same");
    assert!(system.saved().await.is_err());

    fs::create_dir(disk.folder.path()).unwrap();
    timeout(11 * SECOND, async {
        while system.saved().await.is_err() {
            sleep(SECOND).await;
        }
    })
    .await
    .expect("it is tried again");
    assert_eq!(disk.names(), ["state.json"]);
}

#[tokio::test(start_paused = true)]
async fn intervals_are_more_than_zero() {
    let (bus, health) = bus_and_health();
    let zero = System::builder().look_every(Duration::ZERO).start(&bus, &health).await;
    assert!(matches!(zero, Err(StartError::Interval("look_every"))));
}
