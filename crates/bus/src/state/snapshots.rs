//! [`Snapshots`]: one value, saved so that some of it can always be read.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use swarmbus_core::Timestamp;

use super::{MAX_KEY_LEN, StateError, StateStore, check_ttl};
use crate::clock::BusClock;

/// Saves a value in a [`StateStore`], as JSON that people and other programs
/// can read.
///
/// There are three places for it, and [`restore`](Self::restore) looks into
/// them in this order:
///
/// 1. the **state**, written by [`save`](Self::save), as often as it changes;
/// 2. the **checkpoint**, written by [`checkpoint`](Self::checkpoint) when the
///    program knows that all is well;
/// 3. **snapshots**, the last ten that [`snapshot`](Self::snapshot) wrote, the
///    newest first.
///
/// What cannot be read is skipped, and told. Everything is gone a day after it
/// was written ([`ttl`](SnapshotsBuilder::ttl)).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use swarmbus::state::{Found, MemoryState, Snapshots, StateStore};
///
/// #[derive(Serialize, Deserialize)]
/// struct Plan { steps: Vec<String> }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryState::new();
/// let plans = Snapshots::<Plan>::builder(store.clone(), "planner").build()?;
/// let mut plan = Plan { steps: vec!["look".into()] };
/// plans.snapshot(&plan).await?;
/// plan.steps.push("leap".into());
/// plans.save(&plan).await?;
///
/// store.set("planner:state", "half a ".into(), None).await?;
/// let restored = plans.restore().await?.expect("something was saved");
/// assert_eq!(restored.from, Found::Snapshot(1));
/// assert_eq!(restored.value.steps, ["look"]);
/// assert_eq!(restored.skipped.len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Snapshots<T> {
    store: Arc<dyn StateStore>,
    name: String,
    keep: u64,
    ttl: Option<Duration>,
    of: PhantomData<fn(T) -> T>,
}

/// Settings of [`Snapshots`].
#[must_use]
pub struct SnapshotsBuilder<T>(Snapshots<T>);

/// Where a restored value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The state.
    State,
    /// The checkpoint.
    Checkpoint,
    /// The snapshot of this number.
    Snapshot(u64),
}

/// A value that was read again.
#[derive(Clone, Debug)]
pub struct Restored<T> {
    /// The value.
    pub value: T,
    /// Where it was.
    pub from: Found,
    /// When it was saved, by the clock of who did.
    pub saved_at: Timestamp,
    /// What was newer and could not be read.
    pub skipped: Vec<Unreadable>,
}

/// Something saved that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its key in the store.
    pub key: String,
    /// What is wrong with it, for people.
    pub why: String,
}

/// One entry of [`Snapshots::list`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its number; they grow.
    pub number: u64,
    /// When it was saved, by the clock of who did.
    pub saved_at: Timestamp,
    /// Its length in bytes.
    pub bytes: usize,
}

/// Why a value was not saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// It cannot be written as JSON.
    #[error("the value is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StateError),
    /// Others take snapshots of the same name all the time.
    #[error("too many take snapshots of the same name at once")]
    Contended,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The store failed. Something older is no answer to that.
    #[error(transparent)]
    Store(#[from] StateError),
    /// Something was saved, and nothing of it can be read.
    #[error("nothing of what was saved can be read ({} places)", skipped.len())]
    Unreadable {
        /// All of it.
        skipped: Vec<Unreadable>,
    },
}

/// Changes with what is written here.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved<T> {
    format: u32,
    number: u64,
    /// Microseconds since 1970.
    saved_at: u64,
    state: T,
}

impl<T> Snapshots<T> {
    /// Most snapshots that can be kept.
    pub const MAX_KEPT: u64 = 1_000;

    /// Settings first, then [`SnapshotsBuilder::build`]. The name begins all
    /// keys: `NAME:state`, `NAME:checkpoint`, `NAME:snapshot:0` and so on, and
    /// `NAME:snapshots`, the number of the last snapshot.
    pub fn builder(store: impl StateStore, name: impl Into<String>) -> SnapshotsBuilder<T> {
        SnapshotsBuilder(Self {
            store: Arc::new(store),
            name: name.into(),
            keep: 10,
            ttl: Some(Duration::from_secs(24 * 60 * 60)),
            of: PhantomData,
        })
    }
}

impl<T> SnapshotsBuilder<T> {
    /// How many snapshots to keep, 1 to [`Snapshots::MAX_KEPT`]; the oldest
    /// make way. Default: 10.
    pub fn keep(mut self, snapshots: u64) -> Self {
        self.0.keep = snapshots.clamp(1, Snapshots::<T>::MAX_KEPT);
        self
    }

    /// How long what was written is kept; `None`: for ever. Default: 24 h.
    pub fn ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.0.ttl = ttl.into();
        self
    }

    /// Checks name and time.
    ///
    /// # Errors
    ///
    /// [`StateError::Name`], [`StateError::Ttl`].
    pub fn build(self) -> Result<Snapshots<T>, StateError> {
        // The longest key of all.
        let longest = self.0.slot(Snapshots::<T>::MAX_KEPT).len();
        if self.0.name.is_empty() || longest > MAX_KEY_LEN {
            return Err(StateError::Name(self.0.name.len()));
        }
        check_ttl(self.0.ttl)?;
        Ok(self.0)
    }
}

impl<T: Serialize + DeserializeOwned> Snapshots<T> {
    /// Writes the state, over the one before.
    ///
    /// # Errors
    ///
    /// See [`SaveError`]; so for all that save.
    pub async fn save(&self, value: &T) -> Result<(), SaveError> {
        self.write(&self.key("state"), 0, value).await
    }

    /// Writes the checkpoint, over the one before.
    ///
    /// # Errors
    ///
    /// See [`SaveError`].
    pub async fn checkpoint(&self, value: &T) -> Result<(), SaveError> {
        self.write(&self.key("checkpoint"), 0, value).await
    }

    /// Writes one more snapshot, over the oldest if there are as many as are
    /// kept, and gives its number. Several processes may do this.
    ///
    /// Cancelled in the middle, a number may be left out.
    ///
    /// # Errors
    ///
    /// See [`SaveError`].
    pub async fn snapshot(&self, value: &T) -> Result<u64, SaveError> {
        let number = self.next_number().await?;
        self.write(&self.slot(number % self.keep), number, value).await?;
        Ok(number)
    }

    /// The newest that can be read, in the order of the [type](Self);
    /// `None` if nothing was saved.
    ///
    /// # Errors
    ///
    /// See [`RestoreError`].
    pub async fn restore(&self) -> Result<Option<Restored<T>>, RestoreError> {
        let mut skipped = Vec::new();
        for (name, from) in [("state", Found::State), ("checkpoint", Found::Checkpoint)] {
            let key = self.key(name);
            let Some(json) = self.read(&key, &mut skipped).await? else { continue };
            match parse::<T>(&json) {
                Ok(saved) => return Ok(Some(saved.restored(from, skipped))),
                Err(why) => skipped.push(Unreadable { key, why }),
            }
        }
        for (key, json, info) in self.found(&mut skipped).await? {
            match parse::<T>(&json) {
                Ok(saved) => {
                    return Ok(Some(saved.restored(Found::Snapshot(info.number), skipped)));
                }
                Err(why) => skipped.push(Unreadable { key, why }),
            }
        }
        if skipped.is_empty() { Ok(None) } else { Err(RestoreError::Unreadable { skipped }) }
    }

    /// The snapshots there are, the newest first, without those that are no
    /// snapshots.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn list(&self) -> Result<Vec<SnapshotInfo>, StateError> {
        let found = self.found(&mut Vec::new()).await?;
        Ok(found.into_iter().map(|(_, _, info)| info).collect())
    }

    /// Removes all that was saved under this name.
    ///
    /// # Errors
    ///
    /// Those of the store; some of it may be gone then.
    pub async fn clear(&self) -> Result<(), StateError> {
        self.store.delete(&self.key("state")).await?;
        self.store.delete(&self.key("checkpoint")).await?;
        for slot in 0..self.keep {
            self.store.delete(&self.slot(slot)).await?;
        }
        Ok(())
    }

    async fn write(&self, key: &str, number: u64, value: &T) -> Result<(), SaveError> {
        let saved_at = BusClock::wall().as_micros();
        let json = serde_json::to_vec(&Saved { format: FORMAT, number, saved_at, state: value })?;
        Ok(self.store.set(key, json.into(), self.ttl).await?)
    }

    async fn next_number(&self) -> Result<u64, SaveError> {
        const TRIES: usize = 100;
        let key = self.key("snapshots");
        for _ in 0..TRIES {
            let seen = self.store.get(&key).await?;
            let last = match seen.as_deref().map(parse_number) {
                Some(Some(last)) => last,
                // It was lost, or is no number: what is there tells.
                _ => self.list().await?.first().map_or(0, |info| info.number),
            };
            let next = last.saturating_add(1);
            let text = next.to_string().into();
            if self.store.compare_and_set(&key, seen.as_deref(), text, None).await? {
                return Ok(next);
            }
        }
        Err(SaveError::Contended)
    }

    /// Snapshots whose outer part can be read, the newest first.
    async fn found(
        &self,
        skipped: &mut Vec<Unreadable>,
    ) -> Result<Vec<(String, Bytes, SnapshotInfo)>, StateError> {
        let mut found = Vec::new();
        for slot in 0..self.keep {
            let key = self.slot(slot);
            let Some(json) = self.read(&key, skipped).await? else { continue };
            let info = read::<Saved<&RawValue>>(&json).and_then(|saved| {
                let (number, saved_at) = (saved.number, saved.when()?);
                Ok(SnapshotInfo { number, saved_at, bytes: json.len() })
            });
            match info {
                Ok(info) => found.push((key, json, info)),
                Err(why) => skipped.push(Unreadable { key, why }),
            }
        }
        found.sort_by_key(|(_, _, info)| std::cmp::Reverse(info.number));
        Ok(found)
    }

    /// What is of another kind is not there, and is told.
    async fn read(
        &self,
        key: &str,
        skipped: &mut Vec<Unreadable>,
    ) -> Result<Option<Bytes>, StateError> {
        match self.store.get(key).await {
            Err(error @ StateError::WrongKind) => {
                skipped.push(Unreadable { key: key.to_owned(), why: error.to_string() });
                Ok(None)
            }
            other => other,
        }
    }
}

impl<T> Snapshots<T> {
    fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.name)
    }

    fn slot(&self, slot: u64) -> String {
        format!("{}:snapshot:{slot}", self.name)
    }
}

impl<T> Saved<T> {
    fn when(&self) -> Result<Timestamp, String> {
        if self.format != FORMAT {
            return Err(format!("it is of format {}, not {FORMAT}", self.format));
        }
        Timestamp::from_micros(self.saved_at)
            .ok_or_else(|| format!("{} microseconds are no time", self.saved_at))
    }
}

/// A value with the time that it was saved at, which was checked.
struct Parsed<T>(T, Timestamp);

impl<T> Parsed<T> {
    fn restored(self, from: Found, skipped: Vec<Unreadable>) -> Restored<T> {
        Restored { value: self.0, from, saved_at: self.1, skipped }
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<Parsed<T>, String> {
    let saved: Saved<T> = read(json)?;
    let when = saved.when()?;
    Ok(Parsed(saved.state, when))
}

/// Checked once as text: a fifth faster than string by string.
fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    let text = str::from_utf8(json).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn parse_number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

impl<T> fmt::Debug for Snapshots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
