//! What live channels promise: everybody who is there gets it, at most once.

use super::{Arc, Future, Incoming, Mode, QUIET, Transport, event, fresh, inbox, publish, text};

/// Runs the checks of this mode.
///
/// # Panics
///
/// With what was broken.
pub async fn check<T, F>(make: impl Fn() -> F)
where
    T: Transport,
    F: Future<Output = T>,
{
    everybody_gets_everything(&make().await).await;
    a_dropped_inbox_is_gone(&make().await).await;
    slow_subscribers_hold_nobody_up(Arc::new(make().await)).await;
}

async fn everybody_gets_everything(transport: &impl Transport) {
    let channel = fresh(Mode::Live);
    let mut first = inbox(transport, &channel).await;
    publish(transport, &channel, 1).await;
    assert_eq!(text(&mut first).await, "1");
    let mut second = inbox(transport, &channel).await;
    publish(transport, &channel, 2).await;
    assert_eq!(text(&mut first).await, "2");
    assert_eq!(text(&mut second).await, "2", "and nothing from before");
}

async fn a_dropped_inbox_is_gone(transport: &impl Transport) {
    let channel = fresh(Mode::Live);
    let mut stays = inbox(transport, &channel).await;
    drop(inbox(transport, &channel).await);
    for n in 0..3 {
        publish(transport, &channel, n).await;
        assert_eq!(text(&mut stays).await, n.to_string());
    }
}

async fn slow_subscribers_hold_nobody_up(transport: Arc<impl Transport>) {
    const EVENTS: u64 = 20_000;
    let channel = fresh(Mode::Live);
    let mut slow = inbox(&*transport, &channel).await;
    let mut quick = inbox(&*transport, &channel).await;
    // In step with the quick one, which is to miss nothing.
    const STEP: u64 = 500;
    for first in (0..EVENTS).step_by(STEP as usize) {
        let mut batch: Vec<_> = (first..first + STEP).map(event).collect();
        transport.publish_batch(&channel, &mut batch).await.expect("publish works");
        for n in first..first + STEP {
            assert_eq!(text(&mut quick).await, n.to_string(), "the quick one misses nothing");
        }
    }
    if !transport.features().reports_gaps {
        return;
    }
    let (mut sent, mut expected) = (EVENTS, 0);
    while expected < sent {
        match tokio::time::timeout(QUIET, slow.next()).await {
            Ok(Some(Incoming::Gap(gap))) => expected += gap.missed.expect("it can be counted"),
            Ok(Some(Incoming::Event(received))) => {
                let text = expected.to_string();
                assert_eq!(received.event.text(), Some(&*text), "a hole without a gap");
                expected += 1;
            }
            Ok(None) => panic!("the inbox ended"),
            // What is missing at the end may show with the next event.
            Err(_) => {
                publish(&*transport, &channel, sent).await;
                sent += 1;
            }
        }
    }
    assert_eq!(expected, sent, "a gap is not larger than what was missed");
}
