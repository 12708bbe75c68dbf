//! An inbox against a model that keeps every event.

use std::time::Duration;

use proptest::prelude::*;
use swarmbus_core::Event;

use super::*;

fn event(n: u64) -> Incoming {
    Incoming::Event(Received::live(Event::of("n", n.to_string())))
}

#[derive(Clone, Debug)]
enum Step {
    /// As a live channel does it.
    Offer(u8),
    /// As a carrier does it, a batch at a time; what has no room is dropped.
    Deliver(u8),
    Gap(u8),
    Next,
    NextBatch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u8..10).prop_map(Step::Offer),
        3 => (1_u8..20).prop_map(Step::Deliver),
        1 => (1_u8..5).prop_map(Step::Gap),
        4 => Just(Step::Next),
        1 => Just(Step::NextBatch),
    ]
}

/// Numbers that were sent and not seen yet must come next, as events or in a
/// gap.
#[derive(Default)]
struct Model {
    sent: u64,
    seen: u64,
}

impl Model {
    fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    fn see(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Event(received) => {
                self.seen += 1;
                assert_eq!(received.event.text(), Some(&*self.seen.to_string()), "a silent hole");
            }
            Incoming::Gap(gap) => self.seen += gap.missed.unwrap(),
        }
        assert!(self.seen <= self.sent, "a gap is larger than what is missing");
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_without_a_gap_in_its_place(
        capacity in 1_usize..8,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (feed, mut inbox) = Inbox::new(NonZeroUsize::new(capacity).unwrap());
        let mut model = Model::default();
        runtime.block_on(async {
            for step in steps {
                match step {
                    Step::Offer(n) => for _ in 0..n {
                        let text = model.number().to_string();
                        feed.offer(Received::live(Event::of("n", text)));
                    },
                    Step::Deliver(n) => {
                        let mut batch = (0..n).map(|_| event(model.number())).collect();
                        feed.deliver(&mut batch);
                        feed.drop_rest(&mut batch);
                        assert!(batch.is_empty());
                    }
                    Step::Gap(n) => {
                        model.sent += u64::from(n);
                        feed.gap(Gap::new(u64::from(n), GapReason::Lost));
                    }
                    Step::Next if model.seen < model.sent => {
                        model.see(&inbox.next().await.unwrap());
                    }
                    Step::NextBatch if model.seen < model.sent => {
                        let mut batch = Vec::new();
                        let came = inbox.next_batch(&mut batch).await;
                        assert!((1..=capacity + 1).contains(&came));
                        batch.iter().for_each(|incoming| model.see(incoming));
                    }
                    Step::Next | Step::NextBatch => {}
                }
            }
            drop(feed);
            while let Some(incoming) = inbox.next().await {
                model.see(&incoming);
            }
        });
        prop_assert_eq!(model.seen, model.sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_waits_for_room_and_hears_that_nobody_reads() {
    let (feed, mut inbox) = Inbox::new(NonZeroUsize::MIN);
    let mut batch = vec![event(1), event(2)];
    feed.deliver(&mut batch);
    assert_eq!(batch.len(), 1);
    assert!(tokio::time::timeout(Duration::from_secs(1), feed.room()).await.is_err());
    assert!(inbox.next().await.is_some());
    assert!(feed.room().await);
    feed.deliver(&mut batch);
    let (open, ()) = tokio::join!(feed.room(), async { drop(inbox) });
    assert!(!open && feed.is_gone());
    feed.gone().await;
}

#[tokio::test(start_paused = true)]
async fn an_inbox_says_why_it_ended() {
    let (feed, mut inbox) = Inbox::new(NonZeroUsize::MIN);
    feed.deliver(&mut vec![event(1)]);
    feed.fail(TransportError::TimedOut);
    assert!(inbox.next().await.is_some(), "first what it holds");
    assert!(inbox.next().await.is_none());
    assert!(matches!(inbox.error(), Some(TransportError::TimedOut)));
}
