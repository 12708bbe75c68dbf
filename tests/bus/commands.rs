//! Commands, sessions and middleware.

use std::time::Duration;

use async_trait::async_trait;
use swarmbus::{
    Bus, CommandError, CommandMiddleware, Event, EventMiddleware, HandlerError, Next, Payload,
    PublishCause, SubscribeError, Timestamp,
};
use swarmbus_tests::{Seen, settle};

#[tokio::test]
async fn a_command_gets_its_reply() {
    let bus = Bus::builder().build().unwrap();
    let double = bus
        .on_command("double", |command: Event| async move {
            let n: u32 = command.decode()?;
            Payload::json(&(n * 2))
        })
        .unwrap();
    let command = || Event::of("double", Payload::json(&21).unwrap());
    let reply = bus.execute(command()).await.unwrap();
    assert_eq!(Event::of("reply", reply).decode::<u32>().unwrap(), 42);

    let taken = bus.on_command("double", |_| async { Ok::<_, String>(()) });
    assert!(matches!(taken, Err(SubscribeError::Taken { .. })));
    let error = bus.execute(Event::of("double", "text")).await.unwrap_err();
    assert!(matches!(error, CommandError::Failed { .. }), "{error}");
    drop(double);
    let error = bus.execute(command()).await.unwrap_err();
    assert_eq!(error.to_string(), "nobody handles the command \"double\"");
}

#[tokio::test(start_paused = true)]
async fn commands_panic_expire_and_trip_their_breaker() {
    let bus = Bus::builder().build().unwrap();
    let _panics = bus
        .on_command("panic", |command: Event| async move {
            assert!(command.text().is_none(), "told to");
            Ok::<_, String>(())
        })
        .unwrap();
    let _slow = bus
        .on_command("slow", |_| async {
            std::future::pending::<()>().await;
            Ok::<_, String>(())
        })
        .unwrap();
    for _ in 0..5 {
        let error = bus.execute(Event::of("panic", "now")).await.unwrap_err();
        let CommandError::Failed { source: HandlerError::Panicked(text), .. } = error else {
            panic!("{error}")
        };
        assert_eq!(text, "told to");
    }
    let error = bus.execute(Event::of("panic", ())).await.unwrap_err();
    let CommandError::Rejected { retry_after, .. } = error else { panic!("{error}") };
    assert_eq!(retry_after, Duration::from_secs(30));
    tokio::time::advance(retry_after).await;
    bus.execute(Event::of("panic", ())).await.unwrap();

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = Timestamp::from_unix(now + Duration::from_secs(3_600));
    let error = bus.execute(Event::of("slow", ()).with_deadline(soon)).await.unwrap_err();
    assert!(matches!(error, CommandError::Expired), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_panics_when_it_is_cut_off_has_expired() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on the way out");
        }
    }
    let bus = Bus::builder().build().unwrap();
    let _slow = bus
        .on_command("slow", |_| async {
            let _bomb = Bomb;
            std::future::pending::<Result<(), String>>().await
        })
        .unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = Timestamp::from_unix(now + Duration::from_secs(3_600));
    for _ in 0..5 {
        let error = bus.execute(Event::of("slow", ()).with_deadline(soon)).await.unwrap_err();
        assert!(matches!(error, CommandError::Expired), "{error}");
    }
    let error = bus.execute(Event::of("slow", ())).await.unwrap_err();
    assert!(matches!(error, CommandError::Rejected { .. }), "{error}");
}

#[tokio::test]
async fn a_session_answers_first_and_takes_everything_with_it() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    let note = |word: &'static str| {
        let seen = seen.clone();
        move |_: &Event| seen.push(word)
    };
    let answer = |word: &'static str| move |_| async move { Ok::<_, String>(word) };
    let _bus_handler = bus.subscribe("x").priority(9).handle(note("bus")).unwrap();
    let _bus_command = bus.on_command("who", answer("bus")).unwrap();

    let session = bus.session("s1");
    session.subscribe("x").handle(note("session")).unwrap().detach();
    session.on_command("who", answer("session")).unwrap().detach();
    let other = bus.session("s2");
    other.subscribe("x").handle(note("other")).unwrap().detach();

    session.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(seen.all(), ["session", "bus"], "session first, and no other session");
    let who = async |event: Event| {
        let reply = bus.execute(event).await.unwrap();
        Event::of("r", reply).text().unwrap().to_owned()
    };
    assert_eq!(who(Event::of("who", ()).with_session("s1")).await, "session");
    assert_eq!(who(Event::of("who", ()).with_session("s2")).await, "bus");
    assert_eq!(who(Event::of("who", ())).await, "bus");

    // A second handle is the same session; it ends with the last.
    let again = bus.session("s1");
    drop(session);
    assert_eq!(who(Event::of("who", ()).with_session("s1")).await, "session");
    drop(again);
    assert_eq!(who(Event::of("who", ()).with_session("s1")).await, "bus");
    bus.publish(Event::of("x", ()).with_session("s1")).await.unwrap();
    settle(&bus).await;
    assert_eq!(seen.all(), ["session", "bus", "bus"]);
    assert_eq!(bus.session("s1").id(), "s1");
}

#[tokio::test]
async fn an_old_subscription_does_not_touch_a_reopened_session() {
    let bus = Bus::builder().build().unwrap();
    let session = bus.session("s");
    let old = session.subscribe("x").handle(|_: &Event| ()).unwrap();
    drop(session);
    let seen = Seen::default();
    let s = seen.clone();
    let session = bus.session("s");
    let _new = session.subscribe("x").handle(move |_: &Event| s.push("new")).unwrap();
    drop(old);
    session.publish(Event::of("x", ())).await.unwrap();
    settle(&bus).await;
    assert_eq!(seen.all(), ["new"]);
}

#[tokio::test]
async fn an_expired_command_does_not_run() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    let s = seen.clone();
    let _pay = bus
        .on_command("pay", move |_| {
            s.push("paid");
            async { Ok::<_, String>(()) }
        })
        .unwrap();
    let past = Timestamp::from_micros(1).unwrap();
    let error = bus.execute(Event::of("pay", ()).with_deadline(past)).await.unwrap_err();
    assert!(matches!(error, CommandError::Expired), "{error}");
    assert!(seen.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_command_says_nothing_about_its_handler() {
    let bus = Bus::builder().command_middleware(Log(Seen::default())).build().unwrap();
    let _down = bus.on_command("c", |_| async { Err::<(), _>("down") }).unwrap();
    for _ in 0..5 {
        bus.execute(Event::of("c", "try")).await.unwrap_err();
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    for _ in 0..3 {
        let error = bus.execute(Event::of("c", ())).await.unwrap_err();
        assert!(matches!(error, CommandError::Refused(_)), "{error}");
    }
    assert_eq!(bus.breakers()[0].stats.recoveries, 0, "nobody tried the handler");
}

struct Validate;

impl EventMiddleware for Validate {
    fn publishing(&self, event: &mut Event) -> Result<(), String> {
        if event.payload().is_empty() {
            return Err("empty".to_owned());
        }
        *event = event.clone().with_attribute("checked", "yes").map_err(|e| e.to_string())?;
        Ok(())
    }
}

struct Log(Seen);

impl EventMiddleware for Log {
    fn handled(&self, event: &Event, handler: &str, error: Option<&HandlerError>, _: Duration) {
        let error = error.map(ToString::to_string).unwrap_or_default();
        self.0.push(&format!("{} {handler} {error}", event.attribute("checked").unwrap_or("no")));
        panic!("ignored");
    }
}

#[async_trait]
impl CommandMiddleware for Log {
    async fn around(&self, command: Event, next: Next<'_>) -> Result<Payload, CommandError> {
        self.0.push("before");
        if command.payload().is_empty() {
            return Err(CommandError::Refused("empty".to_owned()));
        }
        let reply = next.run(command).await;
        self.0.push("after");
        reply
    }
}

#[tokio::test]
async fn middleware_sees_changes_and_refuses() {
    let seen = Seen::default();
    let bus = Bus::builder()
        .event_middleware(Validate)
        .event_middleware(Log(seen.clone()))
        .command_middleware(Log(seen.clone()))
        .build()
        .unwrap();
    let _ok = bus.subscribe("x").name("ok").priority(1).handle(|_: &Event| ()).unwrap();
    let _no = bus.subscribe("x").name("no").handle(|_: &Event| Err("bad")).unwrap();
    let error = bus.publish(Event::of("x", ())).await.unwrap_err();
    assert_eq!(error.cause, PublishCause::Refused("empty".to_owned()));
    assert!(bus.try_publish(Event::of("x", ())).is_err());
    assert!(bus.dispatch(&Event::of("x", ())).await.is_err());
    let mut batch = vec![Event::of("x", "1"), Event::of("x", ()), Event::of("x", "2")];
    let error = bus.publish_batch(&mut batch).await.unwrap_err();
    assert_eq!((error.accepted, batch.len()), (1, 2));
    settle(&bus).await;
    assert_eq!(seen.all(), ["yes ok ", "yes no bad"]);
    assert_eq!(bus.ledger().refused, 3 + 2, "three events, and what was left of a batch");

    let _echo = bus
        .on_command("echo", |command: Event| async move {
            Ok::<_, String>(Payload::raw(command.content(), command.payload().clone()))
        })
        .unwrap();
    bus.execute(Event::of("echo", "hi")).await.unwrap();
    let error = bus.execute(Event::of("echo", ())).await.unwrap_err();
    assert!(matches!(error, CommandError::Refused(_)), "{error}");
    assert_eq!(seen.all()[2..], ["before", "after", "before"]);
}
