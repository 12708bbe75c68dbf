//! What can go wrong with schedules: one enum for each operation.

use std::sync::Arc;

use swarmbus_core::codec::EncodeError;

use super::{
    cron::CronError,
    plan::{MAX_FIRE_ALL, MIN_PERIOD},
    store::{ScheduleId, ScheduleStoreError},
};

/// Why text is not a [`ScheduleId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Empty, or too long.
    #[error("a schedule's name has 1 to {max} bytes, this one has {0}", max = ScheduleId::MAX_LEN)]
    Length(usize),
    /// It has control characters in it.
    #[error("a schedule's name has no control characters")]
    Control,
}

/// Why a schedule was not made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Its name is not one.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The bus has as many schedules as it may.
    #[error("the bus has {limit} schedules, which is its limit")]
    TooMany {
        /// [`ScheduleConfig::capacity`](super::ScheduleConfig::capacity).
        limit: usize,
    },
    /// [`Plan::Every`](super::Plan::Every) is shorter than [`MIN_PERIOD`].
    #[error("at least {MIN_PERIOD:?} must lie between two firings")]
    Period,
    /// [`Missed::FireAll`](super::Missed::FireAll) has another limit than 1 to
    /// [`MAX_FIRE_ALL`].
    #[error("the limit of missed firings is 1 to {MAX_FIRE_ALL}")]
    FireAllLimit,
    /// The cron expression is not one.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// The cron expression names no time that is still to come.
    #[error("the cron expression names no time that is still to come")]
    Never,
    /// What it would publish does not fit into a frame, and so into no store.
    #[error(transparent)]
    Event(#[from] EncodeError),
    /// [`Schedules::restore`](super::Schedules::restore) comes first: a
    /// schedule that is stored must not be overwritten unseen.
    #[error("the bus has a store of schedules, which is to be restored first")]
    NotRestored,
    /// The store could not keep it.
    #[error("the store of schedules failed: {0}")]
    Store(#[source] Arc<ScheduleStoreError>),
    /// The bus is shutting down.
    #[error("the bus is closed")]
    Closed,
}

/// Why the end of a schedule is not certain.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CancelError {
    /// It fires no more, but the store still has it. The bus goes on trying to
    /// have it removed; after a crash before that it would be back.
    #[error("the schedule is cancelled, but its store failed: {0}")]
    Store(#[source] Arc<ScheduleStoreError>),
    /// [`Schedules::restore`](super::Schedules::restore) comes first: it would
    /// bring back what the store has.
    #[error("the bus has a store of schedules, which is to be restored first")]
    NotRestored,
    /// The bus is shutting down. Whether the schedule was still removed from
    /// the store is not known.
    #[error("the bus is closed")]
    Closed,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The store could not be read.
    #[error("the store of schedules failed: {0}")]
    Store(#[source] ScheduleStoreError),
    /// The store has more than the bus may have.
    #[error("the store has {found} schedules, and the bus may have {limit}")]
    TooMany {
        /// How many are stored.
        found: usize,
        /// [`ScheduleConfig::capacity`](super::ScheduleConfig::capacity).
        limit: usize,
    },
    /// It was done before.
    #[error("the schedules were restored before")]
    Twice,
    /// The bus is shutting down.
    #[error("the bus is closed")]
    Closed,
}
