//! [`Fence`]: the side of what a lease protects.

use std::sync::atomic::{AtomicU64, Ordering};

/// Turns away who was overtaken: stands before something that only the holder
/// of a lease may change.
///
/// It remembers the highest token that it has seen. One fence belongs to one
/// name of a lease, and to one thing that is protected; a thing that outlives
/// its process keeps the number with its data instead.
///
/// ```
/// use swarmbus::lease::Fence;
///
/// let fence = Fence::new();
/// assert!(fence.admit(7).is_ok());
/// assert!(fence.admit(9).is_ok());
/// assert_eq!(fence.admit(8).unwrap_err().newest, 9);
/// ```
#[derive(Debug, Default)]
pub struct Fence(AtomicU64);

/// A holder after this one has been here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease with token {token} is over: {newest} has been here")]
pub struct Stale {
    /// The token that was refused.
    pub token: u64,
    /// The highest that was seen.
    pub newest: u64,
}

impl Fence {
    /// One that has seen nobody.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Lets the newest holder through, as often as it comes.
    ///
    /// # Errors
    ///
    /// [`Stale`], if one with a higher token has come.
    pub fn admit(&self, token: u64) -> Result<(), Stale> {
        let newest = self.0.fetch_max(token, Ordering::AcqRel);
        if token >= newest { Ok(()) } else { Err(Stale { token, newest }) }
    }
}
