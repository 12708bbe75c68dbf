//! [`Dispatcher`]: a caller of `dispatch` that keeps what others borrow.

use swarmbus_core::Event;

use crate::{
    bus::Bus,
    error::DispatchError,
    runner::{Delivery, Runner},
};

/// Dispatches like [`Bus::dispatch`] and spares what each call of that costs
/// first: it keeps the route cache and the ledger cells that others borrow and
/// give back. For a task that dispatches in a tight loop.
///
/// While it rests it may hold on to handlers that are no longer subscribed,
/// with everything that they captured: they are not called any more, and are
/// let go at the next dispatch or when it is dropped.
///
/// ```
/// use swarmbus::{Bus, Event};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder().build()?;
/// let _handler = bus.subscribe("tick").handle(|_: &Event| ())?;
/// let mut dispatcher = bus.dispatcher();
/// for _ in 0..1_000 {
///     assert_eq!(dispatcher.dispatch(&Event::of("tick", ())).await?.delivered, 1);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Dispatcher {
    bus: Bus,
    /// `None` only while being dropped.
    runner: Option<Box<Runner>>,
    /// Its place in the pool; `None` for one that was made for this.
    home: Option<usize>,
}

impl Dispatcher {
    pub(crate) fn new(bus: Bus) -> Self {
        let (home, runner) = bus.inner().pool.take();
        Self { bus, runner: Some(runner), home }
    }

    /// Runs an event through its handlers here and now.
    ///
    /// # Errors
    ///
    /// See [`DispatchError`]; no handler has run then.
    ///
    /// # Cancel safety
    ///
    /// As for [`Bus::dispatch`].
    #[inline]
    pub async fn dispatch(&mut self, event: &Event) -> Result<Delivery, DispatchError> {
        let inner = self.bus.inner();
        let Some(runner) = self.runner.as_deref_mut() else { return Err(DispatchError::Closed) };
        match inner.dispatch_now_on(runner, event) {
            Some(delivery) => Ok(delivery),
            None => inner.dispatch_on(runner, event).await,
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        let inner = self.bus.inner();
        if let (Some(home), Some(runner)) = (self.home, self.runner.take()) {
            inner.pool.give_back(inner, home, runner);
        }
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dispatcher({:?})", self.bus)
    }
}
