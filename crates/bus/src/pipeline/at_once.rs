//! The first try of a call with layers, as far as it goes without waiting.
//!
//! Most calls are over when their handler's future is first polled. So that
//! poll is made in a plain function, with the layers as values on its stack.
//! Only a call that then waits gets a future of its own, and takes what was
//! begun along.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    Call,
    attempt::{Admitted, Try},
    layered::{Layers, Rest, Step, Stopped, with_limit},
    timeout,
};
use crate::{
    handler::{Handler, HandlerResult, Started, in_handler},
    ledger::Outcome,
};

/// How far a try came.
enum First<'a> {
    Ended(Result<(), Stopped>),
    /// The handler waits.
    Begun(Begun<'a>),
    /// Nothing was done: it has to wait, or is to be watched.
    Not,
}

/// A try whose handler waits.
pub(super) struct Begun<'a> {
    pub(super) around: Try<'a>,
    pub(super) admitted: Admitted<'a>,
    pub(super) frame: Option<timeout::Frame>,
    pub(super) handler: Started<'a>,
    /// When, by the cycle counter.
    pub(super) since: u64,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A call through all its layers, or as much of it as is done without keeping
/// others waiting.
///
/// What waits is boxed: handlers dispatch inside each other, and those without
/// layers should not carry the futures of these on the stack.
pub(super) enum Layered<'a> {
    Fresh { call: Call<'a>, layers: &'a Layers, may_leave: bool },
    Waits(Boxed<'a, Step>),
}

impl Future for Layered<'_> {
    type Output = Step;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step> {
        if let Self::Fresh { call, layers, may_leave } = *self {
            let waits = match call.try_at_once(layers, may_leave, cx) {
                First::Ended(Ok(())) => return Poll::Ready(Step::Done(call.succeeded(layers))),
                first => call.finish(layers, may_leave, first),
            };
            *self = Self::Waits(waits);
        }
        match &mut *self {
            Self::Waits(future) => future.as_mut().poll(cx),
            Self::Fresh { .. } => Poll::Pending,
        }
    }
}

impl<'a> Call<'a> {
    #[inline]
    fn try_at_once(self, layers: &'a Layers, may_leave: bool, cx: &mut Context<'_>) -> First<'a> {
        let inner = self.inner;
        let leaves = may_leave && !layers.in_order && layers.bulkhead.is_some();
        let watched = self.sampled || inner.watched || self.runner == inner.pool.spare().index;
        if leaves || watched || layers.outlet.is_some() {
            return First::Not;
        }
        let around = self.around_try(layers);
        let due = self.is_still_due();
        let admitted = match due.and_then(|()| around.admit_at_once().map_err(Stopped::from)) {
            Ok(Some(admitted)) => Ok(admitted),
            Ok(None) => return First::Not,
            Err(stopped) => Err(stopped),
        };
        if let Some(retry) = &layers.retry {
            retry.begin();
        }
        match admitted {
            Ok(admitted) => self.poll_at_once(layers, around, admitted, cx),
            Err(stopped) => First::Ended(Err(stopped)),
        }
    }

    #[inline]
    fn poll_at_once(
        self,
        layers: &'a Layers,
        around: Try<'a>,
        admitted: Admitted<'a>,
        cx: &mut Context<'_>,
    ) -> First<'a> {
        let (inner, subscriber) = (self.inner, &*self.matched.subscriber);
        let limited = match layers.limit {
            None => None,
            Some(limit) => match with_limit(self.event, limit) {
                None => return First::Ended(Err(Stopped::Over(Outcome::Expired))),
                limited => limited,
            },
        };
        let ended = |admitted: Admitted<'a>, result: HandlerResult| {
            around.leave(admitted, result.is_ok());
            First::Ended(result.map_err(Stopped::Failed))
        };
        let handler = match &subscriber.handler {
            // Has no time limit: it could not be kept.
            Handler::Sync(handler) => {
                return ended(admitted, in_handler(inner.id, || handler(self.event)));
            }
            Handler::Async(handler) => &**handler,
        };
        let since = inner.clock.cycles();
        let event = limited.unwrap_or_else(|| self.event.clone());
        let mut started = None;
        let poll = || {
            let call = subscriber.slots.start(self.runner, handler, event, inner.id);
            match call {
                Ok(call) => Pin::new(started.insert(call)).poll(cx),
                Err(error) => Poll::Ready(Err(error)),
            }
        };
        let mut frame = layers.limit.map(timeout::Frame::new);
        let polled = match &mut frame {
            Some(frame) => frame.during(poll),
            None => poll(),
        };
        match (polled, started) {
            (Poll::Ready(result), _) => ended(admitted, result),
            (Poll::Pending, Some(handler)) => {
                First::Begun(Begun { around, admitted, frame, handler, since })
            }
            // Only what was started waits.
            (Poll::Pending, None) => First::Not,
        }
    }

    /// What is left of a call whose first try came so far.
    #[cold]
    fn finish(self, layers: &'a Layers, may_leave: bool, first: First<'a>) -> Boxed<'a, Step> {
        let stays = !may_leave || layers.in_order;
        Box::pin(async move {
            let step = match first {
                First::Ended(result) => self.after_try(layers, None, result).await,
                First::Begun(begun) => {
                    let result = self.go_on_with(begun).await;
                    self.after_try(layers, None, result).await
                }
                First::Not => match &layers.outlet {
                    Some(outlet) if !layers.in_order => {
                        outlet.ready().await;
                        Step::Left(Rest::Everything)
                    }
                    None if !stays && layers.bulkhead.is_none() => self.first_try(layers).await,
                    _ => Step::Left(Rest::Everything),
                },
            };
            match step {
                Step::Left(rest) if stays => Step::Done(self.run_layers(layers, rest).await),
                step => step,
            }
        })
    }
}
