//! swarmbus-redis joins swarms of several processes through Redis.

#[cfg(feature = "local")]
pub mod local;
