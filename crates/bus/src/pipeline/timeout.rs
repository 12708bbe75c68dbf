//! Layer: time limits. Stops what takes too long, gently first.
//!
//! At the limit the call is asked to stop: [`cancelled`] resolves inside it.
//! What it then comes to counts if it is a success; an error is a time-out. If
//! it goes on, it is dropped a tenth of the limit later. A call inside
//! another is over, grace and all, before the one around it must be
//! ([`Tier::within`]).
//!
//! Nothing is registered for a call that is ready at once: the timer, and the
//! token behind [`cancelled`], are made when they are first needed.

use std::{
    cell::RefCell,
    future::{Future, pending, poll_fn},
    mem,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use swarmbus_core::timeout::Tier;
use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// The longest limit that may be set.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How a call with a limit ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Timed<T> {
    /// Before the limit.
    InTime(T),
    /// After it was asked to stop.
    Late(T),
    /// It was dropped.
    Aborted,
}

/// Runs a future for at most `limit` and a tenth more, counted from the first
/// time that it waits.
///
/// Cancel safe if the future is.
pub(crate) async fn within<F: Future>(limit: Duration, future: Pin<&mut F>) -> Timed<F::Output> {
    within_frame(Frame::new(limit), future).await
}

/// Does so for a future that may have been polled before, in this frame.
pub(crate) async fn within_frame<F: Future>(
    mut frame: Frame,
    mut future: Pin<&mut F>,
) -> Timed<F::Output> {
    let mut timer = pin!(None::<Unconstrained<Sleep>>);
    let mut dropped_at = None;
    let in_time = poll_fn(|cx| {
        if let Poll::Ready(value) = frame.during(|| future.as_mut().poll(cx)) {
            return Poll::Ready(Some(value));
        }
        if timer.is_none() {
            let (asked_at, hard) = frame.start();
            dropped_at = Some(hard);
            timer.set(Some(unconstrained(sleep_until(asked_at))));
        }
        rings(timer.as_mut(), cx)
    });
    if let Some(value) = in_time.await {
        return Timed::InTime(value);
    }
    // Made if need be: somebody may ask only now.
    frame.token.get_or_insert_default().cancel();
    timer.set(dropped_at.map(|at| unconstrained(sleep_until(at))));
    let late = poll_fn(|cx| match frame.during(|| future.as_mut().poll(cx)) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => rings(timer.as_mut(), cx),
    });
    late.await.map_or(Timed::Aborted, Timed::Late)
}

/// Unconstrained, because a call that uses up its task's turn must not escape
/// its limit with that.
fn rings<T>(
    timer: Pin<&mut Option<Unconstrained<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    match timer.as_pin_mut() {
        Some(timer) => timer.poll(cx).map(|()| None),
        None => Poll::Pending,
    }
}

/// Resolves when the call that this is asked in should stop: the limit of its
/// [`Guard`](crate::Guard) or [`Subscribe::timeout`](crate::Subscribe::timeout),
/// or of one around it, has passed. It then has a tenth of the limit left
/// before it is dropped.
///
/// Never resolves outside of a call with a limit. The call it belongs to is the
/// one in which this function is called, not where the future is awaited: it
/// may be handed to a task that the call spawns.
///
/// ```
/// use std::time::Duration;
/// use swarmbus::Guard;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let guard = Guard::builder("report").timeout(Duration::from_secs(5)).build()?;
/// let rows = guard
///     .call(|| async {
///         let mut rows = 0;
///         let stop = swarmbus::cancelled();
///         tokio::pin!(stop);
///         loop {
///             tokio::select! {
///                 () = &mut stop => break,
///                 () = tokio::time::sleep(Duration::from_secs(1)) => rows += 1,
///             }
///         }
///         Ok::<_, std::io::Error>(rows)
///     })
///     .await?;
/// assert!(rows >= 4, "what there was in time");
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe.
pub fn cancelled() -> impl Future<Output = ()> + Send + Sync + 'static {
    let token = CALLS.with_borrow_mut(|calls| {
        let mut outer: Option<CancellationToken> = None;
        for call in calls {
            let token = call.token.get_or_insert_with(|| match &outer {
                Some(outer) => outer.child_token(),
                None => CancellationToken::new(),
            });
            outer = Some(token.clone());
        }
        outer
    });
    async move {
        match token {
            Some(token) => token.cancelled().await,
            None => pending().await,
        }
    }
}

/// How long the calls around this one have left; `None` without a limit.
pub(crate) fn left() -> Option<Duration> {
    if CALLS.with_borrow(Vec::is_empty) {
        return None;
    }
    let now = Instant::now();
    outer_limit(now).map(|until| until.saturating_duration_since(now))
}

thread_local! {
    /// The calls with a limit that this thread is inside of, outermost first.
    static CALLS: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// One call with a limit.
#[derive(Default)]
pub(crate) struct Frame {
    limit: Duration,
    /// Set when the call, or one inside it, first waits.
    until: Option<Instant>,
    /// Made when somebody inside asks for it.
    token: Option<CancellationToken>,
}

impl Frame {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, until: None, token: None }
    }

    /// Lets what runs in `poll` find this call.
    #[inline]
    pub(crate) fn during<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a mut Frame);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                if let Some(frame) = CALLS.with_borrow_mut(Vec::pop) {
                    *self.0 = frame;
                }
            }
        }
        CALLS.with_borrow_mut(|calls| calls.push(mem::take(self)));
        let _back = Back(self);
        poll()
    }

    /// When the call is asked to stop, and when it is dropped.
    fn start(&mut self) -> (Instant, Instant) {
        let now = Instant::now();
        let outer = outer_limit(now).map(|until| until.saturating_duration_since(now));
        let (soft, hard) = match Tier::Custom(self.limit).within(outer) {
            Some(limit) => (now + limit.soft(), now + limit.hard()),
            // The call around it has no time left.
            None => (now, now),
        };
        // One inside, in the same poll, may have looked already.
        let soft = self.until.map_or(soft, |until| until.min(soft));
        self.until = Some(soft);
        (soft, hard.max(soft))
    }
}

/// The nearest end of all calls that this thread is inside of. One that has
/// not waited so far began in this very poll: its time starts now.
fn outer_limit(now: Instant) -> Option<Instant> {
    CALLS.with_borrow_mut(|calls| {
        calls.iter_mut().map(|call| *call.until.get_or_insert(now + call.limit)).min()
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::ready};

    use tokio::time::sleep; // sleep: on the paused clock

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn timed<F: Future>(limit: Duration, future: F) -> (Timed<F::Output>, Duration) {
        let began = Instant::now();
        let timed = within(limit, pin!(future)).await;
        (timed, began.elapsed())
    }

    /// Timers have a resolution of a millisecond.
    fn about(took: Duration, expected: Duration) {
        let late = took.checked_sub(expected);
        assert!(late.is_some_and(|late| late < Duration::from_millis(3)), "{took:?}");
    }

    #[test]
    fn what_is_ready_needs_no_timer() {
        // Without a runtime, a timer would panic.
        let mut call = pin!(async { within(SECOND, pin!(ready(7))).await });
        let polled = call.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(polled, Poll::Ready(Timed::InTime(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_at_the_limit_and_drops_a_tenth_later() {
        let (timed_in, took) = timed(SECOND, sleep(SECOND / 2)).await;
        assert_eq!(timed_in, Timed::InTime(()));
        about(took, SECOND / 2);

        let asked = async {
            cancelled().await;
            "stopped"
        };
        let (late, took) = timed(SECOND, asked).await;
        assert_eq!(late, Timed::Late("stopped"));
        about(took, SECOND);

        let dropped = Cell::new(false);
        struct Told<'a>(&'a Cell<bool>);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let deaf = async {
            let _told = Told(&dropped);
            pending::<()>().await;
        };
        let (aborted, took) = timed(SECOND, deaf).await;
        assert_eq!(aborted, Timed::Aborted);
        assert!(dropped.get());
        about(took, SECOND + SECOND / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_inner_limit_never_outlives_the_outer_one() {
        let inner = async {
            let began = Instant::now();
            let timed = within(SECOND * 100, pin!(async { cancelled().await })).await;
            (timed, began.elapsed())
        };
        let (outer, took) = timed(SECOND, inner).await;
        let Timed::InTime((Timed::Late(()), inner_took)) = outer else { panic!("{outer:?}") };
        about(inner_took, SECOND * 9 / 10);
        about(took, SECOND * 9 / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_signal_reaches_every_call_inside() {
        // One that does not listen to its own limit hears of the outer one, too.
        let inner = async {
            let (own, task) = (cancelled(), tokio::spawn(cancelled()));
            own.await;
            task.await.is_ok()
        };
        let (outer, took) = timed(SECOND, async { within(SECOND, pin!(inner)).await }).await;
        assert_eq!(outer, Timed::InTime(Timed::Late(true)));
        about(took, SECOND * 9 / 10);
        let inner = async {
            let stop = cancelled();
            within(SECOND, pin!(pending::<()>())).await;
            stop.await;
        };
        let (outer, took) = timed(SECOND, inner).await;
        assert_eq!(outer, Timed::Late(()));
        about(took, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn outside_of_a_limit_nothing_is_ever_cancelled() {
        assert!(tokio::time::timeout(SECOND, cancelled()).await.is_err());
        assert_eq!(left(), None);
        let (inside, _) = timed(SECOND, async { left() }).await;
        assert_eq!(inside, Timed::InTime(Some(SECOND)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_rests_has_its_limit_all_the_same() {
        let busy = async {
            loop {
                tokio::task::coop::consume_budget().await;
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        };
        let (timed, _) = timed(SECOND / 100, busy).await;
        assert_eq!(timed, Timed::<()>::Aborted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_leaves_no_call_behind() {
        let task = tokio::spawn(async {
            within(SECOND, pin!(async { panic!("on purpose") })).await;
        });
        assert!(task.await.is_err());
        assert_eq!(left(), None);
    }
}
