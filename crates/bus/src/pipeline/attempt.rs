//! One try of a call: the layers that stand around each try by itself,
//! `breaker( bulkhead( timeout( operation )))`, for handlers and guards alike.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use swarmbus_core::{Priority, breaker::Permit};

use super::{
    breaker::{self, NamedBreaker},
    bulkhead::{BulkheadLayer, Place, Refused},
    timeout::{Frame, Timed, within_frame},
};
use crate::{
    clock::BusClock,
    guard::CallError,
    handler::{contain, discard},
};

/// The layers around one try.
#[derive(Clone, Copy)]
pub(crate) struct Try<'a> {
    pub(crate) breaker: Option<&'a NamedBreaker>,
    pub(crate) bulkhead: Option<&'a BulkheadLayer>,
    pub(crate) priority: Priority,
    pub(crate) clock: &'a BusClock,
}

/// Leave to begin. Dropped, it counts as nothing and frees its place.
pub(crate) struct Admitted<'a> {
    permit: Option<Permit<'a>>,
    place: Option<Place<'a>>,
}

impl<'a> Try<'a> {
    /// Tries once.
    ///
    /// Cancelled in the middle, the operation is dropped, its place in the
    /// bulkhead is free, and the breaker's permit counts as nothing.
    pub(crate) async fn run<T, E, F, Fut>(
        self,
        limit: Option<Duration>,
        operation: F,
    ) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let admitted = self.admit().await?;
        self.perform(admitted, limit.map(Frame::new), operation).await
    }

    /// The operation itself, for one that was admitted, with its time limit.
    pub(crate) async fn perform<T, E, F, Fut>(
        self,
        admitted: Admitted<'a>,
        frame: Option<Frame>,
        operation: F,
    ) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut operation = pin!(Some(async { operation().await }));
        // A panic is a failure of the operation, not the end of its caller.
        let caught = pin!(poll_fn(|cx| {
            let Some(operation) = operation.as_mut().as_pin_mut() else { return Poll::Pending };
            match contain(|| operation.poll(cx)) {
                Ok(polled) => polled.map_err(CallError::Failed),
                Err(panic) => Poll::Ready(Err(CallError::Panicked(panic))),
            }
        }));
        let result = match frame {
            None => caught.await,
            Some(frame) => match within_frame(frame, caught).await {
                Timed::InTime(result) => result,
                Timed::Late(Err(CallError::Failed(error))) => {
                    discard(error);
                    Err(CallError::TimedOut { aborted: false })
                }
                Timed::Late(result) => result,
                Timed::Aborted => {
                    if contain(|| operation.set(None)).is_err() {
                        tracing::error!("an operation that was cut off panicked when dropped");
                    }
                    Err(CallError::TimedOut { aborted: true })
                }
            },
        };
        self.leave(admitted, result.is_ok());
        result
    }

    /// The operation has ended: tells the breaker, and frees the place.
    #[inline(always)]
    pub(crate) fn leave(self, Admitted { permit, place }: Admitted<'a>, success: bool) {
        breaker::leave(permit, self.breaker, success, self.clock);
        drop(place);
    }

    /// Breaker and bulkhead, if nobody has to wait: `None` for a full bulkhead.
    #[inline]
    pub(crate) fn admit_at_once<E>(self) -> Result<Option<Admitted<'a>>, CallError<E>> {
        let permit = self.ask()?;
        let Some(bulkhead) = self.bulkhead else {
            return Ok(Some(Admitted { permit, place: None }));
        };
        let place = bulkhead.try_enter();
        Ok(place.map(|place| Admitted { permit, place: Some(place) }))
    }

    /// Breaker and bulkhead.
    ///
    /// Cancel safe: whoever stops waiting has asked for nothing.
    pub(crate) async fn admit<E>(self) -> Result<Admitted<'a>, CallError<E>> {
        let permit = self.ask()?;
        let Some(bulkhead) = self.bulkhead else { return Ok(Admitted { permit, place: None }) };
        if let Some(place) = bulkhead.try_enter() {
            return Ok(Admitted { permit, place: Some(place) });
        }
        // Refused here, the permit is dropped: no call was judged.
        let place = bulkhead.enter_later().await.map_err(|refused| match refused {
            Refused::Full => CallError::BulkheadFull,
            Refused::TimedOut { waited } => CallError::BulkheadTimeout { waited },
        })?;
        let permit = match permit {
            // The breaker may have changed meanwhile, and waiting is not slow.
            Some(permit) if !self.priority.bypasses_breaker() => {
                drop(permit);
                self.ask()?
            }
            other => other,
        };
        Ok(Admitted { permit, place: Some(place) })
    }

    #[inline(always)]
    fn ask<E>(self) -> Result<Option<Permit<'a>>, CallError<E>> {
        breaker::enter(self.breaker, self.priority, self.clock)
            .map_err(|rejected| CallError::Rejected { retry_after: rejected.retry_after })
    }
}
