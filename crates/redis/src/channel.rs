//! Names: which channels there may be, and what they are called on the server.
//!
//! | name | holds |
//! | --- | --- |
//! | `swarmbus:{CHANNEL}:live` | pub/sub channel of the live mode |
//! | `swarmbus:{CHANNEL}:log` | stream of the durable mode, and its pub/sub channel |
//! | `swarmbus:{CHANNEL}:meta` | epoch and offset of that stream |
//! | `swarmbus:{CHANNEL}:tasks` | stream of the group mode |
//! | `swarmbus:{CHANNEL}:dead` | its dead letters |
//! | `swarmbus:{CHANNEL}:idem:KEY` | an idempotency key |
//! | `swarmbus:{probe}:INSTANCE` | pub/sub channel of one transport's liveness probe |
//!
//! `swarmbus` is [`Settings::prefix`](crate::Settings::prefix). The braces are a
//! hash tag: all keys of a channel are in one slot of a Redis Cluster.

use std::fmt;

use swarmbus_core::Str;

/// Longest name of a channel in bytes.
pub const MAX_CHANNEL_LEN: usize = 200;

/// Why a channel cannot have this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// It is empty or too long.
    #[error("the name of a channel is 1 to {MAX_CHANNEL_LEN} bytes long, not {0}")]
    Length(usize),
    /// It holds a brace, white space or a control character.
    #[error("the name of a channel holds no braces, white space or control characters: {0:?}")]
    Character(char),
}

/// The name of a channel, checked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Channel(Str);

impl Channel {
    pub(crate) fn new(name: &str) -> Result<Self, ChannelError> {
        if !(1..=MAX_CHANNEL_LEN).contains(&name.len()) {
            return Err(ChannelError::Length(name.len()));
        }
        let bad = |c: &char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        match name.chars().find(bad) {
            Some(bad) => Err(ChannelError::Character(bad)),
            None => Ok(Self(name.into())),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is called on the server, for one purpose: `live`, `log`, …
    pub(crate) fn key(&self, prefix: &str, purpose: &str) -> String {
        format!("{prefix}:{{{}}}:{purpose}", self.as_str())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "swarm-b", "tasks/eu", "grüße", &"x".repeat(MAX_CHANNEL_LEN)] {
            assert_eq!(Channel::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Channel::new(""), Err(ChannelError::Length(0)));
        assert_eq!(Channel::new(&"x".repeat(201)), Err(ChannelError::Length(201)));
        for bad in ["a{b", "a}", "a b", "a\n", "a\u{0}", "a\u{a0}b"] {
            assert!(matches!(Channel::new(bad), Err(ChannelError::Character(_))), "{bad:?}");
        }
    }

    #[test]
    fn keys_of_a_channel_share_a_hash_tag() {
        let channel = Channel::new("tasks").unwrap();
        assert_eq!(channel.key("swarmbus", "live"), "swarmbus:{tasks}:live");
        assert_eq!(channel.key("test", "meta"), "test:{tasks}:meta");
    }
}
