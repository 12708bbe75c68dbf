//! [`ScheduleStore`]: where schedules are kept over a restart.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use swarmbus_core::{Event, Str, Timestamp};

use super::{
    error::IdError,
    plan::{Missed, Plan},
};

/// Names one schedule of a bus: a name that the program chose, or a UUID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(Str);

impl ScheduleId {
    /// Longest id in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks and keeps a name.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than [`MAX_LEN`](Self::MAX_LEN), or has
    /// control characters in it.
    pub fn new(name: impl AsRef<str>) -> Result<Self, IdError> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > Self::MAX_LEN {
            return Err(IdError::Length(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(IdError::Control);
        }
        Ok(Self(name.into()))
    }

    pub(super) fn generated(id: &swarmbus_core::EventId) -> Self {
        Self(id.to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A schedule as it stands: what a list shows and a store keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its name.
    pub id: ScheduleId,
    /// When it fires.
    pub plan: Plan,
    /// What becomes of times that it missed.
    pub missed: Missed,
    /// What it publishes, again and again: without an id and a timestamp.
    pub event: Event,
    /// When it fires next. For [`Plan::After`] and [`Plan::Every`] this is
    /// when the wall clock will show it unless that is set.
    pub next: Timestamp,
}

/// One thing for a store to write down.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleChange {
    /// Keep this, in the place of what had its id.
    Save(Schedule),
    /// Keep nothing under this id, if there is anything.
    Remove(ScheduleId),
}

impl ScheduleChange {
    /// The id that it is about.
    pub fn id(&self) -> &ScheduleId {
        match self {
            Self::Save(schedule) => &schedule.id,
            Self::Remove(id) => id,
        }
    }
}

/// What a store had.
#[derive(Clone, Debug, Default)]
pub struct LoadedSchedules {
    /// What can be used.
    pub schedules: Vec<Schedule>,
    /// What cannot be read, and stays where it is until somebody removes it.
    pub damaged: Vec<DamagedSchedule>,
}

/// A stored schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSchedule {
    /// Its id, as it is stored.
    pub id: String,
    /// What is wrong with it, for people.
    pub reason: String,
}

/// Keeps schedules over a restart.
///
/// Set with [`ScheduleConfig::store`](super::ScheduleConfig::store). One bus
/// uses a store at a time, and makes one call at a time. A panic counts as
/// [`ScheduleStoreError::Panicked`].
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Everything that is kept.
    ///
    /// # Errors
    ///
    /// When nothing can be read. What cannot be read by itself belongs into
    /// [`LoadedSchedules::damaged`].
    async fn load(&self) -> Result<LoadedSchedules, ScheduleStoreError>;

    /// Makes all changes, in their order, or none. Returns when they would
    /// survive a crash of the process.
    ///
    /// # Errors
    ///
    /// When nothing was changed. The bus tries again.
    async fn write(&self, changes: &[ScheduleChange]) -> Result<(), ScheduleStoreError>;
}

/// Why a store did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleStoreError {
    /// It could not read or write.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// It panicked; the bus caught it.
    #[error("the store of schedules panicked: {0}")]
    Panicked(String),
}

/// A store in memory, for tests and for programs that build a bus anew
/// without ending. Clones share what they keep.
#[derive(Clone, Debug, Default)]
pub struct MemorySchedules(Arc<Mutex<HashMap<ScheduleId, Schedule>>>);

#[async_trait]
impl ScheduleStore for MemorySchedules {
    async fn load(&self) -> Result<LoadedSchedules, ScheduleStoreError> {
        let schedules = self.0.lock().values().cloned().collect();
        Ok(LoadedSchedules { schedules, damaged: Vec::new() })
    }

    async fn write(&self, changes: &[ScheduleChange]) -> Result<(), ScheduleStoreError> {
        let mut kept = self.0.lock();
        for change in changes {
            match change {
                ScheduleChange::Save(schedule) => {
                    kept.insert(schedule.id.clone(), schedule.clone());
                }
                ScheduleChange::Remove(id) => {
                    kept.remove(id);
                }
            }
        }
        Ok(())
    }
}
