//! [`ConnectionError`]: what can be wrong with a server, or with what it was
//! asked, and what to do about it.

use std::{sync::Arc, time::Duration};

use redis::ServerError;
use swarmbus::transport::TransportError;

/// Why a server was not reached, or did not do what it was asked.
///
/// The texts say what to do. None holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// Nothing answers at the address.
    #[error("no server answers at {address} ({detail}); is it running, and is the address right?")]
    Unreachable {
        /// Host and port, or the path of a socket.
        address: String,
        /// What the system says.
        detail: String,
    },
    /// A connection broke. The transport connects again by itself.
    #[error("the connection broke: {0}")]
    Lost(String),
    /// The server asks for a password, or for another one, or does not know
    /// the user.
    #[error(
        "the server refuses this user or password; check them in the URL, and `ACL LIST` there"
    )]
    WrongPassword,
    /// The user may not use a command, or not on these keys or channels.
    #[error(
        "the user may not {command} ({detail}); allow it with `ACL SETUSER`: \
         the command, the keys and the channels that begin with the prefix"
    )]
    NoPermission {
        /// The command.
        command: String,
        /// What the server says.
        detail: String,
    },
    /// No sentinel that answers knows a master of this name.
    #[error("no sentinel knows a master called {0:?}; is that the name in `sentinel monitor`?")]
    UnknownMaster(String),
    /// The server is no master: a replica, or a sentinel.
    #[error(
        "the server is a {role}, not a master; connect to the master, or through its sentinels"
    )]
    WrongRole {
        /// What it is.
        role: String,
    },
    /// The server is a node of a cluster and none was expected, or the other way
    /// round.
    #[error(
        "the server runs in {found} mode; a cluster is named by redis+cluster://HOST:PORT,…, \
         and any other server by redis://"
    )]
    WrongMode {
        /// `cluster` or `standalone`.
        found: String,
    },
    /// The keys are on another node of the cluster now. They are looked for by
    /// themselves.
    #[error("the cluster has moved the keys to {to}; they are looked for there")]
    Moved {
        /// Host and port, or `another node`.
        to: String,
    },
    /// The cluster does not serve the keys for now: they are being moved, or their
    /// master is gone and there is no other yet.
    #[error("the cluster does not serve these keys now ({0}); see `CLUSTER INFO` if that lasts")]
    Unsettled(String),
    /// The server is older than what this crate needs.
    #[error("the server has version {found}, {needed} is needed; install a newer Redis or Valkey")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// The server has reached `maxmemory`.
    #[error(
        "the server has no memory left; raise `maxmemory`, or shorten the retention of durable channels"
    )]
    OutOfMemory,
    /// A group channel holds as many tasks as it may.
    #[error("the channel is full: {limit} tasks wait; are there workers, and enough of them?")]
    TooManyTasks {
        /// How many there may be.
        limit: u64,
    },
    /// The server takes no writes: it has become a replica, or cannot save to
    /// its disk.
    #[error("the server takes no writes ({0}); is it a replica now, or its disk full?")]
    ReadOnly(String),
    /// The server reads its data from disk, or waits for its master.
    #[error("the server is still loading its data; it will answer when that is done")]
    Loading,
    /// No answer in time.
    #[error("no answer within {0:?}; is the server overloaded, or the network cut?")]
    TimedOut(Duration),
    /// The encrypted connection could not be made.
    #[error("TLS failed: {0}; check the certificates, and that the server's port speaks TLS")]
    Tls(String),
    /// The server said something that makes no sense here.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// The transport was closed.
    #[error("the connection was closed by this program")]
    Closed,
}

impl ConnectionError {
    /// What the server answered to `command`.
    pub(crate) fn answered(error: &ServerError, command: &str) -> Self {
        Self::coded(error.code(), error.details().unwrap_or_default(), command)
    }

    fn coded(code: &str, detail: &str, command: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" => Self::WrongPassword,
            "NOPERM" => {
                Self::NoPermission { command: command.to_owned(), detail: detail.to_owned() }
            }
            "OOM" => Self::OutOfMemory,
            "READONLY" | "MISCONF" | "NOREPLICAS" => Self::ReadOnly(detail.to_owned()),
            "LOADING" | "MASTERDOWN" => Self::Loading,
            "MOVED" => {
                // The slot, and host and port.
                let to = detail.split_once(' ').map_or(detail, |(_, to)| to);
                Self::Moved { to: to.to_owned() }
            }
            "ASK" | "TRYAGAIN" | "CLUSTERDOWN" => Self::Unsettled(format!("{code} {detail}")),
            _ if detail.starts_with("unknown command") => {
                Self::TooOld { found: format!("without {command}"), needed: NEEDED }
            }
            _ => Self::Protocol(format!("{code} {detail}")),
        }
    }

    /// Whether the same command will fail as long as nobody changes the server
    /// or the program.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::NoPermission { .. } | Self::TooOld { .. } => true,
            // Passing states of a script's server have codes of their own.
            Self::Protocol(text) => {
                let passing = ["NOSCRIPT", "BUSY"];
                !passing.iter().any(|code| text.starts_with(code))
            }
            Self::Unreachable { .. }
            | Self::Lost(_)
            | Self::WrongPassword
            | Self::UnknownMaster(_)
            | Self::WrongRole { .. }
            | Self::WrongMode { .. }
            | Self::Moved { .. }
            | Self::Unsettled(_)
            | Self::OutOfMemory
            | Self::TooManyTasks { .. }
            | Self::ReadOnly(_)
            | Self::Loading
            | Self::TimedOut(_)
            | Self::Tls(_)
            | Self::Closed => false,
        }
    }

    /// Whether the connection itself is of no use any more, so that another
    /// one must be made before the next command.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            // It may be cut off from the others, which have another master by now.
            Self::Unsettled(text) => text.starts_with("CLUSTERDOWN"),
            Self::Unreachable { .. }
            | Self::Lost(_)
            | Self::UnknownMaster(_)
            | Self::WrongRole { .. }
            | Self::WrongMode { .. }
            | Self::Moved { .. }
            | Self::ReadOnly(_)
            | Self::TimedOut(_)
            | Self::Tls(_)
            | Self::WrongPassword
            | Self::Closed => true,
            Self::NoPermission { .. }
            | Self::TooOld { .. }
            | Self::OutOfMemory
            | Self::TooManyTasks { .. }
            | Self::Loading
            | Self::Protocol(_) => false,
        }
    }

    /// Whether a node of a cluster sent us away, and did nothing.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Unsettled(_))
    }

    /// Whether the keys have to be looked for again. The connection itself is well.
    pub(crate) fn is_another_node(&self) -> bool {
        self.is_elsewhere() && self.breaks_connection()
    }
}

/// The oldest server that has what is used here.
pub(crate) const NEEDED: &str = "7.0";

/// The server is there and does not do it.
pub(crate) fn refused(error: ConnectionError) -> TransportError {
    TransportError::Refused(Arc::new(error))
}

/// There is no connection to do it over.
pub(crate) fn disconnected(error: ConnectionError) -> TransportError {
    match error {
        ConnectionError::Closed => TransportError::Closed,
        error => TransportError::Disconnected(Arc::new(error)),
    }
}

/// The same by what kind of error it is.
pub(crate) fn failed(error: ConnectionError) -> TransportError {
    match error {
        ConnectionError::NoPermission { .. }
        | ConnectionError::OutOfMemory
        | ConnectionError::TooManyTasks { .. }
        | ConnectionError::ReadOnly(_)
        | ConnectionError::Loading
        | ConnectionError::TooOld { .. }
        | ConnectionError::Unsettled(_)
        | ConnectionError::Protocol(_) => refused(error),
        ConnectionError::Unreachable { .. }
        | ConnectionError::Lost(_)
        | ConnectionError::WrongPassword
        | ConnectionError::UnknownMaster(_)
        | ConnectionError::WrongRole { .. }
        | ConnectionError::WrongMode { .. }
        | ConnectionError::Moved { .. }
        | ConnectionError::TimedOut(_)
        | ConnectionError::Tls(_)
        | ConnectionError::Closed => disconnected(error),
    }
}

/// The outcome of two parts of a flush: all losses in one, as each is told once.
pub(crate) fn both(
    one: Result<(), TransportError>,
    other: Result<(), TransportError>,
) -> Result<(), TransportError> {
    use TransportError::Lost;
    match (one, other) {
        (Err(Lost { events, cause }), Err(Lost { events: more, .. })) => {
            Err(Lost { events: events + more, cause })
        }
        (Err(lost @ Lost { .. }), _) | (_, Err(lost @ Lost { .. })) => Err(lost),
        (one, other) => one.and(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_and_go_before_other_errors() {
        let lost = |events| {
            Err(TransportError::Lost { events, cause: Box::new(TransportError::TimedOut) })
        };
        let events = |outcome| match outcome {
            Err(TransportError::Lost { events, .. }) => events,
            other => panic!("{other:?}"),
        };
        assert_eq!(events(both(lost(2), lost(3))), 5);
        assert_eq!(events(both(Err(TransportError::Closed), lost(3))), 3);
        assert_eq!(events(both(lost(2), Ok(()))), 2);
        assert!(matches!(both(Ok(()), Err(TransportError::Closed)), Err(TransportError::Closed)));
        assert!(both(Ok(()), Ok(())).is_ok());
    }

    #[test]
    fn answers_become_causes() {
        let of = |code| ConnectionError::coded(code, "why", "PUBLISH");
        assert_eq!(of("WRONGPASS"), ConnectionError::WrongPassword);
        assert_eq!(of("NOAUTH"), ConnectionError::WrongPassword);
        assert_eq!(of("OOM"), ConnectionError::OutOfMemory);
        assert_eq!(of("READONLY"), ConnectionError::ReadOnly("why".into()));
        assert_eq!(of("MISCONF"), ConnectionError::ReadOnly("why".into()));
        assert_eq!(of("LOADING"), ConnectionError::Loading);
        assert_eq!(of("TRYAGAIN"), ConnectionError::Unsettled("TRYAGAIN why".into()));
        let moved = ConnectionError::coded("MOVED", "3999 127.0.0.1:6381", "GET");
        assert_eq!(moved, ConnectionError::Moved { to: "127.0.0.1:6381".into() });
        assert_eq!(of("ERR"), ConnectionError::Protocol("ERR why".into()));
        let denied =
            ConnectionError::NoPermission { command: "PUBLISH".into(), detail: "why".into() };
        assert_eq!(of("NOPERM"), denied);
    }
}
