//! [`StateError`]: why a store did not do what it was asked.

use std::{error::Error, time::Duration};

use super::{MAX_FIELDS, MAX_KEY_LEN, MAX_TTL, MAX_VALUE_LEN};

/// Why a [`StateStore`](super::StateStore) did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A key or a field is empty or too long.
    #[error("a key or a field is 1 to {MAX_KEY_LEN} bytes long, not {0}")]
    Name(usize),
    /// The value is too long.
    #[error("a value is at most {MAX_VALUE_LEN} bytes long, not {len}")]
    Value {
        /// Its length in bytes.
        len: usize,
    },
    /// The time to live is too short or too long.
    #[error("a time to live is 1 ms to {MAX_TTL:?}, not {0:?}")]
    Ttl(Duration),
    /// A hash where a value was asked for, or the other way round.
    #[error("the key holds the other kind: a hash is no value")]
    WrongKind,
    /// The hash has as many fields as it may have.
    #[error("a hash has at most {MAX_FIELDS} fields")]
    Fields,
    /// There is more to list than was allowed.
    #[error("there are more than {limit} keys")]
    TooMany {
        /// What was allowed.
        limit: usize,
    },
    /// The cursor was made by another store.
    #[error("the cursor is not one of this store")]
    Cursor,
    /// There is no room. Deleting makes some.
    #[error("the store is full")]
    Full,
    /// The store cannot be reached, or cannot serve at the moment. A write was
    /// made or was not.
    #[error("the store cannot be used now: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl StateError {
    /// [`Unavailable`](Self::Unavailable) because of something.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Whether the store is to blame, and not the call: the same call may
    /// succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
