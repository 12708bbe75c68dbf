//! swarmbus-redis joins swarms of several processes through Redis.
#![allow(dead_code)]

mod channel;
mod connection;
mod dialer;
mod error;
#[cfg(feature = "local")]
pub mod local;
mod settings;

pub use channel::{ChannelError, MAX_CHANNEL_LEN};
pub use connection::ConnectionState;
pub use error::ConnectionError;
pub use settings::{Settings, SettingsError};
