//! swarmbus-redis joins swarms of several processes through Redis.
#![allow(dead_code)]

mod carrier;
mod channel;
mod connection;
mod dialer;
mod envelope;
mod error;
mod live;
#[cfg(feature = "local")]
pub mod local;
mod meter;
mod outbox;
mod publisher;
mod settings;

pub use error::ConnectionError;
pub use settings::{Settings, SettingsError};
