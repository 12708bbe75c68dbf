//! [`CallError`]: why a guarded call has no result.

use std::time::Duration;

/// Why a guarded call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The circuit breaker is open: the operation was not begun.
    #[error("the breaker is open, try again in {retry_after:?}")]
    Rejected {
        /// When the breaker lets the next call through.
        retry_after: Duration,
    },
    /// As many calls run and wait as may: the operation was not begun.
    #[error("the bulkhead is full")]
    BulkheadFull,
    /// No place became free in time: the operation was not begun.
    #[error("no place in the bulkhead became free within {waited:?}")]
    BulkheadTimeout {
        /// [`Bulkhead::wait`](crate::Bulkhead::wait).
        waited: Duration,
    },
    /// More calls came than the rate allows: the operation was not begun.
    #[error("the rate is limited, try again in {retry_after:?}")]
    RateLimited {
        /// When the call would be taken if nobody else asked before.
        retry_after: Duration,
    },
    /// It took too long.
    #[error("timed out{}", if *aborted { " and was dropped" } else { "" })]
    TimedOut {
        /// It did not stop when it was asked to, and was dropped.
        aborted: bool,
    },
    /// The operation panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The operation failed.
    #[error("{0}")]
    Failed(#[source] E),
}
