//! [`Leases`]: one of many may do it, for a while, and can prove when.
//!
//! ```
//! use std::time::Duration;
//! use swarmbus::lease::{Fence, Leases, MemoryLeases};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let leases = Leases::new(MemoryLeases::new());
//! let lease = leases.try_acquire("leader", Duration::from_secs(10)).await?.expect("free");
//! assert!(leases.try_acquire("leader", Duration::from_secs(10)).await?.is_none());
//!
//! // What only the leader may write to turns away those before it.
//! let fence = Fence::new();
//! fence.admit(lease.token())?;
//! tokio::select! {
//!     () = lease.lost() => { /* stop leading */ }
//!     () = async { /* lead */ } => {}
//! }
//! lease.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a lease promises
//!
//! While its store works and clocks run, one holder at a time. A lease renews
//! itself after a third of its time. If that fails until a tenth of the time
//! is left, the holder counts it as lost, before the store gives it to
//! somebody else: [`Lease::lost`], [`Lease::is_held`].
//!
//! # What it cannot promise, and the token
//!
//! A holder may stop in the middle of its work, for longer than the lease
//! lasts, and not know: the process was frozen, the machine was asleep, a
//! write was slow on its way. And a store counts the time by its own clock: if
//! that jumps ahead, or a copy without the lease takes over, two believe that
//! they hold it. No amount of checking before the work helps against this. So
//! every lease has a **fencing token**, a number that is higher than that of
//! every lease of its name before. Send it with each write, and have whatever
//! is written to keep the highest it has seen and refuse lower ones, as
//! [`Fence`] does.
//!
//! The holder's own time is taken from a clock that only goes forward, from
//! *before* the store was asked; the wall clock's jumps do not matter to it.

mod fence;
mod handle;
mod memory;

#[cfg(feature = "test-util")]
pub mod conformance;

use std::{error::Error, time::Duration};

use async_trait::async_trait;

pub use self::{
    fence::{Fence, Stale},
    handle::{Lease, Leases},
    memory::MemoryLeases,
};

/// Longest name of a lease in bytes.
pub const MAX_NAME_LEN: usize = 200;
/// Shortest time of a lease.
pub const MIN_TTL: Duration = Duration::from_millis(100);
/// Longest time of a lease: a day.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps leases for all who use it: for those who write a store. Use
/// [`Leases`].
///
/// # The contract
///
/// - A lease belongs to the holder and the token that it was granted with,
///   until its time is over or it is released. Meanwhile nobody else gets one
///   of this name.
/// - Tokens of one name only grow: after the end of a lease, after a restart
///   of the store, and as far as it can after a loss of its data.
/// - `acquire` by the holder of the lease gives the same token again, with the
///   time beginning anew: it may be repeated when an answer was lost.
/// - Each call is one step. A call that is dropped was made or was not.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Grants a lease if it is free.
    ///
    /// # Errors
    ///
    /// See [`LeaseError`]; so for all calls.
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Grant, LeaseError>;

    /// Begins the time of a lease anew; `false` if it is not this holder's any
    /// more.
    async fn renew(
        &self,
        name: &str,
        holder: &str,
        token: u64,
        ttl: Duration,
    ) -> Result<bool, LeaseError>;

    /// Ends a lease; `false` if it was not this holder's any more.
    async fn release(&self, name: &str, holder: &str, token: u64) -> Result<bool, LeaseError>;
}

/// The answer of a [`LeaseStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It is yours.
    Granted {
        /// Higher than every one of this name before.
        token: u64,
    },
    /// It is somebody else's.
    Held {
        /// For so long, unless it is renewed or released.
        left: Duration,
    },
}

/// Why a lease was not granted, renewed or released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The name is empty or too long.
    #[error("the name of a lease is 1 to {MAX_NAME_LEN} bytes long, not {0}")]
    Name(usize),
    /// The time is too short or too long.
    #[error("a lease is for {MIN_TTL:?} to {MAX_TTL:?}, not {0:?}")]
    Ttl(Duration),
    /// The store has as many leases as it can keep.
    #[error("there are as many leases as the store can keep")]
    Full,
    /// The store cannot be reached, or cannot serve at the moment. The call
    /// was made or was not.
    #[error("the store of leases cannot be used now: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl LeaseError {
    /// [`Unavailable`](Self::Unavailable) because of something.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// Checks name and time, for those who write a store.
///
/// # Errors
///
/// [`LeaseError::Name`], [`LeaseError::Ttl`].
pub fn check(name: &str, ttl: Duration) -> Result<(), LeaseError> {
    if !(1..=MAX_NAME_LEN).contains(&name.len()) {
        return Err(LeaseError::Name(name.len()));
    }
    if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
        return Err(LeaseError::Ttl(ttl));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
