//! What can go wrong: one enum for each operation, and the [`Fault`] of the
//! database that they share.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use rusqlite::{Error, ErrorCode, ffi};
use swarmbus_core::codec::{DecodeError, EncodeError};

/// What the database, or the disk under it, could not do.
///
/// Its text says what happened, in which file, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: FaultKind,
    path: PathBuf,
    detail: String,
}

/// The kinds of a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// No space is left, or the file is as large as it may be. The log goes
    /// on by itself once there is space.
    DiskFull,
    /// The file, or its folder, may not be written.
    ReadOnly,
    /// The file may not be opened, or its folder is missing.
    CannotOpen,
    /// Parts of the file are damaged.
    Corrupt,
    /// Another connection held the lock for longer than
    /// [`Options::busy_timeout`](crate::Options::busy_timeout).
    Locked,
    /// The file is no SQLite database.
    NotADatabase,
    /// The operating system could not read, write or sync.
    Io,
    /// Anything else that SQLite reports.
    Other,
}

impl FaultKind {
    fn happened(self) -> &'static str {
        match self {
            Self::DiskFull => "no space is left for",
            Self::ReadOnly => "may not write",
            Self::CannotOpen => "cannot open",
            Self::Corrupt => "parts are damaged of",
            Self::Locked => "another connection keeps the lock of",
            Self::NotADatabase => "no SQLite database:",
            Self::Io => "cannot read, write or sync",
            Self::Other => "SQLite refused an operation on",
        }
    }

    fn to_do(self) -> &'static str {
        match self {
            Self::DiskFull => "free some space: the log then goes on by itself",
            Self::ReadOnly => {
                "let the process write the file and its folder; a reader needs the folder, too, \
                 unless a program has the log open"
            }
            Self::CannotOpen => "make its folder, and let the process read and write there",
            Self::Corrupt => {
                "stop, copy the file, and save what is readable with `sqlite3 FILE .recover`"
            }
            Self::Locked => "end the transaction of the other program, such as a shell",
            Self::NotADatabase => "name another file, or move this one away",
            Self::Io => "check the disk, then open the log again",
            Self::Other => "see what SQLite says",
        }
    }
}

impl Fault {
    pub(crate) fn new(path: &Path, error: &Error) -> Self {
        Self { kind: kind(error), path: path.to_owned(), detail: error.to_string() }
    }

    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
        let kind = match error.kind() {
            StorageFull => FaultKind::DiskFull,
            ReadOnlyFilesystem => FaultKind::ReadOnly,
            NotFound | PermissionDenied => FaultKind::CannotOpen,
            _ => FaultKind::Io,
        };
        Self { kind, path: path.to_owned(), detail: error.to_string() }
    }

    /// What SQLite sees nothing wrong with.
    pub(crate) fn corrupt(path: &Path, detail: String) -> Self {
        Self { kind: FaultKind::Corrupt, path: path.to_owned(), detail }
    }

    /// What kind of fault.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn kind(error: &Error) -> FaultKind {
    let Some(code) = error.sqlite_error_code() else { return FaultKind::Other };
    match code {
        ErrorCode::DiskFull => FaultKind::DiskFull,
        ErrorCode::ReadOnly => FaultKind::ReadOnly,
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => FaultKind::CannotOpen,
        ErrorCode::DatabaseCorrupt => FaultKind::Corrupt,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => FaultKind::Locked,
        ErrorCode::NotADatabase => FaultKind::NotADatabase,
        ErrorCode::SystemIoFailure => match error.sqlite_error().map(|e| e.extended_code) {
            Some(ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA) => FaultKind::Corrupt,
            _ => FaultKind::Io,
        },
        _ => FaultKind::Other,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (happened, to_do) = (self.kind.happened(), self.kind.to_do());
        write!(f, "{happened} {} ({}); {to_do}", self.path.display(), self.detail)
    }
}

impl std::error::Error for Fault {}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database or the disk failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Another process, or another part of this one, has the log open for
    /// writing. [`LogReader::open`](crate::LogReader::open) reads meanwhile.
    #[error("{} is the journal of another bus: close that one first, or only read", path.display())]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// An SQLite database that was not made by swarmbus.
    #[error("{} is the database of another program: name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version of swarmbus wrote the log.
    #[error(
        "{} has schema version {found}, this program knows up to {known}: use a newer swarmbus",
        path.display()
    )]
    Newer {
        /// The log.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// An earlier version of swarmbus wrote the log, and this was to be a
    /// reader, which changes nothing.
    #[error(
        "{} has schema version {found}, this program reads {known}: open it for writing once, \
         which brings it up to date",
        path.display()
    )]
    Older {
        /// The log.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The one that this program reads.
        known: i64,
    },
    /// There is nothing in the file yet that could be read.
    #[error("{} is not an event log yet: a program makes it one that has it as journal", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file system has no shared memory, as network file systems lack it,
    /// so that SQLite offers no write-ahead log.
    #[error("{} cannot have a write-ahead log: put it on a local disk", path.display())]
    NoWriteAheadLog {
        /// The log.
        path: PathBuf,
    },
    /// A setting is out of range.
    #[error("{setting} must be {must}")]
    Setting {
        /// The option's name.
        setting: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// The operating system gave no thread.
    #[error("no thread for the log: {0}")]
    Thread(#[source] io::Error),
}

/// Why something was not written to the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The database or the disk failed; nothing of this write is in the log.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The log is closed.
    #[error("the event log is closed")]
    Closed,
    /// The thread that writes has panicked: open the log again.
    #[error("the event log's thread has panicked: open the log again")]
    Panicked,
    /// The event has no id or no timestamp, which a bus gives it.
    #[error("the event log cannot take {event_type}: it has no id or no timestamp")]
    Unstamped {
        /// The event's type.
        event_type: String,
    },
    /// The event is beyond a limit of the wire format.
    #[error("the event log cannot take {event_type}: {reason}")]
    Event {
        /// The event's type.
        event_type: String,
        /// Which limit.
        reason: EncodeError,
    },
}

/// Why something was not read from the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database or the disk failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A row is there, and makes no sense.
    #[error("row {row} of the table {table} is damaged: {reason}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row's number.
        row: i64,
        /// What is wrong with it.
        reason: Damage,
    },
}

/// What is wrong with a row that should hold an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A column has a value that swarmbus does not write.
    #[error("its column {0} makes no sense")]
    Column(&'static str),
    /// The rare fields cannot be decoded.
    #[error(transparent)]
    Header(#[from] DecodeError),
}

/// Why a recovery stopped. What was not offered is still pending.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The log could not be opened to read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What became of a retry could not be written down.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The runtime or the bus is shutting down.
    #[error("the runtime or the bus is shutting down")]
    Stopped,
    /// The bus did not take the next event.
    #[error("{offered} pending events were offered again, then: {source}")]
    Publish {
        /// How many the bus took.
        offered: u64,
        /// Why it did not take the next.
        source: swarmbus::BatchError,
    },
}
