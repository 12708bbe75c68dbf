//! The task that sends what waits, as many at once as there are.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use swarmbus_core::{Event, Timestamp, breaker::Permit};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    BridgeSendError,
    parcel::{Owner, Parcel},
    queue::OutQueue,
    stats::Counts,
};
use crate::{
    clock::BusClock,
    handler::HandlerError,
    ledger::Outcome,
    messenger::{Messenger, To},
    pipeline::outlet::{After, NotNow},
    transport::TransportError,
};

/// Events that are sent at once.
pub(super) const AT_ONCE: usize = 512;

/// How long an open breaker is left alone: it may be closed by hand, and may
/// not know how long a probe takes.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

pub(super) struct Sender {
    pub(super) queue: Arc<OutQueue>,
    pub(super) messenger: Messenger,
    /// By the numbers of the rules.
    pub(super) routes: Vec<To>,
    pub(super) timeout: Duration,
    pub(super) counts: Arc<Counts>,
    pub(super) ends: Ends,
}

/// How the task is told to end.
#[derive(Clone, Default)]
pub(super) struct Ends {
    /// Once nothing waits.
    pub(super) closing: CancellationToken,
    /// At once: what waits has failed.
    pub(super) stopped: CancellationToken,
    /// At once, with the bus: what waits is cut off.
    pub(super) cut: CancellationToken,
}

/// What one try came to.
enum Tried {
    Sent,
    Not(SendFailure),
    NotNow(NotNow),
}

#[derive(Clone)]
enum SendFailure {
    TimedOut,
    Transport(TransportError),
}

impl Sender {
    pub(super) async fn run(self) {
        let mut open_until = None;
        let mut taken = VecDeque::new();
        loop {
            let open = open_until.filter(|until| *until > Instant::now());
            let delayed = self.queue.take(&mut taken, AT_ONCE, open.is_some());
            if !taken.is_empty() {
                let parcels = taken.drain(..).collect();
                let Some(wait) = self.send(parcels).await else { break };
                open_until = wait.map(|wait| Instant::now() + wait).or(open);
                continue;
            }
            if self.ends.closing.is_cancelled() && self.queue.len() == 0 {
                break;
            }
            let next = delayed.into_iter().chain(open).min();
            tokio::select! {
                biased;
                () = self.ends.cut.cancelled() => break,
                () = self.ends.stopped.cancelled() => break,
                () = self.queue.arrived.notified() => {}
                () = until(next) => {}
                () = self.ends.closing.cancelled(), if !self.ends.closing.is_cancelled() => {}
            }
        }
        self.queue.clear().into_iter().for_each(|parcel| self.end(parcel));
    }

    /// Sends these, rule by rule. `None` if that was cut short; else how long
    /// the breaker stays open, if it is.
    async fn send(&self, mut parcels: Vec<Parcel>) -> Option<Option<Duration>> {
        parcels.sort_by_key(|parcel| parcel.rule);
        let mut put_back = Vec::new();
        let mut wait = None;
        while let Some(rule) = parcels.first().map(|first| first.rule) {
            let run = parcels.iter().take_while(|parcel| parcel.rule == rule).count();
            let tries = tokio::select! {
                biased;
                () = self.ends.cut.cancelled() => None,
                () = self.ends.stopped.cancelled() => None,
                tries = self.try_once(rule, &parcels[..run]) => Some(tries),
            };
            let Some(tries) = tries else {
                put_back.into_iter().chain(parcels).for_each(|parcel| self.end(parcel));
                return None;
            };
            for (parcel, tried) in parcels.drain(..run).zip(tries) {
                if let Tried::NotNow(NotNow::Open { retry_after }) = tried {
                    let (least, most) = LOOK_AGAIN;
                    wait = Some(retry_after.clamp(least, most));
                    put_back.push(parcel);
                } else {
                    self.settle(parcel, tried);
                }
            }
        }
        self.queue.put_back(put_back);
        Some(wait)
    }

    /// Sends events of one rule; a result for each.
    async fn try_once(&self, rule: usize, run: &[Parcel]) -> Vec<Tried> {
        let now = BusClock::wall();
        let permits: Vec<_> = run.iter().map(|parcel| enter(parcel, now)).collect();
        let admitted = run.iter().zip(&permits).filter(|(_, permit)| permit.is_ok());
        let mut events: Vec<Event> = admitted.map(|(parcel, _)| parcel.event().clone()).collect();
        let all = events.len();
        let mut failure = None;
        if all > 0 {
            let sending = self.messenger.send_confirmed(&self.routes[rule], &mut events);
            failure = match timeout(self.timeout, sending).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((all - events.len(), SendFailure::Transport(error))),
                Err(_) => Some((0, SendFailure::TimedOut)),
            };
        }
        let mut number = 0;
        let resolve = |(permit, parcel): (Result<Option<Permit<'_>>, NotNow>, &Parcel)| {
            let permit = match permit {
                Ok(permit) => permit,
                Err(not_now) => return Tried::NotNow(not_now),
            };
            number += 1;
            let tried = match &failure {
                Some((sent, failure)) if number > *sent => Tried::Not(failure.clone()),
                _ => Tried::Sent,
            };
            if let Owner::Match(call, _) = &parcel.owner {
                call.leave(permit, matches!(tried, Tried::Sent));
            }
            tried
        };
        permits.into_iter().zip(run).map(resolve).collect()
    }

    fn settle(&self, parcel: Parcel, tried: Tried) {
        let failure = match tried {
            Tried::Sent => {
                self.counts.sent.add(1);
                return match parcel.owner {
                    Owner::Match(call, _) => call.end_as(Outcome::Delivered, None),
                    Owner::Caller(_, told) => drop(told.send(Ok(()))),
                };
            }
            Tried::NotNow(NotNow::Expired) => {
                return parcel.end_as(Outcome::Expired, BridgeSendError::Expired);
            }
            // Put back by whoever asks.
            Tried::NotNow(NotNow::Open { .. }) => return,
            Tried::Not(failure) => failure,
        };
        self.counts.failed.add(1);
        match parcel.owner {
            Owner::Match(call, before) => {
                match call.fail(failure.into_handler(), before.as_ref()) {
                    After::Ended => {}
                    After::Again(delay, call, failure) => {
                        let owner = Owner::Match(call, Some(failure));
                        self.queue
                            .push_later(Parcel::new(parcel.rule, owner), Instant::now() + delay);
                    }
                }
            }
            Owner::Caller(_, told) => drop(told.send(Err(failure.into_error()))),
        }
    }

    /// Ends what the task cannot send any more.
    fn end(&self, parcel: Parcel) {
        if self.ends.cut.is_cancelled() {
            return parcel.cut_off();
        }
        self.counts.given_up.add(1);
        parcel.refuse(BridgeSendError::Closed);
    }
}

fn enter(parcel: &Parcel, now: Timestamp) -> Result<Option<Permit<'_>>, NotNow> {
    match &parcel.owner {
        Owner::Match(call, _) => call.enter(now),
        Owner::Caller(_, told) if told.is_closed() => Err(NotNow::Expired),
        // Its own layers are around the caller.
        Owner::Caller(..) => Ok(None),
    }
}

impl SendFailure {
    fn into_error(self) -> BridgeSendError {
        match self {
            Self::TimedOut => BridgeSendError::TimedOut,
            Self::Transport(error) => BridgeSendError::Transport(error),
        }
    }

    fn into_handler(self) -> Box<HandlerError> {
        Box::new(match self {
            Self::TimedOut => HandlerError::TimedOut { aborted: true },
            Self::Transport(_) => HandlerError::Failed(Box::new(self.into_error())),
        })
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
