//! Which call of the bus the current thread is in, so that a command knows who
//! waits for it.

use std::{cell::Cell, future::Future, pin::pin};

use super::graph::NodeId;

/// A call of the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Frame {
    /// None.
    #[default]
    Nobody,
    /// An async handler, by the cell of its runner. Plain ones cannot wait.
    Runner(usize),
    /// A command, or a handler without a runner of its own.
    Call(NodeId),
}

thread_local! {
    static CURRENT: Cell<Frame> = const { Cell::new(Frame::Nobody) };
}

pub(crate) fn current() -> Frame {
    CURRENT.get()
}

/// Does a piece of a call, which must not unwind.
#[inline]
pub(crate) fn within<T>(frame: Frame, f: impl FnOnce() -> T) -> T {
    let outer = CURRENT.replace(frame);
    let done = f();
    CURRENT.set(outer);
    done
}

/// Polls `future` as a part of a call.
pub(crate) async fn framed<F: Future>(frame: Frame, future: F) -> F::Output {
    /// Sets the frame back even if the poll unwinds, as middleware may.
    struct Outer(Frame);

    impl Drop for Outer {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }

    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let _outer = Outer(CURRENT.replace(frame));
        future.as_mut().poll(cx)
    })
    .await
}
