//! Approvals of a whole bus, under the paused clock.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::*;
use crate::{Bus, BusBuilder};

/// The wall clock passes with tokio's.
fn config() -> ApprovalConfig {
    let zero = Instant::now();
    ApprovalConfig::default().wall_clock(move || {
        Timestamp::from_unix(Duration::from_secs(1_767_225_600) + zero.elapsed())
    })
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Lets time pass, with all that happens in it.
async fn pass(time: Duration) {
    assert!(timeout(time, std::future::pending::<()>()).await.is_err());
}

/// A bus whose command `deploy` needs an approval within a minute, what was
/// told of it, and how often it ran.
struct Setup {
    bus: Bus,
    /// By the callback.
    called: Arc<Mutex<Vec<ApprovalNotice>>>,
    /// By events.
    seen: Arc<Mutex<Vec<ApprovalNotice>>>,
    ran: Arc<AtomicU32>,
}

impl Setup {
    fn new(config: ApprovalConfig) -> Self {
        Self::with(Bus::builder(), config)
    }

    fn with(builder: BusBuilder, config: ApprovalConfig) -> Self {
        let (called, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let ran = Arc::new(AtomicU32::new(0));
        let calls = Arc::clone(&called);
        let note = move |notice: &ApprovalNotice| calls.lock().push(notice.clone());
        let bus = builder.workers(1).approvals(config.on_change(note)).build().unwrap();
        let sees = Arc::clone(&seen);
        bus.subscribe("approval.*")
            .handle_typed(move |notice: ApprovalNotice| sees.lock().push(notice))
            .unwrap()
            .detach();
        let runs = Arc::clone(&ran);
        bus.approvals()
            .on_command("deploy", seconds(60), move |command: Event| {
                runs.fetch_add(1, SeqCst);
                async move { Ok::<_, std::io::Error>(format!("{} is out", command.text().unwrap())) }
            })
            .unwrap()
            .detach();
        Self { bus, called, seen, ran }
    }

    fn execute(&self) -> tokio::task::JoinHandle<Result<Payload, CommandError>> {
        let bus = self.bus.clone();
        tokio::spawn(async move { bus.execute(deploy()).await })
    }

    async fn one_pending(&self) -> ApprovalId {
        pass(seconds(1)).await;
        let pending = self.bus.approvals().pending();
        assert_eq!(pending.len(), 1);
        pending[0].id.clone()
    }

    /// What both were told, in the same order.
    async fn told(&self) -> Vec<ApprovalChange> {
        pass(seconds(1)).await;
        let called = self.called.lock().clone();
        assert_eq!(*self.seen.lock(), called);
        called.iter().map(|notice| notice.change).collect()
    }
}

fn deploy() -> Event {
    Event::of("deploy", "v7").with_source("agent-1")
}

use ApprovalChange::{Denied, Expired, Granted, Requested as Asked, Withdrawn};

#[tokio::test(start_paused = true)]
async fn approved_it_runs_once_and_everybody_hears_of_it() {
    let setup = Setup::new(config());
    let waiting = setup.execute();
    let id = setup.one_pending().await;
    let pending = setup.bus.approvals().pending().remove(0);
    assert_eq!((pending.command.text(), pending.approval.requested_by()), (Some("v7"), "agent-1"));
    assert_eq!(setup.ran.load(SeqCst), 0);
    setup.bus.approvals().approve(&id, "anna", "tests are green").unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "v7 is out".into());
    assert_eq!(setup.ran.load(SeqCst), 1);
    assert_eq!(setup.told().await, [Asked, Granted]);
    let last = setup.seen.lock()[1].clone();
    assert_eq!((&last.id, last.command.as_str()), (&id, "deploy"));
    let State::Approved { by, reason, .. } = last.approval.state() else { panic!("{last:?}") };
    assert_eq!((by.as_str(), reason.as_str()), ("anna", "tests are green"));
    // A second answer is refused, and says what was decided.
    let again = setup.bus.approvals().deny(&id, "bert", "no");
    assert!(
        matches!(again, Err(AnswerError::Refused(Refused::Approved { by, .. })) if by == "anna")
    );
    assert!(matches!(setup.bus.approvals().get(&id).unwrap().state(), State::Approved { .. }));
    assert_eq!(setup.ran.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn denied_or_unanswered_it_does_not_run() {
    let setup = Setup::new(config());
    let waiting = setup.execute();
    let id = setup.one_pending().await;
    let nobody = setup.bus.approvals().deny(&id, "", "no");
    assert_eq!(nobody, Err(AnswerError::Refused(Refused::Nobody)));
    setup.bus.approvals().deny(&id, "bert", "it is Friday").unwrap();
    let Err(CommandError::Denied { by, reason, .. }) = waiting.await.unwrap() else { panic!() };
    assert_eq!((by.as_str(), reason.as_str()), ("bert", "it is Friday"));

    let (waiting, asked) = (setup.execute(), Instant::now());
    let id = setup.one_pending().await;
    assert!(matches!(waiting.await.unwrap(), Err(CommandError::Unanswered { .. })));
    assert_eq!(asked.elapsed().as_secs(), 60);
    let late = setup.bus.approvals().approve(&id, "anna", "");
    assert!(matches!(late, Err(AnswerError::Refused(Refused::Expired { .. }))));
    assert_eq!(setup.told().await, [Asked, Denied, Asked, Expired]);
    assert_eq!(setup.ran.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_withdraws() {
    let setup = Setup::new(config());
    assert!(timeout(seconds(5), setup.bus.execute(deploy())).await.is_err());
    assert_eq!(setup.bus.approvals().pending(), []);
    let requested = setup.bus.approvals().request(deploy()).unwrap();
    let id = requested.id().clone();
    drop(requested);
    let late = setup.bus.approvals().approve(&id, "anna", "");
    assert_eq!(late, Err(AnswerError::Withdrawn));
    let unknown = setup.bus.approvals().approve(&"nonsense".into(), "anna", "");
    assert!(matches!(unknown, Err(AnswerError::Unknown(_))));
    assert_eq!(setup.told().await, [Asked, Withdrawn, Asked, Withdrawn]);
    assert_eq!(setup.ran.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_in_two_steps_works_for_any_command() {
    let setup = Setup::new(config().limit(seconds(20)));
    let plain = |_: Event| async { Ok::<_, std::io::Error>("pong") };
    setup.bus.on_command("ping", plain).unwrap().detach();
    let requested = setup.bus.approvals().request(Event::of("ping", ())).unwrap();
    setup.bus.approvals().approve(requested.id(), "anna", "").unwrap();
    assert_eq!(requested.reply().await.unwrap(), "pong".into());
    // Not awaited, it still expires in time, and is told.
    let forgotten = setup.bus.approvals().request(Event::of("ping", ())).unwrap();
    pass(seconds(21)).await;
    assert_eq!(setup.told().await, [Asked, Granted, Asked, Expired]);
    assert!(matches!(forgotten.reply().await, Err(CommandError::Unanswered { .. })));
    let nobody = setup.bus.approvals().request(Event::of("other", ()));
    assert!(matches!(nobody, Err(CommandError::NoHandler { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_commands_deadline_ends_the_wait() {
    let zero = Instant::now();
    let now = Timestamp::from_unix(Duration::from_secs(1_767_225_600) + zero.elapsed());
    let setup = Setup::new(config());
    let soon = deploy().with_deadline(now.saturating_add(seconds(7)));
    let requested = setup.bus.approvals().request(soon.clone()).unwrap();
    assert!(matches!(requested.reply().await, Err(CommandError::Unanswered { .. })));
    assert_eq!(zero.elapsed().as_secs(), 7);
    let late = setup.bus.approvals().request(soon);
    assert!(matches!(late, Err(CommandError::Expired)));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_gives_nobody_more_time() {
    let day = seconds(24 * 3_600);
    let (zero, set_back) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let back = Arc::clone(&set_back);
    let clock = move || {
        let day = if back.load(SeqCst) { Duration::ZERO } else { day };
        Timestamp::from_unix(seconds(1_767_225_600) + day + zero.elapsed())
    };
    let setup = Setup::new(ApprovalConfig::default().wall_clock(clock));
    let waiting = setup.execute();
    let answered = setup.bus.approvals().request(deploy()).unwrap();
    let asked = setup.bus.approvals().get(answered.id()).unwrap();
    set_back.store(true, SeqCst);
    pass(seconds(50)).await;
    setup.bus.approvals().approve(answered.id(), "anna", "").unwrap();
    let State::Approved { at, .. } = *setup.bus.approvals().get(answered.id()).unwrap().state()
    else {
        panic!("it was approved")
    };
    assert_eq!(at.saturating_since(asked.requested_at()), seconds(50));
    assert!(matches!(waiting.await.unwrap(), Err(CommandError::Unanswered { .. })));
    assert_eq!(zero.elapsed().as_secs(), 60);
    let now = setup.bus.approvals().request(deploy()).unwrap();
    let requested = setup.bus.approvals().get(now.id()).unwrap().requested_at();
    assert!(requested < asked.requested_at(), "what is asked now goes by the clock as it is");
}

#[tokio::test(start_paused = true)]
async fn too_many_are_refused() {
    let setup = Setup::new(config().capacity(2));
    let first = setup.bus.approvals().request(deploy()).unwrap();
    let _second = setup.bus.approvals().request(deploy()).unwrap();
    let third = setup.bus.execute(deploy()).await;
    assert!(matches!(third, Err(CommandError::TooManyApprovals { limit: 2 })));
    pass(seconds(1)).await;
    drop(first);
    pass(seconds(1)).await;
    assert!(setup.bus.approvals().request(deploy()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_or_answers_harms_nothing() {
    let setup = Setup::new(config());
    let bus = Arc::new(Mutex::new(None::<crate::WeakBus>));
    let its = Arc::clone(&bus);
    let config = config().on_change(move |notice| {
        let bus = its.lock().as_ref().and_then(crate::WeakBus::upgrade).unwrap();
        if notice.change == Asked {
            bus.approvals().approve(&notice.id, "the rule", "").unwrap();
        }
        panic!("in a callback");
    });
    let own = Bus::builder().approvals(config).build().unwrap();
    *bus.lock() = Some(own.downgrade());
    let plain = |_: Event| async { Ok::<_, std::io::Error>("pong") };
    own.approvals().on_command("ping", seconds(9), plain).unwrap().detach();
    for _ in 0..3 {
        assert_eq!(own.execute(Event::of("ping", ())).await.unwrap(), "pong".into());
    }
    assert_eq!(setup.told().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_closing_bus_lets_nobody_wait() {
    let setup = Setup::new(config());
    let waiting = setup.execute();
    let id = setup.one_pending().await;
    assert!(setup.bus.shutdown(seconds(1)).await.is_clean());
    assert!(matches!(waiting.await.unwrap(), Err(CommandError::Closed)));
    let late = setup.bus.approvals().approve(&id, "anna", "");
    assert!(matches!(late, Err(AnswerError::Unknown(_))));
    assert!(setup.bus.approvals().request(deploy()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_full_bus_delays_the_events_and_nothing_else() {
    let setup = Setup::with(Bus::builder().capacity(1), config());
    let open = Arc::new(tokio::sync::Notify::new());
    let stuck = Arc::clone(&open);
    setup
        .bus
        .subscribe("block")
        .handle_async(move |_: Event| {
            let stuck = Arc::clone(&stuck);
            async move { stuck.notified().await }
        })
        .unwrap()
        .detach();
    setup.bus.publish(Event::of("block", ())).await.unwrap();
    pass(seconds(1)).await;
    setup.bus.publish(Event::of("other", ())).await.unwrap();
    let waiting = setup.execute();
    let id = setup.one_pending().await;
    setup.bus.approvals().approve(&id, "anna", "").unwrap();
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(setup.seen.lock().len(), 0);
    pass(seconds(1)).await;
    let called: Vec<_> = setup.called.lock().iter().map(|notice| notice.change).collect();
    assert_eq!(called, [Asked, Granted], "the callback waits for no room");
    open.notify_one();
    assert_eq!(setup.told().await, [Asked, Granted]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_answers_at_once_one_decides() {
    let setup = Setup::new(ApprovalConfig::default());
    for _ in 0..50 {
        let requested = setup.bus.approvals().request(deploy()).unwrap();
        let answers: Vec<_> = (0..8)
            .map(|n| {
                let (bus, id) = (setup.bus.clone(), requested.id().clone());
                tokio::spawn(async move {
                    let approvals = bus.approvals();
                    let by = n.to_string();
                    let yes = n % 2 == 0;
                    let taken = if yes {
                        approvals.approve(&id, by, "")
                    } else {
                        approvals.deny(&id, by, "")
                    };
                    taken.is_ok().then_some(yes)
                })
            })
            .collect();
        let before = setup.ran.load(SeqCst);
        let reply = requested.reply().await;
        let mut taken = Vec::new();
        for answer in answers {
            taken.extend(answer.await.unwrap());
        }
        assert_eq!(taken, [reply.is_ok()]);
        assert_eq!(setup.ran.load(SeqCst) - before, u32::from(reply.is_ok()));
    }
}
