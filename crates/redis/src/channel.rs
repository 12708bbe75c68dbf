//! What channels are called on the server.
//!
//! | name | holds |
//! | --- | --- |
//! | `swarmbus:{CHANNEL}:live` | pub/sub channel of the live mode |
//! | `swarmbus:{CHANNEL}:log` | stream of the durable mode, and its pub/sub channel |
//! | `swarmbus:{CHANNEL}:meta` | epoch and offset of that stream |
//! | `swarmbus:{CHANNEL}:tasks` | stream of the group mode |
//! | `swarmbus:{CHANNEL}:dead` | its dead letters |
//! | `swarmbus:{CHANNEL}:delayed:GROUP` | tasks that wait until they are delivered again |
//! | `swarmbus:{CHANNEL}:groups` | when each group was last at work |
//! | `swarmbus:{CHANNEL}:sent:PUBLISHER` | the number of a publisher's last frame |
//! | `swarmbus:{CHANNEL}:idem:log:KEY`, `…:idem:tasks:KEY` | a key of `publish_once` |
//! | `swarmbus:{probe}:INSTANCE` | pub/sub channel of one transport's liveness probe |
//!
//! `swarmbus` is [`Settings::prefix`](crate::Settings::prefix). A channel's name
//! cannot hold braces.
//!
//! In a cluster `swarmbus:{TAG}` stands for `swarmbus`: `swarmbus:{53t}:{CHANNEL}:live`.
//! The tag is that of the channel's partition, which is the CRC-16 of its name, mod
//! 16384, divided by 256; the tags are in `cluster/slots.rs`. The first braces are the
//! hash tag, so a partition is in one slot.

use swarmbus::transport::{Channel, Mode};

/// What a channel is called on the server, for one purpose: `live`, `log`, …
pub(crate) fn key(prefix: &str, channel: &Channel, purpose: &str) -> String {
    format!("{prefix}:{{{}}}:{purpose}", channel.name())
}

/// The purpose of what events of a channel are published to.
pub(crate) const fn main_purpose(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Durable => "log",
        Mode::Group => "tasks",
    }
}

/// Where one transport tries whether what it publishes arrives.
pub(crate) fn probe_key(prefix: &str, instance: &str) -> String {
    format!("{prefix}:{{probe}}:{instance}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_channel_share_a_hash_tag() {
        let channel = Channel::durable("tasks").unwrap();
        assert_eq!(key("swarmbus", &channel, "live"), "swarmbus:{tasks}:live");
        assert_eq!(key("test", &channel, "meta"), "test:{tasks}:meta");
    }
}
