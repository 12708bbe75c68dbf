//! Tickets and their answers, in runtimes that rest, are busy, or have ended.

use std::{future::poll_fn, pin::pin, sync::mpsc};

use super::*;

/// Polls all of them, as their publishers do.
async fn wait<const N: usize>(tickets: &mut [Pin<&mut Ticket>; N]) {
    poll_fn(|cx| {
        tickets.iter_mut().for_each(|ticket| assert!(ticket.as_mut().poll(cx).is_pending()));
        Poll::Ready(())
    })
    .await;
}

fn closed() -> Result<(), WriteError> {
    Err(WriteError::Closed)
}

#[tokio::test]
async fn all_get_the_one_answer_whenever_they_ask() {
    let waiters = Waiters::default();
    let [mut early, left, late] = [waiters.join(), waiters.join(), waiters.join()];
    wait(&mut [Pin::new(&mut early)]).await;
    drop(left);
    assert!(waiters.answer(closed()).is_none(), "all are woken at once");
    assert_eq!((early.await, late.await), (Some(closed()), Some(closed())));

    let waiters = Waiters::default();
    let ticket = waiters.join();
    drop(waiters);
    assert_eq!(ticket.await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_runtime_are_woken_by_it() {
    let waiters = Waiters::default();
    let tasks: Vec<_> = (0..50).map(|_| tokio::spawn(waiters.join())).collect();
    let is_waiting = |waiters: &Waiters| waiters.0.lock().waiting.iter().all(Option::is_some);
    while !is_waiting(&waiters) {
        tokio::task::yield_now().await;
    }
    let crowd = waiters.answer(Ok(())).unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Some(Ok(())));
    }
    assert!(crowd.is_awake());
}

/// One of them may be held by somebody who does not poll it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_waits_for_another_or_for_a_thread_that_is_blocked() {
    let waiters = Waiters::default();
    let (mut held, mut waiting) = (pin!(waiters.join()), pin!(waiters.join()));
    wait(&mut [held.as_mut(), waiting.as_mut()]).await;
    let (unblock, blocked) = mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let blocks = tokio::spawn(async move {
        begun.send(()).unwrap();
        let _ = blocked.recv();
    });
    has_begun.await.unwrap();
    let crowd = waiters.answer(Ok(())).unwrap();
    assert!(!crowd.is_awake());
    let rest = std::thread::spawn(move || drop(crowd));
    assert_eq!(waiting.await, Some(Ok(())));
    rest.join().unwrap();
    drop(unblock);
    blocks.await.unwrap();
}

#[test]
fn a_runtime_that_has_ended_holds_up_nobody() {
    let waiters = Waiters::default();
    let [mut first, mut second] = [waiters.join(), waiters.join()];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(wait(&mut [Pin::new(&mut first), Pin::new(&mut second)]));
    drop(runtime);
    let crowd = waiters.answer(Ok(()));
    assert!(crowd.is_none_or(|crowd| crowd.is_awake()));
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(other.block_on(first), Some(Ok(())));
}
