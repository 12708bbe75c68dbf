//! [`Leases`] and [`Lease`]: getting one, keeping it, and knowing when it is
//! lost.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Grant, LeaseError, LeaseStore, check};

/// Gets leases from a store. Clones share it. See the [module](super).
#[derive(Clone)]
pub struct Leases {
    store: Arc<dyn LeaseStore>,
}

/// A lease that is held, until it is lost or released.
///
/// A task renews it. Dropped, it is released in the background; at the latest
/// its time runs out.
pub struct Lease {
    /// Ends the task, which releases the lease. It comes first, for without
    /// `term` the task ends and releases nothing.
    alive: Option<DropGuard>,
    term: watch::Receiver<Term>,
    shared: Arc<Holding>,
}

/// What the task that renews needs.
struct Holding {
    store: Arc<dyn LeaseStore>,
    name: String,
    holder: String,
    token: u64,
    ttl: Duration,
}

/// For how long it is certainly ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    Until(Instant),
    Over,
}

impl Leases {
    /// From a store: `RedisLeases` of `swarmbus-redis`, or
    /// [`MemoryLeases`](super::MemoryLeases).
    pub fn new(store: impl LeaseStore) -> Self {
        Self { store: Arc::new(store) }
    }

    /// The lease of this name for `ttl` and as long as it is renewed, if it is
    /// free.
    ///
    /// Cancelled in the middle, the lease may stay taken for `ttl`.
    ///
    /// # Errors
    ///
    /// See [`LeaseError`].
    pub async fn try_acquire(
        &self,
        name: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, LeaseError> {
        let holder = new_holder();
        Ok(self.ask(name, &holder, ttl).await?.ok())
    }

    /// Waits until the lease is free, and takes it. Those who wait get it in no
    /// order. Store errors are waited out, for a store may come back.
    ///
    /// Cancelled in the middle, the lease may stay taken for `ttl`.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Name`], [`LeaseError::Ttl`].
    pub async fn acquire(&self, name: &str, ttl: Duration) -> Result<Lease, LeaseError> {
        check(name, ttl)?;
        // The same all the time: an answer that was lost comes again.
        let holder = new_holder();
        loop {
            let left = match self.ask(name, &holder, ttl).await {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(left)) => left,
                Err(LeaseError::Unavailable(_) | LeaseError::Full) => ttl,
                Err(error) => return Err(error),
            };
            // It may be released before its time is over. Some chance, so that
            // those who wait do not ask all at once.
            let longest = left.min(ttl / 3).max(Duration::from_millis(10));
            sleep(longest.mul_f64(fastrand::f64().max(0.1))).await;
        }
    }

    /// The lease, or how long it is somebody else's.
    async fn ask(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Result<Lease, Duration>, LeaseError> {
        check(name, ttl)?;
        // Before the question: on the store the time begins later.
        let asked = Instant::now();
        match self.store.acquire(name, holder, ttl).await? {
            Grant::Granted { token } => Ok(Ok(self.hold(name, holder, token, asked, ttl))),
            Grant::Held { left } => Ok(Err(left)),
        }
    }

    fn hold(&self, name: &str, holder: &str, token: u64, asked: Instant, ttl: Duration) -> Lease {
        let shared = Arc::new(Holding {
            store: Arc::clone(&self.store),
            name: name.to_owned(),
            holder: holder.to_owned(),
            token,
            ttl,
        });
        let (sender, term) = watch::channel(Term::Until(asked + sure(ttl)));
        let end = CancellationToken::new();
        tokio::spawn(keep(Arc::clone(&shared), sender, end.clone()));
        Lease { alive: Some(end.drop_guard()), term, shared }
    }
}

impl Lease {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its fencing token, higher than that of every lease of this name before:
    /// see [`Fence`](super::Fence).
    pub fn token(&self) -> u64 {
        self.shared.token
    }

    /// Whether it is certainly ours at this moment. What is done after the
    /// answer may be too late: that is what the [token](Self::token) is for.
    pub fn is_held(&self) -> bool {
        matches!(*self.term.borrow(), Term::Until(end) if Instant::now() < end)
    }

    /// Returns when the lease is lost: its time ran out, somebody else has it,
    /// or the store forgot it.
    ///
    /// Cancel safe.
    pub async fn lost(&self) {
        let mut term = self.term.clone();
        loop {
            let Term::Until(end) = *term.borrow_and_update() else { return };
            tokio::select! {
                changed = term.changed() => if changed.is_err() { return },
                // The task that should say so may be late itself.
                () = sleep_until(end) => if !self.is_held() { return },
            }
        }
    }

    /// Gives it back, so that the next one need not wait for its time to end.
    /// It was lost if it was somebody else's already, which is no error.
    ///
    /// Cancelled in the middle, its time runs out.
    ///
    /// # Errors
    ///
    /// See [`LeaseError`]: its time runs out.
    pub async fn release(mut self) -> Result<(), LeaseError> {
        if let Some(alive) = self.alive.take() {
            // The task must neither renew nor release it any more.
            alive.disarm();
        }
        let Holding { store, name, holder, token, .. } = &*self.shared;
        store.release(name, holder, *token).await.map(drop)
    }
}

/// Renews the lease until it is lost or nobody wants it.
async fn keep(shared: Arc<Holding>, term: watch::Sender<Term>, end: CancellationToken) {
    let Holding { store, name, holder, token, ttl } = &*shared;
    let renewing = async {
        let mut next = Instant::now() + *ttl / 3;
        loop {
            let Term::Until(limit) = *term.borrow() else { return };
            sleep_until(next.min(limit)).await;
            let asked = Instant::now();
            if asked >= limit {
                return;
            }
            match timeout_at(limit, store.renew(name, holder, *token, *ttl)).await {
                Ok(Ok(true)) => {
                    term.send_replace(Term::Until(asked + sure(*ttl)));
                    next = asked + *ttl / 3;
                }
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(_)) => next = asked + *ttl / 10,
            }
        }
    };
    let wanted = tokio::select! {
        biased;
        // Nobody looks any more: released, or dropped.
        () = end.cancelled() => false,
        () = term.closed() => return,
        () = renewing => true,
    };
    term.send_replace(Term::Over);
    if wanted {
        tracing::warn!(name, token, "a lease was lost");
    } else {
        // As well as it can be; later its time is over anyway.
        let _ = timeout(*ttl, store.release(name, holder, *token)).await;
    }
}

/// Of the time of a lease, what the holder counts on: the rest is for clocks
/// that run at other speeds, and for stopping in time.
fn sure(ttl: Duration) -> Duration {
    ttl - ttl / 10
}

fn new_holder() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leases")
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", &self.name())
            .field("token", &self.token())
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}
