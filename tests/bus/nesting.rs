//! Handlers inside handlers: they end before the stack does. Without
//! optimization, on threads with the stack that tokio gives them.

use std::future::Future;

use swarmbus::{
    Bulkhead, Bus, CommandError, DispatchError, Event, HandlerError, Subscribe, Timestamp,
    core::backoff::Backoff,
};
use swarmbus_tests::{Count, LONG};

fn on_a_small_stack<F: Future>(future: impl FnOnce() -> F + Send + 'static) {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future());
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

/// A handler that dispatches what it gets, and has a buffer the while.
fn endless(bus: &Bus, layers: fn(Subscribe<'_>) -> Subscribe<'_>) -> Count {
    let (weak, too_deep) = (bus.downgrade(), Count::default());
    let count = too_deep.clone();
    let handler = move |event: Event| {
        let (weak, count) = (weak.clone(), count.clone());
        async move {
            let mut buffer = [0_u8; 16 << 10];
            let bus = weak.upgrade().ok_or("gone")?;
            if let Err(DispatchError::TooDeep { .. }) = bus.dispatch(&event).await {
                count.add();
            }
            std::hint::black_box(&mut buffer);
            Ok::<_, &str>(())
        }
    };
    layers(bus.subscribe("x")).handle_async(handler).unwrap().detach();
    too_deep
}

#[test]
fn dispatching_ends_whatever_the_handler_needs_of_the_stack() {
    on_a_small_stack(async || {
        let layers: [fn(Subscribe<'_>) -> Subscribe<'_>; 3] = [
            |plain| plain,
            |limited| limited.timeout(LONG),
            |full| {
                let full = full.timeout(LONG).retry(Backoff::RETRY).in_order();
                full.bulkhead(Bulkhead::new().concurrent(100))
            },
        ];
        for layers in layers {
            let bus = Bus::builder().tracing(true).build().unwrap();
            let too_deep = endless(&bus, layers);
            let delivery = bus.dispatch(&Event::of("x", ())).await.unwrap();
            assert_eq!((delivery.delivered, too_deep.get()), (1, 1));
        }
    });
}

#[test]
fn commands_end_too() {
    on_a_small_stack(async || {
        let bus = Bus::builder().build().unwrap();
        let weak = bus.downgrade();
        let again = move |command: Event| {
            let weak = weak.clone();
            async move {
                let bus = weak.upgrade().ok_or(CommandError::Closed)?;
                bus.execute(command.with_deadline(Timestamp::MAX)).await
            }
        };
        let _command = bus.on_command("x", again).unwrap();
        let mut error = bus.execute(Event::of("x", ())).await.unwrap_err();
        while let CommandError::Failed { source: HandlerError::Failed(source), .. } = error {
            error = *source.downcast().unwrap();
        }
        assert!(matches!(error, CommandError::TooDeep { .. }), "{error}");
    });
}
