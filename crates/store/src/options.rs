//! [`Options`]: every setting of a log with its default.

use std::{path::Path, time::Duration};

use crate::{error::OpenError, log::EventLog};

/// When an event counts as accepted.
///
/// | | lost when the process is killed | lost when the power fails |
/// | --- | --- | --- |
/// | `CommitBeforeAccept` | nothing | nothing |
/// | `GroupCommit` | nothing | at most what was accepted within `at_most` and the time of a sync |
///
/// Both wait for a commit, and all who wait share one: while one transaction
/// commits and is synced, the next collects. Nobody is held up for the sake of a fuller
/// transaction.
///
/// This rests on SQLite's write-ahead log. A commit writes its pages to the
/// `-wal` file; from then on they are the operating system's, and outlive the
/// process. With `synchronous=NORMAL` SQLite syncs that file only before it is
/// copied into the database. In between the log syncs it: after each commit and
/// before anybody is told, or every now and then. A power failure then
/// cuts off the end of the file, never its middle: every frame's checksum
/// covers all before it. "Nothing" holds as far as the disk does what a sync
/// asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each commit is synced to the disk before anybody is told.
    CommitBeforeAccept,
    /// Each commit is given to the operating system before anybody is told,
    /// and synced later.
    GroupCommit {
        /// The sync begins at most so long after the commit, or when the sync
        /// before it is done, if that takes longer: 1 ms to 1 minute.
        at_most: Duration,
    },
}

impl Durability {
    /// Group commit with a sync after 10 ms.
    pub const GROUP: Self = Self::GroupCommit { at_most: Duration::from_millis(10) };
}

/// What becomes of events that the log cannot write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused: the publisher gets them back, with the cause.
    Refuse,
    /// They are accepted all the same, whatever the log cannot do, and counted
    /// in [`LogStats::lost`](crate::LogStats::lost): it is best effort. Only
    /// then does `try_publish` work, which cannot wait for a disk: its events
    /// are written soon after.
    GoOn,
}

/// The settings of an [`EventLog`].
///
/// | setting | default | allowed |
/// | --- | --- | --- |
/// | [`durability`](Self::durability) | `CommitBeforeAccept` | |
/// | [`on_failure`](Self::on_failure) | `Refuse` | |
/// | [`keep_for`](Self::keep_for) | 30 days | 1 s or more, `None` for ever |
/// | [`queue`](Self::queue) | 8,192 events | 1 to 1,048,576 |
/// | [`max_pending`](Self::max_pending) | 1,000,000 events | 1,000 to 2^30 |
/// | [`max_letters`](Self::max_letters) | 100,000 dead letters | 1 to 2^30 |
/// | [`busy_timeout`](Self::busy_timeout) | 5 s | at most 1 h |
///
/// ```
/// use swarmbus_store::{Durability, Options};
///
/// # let dir = tempfile::tempdir()?;
/// let log = Options::new().durability(Durability::GROUP).open(dir.path().join("events.db"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until open() is called"]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) on_failure: OnFailure,
    pub(crate) keep_for: Option<Duration>,
    pub(crate) queue: usize,
    pub(crate) max_pending: usize,
    pub(crate) max_letters: usize,
    pub(crate) busy_timeout: Duration,
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            durability: Durability::CommitBeforeAccept,
            on_failure: OnFailure::Refuse,
            keep_for: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            queue: 8_192,
            max_pending: 1_000_000,
            max_letters: 100_000,
            busy_timeout: Duration::from_secs(5),
        }
    }

    /// When an event counts as accepted.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What becomes of events that cannot be written.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// How long events are kept, by their timestamps; `None` for ever. So an
    /// event that was given an older time goes as soon as it is settled.
    /// Pending events are kept in any case. The space of what goes is used again; the
    /// file does not shrink.
    pub fn keep_for(mut self, age: Option<Duration>) -> Self {
        self.keep_for = age;
        self
    }

    /// How many events may wait for the thread that writes. Publishers wait
    /// beyond that. A batch that is larger waits until it is alone.
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = events;
        self
    }

    /// How many accepted events the log keeps track of in memory until they
    /// are settled and that is written down: about 64 bytes each. Take more
    /// than the capacity of the bus.
    ///
    /// Beyond that the log forgets the oldest: they are found again by their
    /// time when they are settled, at a higher cost.
    pub fn max_pending(mut self, events: usize) -> Self {
        self.max_pending = events;
        self
    }

    /// How many dead letters are kept at the most. When there are more, the
    /// oldest go, and with them one in 64.
    pub fn max_letters(mut self, letters: usize) -> Self {
        self.max_letters = letters;
        self
    }

    /// How long a write waits for another connection that holds the
    /// database's lock.
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.busy_timeout = wait;
        self
    }

    /// Opens the log, or makes it. Blocks, as it reads and writes the file.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<EventLog, OpenError> {
        self.check()?;
        EventLog::start(path.as_ref(), self)
    }

    fn check(&self) -> Result<(), OpenError> {
        let rule = |holds: bool, setting, must| {
            if holds { Ok(()) } else { Err(OpenError::Setting { setting, must }) }
        };
        if let Durability::GroupCommit { at_most } = self.durability {
            let range = Duration::from_millis(1)..=Duration::from_secs(60);
            rule(range.contains(&at_most), "at_most", "1 ms to 1 minute")?;
        }
        let kept = self.keep_for.is_none_or(|age| age >= Duration::from_secs(1));
        rule(kept, "keep_for", "1 second or more")?;
        rule((1..=1 << 20).contains(&self.queue), "queue", "1 to 1,048,576")?;
        rule((1_000..=1 << 30).contains(&self.max_pending), "max_pending", "1,000 to 2^30")?;
        rule((1..=1 << 30).contains(&self.max_letters), "max_letters", "1 to 2^30")?;
        let hour = Duration::from_secs(3_600);
        rule(self.busy_timeout <= hour, "busy_timeout", "at most an hour")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
