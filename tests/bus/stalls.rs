//! Calls that take too long, and commands that wait for each other.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;
use swarmbus::{Bulkhead, Bus, CommandError, Event, Payload, Stall, Timestamp, WeakBus};
use swarmbus_tests::{Count, Door, LONG, Seen, settle, within};
use tokio::sync::{Barrier, Notify};

/// By the real clock: the watchdog is a thread.
const LIMIT: Duration = Duration::from_millis(20);

/// A bus that passes its stalls on.
fn watched() -> (Bus, mpsc::Receiver<Stall>) {
    let (tell, told) = mpsc::channel();
    let on_stall = move |stall: &Stall| {
        let _ = tell.send(stall.clone());
    };
    (Bus::builder().workers(2).stall_limit(LIMIT).on_stall(on_stall).build().unwrap(), told)
}

fn up(bus: &WeakBus) -> Bus {
    bus.upgrade().unwrap()
}

#[tokio::test]
async fn a_plain_handler_that_holds_up_the_whole_runtime_is_reported_once() {
    let (bus, told) = watched();
    let (told, seen) = (Mutex::new(told), Seen::default());
    let note = seen.clone();
    let _blocks = bus
        .subscribe("x")
        .name("blocks")
        .handle(move |_: &Event| {
            // The only thread is in here, and goes on when the stall is told.
            let told = told.lock();
            let stall = told.recv_timeout(LONG).unwrap();
            assert!(stall.lasted >= LIMIT);
            assert!(told.recv_timeout(LIMIT * 5).is_err(), "told twice of one call");
            note.push(&stall.chain.join(" → "));
        })
        .unwrap();
    let _quick = bus.subscribe("*").handle(|_: &Event| ()).unwrap();
    for _ in 0..2 {
        bus.publish(Event::of("x", ())).await.unwrap();
    }
    settle(&bus).await;
    assert_eq!(seen.all(), ["blocks"; 2], "each call is told of");
    assert_eq!(bus.ledger().outcomes.delivered, 4);
    let ended = async {
        while !bus.stalls().now.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    within(ended).await;
    assert_eq!(bus.stalls().total, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_names_handlers_and_commands() {
    let (bus, told) = watched();
    let go_on = Arc::new(Notify::new());
    let waiting = Arc::clone(&go_on);
    let _slow = bus
        .on_command("charge", move |_| {
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.notified().await;
                Ok::<_, String>(())
            }
        })
        .unwrap();
    let weak = bus.downgrade();
    let _inner = bus
        .subscribe("payment")
        .name("cashier")
        .handle_async(move |_| {
            let bus = up(&weak);
            async move { bus.execute(Event::of("charge", ())).await.map(drop) }
        })
        .unwrap();
    let weak = bus.downgrade();
    let _middle = bus
        .on_command("pay", move |_| {
            let bus = up(&weak);
            async move { bus.dispatch(&Event::of("payment", ())).await.map(|_| ()) }
        })
        .unwrap();
    let weak = bus.downgrade();
    let _outer = bus
        .subscribe("order")
        .name("shop")
        .handle_async(move |_| {
            let bus = up(&weak);
            async move { bus.execute(Event::of("pay", ())).await.map(drop) }
        })
        .unwrap();

    bus.publish(Event::of("order", ())).await.unwrap();
    let stall = tokio::task::spawn_blocking(move || told.recv_timeout(LONG).unwrap());
    let stall = stall.await.unwrap();
    assert_eq!(stall.chain, ["shop", "command pay", "cashier", "command charge"]);
    // The innermost that is late: its callers only wait.
    assert!(stall.at > 0, "{stall}");
    go_on.notify_one();
    settle(&bus).await;
    assert_eq!(bus.ledger().outcomes.delivered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_a_task_of_its_own_is_watched_too() {
    let (bus, told) = watched();
    let go_on = Arc::new(Notify::new());
    let waiting = Arc::clone(&go_on);
    let _slow = bus
        .on_command("charge", move |_| {
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.notified().await;
                Ok::<_, String>(())
            }
        })
        .unwrap();
    let weak = bus.downgrade();
    let _cashier = bus
        .subscribe("payment")
        .name("cashier")
        .bulkhead(Bulkhead::default())
        .handle_async(move |_| {
            let bus = up(&weak);
            async move { bus.execute(Event::of("charge", ())).await.map(drop) }
        })
        .unwrap();
    bus.publish(Event::of("payment", ())).await.unwrap();
    let stall = tokio::task::spawn_blocking(move || told.recv_timeout(LONG).unwrap());
    assert_eq!(stall.await.unwrap().chain, ["cashier", "command charge"]);
    go_on.notify_one();
    settle(&bus).await;
}

#[tokio::test]
async fn turns_are_taken_one_at_a_time_and_in_order() {
    let bus = Bus::builder().build().unwrap();
    let seen = Seen::default();
    let note = seen.clone();
    let _serial = bus
        .on_command_in_turn("serial", move |command: Event| {
            let note = note.clone();
            async move {
                note.push(&format!("+{}", command.text().unwrap()));
                tokio::task::yield_now().await;
                note.push(&format!("-{}", command.text().unwrap()));
                Ok::<_, String>(())
            }
        })
        .unwrap();
    let execute = |n: usize| bus.execute(Event::of("serial", n.to_string()));
    let cancelled = execute(9);
    let (a, b, c) = tokio::join!(execute(0), execute(1), async {
        // It waits for its turn, and goes away.
        tokio::select! {
            biased;
            reply = cancelled => panic!("{reply:?}"),
            () = std::future::ready(()) => {}
        }
        execute(2).await
    });
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(seen.all(), ["+0", "-0", "+1", "-1", "+2", "-2"]);
    assert_eq!(bus.stalls(), swarmbus::StallReport::default());
}

#[tokio::test]
async fn a_deadline_limits_the_wait_for_a_turn() {
    let bus = Bus::builder().build().unwrap();
    let door = Door::default();
    let opens = door.clone();
    let _serial = bus
        .on_command_in_turn("serial", move |_| {
            let opens = opens.clone();
            async move {
                tokio::task::spawn_blocking(move || opens.wait()).await?;
                Ok::<_, tokio::task::JoinError>(())
            }
        })
        .unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = Timestamp::from_unix(now + Duration::from_millis(30));
    let (first, second) = tokio::join!(bus.execute(Event::of("serial", ())), async {
        let second = bus.execute(Event::of("serial", ()).with_deadline(soon)).await;
        door.open();
        second
    });
    assert!(first.is_ok());
    assert!(matches!(second, Err(CommandError::Expired)), "{second:?}");
    within(bus.execute(Event::of("serial", ()))).await.unwrap();
}

/// Each holds its turn and wants the other's, in tasks of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_commands_that_wait_for_each_other_one_is_told_so() {
    let bus = Bus::builder().build().unwrap();
    let both_hold = Arc::new(Barrier::new(2));
    for (command, other) in [("left", "right"), ("right", "left")] {
        let (weak, both_hold) = (bus.downgrade(), Arc::clone(&both_hold));
        bus.on_command_in_turn(command, move |asked: Event| {
            let (bus, both_hold) = (up(&weak), Arc::clone(&both_hold));
            async move {
                if asked.text() == Some("nested") {
                    return Ok(Payload::from("done"));
                }
                both_hold.wait().await;
                bus.execute(Event::of(other, "nested")).await
            }
        })
        .unwrap()
        .detach();
    }
    let run = |command: &'static str| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.execute(Event::of(command, ())).await })
    };
    let (left, right) = (run("left"), run("right"));
    let replies = [within(left).await.unwrap(), within(right).await.unwrap()];
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 1, "{replies:?}");
    let error = replies.iter().find_map(|reply| reply.as_ref().err()).unwrap().to_string();
    let chains = ["command left → command right", "command right → command left"];
    assert!(chains.iter().any(|chain| error.ends_with(chain)), "{error}");
    assert_eq!(bus.stalls().cycles, 1);
    // The bus still works, turns included.
    bus.execute(Event::of("left", "nested")).await.unwrap();
    bus.execute(Event::of("right", "nested")).await.unwrap();
}

#[tokio::test]
async fn a_ring_that_may_go_on_is_left_alone() {
    let bus = Bus::builder().build().unwrap();
    let weak = bus.downgrade();
    let _first = bus
        .on_command_in_turn("first", move |_| {
            let bus = up(&weak);
            async move {
                tokio::select! {
                    biased;
                    ring = bus.execute(Event::of("ring", ())) => ring,
                    way_out = bus.execute(Event::of("way.out", ())) => way_out,
                }
            }
        })
        .unwrap();
    // Both are under way before the ring closes.
    let weak = bus.downgrade();
    let _ring = bus
        .on_command("ring", move |_| {
            let bus = up(&weak);
            async move {
                tokio::task::yield_now().await;
                bus.execute(Event::of("first", ())).await
            }
        })
        .unwrap();
    let weak = bus.downgrade();
    let _way_out = bus
        .on_command("way.out", move |_| {
            let bus = up(&weak);
            async move {
                while bus.stalls().suspected_cycles == 0 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, String>("out")
            }
        })
        .unwrap();
    let reply = within(bus.execute(Event::of("first", ()))).await.unwrap();
    assert_eq!(Event::of("x", reply).text(), Some("out"));
    assert_eq!((bus.stalls().cycles, bus.stalls().suspected_cycles), (0, 1));
}

#[tokio::test]
async fn handlers_that_answer_at_once_may_recurse() {
    let bus = Bus::builder().build().unwrap();
    let weak = bus.downgrade();
    let _sum = bus
        .on_command("sum", move |command: Event| {
            let bus = up(&weak);
            async move {
                let n: u32 = command.decode()?;
                if n == 0 {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Payload::json(&0)?);
                }
                let rest = bus.execute(Event::of("sum", Payload::json(&(n - 1))?)).await?;
                let rest: u32 = Event::of("reply", rest).decode()?;
                Ok(Payload::json(&(n + rest))?)
            }
        })
        .unwrap();
    let reply = bus.execute(Event::of("sum", Payload::json(&20).unwrap())).await.unwrap();
    assert_eq!(Event::of("reply", reply).decode::<u32>().unwrap(), 210);
    assert_eq!(bus.stalls().cycles, 0);
}

#[tokio::test]
async fn the_watchdog_ends_with_its_bus_and_may_be_switched_off() {
    let off = Bus::builder().stall_limit(Duration::MAX).build().unwrap();
    assert_eq!(off.stalls().total, 0);
    assert!(Bus::builder().stall_limit(Duration::ZERO).build().is_err());

    let ended = Count::default();
    struct Ends(Count);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.add();
        }
    }
    let ends = Ends(ended.clone());
    // A limit so long that the thread sleeps through the test if not woken.
    let bus = Bus::builder()
        .stall_limit(LONG * 10)
        .on_stall(move |_| {
            let _ = &ends;
        })
        .build()
        .unwrap();
    assert!(bus.shutdown(LONG).await.is_clean());
    drop(bus);
    ended.reaches(1).await;
}
