//! Handlers: the closures of the program, made callable without knowing them.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::{Context, Poll},
};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use swarmbus_core::{Event, event::PayloadError};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    bus::MAX_NESTING,
    stall::{Frame, current_frame, within},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a handler did not handle an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The handler returned an error.
    #[error(fmt = show)]
    Failed(#[source] BoxError),
    /// The handler panicked; the bus caught it.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The payload does not fit the type that the handler asks for.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// It took longer than its time-out.
    #[error("timed out{}", if *aborted { " and was dropped" } else { "" })]
    TimedOut {
        /// It did not stop when it was asked to, and was dropped.
        aborted: bool,
    },
}

/// The error is the program's, and workers log it.
fn show(error: &BoxError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match contain(|| write!(f, "{error}")) {
        Ok(result) => result,
        Err(_) => f.write_str("an error that panics when it is shown"),
    }
}

/// What a call of a handler comes to. Boxed so that success is one word.
pub(crate) type HandlerResult = Result<(), Box<HandlerError>>;

/// What a handler may return: nothing, or a `Result` whose error is any error
/// type or a string.
pub trait IntoHandlerResult {
    /// The error, if it failed.
    fn into_handler_result(self) -> Result<(), Box<HandlerError>>;
}

impl IntoHandlerResult for () {
    #[inline]
    fn into_handler_result(self) -> HandlerResult {
        Ok(())
    }
}

impl<E: Into<BoxError>> IntoHandlerResult for Result<(), E> {
    #[inline]
    fn into_handler_result(self) -> HandlerResult {
        self.map_err(|error| Box::new(HandlerError::Failed(error.into())))
    }
}

/// A plain function.
pub(crate) type SyncHandler = dyn Fn(&Event) -> HandlerResult + Send + Sync;

/// A handler of either kind.
pub(crate) enum Handler {
    /// Runs to its end in the thread that calls.
    Sync(Box<SyncHandler>),
    /// Gives a future.
    Async(Box<dyn StartFuture>),
}

impl Handler {
    pub(crate) fn is_async(&self) -> bool {
        matches!(self, Self::Async(_))
    }

    pub(crate) fn sync<F, R>(f: F) -> Self
    where
        F: Fn(&Event) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        Self::Sync(Box::new(move |event| f(event).into_handler_result()))
    }

    pub(crate) fn sync_typed<T, F, R>(f: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(T) -> R + Send + Sync + 'static,
        R: IntoHandlerResult,
    {
        Self::Sync(Box::new(move |event| {
            let value = event.decode().map_err(|error| Box::new(error.into()))?;
            f(value).into_handler_result()
        }))
    }

    pub(crate) fn future<F, Fut>(f: F) -> Self
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self::Async(Box::new(Starter(move |event| {
            let future = f(event);
            async move { future.await.into_handler_result() }
        })))
    }

    pub(crate) fn future_typed<T, F, Fut>(f: F) -> Self
    where
        T: DeserializeOwned + Send,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        Self::Async(Box::new(Starter(move |event: Event| {
            let started = event.decode().map(&f);
            async move {
                match started {
                    Ok(future) => future.await.into_handler_result(),
                    Err(error) => Err(Box::new(error.into())),
                }
            }
        })))
    }
}

/// A future of a handler, in an allocation that the next one uses again.
pub(crate) type FutureSlot = Option<ReusableBoxFuture<'static, HandlerResult>>;

/// One slot for each runner that may call the handler.
#[derive(Default)]
pub(crate) struct FutureSlots(Box<[Mutex<FutureSlot>]>);

impl FutureSlots {
    pub(crate) fn new(runners: usize) -> Self {
        Self((0..runners).map(|_| Mutex::default()).collect())
    }

    /// Calls an async handler to its end.
    ///
    /// Cancel safe: dropping the future drops the handler's.
    pub(crate) async fn call(
        &self,
        runner: usize,
        handler: &dyn StartFuture,
        event: Event,
        bus: BusId,
    ) -> HandlerResult {
        self.start(runner, handler, event, bus)?.await
    }

    /// Begins such a call.
    #[inline]
    pub(crate) fn start(
        &self,
        runner: usize,
        handler: &dyn StartFuture,
        event: Event,
        bus: BusId,
    ) -> Result<Started<'_>, Box<HandlerError>> {
        let home = &self.0[runner];
        // Taken out, not locked: a nested call through the same runner finds
        // the slot empty and allocates.
        // Dropped with a future in it, the call was cut off.
        let mut in_use = Careful(home.lock().take());
        in_handler(bus, || handler.start(event, &mut in_use.0))?;
        // The last is nobody's in particular: whoever calls has set a frame.
        let own = runner + 1 < self.0.len();
        let frame = own.then_some(Frame::Runner(runner));
        Ok(Started { in_use, home, bus, frame })
    }
}

/// Something of the program's, whose destructor must not end a worker.
pub(crate) struct Careful<T>(pub(crate) Option<T>);

impl<T> Drop for Careful<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(thing) = self.0.take() {
            discard(thing);
        }
    }
}

/// Makes a future of an event, in a slot.
pub(crate) trait StartFuture: Send + Sync {
    fn start(&self, event: Event, slot: &mut FutureSlot) -> HandlerResult;
}

struct Starter<F>(F);

impl<F, Fut> StartFuture for Starter<F>
where
    F: Fn(Event) -> Fut + Send + Sync,
    Fut: Future<Output = HandlerResult> + Send + 'static,
{
    fn start(&self, event: Event, slot: &mut FutureSlot) -> HandlerResult {
        let future = (self.0)(event);
        match slot {
            Some(slot) => slot.set(future),
            None => *slot = Some(ReusableBoxFuture::new(future)),
        }
        Ok(())
    }
}

/// A handler at work: a panic is a failure, and publishing from within is
/// noticed.
pub(crate) struct Started<'a> {
    in_use: Careful<ReusableBoxFuture<'static, HandlerResult>>,
    /// Where its memory goes back to.
    home: &'a Mutex<FutureSlot>,
    bus: BusId,
    frame: Option<Frame>,
}

impl Future for Started<'_> {
    type Output = HandlerResult;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HandlerResult> {
        let this = &mut *self;
        let Some(future) = &mut this.in_use.0 else { return Poll::Ready(Ok(())) };
        let mut polled = Poll::Pending;
        let caught = within(this.frame.unwrap_or_else(current_frame), || {
            in_handler(this.bus, || {
                polled = future.poll(cx);
                Ok(())
            })
        });
        let result = match (caught, polled) {
            (Ok(()), Poll::Pending) => return Poll::Pending,
            (Ok(()), Poll::Ready(result)) => result,
            (Err(panicked), _) => Err(panicked),
        };
        let earlier = mem::replace(&mut *this.home.lock(), this.in_use.0.take());
        // What a nested call left there is the program's to drop, unlocked.
        drop(earlier);
        Poll::Ready(result)
    }
}

/// Tells buses apart, by one bit. Of more than 64 buses some share one: a
/// handler of one that publishes to the other is then not made to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusId(u64);

impl BusId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(1 << (NEXT.fetch_add(1, Relaxed) % u64::BITS))
    }
}

thread_local! {
    /// What this thread is doing.
    static PLACE: Cell<Place> = const { Cell::new(Place { buses: 0, depth: 0, outermost: 0 }) };
}

#[derive(Clone, Copy)]
struct Place {
    /// A bit for each bus that has a handler running.
    buses: u64,
    /// How many handlers are running inside each other.
    depth: u32,
    /// Where on the stack the first of them is; means nothing if there is none.
    outermost: u32,
}

/// How much of the stack handlers inside each other may use, in bytes: half of
/// what threads have by default. Without optimization one level takes 25 to
/// 55 KB, and what the program's own futures have in them comes on top.
const MAX_STACK: u32 = 1 << 20;

/// Whether the caller is a handler of this bus. A handler must not wait for
/// room in the queue that it is meant to empty.
#[inline]
pub(crate) fn is_handling(bus: BusId) -> bool {
    PLACE.get().buses & bus.0 != 0
}

/// How many handlers the current call is nested in, if there is no room for
/// one more.
#[inline]
pub(crate) fn too_deep() -> Option<u32> {
    let Place { depth, outermost, .. } = PLACE.get();
    let used = || (outermost.wrapping_sub(place_on_stack()) as i32).unsigned_abs();
    (depth > 0 && (depth >= MAX_NESTING || used() > MAX_STACK)).then_some(depth)
}

/// About where the caller is on the stack: the low half of an address, of which
/// only differences mean something.
#[inline(always)]
fn place_on_stack() -> u32 {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr() as u32
}

/// Runs a piece of a handler: a panic becomes its failure.
#[inline]
pub(crate) fn in_handler<T>(
    bus: BusId,
    f: impl FnOnce() -> Result<T, Box<HandlerError>>,
) -> Result<T, Box<HandlerError>> {
    let outer = PLACE.get();
    let outermost = if outer.depth == 0 { place_on_stack() } else { outer.outermost };
    PLACE.set(Place { buses: outer.buses | bus.0, depth: outer.depth + 1, outermost });
    let caught = catch_unwind(AssertUnwindSafe(f));
    PLACE.set(outer);
    match caught {
        Ok(result) => result,
        Err(panic) => Err(panicked(panic)),
    }
}

/// A handler's future, boxed. Those of events have [`FutureSlots`] instead.
pub(crate) type BoxedCall<T> = Pin<Box<dyn Future<Output = Result<T, Box<HandlerError>>> + Send>>;

/// Calls a handler to its end: a panic is its failure, and one of its
/// destructors, should it be cut off, is logged.
pub(crate) async fn call<T>(
    bus: BusId,
    start: impl FnOnce() -> Option<BoxedCall<T>>,
) -> Result<T, Box<HandlerError>> {
    let mut future = Careful(in_handler(bus, || Ok(start()))?);
    poll_fn(|cx| {
        // `Careful` is empty only while it is dropped.
        let Some(future) = &mut future.0 else { return Poll::Pending };
        match in_handler(bus, || Ok(future.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    })
    .await
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Box<HandlerError> {
    Box::new(HandlerError::Panicked(panic_text(panic)))
}

/// Polls a piece of the program that is no handler, so that its panic is an
/// error: the message.
pub(crate) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(|cx| match contain(|| future.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Does a piece of the program that is no handler, so that its panic is an
/// error: the message.
pub(crate) fn contain<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(panic_text)
}

/// Drops something of the program's, whose destructor must not end a worker.
pub(crate) fn discard<T>(thing: T) {
    if let Err(panic) = contain(|| drop(thing)) {
        tracing::error!(panic, "a handler or its error panicked when dropped");
    }
}

/// The message of a panic, which is nearly always a string.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    };
    // It may panic again when it is dropped. That ends here.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(again);
    }
    text
}
