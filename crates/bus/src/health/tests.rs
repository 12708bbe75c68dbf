//! Checks under tokio's paused clock: a minute takes no time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use tokio::time::{sleep, timeout}; // sleep: every test that sleeps pauses the clock

use super::*;
use crate::{BreakerScope, Event, breaker::StateKind};

const SECOND: Duration = Duration::from_secs(1);

/// A check that answers what its switch says, and counts.
#[derive(Clone, Default)]
struct Switch {
    broken: Arc<AtomicBool>,
    runs: Arc<AtomicU32>,
}

impl Switch {
    fn check(&self, name: &str, probe: Probe) -> Check {
        let switch = self.clone();
        Check::new(name, probe, move || {
            switch.runs.fetch_add(1, SeqCst);
            let broken = switch.broken.load(SeqCst);
            async move { if broken { Err("it is broken") } else { Ok(()) } }
        })
    }

    fn break_it(&self, broken: bool) {
        self.broken.store(broken, SeqCst);
    }

    fn runs(&self) -> u32 {
        self.runs.load(SeqCst)
    }
}

fn start() -> (Bus, Health) {
    let bus = Bus::builder().build().unwrap();
    let health = Health::builder().start(&bus).unwrap();
    (bus, health)
}

fn only(health: &Health) -> CheckReport {
    let mut checks = health.report().checks;
    assert_eq!(checks.len(), 1);
    checks.remove(0)
}

/// In the middle between two seconds, so that no timer is at the same instant.
async fn until(health: &Health, seconds: u64) {
    let at = health.shared.started + Duration::from_secs(seconds) + SECOND / 2;
    tokio::time::sleep_until(at).await; // sleep: the clock is paused
}

#[tokio::test(start_paused = true)]
async fn each_probe_has_its_interval() {
    let (_bus, health) = start();
    let [live, ready, late] = [(); 3].map(|()| Switch::default());
    late.break_it(true);
    health.register(live.check("live", Probe::Liveness)).unwrap();
    health.register(ready.check("ready", Probe::Readiness)).unwrap();
    health.register(late.check("late", Probe::Startup)).unwrap();
    until(&health, 0).await;
    assert_eq!([live.runs(), ready.runs(), late.runs()], [1, 1, 1]);
    until(&health, 100).await;
    assert_eq!([live.runs(), ready.runs(), late.runs()], [4, 11, 21]);
    // After two minutes a startup check is asked as seldom as the live ones.
    until(&health, 120).await;
    assert_eq!([live.runs(), ready.runs(), late.runs()], [5, 13, 25]);
    until(&health, 300).await;
    assert_eq!([live.runs(), ready.runs(), late.runs()], [11, 31, 31]);
    // And no more once it has passed.
    late.break_it(false);
    until(&health, 330).await;
    assert!(health.report().started);
    until(&health, 600).await;
    assert_eq!(late.runs(), 32);
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_make_it_fail_and_one_success_makes_it_pass() {
    let (_bus, health) = start();
    let switch = Switch::default();
    health.register(switch.check("live", Probe::Liveness)).unwrap();
    until(&health, 0).await;
    switch.break_it(true);
    until(&health, 60).await;
    let report = only(&health);
    assert_eq!((report.state, report.consecutive_failures), (CheckState::Passing, 2));
    until(&health, 90).await;
    let report = only(&health);
    assert_eq!((report.state, report.consecutive_failures), (CheckState::Failing, 3));
    assert_eq!(report.last_error.as_deref(), Some("it is broken"));
    assert!(!health.report().live && !health.report().ready);
    switch.break_it(false);
    until(&health, 120).await;
    let report = only(&health);
    assert_eq!((report.state, report.consecutive_failures), (CheckState::Passing, 0));
    assert!(health.report().live);
}

#[tokio::test(start_paused = true)]
async fn slow_and_panicking_checks_fail_and_go_on() {
    let (_bus, health) = start();
    let slow = Check::readiness("slow", async || std::future::pending::<()>().await);
    health.register(slow.limit(2 * SECOND).failures(1)).unwrap();
    let panics = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&panics);
    let panic = Check::readiness("panic", move || {
        let count = count.fetch_add(1, SeqCst);
        assert!(!count.is_multiple_of(2), "in the closure");
        async move { assert!(count.is_multiple_of(2), "in the future") }
    });
    health.register(panic).unwrap();
    until(&health, 2).await;
    let report = health.report();
    assert_eq!(report.checks[0].last_error.as_deref(), Some("panicked: in the closure"));
    assert_eq!(report.checks[1].last_error.as_deref(), Some("no answer within 2s"));
    assert_eq!(report.checks[1].took, Some(2 * SECOND));
    assert_eq!(report.checks[1].state, CheckState::Failing);
    until(&health, 10).await;
    let report = health.report();
    assert_eq!(report.checks[0].last_error.as_deref(), Some("panicked: in the future"));
    assert_eq!(report.checks[0].consecutive_failures, 2);
    until(&health, 100).await;
    assert_eq!(panics.load(SeqCst), 11);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_asked_again_and_again() {
    let (_bus, health) = start();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    // Its limit is as long as its interval.
    let hangs = Check::startup("hangs", move || {
        counted.fetch_add(1, SeqCst);
        std::future::pending::<()>()
    });
    health.register(hangs).unwrap();
    until(&health, 51).await;
    let report = only(&health);
    assert_eq!((report.consecutive_failures, runs.load(SeqCst)), (10, 11));
    assert_eq!(report.last_error.as_deref(), Some("no answer within 5s"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_check_opens_the_breaker_of_its_service_early() {
    let (bus, health) = start();
    let _handler = bus
        .subscribe("mail.*")
        .breaker(BreakerScope::Service("mailer".into()))
        .handle(|_: &Event| ())
        .unwrap();
    let switch = Switch::default();
    health.register(switch.check("ping", Probe::Readiness).service("mailer")).unwrap();
    health.register(Check::readiness("x", async || Err::<(), _>("x")).service("nobody's")).unwrap();
    let state = || bus.breakers()[0].stats.state;
    until(&health, 0).await;
    switch.break_it(true);
    until(&health, 10).await;
    assert_eq!(state(), StateKind::Closed, "one failure is not enough");
    until(&health, 20).await;
    assert_eq!(state(), StateKind::Open);
    // It closes by its own probes, after its own time, once the check passes.
    switch.break_it(false);
    until(&health, 51).await;
    for _ in 0..3 {
        bus.dispatch(&Event::of("mail.sent", ())).await.unwrap();
    }
    assert_eq!(state(), StateKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn names_are_unique_and_checks_are_bounded() {
    let bus = Bus::builder().build().unwrap();
    let health = Health::builder().max_checks(1).start(&bus).unwrap();
    let switch = Switch::default();
    let check = |name: &str| switch.check(name, Probe::Liveness);
    assert_eq!(health.register(check("")), Err(CheckError::Name(0)));
    assert_eq!(health.register(check(&"x".repeat(256))), Err(CheckError::Name(256)));
    health.register(check("a")).unwrap();
    assert_eq!(health.register(check("a")), Err(CheckError::Duplicate("a".into())));
    assert_eq!(health.register(check("b")), Err(CheckError::TooMany { limit: 1 }));
    assert!(health.remove("a"));
    assert!(!health.remove("a"));
    health.register(check("b")).unwrap();
    let zero = Health::builder().readiness_every(Duration::ZERO).start(&bus);
    assert_eq!(zero.unwrap_err(), HealthError::Interval("readiness_every"));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_or_dropped_is_asked_no_more() {
    let (_bus, health) = start();
    let [removed, dropped] = [(); 2].map(|()| Switch::default());
    health.register(removed.check("removed", Probe::Readiness)).unwrap();
    health.register(dropped.check("dropped", Probe::Readiness)).unwrap();
    until(&health, 0).await;
    assert!(health.remove("removed"));
    until(&health, 10).await;
    assert_eq!([removed.runs(), dropped.runs()], [1, 2]);
    drop(health);
    sleep(100 * SECOND).await;
    assert_eq!([removed.runs(), dropped.runs()], [1, 2]);
    assert_eq!(Arc::strong_count(&dropped.runs), 1, "the closure is gone");
}

#[tokio::test(start_paused = true)]
async fn a_program_can_wait_for_its_checks() {
    let (_bus, health) = start();
    health.wait_until_passing().await;
    let switch = Switch::default();
    switch.break_it(true);
    health.register(switch.check("a", Probe::Startup)).unwrap();
    assert!(timeout(30 * SECOND, health.wait_until_passing()).await.is_err());
    switch.break_it(false);
    timeout(6 * SECOND, health.wait_until_passing()).await.unwrap();
    let report = health.report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<HealthReport>(&text).unwrap(), report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_blocks_its_thread_is_not_joined_by_another() {
    let bus = Bus::builder().build().unwrap();
    let often = Duration::from_millis(5);
    let health = Health::builder().readiness_every(often).start(&bus).unwrap();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let check = Check::readiness("blocks", move || {
        counted.fetch_add(1, SeqCst);
        // Until the sender is gone.
        let _ = blocked.lock().recv();
        async {}
    });
    let mut changes = health.changes();
    health.register(check.limit(often).failures(3)).unwrap();
    timeout(30 * SECOND, changes.changed()).await.unwrap().unwrap();
    let report = only(&health);
    assert_eq!(report.state, CheckState::Failing);
    // More if the machine is slow: it is asked again all the time.
    assert!(report.consecutive_failures >= 3);
    assert!(report.last_error.unwrap().starts_with("an earlier run does not end"));
    assert_eq!(runs.load(SeqCst), 1);
    drop(unblock);
    timeout(30 * SECOND, health.wait_until_passing()).await.unwrap();
}

#[test]
fn without_a_runtime_there_are_no_checks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let bus = runtime.block_on(async { Bus::builder().build() }).unwrap();
    assert_eq!(Health::builder().start(&bus).unwrap_err(), HealthError::NoRuntime);
}
